"""A folder as people process it: one process, two on one folder with a worker killed, interrupted, run again."""

import json
import os
import shutil
import signal


def statuses(report):
    return {clip["source"]: clip["status"] for clip in report["clips"]}


def done(report):
    return {clip for clip, status in statuses(report).items() if status == "done"}


def test_two_processes_share_a_folder_and_a_worker_is_killed(
    program, footage, tmp_path, worker_in_the_middle, same_clips
):
    """Every clip is done once, by one or the other; the outputs are those of a serial run and of the input."""
    first = program.start(footage, tmp_path / "shared", "--recursive", "--json", "--quiet")
    second = program.start(footage, tmp_path / "shared", "--recursive", "--json", "--quiet")
    os.kill(worker_in_the_middle(tmp_path / "shared", first), signal.SIGKILL)
    reports = program.report(first), program.report(second)
    assert done(reports[0]).isdisjoint(done(reports[1]))
    assert done(reports[0]) | done(reports[1]) == set(statuses(reports[0]))
    assert len(reports[0]["clips"]) == 40
    assert reports[0]["ignored"] == {".txt": 1}
    state = tmp_path / "shared" / ".vrestore"
    assert [list((state / name).iterdir()) for name in ("leases", "work", "failures")] == [[], [], []]

    serial = program.run(footage, tmp_path / "serial", "--recursive")
    assert serial["counts"] == {"done": 40}
    assert json.loads((tmp_path / "serial" / "vrestore-report.json").read_text())["counts"] == {"done": 40}
    same_clips(tmp_path / "shared", tmp_path / "serial")
    same_clips(tmp_path / "serial", footage)


def test_interrupted_run_again_and_with_failures(program, footage, tmp_path, worker_in_the_middle, same_clips):
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "below").mkdir(parents=True)
    for name in ("clip01.mkv", "clip02.mkv", "below/clip00.mkv", "below/long.mkv"):
        shutil.copy(footage / name, source / name)
    (source / "aa_damaged.mkv").write_bytes(b"not a video")
    options = ("--recursive", "--jobs", "2")

    process = program.start(source, target, *options)
    worker_in_the_middle(target, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("Interrupted. What is done stays done; the same command")
    assert "Traceback" not in err
    report = json.loads((target / "vrestore-report.json").read_text())
    assert report["interrupted"]
    assert not (target / "below" / "long.mkv").exists()
    assert list((target / ".vrestore" / "leases").iterdir()) == []
    (job,) = (target / ".vrestore" / "work").glob("long.mkv.*/output.mkv.vrestore/job.json")
    before = json.loads(job.read_text())["state"]["frames"]
    assert before >= 48

    again = program.run(source, target, *options, code=3)
    assert statuses(again)["below/long.mkv"] == "done"
    finished = {name for name, status in statuses(report).items() if status == "done"}
    assert {statuses(again)[name] for name in finished} <= {"skipped"}
    (failed,) = (clip for clip in again["clips"] if clip["status"] == "failed")
    assert failed["source"] == "aa_damaged.mkv"
    assert "is not a readable video" in failed["error"]
    (source / "aa_damaged.mkv").unlink()
    same_clips(target, source)

    shutil.copy(source / "clip01.mkv", source / "clip02.mkv")  # another input
    (target / "below" / "clip00.mkv").unlink()  # another output
    changed = program.run(source, target, *options)
    assert done(changed) == {"clip02.mkv", "below/clip00.mkv"}
    same_clips(target, source)
