"""Folders of small clips, and the program with the head that changes nothing."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
HEAD = ROOT / "tests" / "identity" / "identity_head.py"
LONG = "below/long.mkv"
LONG_FRAMES = 900


class Program:
    """``batch identity IN OUT ...`` as a process of its own."""

    def start(self, source, target, *options, **more):
        command = [sys.executable, str(HEAD), "batch", "identity", str(source), str(target), *map(str, options)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT / "tests"
        )

    def report(self, process, code=0):
        """The JSON report of a process that ends with that code."""
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, err
        assert "Traceback" not in err
        assert out.startswith("{"), out
        return json.loads(out)

    def run(self, source, target, *options, code=0):
        return self.report(self.start(source, target, *options, "--json", "--quiet"), code)


@pytest.fixture(scope="session")
def program():
    return Program()


@pytest.fixture(scope="session")
def footage(tmp_path_factory):
    """40 clips of 8 frames in two folders, and a long one that can be interrupted in the middle; other files too."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("clip_helpers", ROOT / "tests" / "conftest.py")
    helpers = module_from_spec(spec)
    spec.loader.exec_module(helpers)
    folder = tmp_path_factory.mktemp("footage")
    (folder / "below").mkdir()
    frames = helpers.scene(LONG_FRAMES, (32, 48), seed=99)
    for i in range(39):
        place = folder / "below" if i % 3 == 0 else folder
        helpers.write_clip(place / f"clip{i:02d}.mkv", frames[5 * i : 5 * i + 8])
    helpers.write_clip(folder / LONG, frames)
    (folder / "notes.txt").write_text("no clip")
    return folder


def wait_for(found, process, what):
    """The first thing that ``found()`` gives, while a process runs."""
    while process.poll() is None:
        result = found()
        if result:
            return result
        time.sleep(0.002)
    pytest.fail(f"the program ended before {what}: {process.communicate()[1]}")


@pytest.fixture(scope="session")
def worker_in_the_middle():
    """worker_in_the_middle(target, process): number of the process that has the long clip past its first checkpoint."""

    def wait(target, process):
        state = target / ".vrestore"

        def found():
            if not any(state.glob("work/long.mkv.*/output.mkv.vrestore/job.json")):
                return None
            for lease in state.glob("leases/long.mkv.*"):
                return json.loads(lease.read_text())["pid"]

        return wait_for(found, process, "the long clip had a checkpoint")

    return wait


@pytest.fixture(scope="session")
def same_clips():
    """Asserts that two folders hold the same clips, with the same decoded frames."""
    import av

    def frames(path):
        with av.open(str(path)) as container:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])

    def check(a, b):
        clips = sorted(path.relative_to(a) for path in a.rglob("*.mkv"))
        assert clips == sorted(path.relative_to(b) for path in b.rglob("*.mkv"))
        for clip in clips:
            assert np.array_equal(frames(a / clip), frames(b / clip)), clip

    return check
