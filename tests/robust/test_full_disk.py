"""A disk that is full, becomes read-only, or loses its folder: a small file system, mounted for each test."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

material, kills = sys.modules["material"], sys.modules["kills"]

FRAMES = 90
FIRST_SEGMENT = 48


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def disk(tmp_path):
    """The folder of a file system of one MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = mount("-t", "tmpfs", "-o", "size=1m", "none", place)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here (root is needed): {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Two segments of H.264 with sound."""
    return material.write(tmp_path_factory.mktemp("film") / "in.mp4", FRAMES)


@pytest.fixture(scope="module")
def expected(server, film):
    output = film.with_name("out.mp4")
    assert server.run("identity", film, "-o", output, *kills.SETTINGS).code == 0
    return material.decoded(output)


def fill(disk, free):
    """Leave ``free`` bytes; the file that takes the rest."""
    ballast, state = disk / "ballast", os.statvfs(disk)
    ballast.write_bytes(bytes(state.f_bavail * state.f_frsize - free))
    return ballast


def assert_one_line(done, *words):
    assert done.code == 1, done
    assert done.err.startswith("Error: "), done.err
    assert len(done.err.splitlines()) == 1, done.err
    for word in words:
        assert word in done.err


def assert_nothing_half_done(folder):
    assert {path.name for path in folder.iterdir()} <= {"out.mp4.vrestore"}
    assert not list(folder.glob("*/*.part"))


def resumed(server, film, output, *options):
    done = server.run("identity", film, "-o", output, *kills.SETTINGS, *options, "--resume")
    assert done.code == 0, done.err
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    return material.decoded(output)


@pytest.mark.parametrize(
    ("free", "kept"),
    [(0, 0), (16 << 10, 0), (52 << 10, FIRST_SEGMENT), (120 << 10, FRAMES)],
    ids=["nothing fits", "in the first segment", "in the second", "while all is joined"],
)
def test_full(server, film, expected, disk, free, kept):
    output = disk / "results" / "out.mp4"
    output.parent.mkdir()
    ballast = fill(disk, free)
    done = server.run("identity", film, "-o", output, *kills.SETTINGS)
    assert_one_line(done, "No space left on device")
    assert_nothing_half_done(output.parent)
    assert state(output) == kept
    ballast.unlink()
    assert resumed(server, film, output) == expected


def state(output):
    """Frames that the job folder holds."""
    manifest = output.with_name("out.mp4.vrestore") / "job.json"
    return json.loads(manifest.read_text())["state"]["frames"] if manifest.exists() else 0


def started_and_stopped(server, film, output):
    """A run that has stopped itself between two segments, when it has no file open."""
    options = (*kills.SETTINGS, "--stop-at", FIRST_SEGMENT)
    run = server.start("identity", film, "-o", output, *options)
    while psutil.Process(run.pid).status() != psutil.STATUS_STOPPED:
        assert not run.ended_within(0)
        time.sleep(0.002)
    assert state(output) == FIRST_SEGMENT
    return run


def test_read_only_in_the_middle(server, film, expected, disk):
    """By a remount, as a disk with errors does it: that binds root, too."""
    output = disk / "out.mp4"
    run = started_and_stopped(server, film, output)
    made = mount("-o", "remount,ro", disk)
    assert made.returncode == 0, made.stderr
    run.signal(signal.SIGCONT)
    assert_one_line(run.wait(), "Read-only file system")
    again = ("identity", film, "-o", output, *kills.SETTINGS)
    assert_one_line(server.run(*again, "--stop-at", FIRST_SEGMENT, "--resume"), "Read-only file system")
    assert_one_line(server.run(*again), "Read-only file system")
    mount("-o", "remount,rw", disk)
    assert_nothing_half_done(disk)
    assert state(output) == FIRST_SEGMENT, "what was done is still there"
    assert resumed(server, film, output, "--stop-at", FIRST_SEGMENT) == expected


def test_the_folder_is_removed_in_the_middle(server, film, expected, disk):
    output = disk / "results" / "out.mp4"
    output.parent.mkdir()
    run = started_and_stopped(server, film, output)
    shutil.rmtree(output.parent)
    run.signal(signal.SIGCONT)
    assert_one_line(run.wait(), "out.mp4")
    assert list(disk.iterdir()) == []
    output.parent.mkdir()
    assert resumed(server, film, output, "--stop-at", FRAMES + 1) == expected


def test_the_disk_itself_goes_away(server, film, expected, disk, tmp_path):
    """What was mounted is taken away, and the empty folder below it is another disk."""
    output = disk / "results" / "out.mp4"
    output.parent.mkdir()
    run = started_and_stopped(server, film, output)
    assert mount("-t", "tmpfs", "-o", "size=1m", "none", disk).returncode == 0
    run.signal(signal.SIGCONT)
    assert_one_line(run.wait(), "out.mp4")
    assert list(disk.iterdir()) == []
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
    assert state(output) == FIRST_SEGMENT
    assert resumed(server, film, output, "--stop-at", FIRST_SEGMENT) == expected
