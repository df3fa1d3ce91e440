"""A long clip whose shots are the units: several processes restore them, one joins what they made."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from vrestore.batch import BatchConfig
from vrestore.batch.parts import grouped
from vrestore.batch.run import _order, run_batch
from vrestore.batch.units import Unit
from vrestore.batch.work import work
from vrestore.errors import ConfigError

SHOT, SHOTS = 52, 4


@pytest.fixture(scope="session")
def film(footage, tmp_path_factory):
    """A folder with one clip of four shots, and one of a single shot."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("clip_helpers", Path(__file__).parents[1] / "conftest.py")
    helpers = module_from_spec(spec)
    spec.loader.exec_module(helpers)
    folder = tmp_path_factory.mktemp("film")
    frames = [helpers.scene(SHOT, (32, 48), seed=seed) // 2 + 60 * (seed % 2) for seed in range(SHOTS)]
    helpers.write_clip(folder / "film.mkv", np.concatenate(frames))
    helpers.write_clip(folder / "short.mkv", frames[0][:8])
    return folder


def wait_for(found, process):
    while process.poll() is None:
        if result := found():
            return result
        time.sleep(0.002)
    pytest.fail(f"the program ended before that: {process.communicate()[1]}")


def test_two_processes_do_the_shots_of_one_clip(program, film, tmp_path, same_clips):
    """One sleeps in the middle of a shot while the other does the rest; the frames are those of a serial run."""
    target = tmp_path / "out"
    state = target / ".vrestore"
    options = ("--units", "shot", "--window", 4, "--overlap", 1, "--json", "--quiet")

    def owner():
        for lease in state.glob("leases/part*.film.mkv.*"):
            text = lease.read_text()
            return json.loads(text)["pid"] if text else None

    def kept():
        return [json.loads(path.read_text())["pid"] for path in state.glob("parts/film.mkv.*/*/part.json")]

    first = program.start(film, target, *options)
    sleeper = wait_for(owner, first)
    os.kill(sleeper, signal.SIGSTOP)
    second = program.start(film, target, *options)
    wait_for(lambda: set(kept()) - {sleeper}, second)
    os.kill(sleeper, signal.SIGCONT)
    reports = program.report(first), program.report(second)
    statuses = sorted(clip["status"] for report in reports for clip in report["clips"] if clip["source"] == "film.mkv")
    assert statuses == ["done", "skipped"]
    (record,) = (json.loads(path.read_text()) for path in state.glob("records/film.mkv.*"))
    assert [part["shots"] for part in record["parts"]] == [[[SHOT * n, SHOT * (n + 1)]] for n in range(SHOTS)]
    assert len({part["pid"] for part in record["parts"]}) == 2
    assert record["result"]["frames"] == SHOT * SHOTS
    assert record["result"]["shots"] == SHOTS
    assert [list((state / name).iterdir()) for name in ("leases", "work", "parts", "failures")] == [[], [], [], []]
    serial = program.run(film, tmp_path / "serial", "--window", 4, "--overlap", 1)
    assert serial["counts"] == {"done": 2}
    same_clips(target, tmp_path / "serial")
    same_clips(target, film)


@pytest.fixture
def order(film, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "identity")
    for name in ("leases", "work", "parts", "records", "failures"):
        (tmp_path / "out" / ".vrestore" / name).mkdir(parents=True)
    return _order("identity_head:Identity", film, tmp_path / "out", BatchConfig(), {"window": 4, "overlap": 1})


def step(name, part=0):
    return Unit("film.mkv", "film.mkv", name, part)


def test_steps_one_by_one(order, tmp_path):
    assert "parts of film.mkv are gone" in work(order, step("join")).error
    assert work(order, step("shots")).status == "done"
    assert work(order, step("shots")).status == "skipped"
    assert work(order, step("part", 2)).frames == SHOT
    assert work(order, step("part", 2)).status == "skipped"
    assert "parts of film.mkv are gone" in work(order, step("join")).error
    for part in (0, 1, 3):
        assert work(order, step("part", part)).status == "done"
    assert not (tmp_path / "out" / "film.mkv").exists()
    outcome = work(order, step("join"))
    assert (outcome.status, outcome.frames) == ("done", SHOT * SHOTS)
    assert [work(order, step(*one)).status for one in (("shots",), ("part", 1), ("join",))] == ["skipped"] * 3
    assert work(order, Unit("film.mkv", "film.mkv")).status == "skipped"
    state = order.state
    assert [list((state / name).iterdir()) for name in ("leases", "work", "parts", "failures")] == [[], [], [], []]


def test_a_part_goes_on_from_its_checkpoint(order):
    assert work(order, step("shots")).status == "done"
    (order.state / "parts" / step("part").clip.slug / "shots.json").write_text(
        json.dumps({"key": _key(order), "parts": [[[0, 2 * SHOT]], [[2 * SHOT, 4 * SHOT]]]})
    )
    count = iter(range(10**6))

    def stop():
        if next(count) == 80:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(order, step("part", 1), check=stop)
    made = []
    assert work(order, step("part", 1), check=lambda: made.append(None)).frames == 2 * SHOT
    assert len(made) < 2 * SHOT - 40


def _key(order):
    from vrestore.batch.work import unit_key

    return unit_key(order, step("part"))


def test_a_shot_that_fails_is_the_failure_of_its_clip(film, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "identity")
    settings = {"fail_at": 20, "window": 4, "overlap": 1}
    config = BatchConfig(units="shot")
    report = run_batch("identity_head:Identity", film, tmp_path / "out", config, settings=settings)
    found = {row.source: (row.status, row.error) for row in report.rows}
    assert found["film.mkv"] == ("failed", "RuntimeError: asked to fail")
    assert found["short.mkv"] == ("done", "")


def test_shots_are_grouped():
    assert grouped(((0, 200), (200, 210), (210, 260), (260, 300))) == [
        ((0, 200),),
        ((200, 210), (210, 260), (260, 300)),
    ]
    assert grouped(((5, 9),)) == [((5, 9),)]


def test_shots_that_do_not_cover_what_is_restored(order):
    from vrestore.engine import run

    for shots in (((0, 52), (60, 208)), ((0, 100),), ((0, 208), (208, 208))):
        with pytest.raises(ConfigError, match="give ranges that cover frames 0 to 208"):
            run(order.task(), Path(order.source, "film.mkv"), "never.mkv", order.options({"shots": shots}))
