"""One unit in this process: done, skipped, failed, interrupted, taken over; and who decides what is tried again."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from vrestore.batch import BatchConfig, BatchReport, Row, run_batch
from vrestore.batch.lease import Lease
from vrestore.batch.local import _how
from vrestore.batch.ray_pool import RayPool, _needs
from vrestore.batch.run import _order
from vrestore.batch.schedule import Died, Schedule
from vrestore.batch.units import Unit
from vrestore.batch.work import Outcome, fail, failure, unit_key, work
from vrestore.errors import ConfigError, DeviceError
from vrestore.preset import read_preset

UNIT = Unit("clip.mkv", "clip.mkv")


@pytest.fixture
def identity(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "identity")
    yield "identity_head:Identity"
    sys.modules.pop("identity_head", None)


@pytest.fixture
def make(identity, clips, tmp_path):
    """make(frames, **settings) -> an order for a folder with one clip."""

    def order(frames=8, **settings):
        (tmp_path / "in").mkdir(exist_ok=True)
        if not (tmp_path / "in" / "clip.mkv").exists():
            clips.write(tmp_path / "in" / "clip.mkv", clips.scene(frames, (32, 48)))
        for name in ("leases", "work", "records", "failures"):
            (tmp_path / "out" / ".vrestore" / name).mkdir(parents=True, exist_ok=True)
        return _order(identity, tmp_path / "in", tmp_path / "out", BatchConfig(), settings)

    return order


def left(order):
    """Names of what lies in the state folder, apart from records."""
    return sorted(path.name for name in ("leases", "work", "failures") for path in (order.state / name).iterdir())


def test_done_recorded_and_then_skipped(make, clips, tmp_path):
    order = make(8)
    outcome = work(order, UNIT)
    assert (outcome.status, outcome.frames) == ("done", 8)
    found, _ = clips.read(tmp_path / "out" / "clip.mkv")
    assert np.array_equal(found, clips.read(tmp_path / "in" / "clip.mkv")[0])
    assert left(order) == []
    (record,) = (order.state / "records").iterdir()
    assert json.loads(record.read_text())["result"]["output"] == str(tmp_path / "out" / "clip.mkv")
    assert read_preset(record, {"identity": ""}).tables["identity"]["window"] == 16
    assert work(order, UNIT).status == "skipped"
    assert work(make(window=8), UNIT).status == "done", "another setting"
    (tmp_path / "out" / "clip.mkv").write_bytes(b"cut")
    assert work(make(window=8), UNIT).status == "done", "another output"


def test_a_unit_of_another_owner_is_left(make):
    order = make()
    lease = Lease.claim(order.state / "leases", UNIT.slug)
    assert work(order, UNIT).status == "busy"
    lease.release()
    assert work(order, UNIT).status == "done"


def test_a_failure_is_told_and_does_not_last(make, tmp_path):
    order = make(fail_at=5)
    outcome = work(order, UNIT)
    assert (outcome.status, outcome.error) == ("failed", "RuntimeError: asked to fail")
    assert failure(order, UNIT).token == outcome.token
    assert left(order) == [f"{UNIT.slug}.json"]
    assert list((tmp_path / "out").iterdir()) == [order.state]
    assert work(make(), UNIT).status == "done"
    assert left(order) == []


@pytest.mark.parametrize(
    ("unit", "error"),
    [
        (Unit("gone.mkv", "gone.mkv"), "FileNotFoundError"),
        (Unit("clip.mkv", "../clip.mkv"), "leads out of"),
        (Unit("clip.mkv", ".vrestore"), "is a folder"),
        (Unit("clip.mkv", "clip.xyz"), "output suffix .xyz is not one of"),
    ],
)
def test_what_is_wrong_with_a_unit_is_its_outcome(make, unit, error):
    order = make()
    outcome = work(order, unit)
    assert outcome.status == "failed"
    assert error in outcome.error
    assert left(order) == [f"{unit.slug}.json"]


def test_an_output_that_may_not_be_replaced(make, tmp_path):
    order = make(overwrite=False)
    (tmp_path / "out" / "clip.mkv").write_text("mine")
    assert "clip.mkv exists; remove it, or allow --overwrite" in work(order, UNIT).error
    assert (tmp_path / "out" / "clip.mkv").read_text() == "mine"


def test_a_worker_that_does_not_see_the_folder(make):
    order = make()
    shutil.rmtree(order.state)
    assert "every worker must see the output folder" in work(order, UNIT).error
    assert not order.state.exists()


def test_an_input_that_changes_while_it_is_read(make, tmp_path):
    def grow():
        with (tmp_path / "in" / "clip.mkv").open("ab") as file:
            file.write(b"more")

    outcome = work(make(), UNIT, check=grow)
    assert "clip.mkv changed while it was read; run the same command again" in outcome.error
    assert not (tmp_path / "out" / "clip.mkv").exists()


def stop_after(frames):
    count = iter(range(10**6))

    def check():
        if next(count) == frames:
            raise KeyboardInterrupt

    return check


def test_interrupted_and_taken_up_where_it_was(make, clips, tmp_path):
    order = make(120, overlap=2, window=4)
    with pytest.raises(KeyboardInterrupt):
        work(order, UNIT, check=stop_after(70))
    assert [name.partition(".mkv")[0] for name in left(order)] == ["clip"]
    made = []
    assert work(order, UNIT, check=lambda: made.append(None)).frames == 120
    assert len(made) < 120 - 40
    found, _ = clips.read(tmp_path / "out" / "clip.mkv")
    assert np.array_equal(found, clips.scene(120, (32, 48)))
    assert left(order) == []


def test_a_job_of_other_settings_is_begun_anew(make, clips, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        work(make(120, window=4, overlap=2), UNIT, check=stop_after(70))
    made = []
    assert work(make(window=6, overlap=2), UNIT, check=lambda: made.append(None)).status == "done"
    assert len(made) == 120
    assert np.array_equal(clips.read(tmp_path / "out" / "clip.mkv")[0], clips.scene(120, (32, 48)))


def test_an_owner_that_slept_while_another_took_over_does_no_harm(make, clips, tmp_path):
    """In the middle of a frame it sleeps; the taker resumes from its checkpoint and finishes; then it wakes up."""
    order = make(120, window=4, overlap=2)
    taken, count = [], iter(range(10**6))

    def sleep():
        if next(count) == 70:
            taken.append(work(order, UNIT, gone=0))

    assert work(order, UNIT, check=sleep).status == "busy"
    assert taken[0].status == "done"
    assert np.array_equal(clips.read(tmp_path / "out" / "clip.mkv")[0], clips.scene(120, (32, 48)))
    assert left(order) == []
    assert work(order, UNIT).status == "skipped"


def test_the_key_depends_on_input_settings_and_weights(make, tmp_path, monkeypatch):
    order = make()
    key = unit_key(order, UNIT)
    assert unit_key(make(), UNIT) == key
    assert unit_key(make(overwrite=False), UNIT) == key, "that changes no output"
    assert unit_key(make(window=8), UNIT) != key
    prior = tmp_path / "prior"
    prior.mkdir()
    (prior / "model_index.json").write_text('{"_class_name": "IdentityPrior"}')
    (prior / "weights.safetensors").write_text("1")
    own = unit_key(make(prior=str(prior)), UNIT)
    (prior / "weights.safetensors").write_text("2")
    assert unit_key(make(prior=str(prior)), UNIT) != own
    (tmp_path / "in" / "clip.mkv").write_text("other")
    assert unit_key(order, UNIT) != key


# ---------------------------------------------------------------- the schedule


class Answers:
    """A pool of one worker that gives these answers in turn."""

    def __init__(self, *answers):
        self.answers, self.unit, self.gone = list(answers), None, []

    def free(self):
        return self.unit is None

    def busy(self):
        return self.unit is not None

    def start(self, unit, gone):
        self.unit = unit
        self.gone.append(gone)

    def wait(self, timeout_s):
        if self.unit is None:
            return []
        unit, self.unit = self.unit, None
        answer = self.answers.pop(0)
        return [(unit, answer() if callable(answer) else answer)]


def settle(order, pool, attempts=3):
    told = []
    Schedule(order, attempts, lambda unit, outcome, tries: told.append((outcome, tries))).run([UNIT], pool)
    ((outcome, tries),) = told
    return outcome, tries


def test_a_dying_worker_is_replaced_up_to_a_bound(make):
    order = make()
    assert settle(order, Answers(Died("signal 9"), Died("signal 9"), Outcome("done"))) == (Outcome("done"), 3)
    outcome, tries = settle(order, Answers(*[Died("signal 11 (SIGSEGV)")] * 3))
    assert (outcome.status, tries) == ("failed", 3)
    assert outcome.error == "its worker ended 3 times, last by signal 11 (SIGSEGV)"
    assert failure(order, UNIT).token == outcome.token


def test_a_unit_that_another_process_has_is_waited_for(make):
    order = make()
    lease = Lease.claim(order.state / "leases", UNIT.slug)

    def others():
        lease.release()
        return Outcome("busy")

    assert settle(order, Answers(others, Outcome("skipped"))) == (Outcome("skipped"), 1)


def test_a_unit_whose_owner_is_gone_is_taken_over(make):
    order = make()
    (order.state / "leases" / f"{UNIT.slug}.4").write_text(json.dumps({"machine": "elsewhere", "pid": 1}))
    pool = Answers(Outcome("busy"), lambda: work(order, UNIT, pool.gone[-1]))
    outcome, _ = settle(_quick(order), pool)
    assert (outcome.status, pool.gone) == ("done", [None, 4])
    assert left(order) == []


def _quick(order):
    from dataclasses import replace

    return replace(order, lease_s=0.01)


def test_a_failure_that_another_process_leaves_meanwhile_is_taken_as_it_is(make):
    order = make()
    fail(order, UNIT, "of an earlier run")
    lease = Lease.claim(order.state / "leases", UNIT.slug)

    def others():
        fail(order, UNIT, "of another process")
        lease.release()
        return Outcome("busy")

    outcome, tries = settle(order, Answers(others))
    assert (outcome.error, tries) == ("of another process", 0)


# ---------------------------------------------------------------- the report, and what is refused


def test_a_dry_run_writes_nothing(identity, make, tmp_path):
    make()
    report = run_batch(identity, tmp_path / "in", tmp_path / "new", dry_run=True)
    assert [(row.source, row.status) for row in report.rows] == [("clip.mkv", "open")]
    assert not (tmp_path / "new").exists()


def test_settings_are_checked_before_anything_is_made(identity, make, tmp_path):
    make()
    with pytest.raises(ConfigError, match="steps is 0"):
        run_batch(identity, tmp_path / "in", tmp_path / "new", settings={"steps": 0})
    assert not (tmp_path / "new").exists()


def test_the_table_shows_failures_whatever_else_there_is():
    rows = [Row(f"c{i}.mkv", f"c{i}.mkv", "done", 1, 8, 0.5) for i in range(50)] + [
        Row("z.mkv", "z.mkv", "failed", 3, error="damaged\nmore")
    ]
    report = BatchReport(
        command="batch sr",
        source="in",
        target="out",
        rows=rows,
        ignored={".txt": 2, "hidden": 1},
        seconds=3.0,
        interrupted=False,
        versions={},
        settings={},
    )
    lines = report.lines()
    assert lines[0].split() == ["clip", "status", "tries", "frames", "seconds"]
    assert lines[1].split() == ["c0.mkv", "done", "1", "8", "0.5"]
    assert lines[41].split() == ["z.mkv", "failed", "3", "damaged"]
    assert lines[42] == "... and 10 more that did not fail"
    assert lines[43] == "50 done, 1 failed in 3.0 s; 3 other files ignored (2 .txt, 1 hidden)"
    assert report.exit_code == 3
    assert report.as_dict()["counts"] == {"done": 50, "failed": 1}


def test_without_ray_a_line_says_what_to_install(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'vrestore\[ray\]'"):
        RayPool(make(), BatchConfig(ray="local"))


def test_what_a_unit_takes_on_ray():
    def node(alive=True, **resources):
        return {"Alive": alive, "Resources": resources}

    cpus = [node(CPU=2.0), node(CPU=8.0), node(alive=False, CPU=64.0, GPU=8.0)]
    gpus = [*cpus, node(CPU=1.0, GPU=2.0)]
    for nodes, settings, device, wanted in [
        (cpus, {}, "auto", (4, 0.0)),
        (cpus, {"ray_cpus": 16}, "cpu", (8, 0.0)),
        (gpus, {}, "auto", (4, 1.0)),
        (gpus, {}, "cpu", (4, 0.0)),
        (gpus, {"ray_gpus": 0.5}, "cuda", (4, 0.5)),
    ]:
        needs = _needs(nodes, BatchConfig(**settings), device)
        assert (needs["num_cpus"], needs["num_gpus"], needs["max_retries"]) == (*wanted, 0)
    with pytest.raises(DeviceError, match=r"has 4 GPUs \(the most is 2\)"):
        _needs(gpus, BatchConfig(ray_gpus=4.0), "cuda")


def test_how_a_worker_ended():
    assert _how(-9) == "signal 9 (SIGKILL)"
    assert _how(1) == "exit code 1"
