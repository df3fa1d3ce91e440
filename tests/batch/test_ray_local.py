"""Ray on this machine alone (``--ray local``): done for real, and stopped by Ctrl-C."""

import json
import shutil
import signal
import time
from contextlib import suppress

import psutil
import pytest

OPTIONS = ("--recursive", "--ray", "local", "--ray-cpus", 1)
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
GONE_S = 60.0


@pytest.fixture
def source(footage, tmp_path):
    """Two short clips and the long one."""
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    for name in ("clip01.mkv", "clip02.mkv", "below/long.mkv"):
        shutil.copy(footage / name, folder / name)
    return folder


def descendants(process):
    """Every process that the program has started by now and that still runs: Ray's and its workers."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def wait_for_ray(process):
    """The processes, as soon as Ray has started its workers."""
    while process.poll() is None:
        found = descendants(process)
        if any("raylet" in name(one) for one in found) and any("ray::" in name(one) for one in found):
            return found
        time.sleep(0.05)
    pytest.fail(f"the program ended before Ray had started: {process.communicate()[1]}")


def name(process):
    with suppress(psutil.NoSuchProcess):
        return " ".join([process.name(), *process.cmdline()[:1]])
    return ""


def living(processes):
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def wait_for_their_end(processes):
    end = time.monotonic() + GONE_S
    while living(processes) and time.monotonic() < end:
        time.sleep(0.05)
    return [" ".join(one.cmdline())[:200] for one in living(processes)]


def test_ctrl_c_and_on_from_there(program, source, tmp_path, worker_in_the_middle, same_clips):
    """Interrupted on Ray in the middle of a clip, then done on Ray; neither leaves a process behind."""
    target = tmp_path / "out"
    process = program.start(source, target, *OPTIONS, "--quiet", **QUIET)
    started = wait_for_ray(process)
    worker_in_the_middle(target, process)
    process.send_signal(signal.SIGINT)
    started += descendants(process)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("Interrupted. What is done stays done; the same command"), err
    assert "Traceback" not in err
    assert wait_for_their_end(started) == []
    state = target / ".vrestore"
    assert list((state / "leases").iterdir()) == [], "the lease was given back"
    (job,) = (state / "work").glob("long.mkv.*/output.mkv.vrestore/job.json")
    assert json.loads(job.read_text())["state"]["frames"] >= 48
    before = json.loads((target / "vrestore-report.json").read_text())
    assert before["interrupted"]

    process = program.start(source, target, *OPTIONS, "--json", "--quiet", **QUIET)
    started = wait_for_ray(process)
    report = program.report(process)
    done = {clip["source"] for clip in before["clips"] if clip["status"] == "done"}
    statuses = {clip["source"]: clip["status"] for clip in report["clips"]}
    assert statuses.pop("below/long.mkv") == "done"
    assert set(statuses.values()) <= {"done", "skipped"}
    assert {statuses[clip] for clip in done} <= {"skipped"}
    assert len(statuses) == 2
    assert wait_for_their_end(started) == []
    same_clips(target, source)
