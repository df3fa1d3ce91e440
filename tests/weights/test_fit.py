"""The training loop: it learns, and a run that was broken off ends where an unbroken one does."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from vrestore.errors import ConfigError, DeviceError
from vrestore.weights.recipe.drawn import Ahead, Tensors
from vrestore.weights.recipe.fit import Drawing, Fit, FitConfig, Moment, fit, learning_rate
from vrestore.weights.recipe.machine import training_device


def losses(model, rng, step):
    """A line through noise-free points."""
    x = torch.from_numpy(rng.standard_normal((32, 2), dtype=np.float32))
    return {"line": (model(x) - x @ torch.tensor([[2.0], [-1.0]])).float().square().mean()}


def network():
    torch.manual_seed(0)
    return nn.Linear(2, 1)


CONFIG = FitConfig(steps=300, decay=100, rate=0.05, warmup=10, ema=0.9, report_every=100, judge_every=100)


def test_it_learns_and_reports(tmp_path):
    said = []
    best = fit(
        Fit(network(), losses, tmp_path, CONFIG), said.append, lambda model: f"bias {float(model.bias.detach()):.1f}"
    )
    torch.testing.assert_close(best.weight, torch.tensor([[2.0, -1.0]]), atol=0.02, rtol=0)
    assert [line.split(" ")[:2] for line in said] == [["step", n] for n in ("100", "100", "200", "200", "300", "300")]
    assert said[-1] == "step 300 bias 0.0" or said[-1] == "step 300 bias -0.0"


@pytest.mark.parametrize("muon", [False, True])
def test_a_broken_run_resumes_to_the_same_weights(tmp_path, muon):
    config = replace(CONFIG, muon=muon)
    whole = Fit(network(), losses, tmp_path / "whole", config)
    part = Fit(network(), losses, tmp_path / "part", config)
    for _ in range(20):
        whole.advance()
    for _ in range(12):
        part.advance()
    part.save()
    resumed = Fit(network(), losses, tmp_path / "part", config)
    assert resumed.step == 12
    for _ in range(8):
        resumed.advance()
    torch.testing.assert_close(resumed.averaged().state_dict(), whole.averaged().state_dict(), atol=0, rtol=0)


def test_another_seed_does_not_resume(tmp_path):
    Fit(network(), losses, tmp_path, CONFIG).save()
    with pytest.raises(ConfigError, match="was trained with seed 0; use another folder"):
        Fit(network(), losses, tmp_path, replace(CONFIG, seed=1))


def test_a_state_of_an_earlier_version_does_not_resume(tmp_path):
    Fit(network(), losses, tmp_path, CONFIG).save()
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save(saved | {"average": dict(enumerate(saved["average"]))}, tmp_path / "state.pt")
    with pytest.raises(ConfigError, match="earlier version of the recipe; use another folder"):
        Fit(network(), losses, tmp_path, CONFIG)


@pytest.mark.parametrize("setting", [{"steps": 0}, {"decay": -1}, {"minutes": -1.0}, {"batch": -2}])
def test_settings_out_of_range_are_named(setting):
    ((name, value),) = setting.items()
    with pytest.raises(ConfigError, match=f"{name} is {value}; give [01] or more"):
        FitConfig(**setting)


def test_the_rate_rises_stays_and_falls():
    rates = [learning_rate(step, CONFIG) / CONFIG.rate for step in (0, 9, 150, 250, 299)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.01])


@dataclass(frozen=True)
class Points(Tensors):
    x: torch.Tensor
    moment: Moment


class Line(Drawing):
    """The same losses, drawn ahead; ``moments``: of the steps that were learned."""

    def __init__(self):
        self.moments = []

    def draw(self, rng, moment):
        return Points(torch.from_numpy(rng.standard_normal((32, 2), dtype=np.float32)), moment)

    def losses(self, model, batch, moment):
        assert batch.moment == moment
        self.moments.append(moment)
        return {"line": (model(batch.x) - batch.x @ torch.tensor([[2.0], [-1.0]])).float().square().mean()}


def test_what_is_drawn_ahead_changes_nothing(tmp_path):
    config, line = replace(CONFIG, steps=30, decay=10), Line()
    ahead = fit(Fit(network(), line, tmp_path / "ahead", config), lambda text: None)
    at_once = fit(Fit(network(), losses, tmp_path / "at once", config), lambda text: None)
    assert torch.equal(ahead.weight, at_once.weight)
    assert line.moments == [Moment(step, step >= 20) for step in range(30)]


class Clock:
    """Shows what it is set to."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def __call__(self):
        return self.seconds


def timed(folder, clock, minutes):
    """A run whose every step takes six seconds."""

    class Slow(Line):
        def losses(self, model, batch, moment):
            clock.seconds += 6.0
            return super().losses(model, batch, moment)

    config = replace(CONFIG, minutes=minutes, warmup=1)
    return Fit(network(), Slow(), folder, config, clock=clock)


def rate(run):
    return run._optimiser.rate / CONFIG.rate


def test_a_run_may_end_by_the_clock(tmp_path):
    """Of two minutes, decay is the last third, as of the steps."""
    run, rates = timed(tmp_path, Clock(1000.0), 2.0), []
    while not run.finished:
        run.advance()
        rates.append(rate(run))
    assert run.step == 20
    assert rates[:14] == [1.0] * 14
    assert rates[14:] == pytest.approx([0.9, 0.75, 0.6, 0.45, 0.3, 0.15])


def test_time_goes_on_where_a_run_was_left(tmp_path):
    first = timed(tmp_path, Clock(50.0), 2.0)
    for _ in range(15):
        first.advance()
    first.save()
    again = timed(tmp_path, Clock(7.0), 2.0)
    assert again.seconds == 90
    said = []
    fit(again, said.append, lambda model: "judged")
    assert again.step == 20
    assert said == ["step 20 judged"]
    assert timed(tmp_path, Clock(), 2.0).finished
    assert not timed(tmp_path, Clock(), 3.0).finished


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_come_in_order_from_any_number_of_threads(threads):
    with Ahead(lambda step: step * step, 4, threads) as ahead:
        assert [ahead.take() for _ in range(9)] == [step * step for step in range(4, 13)]


def test_an_error_in_drawing_is_raised_where_it_is_wanted():
    def draw(step):
        if step == 2:
            raise ConfigError("no more of it")
        return step

    with Ahead(draw, 0, 1) as ahead:
        assert [ahead.take(), ahead.take()] == [0, 1]
        with pytest.raises(ConfigError, match="no more of it"):
            ahead.take()


def test_batches_change_whole():
    inner = Points(torch.ones(2), Moment(1))

    @dataclass(frozen=True)
    class Outer(Tensors):
        points: Points
        name: str
        none: torch.Tensor | None = None

    found = Outer(inner, "a").each(lambda part: part * 3)
    assert found.points.x.tolist() == [3, 3]
    assert (found.points.moment, found.name, found.none) == (Moment(1), "a", None)
    assert Outer(inner, "a").to(torch.device("meta")).points.x.device.type == "meta"


def test_a_gpu_that_is_not_there_is_refused():
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(DeviceError, match=f"device '{missing}' is not on this machine"):
        training_device(missing)
    assert training_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
