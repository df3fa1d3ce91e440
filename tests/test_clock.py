"""The clock of a run: exclusive stages, nested and through generators. Time is made up."""

import pytest

from vrestore import clock
from vrestore.clock import Clock


@pytest.fixture
def tick(monkeypatch):
    """tick(2) lets two seconds pass."""
    now = [100.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])

    def pass_time(seconds):
        now[0] += seconds

    return pass_time


def test_inner_stages_are_not_counted_to_outer_ones(tick):
    measured = Clock()
    tick(1)
    with measured.stage("outer"):
        tick(2)
        with measured.stage("inner"):
            tick(3)
        tick(2)
    tick(2)
    assert measured.total() == 10
    assert measured.shares() == pytest.approx({"engine": 0.3, "outer": 0.4, "inner": 0.3})


def test_generators_count_to_their_own_stage(tick):
    measured = Clock()

    def decoded():
        for _ in range(3):
            with measured.stage("decode"):
                tick(1)
            yield

    for _ in decoded():
        with measured.stage("write"):
            tick(2)
    assert measured.shares() == pytest.approx({"engine": 0.0, "decode": 1 / 3, "write": 2 / 3})


def test_an_error_ends_its_stage(tick):
    measured = Clock()

    def load():
        with measured.stage("load"):
            tick(1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        load()
    tick(3)
    assert measured.shares() == pytest.approx({"load": 0.25, "engine": 0.75})


def test_a_clock_that_has_not_run():
    assert sum(Clock().shares().values()) == pytest.approx(1)
