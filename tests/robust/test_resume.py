"""Kills, full disks, folders that vanish: what a user has left afterwards. `kills.py` runs the long form."""

import json
import os
import shutil
import signal
import sys
import time

import pytest

material, kills = sys.modules["material"], sys.modules["kills"]

SETTINGS = kills.SETTINGS


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="session")
def undisturbed(server, tmp_path_factory):
    """Three segments of H.264 with sound: the bytes of the input, and what becomes of them."""
    folder = tmp_path_factory.mktemp("undisturbed")
    source = material.write(folder / "in.mp4", 150)
    done = server.run("identity", source, "-o", folder / "out.mp4", *SETTINGS)
    assert done.code == 0, done.err
    return source.read_bytes(), material.decoded(folder / "out.mp4")


@pytest.fixture
def film(undisturbed, tmp_path):
    path = tmp_path / "in.mp4"
    path.write_bytes(undisturbed[0])
    return path


@pytest.fixture
def expected(undisturbed):
    return undisturbed[1]


def start_and_wait_for_a_checkpoint(server, film, output, **limits):
    run = server.start("identity", film, "-o", output, *SETTINGS, **limits)
    manifest = output.with_name(output.name + ".vrestore") / "job.json"
    while not manifest.exists() and not run.ended_within(0):
        time.sleep(0.001)
    return run


def resumed(server, film, output):
    done = server.run("identity", film, "-o", output, *SETTINGS, "--resume")
    assert done.code == 0, done.err
    return material.decoded(output)


def test_killed_at_random_moments_and_resumed(server, tmp_path):
    for suffix in kills.FORMATS:
        told = []
        assert kills.killed_runs(server, tmp_path, 1, 0, 80, suffix, told.append) == []
        assert any("identical" in line for line in told)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_job_that_goes_on(server, film, expected, tmp_path, number, code):
    output = tmp_path / "out.mp4"
    run = start_and_wait_for_a_checkpoint(server, film, output)
    run.signal(number)
    done = run.wait()
    assert done.code == code
    assert done.err.strip() == "Interrupted. The same command with --resume goes on where it stopped."
    assert names(tmp_path) == ["in.mp4", "out.mp4.vrestore"]
    assert not list((tmp_path / "out.mp4.vrestore").glob("*.part"))
    assert resumed(server, film, output) == expected
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize("limit", [300, 20_000, 60_000, 90_000])
def test_where_no_more_can_be_written_it_ends_in_a_line_and_goes_on_later(server, film, expected, tmp_path, limit):
    """A limit of the size of any file stands for a full disk: the same errors at the same calls."""
    output = tmp_path / "out.mp4"
    done = server.run("identity", film, "-o", output, *SETTINGS, RLIMIT_FSIZE=limit)
    assert done.code == 1
    assert len(done.err.splitlines()) == 1, done.err
    assert done.err.startswith("Error: ")
    assert "cannot" in done.err
    assert set(names(tmp_path)) <= {"in.mp4", "out.mp4.vrestore"}
    assert not list(tmp_path.glob("*/*.part"))
    assert resumed(server, film, output) == expected
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


def test_an_output_folder_that_is_removed(server, film, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    run = start_and_wait_for_a_checkpoint(server, film, folder / "out.mp4")
    run.signal(signal.SIGSTOP)
    shutil.rmtree(folder)
    run.signal(signal.SIGCONT)
    done = run.wait()
    assert done.code == 1
    assert len(done.err.splitlines()) == 1, done.err
    assert "out.mp4" in done.err
    assert names(tmp_path) == ["in.mp4"]


def test_a_job_folder_that_can_be_written_no_more(server, film, expected, tmp_path):
    """A file in its place stops everybody, also root, whom no permission stops."""
    folder = tmp_path / "results"
    folder.mkdir()
    run = start_and_wait_for_a_checkpoint(server, film, folder / "out.mp4")
    run.signal(signal.SIGSTOP)
    job = folder / "out.mp4.vrestore"
    os.rename(job, folder / "kept")
    job.write_text("in the way")
    run.signal(signal.SIGCONT)
    done = run.wait()
    assert done.code == 1
    assert len(done.err.splitlines()) == 1, done.err
    job.unlink()
    os.rename(folder / "kept", job)
    assert resumed(server, film, folder / "out.mp4") == expected


def test_a_changed_input_or_setting_is_refused_by_name(server, film, expected, tmp_path):
    output = tmp_path / "out.mp4"
    run = start_and_wait_for_a_checkpoint(server, film, output)
    run.signal(signal.SIGKILL)
    run.wait()
    again = ("identity", film, "-o", output, *SETTINGS, "--resume")
    done = server.run(*again, "--steps", "3")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "steps was 2, is 3" in done.err
    content = film.read_bytes()
    film.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = server.run(*again)
    assert done.code == 1
    assert "input was" in done.err
    film.write_bytes(content)
    assert resumed(server, film, output) == expected


def test_leftovers_of_a_killed_writer_are_removed(server, film, tmp_path):
    """A kill in the last moments leaves a nameless file, which the next run sweeps away; others' files stay."""
    (tmp_path / ".out.mp4.4194304.part").write_bytes(b"of a process that is gone")
    (tmp_path / f".out.mp4.{os.getpid()}.part").write_bytes(b"of one that lives")
    (tmp_path / ".out.mp4.notes.part").write_bytes(b"of nobody")
    assert server.run("identity", film, "-o", tmp_path / "out.mp4", *SETTINGS).code == 0
    assert names(tmp_path) == [f".out.mp4.{os.getpid()}.part", ".out.mp4.notes.part", "in.mp4", "out.mp4"]


def test_a_checkpoint_tells_its_plan(server, film, tmp_path):
    run = start_and_wait_for_a_checkpoint(server, film, tmp_path / "out.mp4")
    run.signal(signal.SIGKILL)
    run.wait()
    saved = json.loads((tmp_path / "out.mp4.vrestore" / "job.json").read_text())
    assert saved["plan"] == {"window": 8, "overlap": 2, "tile": None, "batch": 1}


def test_what_is_done_is_left(server, film, expected, tmp_path):
    """The record beside the output tells: the same input, the same settings, the same output."""
    output = tmp_path / "out.mp4"
    again = ("identity", film, "-o", output, *SETTINGS, "--record")
    assert server.run(*again).code == 0
    made = output.stat()
    done = server.run(*again, "--resume")
    assert done.code == 0
    assert f"{output} is done already" in " ".join(done.err.split())
    assert output.stat().st_mtime_ns == made.st_mtime_ns
    done = server.run(*again, "--resume", "--json")
    assert json.loads(done.out)["frames"] == 150

    assert "done already" not in server.run(*again, "--resume", "--steps", "3").err
    assert output.stat().st_mtime_ns > made.st_mtime_ns, "of other settings"
    output.write_bytes(b"cut")
    done = server.run(*again, "--resume")
    assert (done.code, done.err) == (0, "")
    assert material.decoded(output) == expected
