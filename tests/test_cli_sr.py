"""``vrestore sr`` as people run it: a process, files, exit codes, and a kill in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vrestore import cli

ROOT = Path(__file__).parents[1]


@pytest.fixture
def arguments(tiny_prior):
    """Settings for all runs: the tiny prior, small windows."""
    return f"--prior {tiny_prior} --device cpu --dtype float32 --scale 2 --window 5 --overlap 2".split()


@pytest.fixture
def run_here(arguments, capsys):
    """run_here("in.mkv", ...) -> (exit code, stdout, stderr), in this process. Of an option the last value counts."""

    def run(source, *more):
        code = cli.main(["sr", str(source), *arguments, *map(str, more)])
        return code, *capsys.readouterr()

    return run


def start(*arguments):
    command = [sys.executable, "-m", "vrestore", "sr", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_killed_and_resumed_as_processes(arguments, clips, tmp_path):
    """SIGKILL once a checkpoint exists: no output under its name, and --resume gives the undisturbed frames."""
    source = clips.write(tmp_path / "in.mkv", clips.scene(150, (16, 24)), audio=True)
    output = tmp_path / "in_sr.mkv"
    settings = [*arguments, "--steps", "2", "--fidelity", "0.2"]
    killed = start(source, *settings)
    manifest = tmp_path / "in_sr.mkv.vrestore" / "job.json"
    while not manifest.exists() and killed.poll() is None:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    resumed = start(source, *settings, "--resume", "--json")
    out, err = resumed.communicate()
    assert resumed.returncode == 0, err
    assert json.loads(out)["frames"] == 150
    assert names(tmp_path) == ["in.mkv", "in_sr.mkv", "in_sr.mkv.vrestore.json"]
    assert cli.main(["sr", str(source), *settings, "-o", str(tmp_path / "undisturbed.mkv"), "--quiet"]) == 0
    assert np.array_equal(clips.read(output)[0], clips.read(tmp_path / "undisturbed.mkv")[0])
    assert clips.audio_packets(output) == clips.audio_packets(source)


def test_json(run_here, clips, tmp_path):
    source = clips.write(tmp_path / "in.mkv", clips.scene(6, (17, 33)))
    code, out, err = run_here(source, "--json")
    result = json.loads(out)
    assert (code, result["frames"], result["width"], result["height"]) == (0, 6, 66, 34)
    assert result["output"] == str(tmp_path / "in_sr.mkv")
    assert "6/6 frames" in err


def test_dry_run_as_json(run_here, clips, tmp_path):
    source = clips.write(tmp_path / "in.mkv", clips.scene(8, (17, 33)))
    code, out, _ = run_here(source, "--json", "--dry-run")
    plan = json.loads(out)
    assert (code, plan["frames"], plan["output_size"], plan["windows"]) == (0, 8, [66, 34], 2)
    assert names(tmp_path) == ["in.mkv"]


def test_a_container_that_outputs_cannot_have_becomes_mkv(run_here, clips, tmp_path):
    source = clips.write(tmp_path / "in.avi", clips.scene(3, (16, 16)), lossless=False)
    code, _, err = run_here(source, "--quiet")
    assert (code, err) == (0, "")
    assert names(tmp_path) == ["in.avi", "in_sr.mkv", "in_sr.mkv.vrestore.json"]


def test_a_still(run_here, clips, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "in.png"), clips.scene(1, (16, 24))[0])
    assert run_here(tmp_path / "in.png", "--quiet") == (0, "", "")
    assert cv2.imread(str(tmp_path / "in_sr.png")).shape == (32, 48, 3)


# ---------------------------------------------------------------- bad requests


def make_missing(path, clips):
    pass


def make_empty(path, clips):
    path.touch()


def make_truncated(path, clips):
    clips.write(path, clips.scene(20, (48, 64)), lossless=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_text(path, clips):
    path.write_text("this is no video\n" * 50)


def make_sound(path, clips):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make_folder(path, clips):
    path.mkdir()


def make_good(path, clips):
    clips.write(path, clips.scene(3, (16, 16)), lossless=False)


BAD = [
    (make_missing, "", 2, "does not exist"),
    (make_empty, "", 1, "empty"),
    (make_truncated, "", 1, "truncated"),
    (make_text, "", 1, "in.mp4"),
    (make_sound, "", 1, "no video"),
    (make_folder, "", 1, "folder"),
    (make_good, "-o FOLDER/in.mp4/below/out.mp4", 1, "does not exist"),
    (make_good, "-o FOLDER/in.mp4", 1, "the input itself"),
    (make_good, "-o FOLDER/out.xyz", 2, ".xyz"),
    (make_good, "-o FOLDER/out.png", 2, "3 frames"),
    (make_good, "--device cuda:77", 2, "cuda:77"),
    (make_good, "--size 8x8", 2, "8x8"),
    (make_good, "--start 3", 2, "hold nothing"),
    (make_good, "--start soon", 2, "soon"),
    (make_good, "--fidelity 2", 2, "fidelity is 2.0"),
    (make_good, "--steps 0", 2, "steps is 0"),
    (make_good, "--prior FOLDER", 1, "no prior"),
]


@pytest.mark.parametrize(("make", "more", "code", "message"), BAD, ids=[f"{m.__name__[5:]} {a}" for m, a, _, _ in BAD])
def test_bad_requests_end_in_one_line(run_here, clips, tmp_path, make, more, code, message):
    make(tmp_path / "in.mp4", clips)
    before = names(tmp_path)
    code_found, out, err = run_here(tmp_path / "in.mp4", *more.replace("FOLDER", str(tmp_path)).split())
    assert (code_found, out) == (code, "")
    assert len(err.splitlines()) == 1, err
    assert err.startswith("Error: ")
    assert message in err
    assert names(tmp_path) == before


@pytest.mark.parametrize("scale", ["0", "-1", "3", "much"])
def test_a_scale_that_is_not_offered(scale, capsys, tmp_path):
    assert cli.main(["sr", str(tmp_path / "in.mp4"), "--scale", scale]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"'{scale}' is not one of '1', '2', '4'" in err
    assert "Traceback" not in err


def test_a_folder_that_may_not_be_written(run_here, clips, tmp_path, monkeypatch):
    """A read-only folder for those whom it stops; for root, who may write everywhere, the same refusal is put on."""
    make_good(tmp_path / "in.mp4", clips)
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.geteuid() == 0:
        original = Path.mkdir

        def refused(self, *arguments, **options):
            if folder in self.parents:
                raise PermissionError(13, "Permission denied", str(self))
            original(self, *arguments, **options)

        monkeypatch.setattr(Path, "mkdir", refused)
    code, out, err = run_here(tmp_path / "in.mp4", "-o", folder / "out.mp4")
    assert (code, out) == (1, "")
    assert err.splitlines() == [f"Error: cannot write in {folder}: Permission denied; choose another folder with -o"]
    assert names(folder) == []


def test_help(capsys):
    assert cli.main(["sr", "-h"]) == 0
    out = capsys.readouterr().out
    assert "Usage: vrestore sr [OPTIONS] INPUT" in out
    for option in ("--scale [1|2|4]", "--size", "--fidelity", "--steps", "--resume", "--dry-run", "--json"):
        assert option in out
