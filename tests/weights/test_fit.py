"""The plain training loop: it learns, and a run that was broken off ends where an unbroken one does."""

import numpy as np
import pytest
import torch
from torch import nn

from vrestore.errors import ConfigError
from vrestore.weights.recipe.fit import Fit, FitConfig, fit, learning_rate


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


def test_a_broken_run_resumes_to_the_same_weights(tmp_path):
    whole = Fit(network(), losses, tmp_path / "whole", CONFIG)
    part = Fit(network(), losses, tmp_path / "part", CONFIG)
    for _ in range(20):
        whole.advance()
    for _ in range(12):
        part.advance()
    part.save()
    resumed = Fit(network(), losses, tmp_path / "part", CONFIG)
    assert resumed.step == 12
    for _ in range(8):
        resumed.advance()
    torch.testing.assert_close(resumed.averaged().state_dict(), whole.averaged().state_dict(), atol=0, rtol=0)


def test_another_seed_does_not_resume(tmp_path):
    Fit(network(), losses, tmp_path, CONFIG).save()
    with pytest.raises(ConfigError, match="was trained with seed 0; use another folder"):
        Fit(network(), losses, tmp_path, FitConfig(seed=1))


def test_the_rate_rises_stays_and_falls():
    rates = [learning_rate(step, CONFIG) / CONFIG.rate for step in (0, 9, 150, 250, 299)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.01])
