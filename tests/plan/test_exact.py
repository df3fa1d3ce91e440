"""Plans against exact truth: a Gaussian process over frames, of which every window's posterior mean is known."""

import numpy as np
import pytest
import torch

from vrestore.executor import Executor
from vrestore.noise import noise
from vrestore.noise_sources import Independent, Rescheduled
from vrestore.plan import BandsPlan, DiagonalPlan, HierarchyPlan, WindowsPlan
from vrestore.plan.families import autoregressive, fifo
from vrestore.sampling import ddim, ddim_ladder
from vrestore.spectral import SpectralBlend
from vrestore.synthesis import Sampler

FRAMES, LEVELS, SHAPE = 80, 14, (4, 12, 15)


@pytest.fixture(scope="module")
def prior(exact):
    return exact.GaussianPrior()


def row(exact, prior, plan, **options):
    return exact.figures(prior, exact.sample(plan, prior, shape=SHAPE, **options))


def test_the_default_plan_has_the_true_covariance_and_no_seams(exact, prior):
    """Of the truth: correlation .52 sixteen frames apart, .34 thirty-two apart."""
    found = row(exact, prior, HierarchyPlan(FRAMES, 16, LEVELS))
    assert found["worst"] < 1.2
    assert 0.45 < found["at 16"] < 0.6
    assert 0.25 < found["at 32"] < 0.45
    assert 0.75 < found["variance"] < 1.1


def test_the_default_plan_does_not_drift_where_chunks_do(exact):
    """Every prediction is off by .03, as by a fault of colour: the chain of chunks adds it up.

    The process is linear, so the same noise without the fault shows exactly what the fault does.
    """
    faulty, true = (exact.GaussianPrior(slow=60, bias=bias) for bias in (0.03, 0.0))
    found = []
    for plan in (HierarchyPlan(96, 16, 10), autoregressive(96, 10, 8, 8)):
        here, there = (exact.sample(plan, prior, shape=(1, 1, 1)) for prior in (faulty, true))
        found.append(exact.drift(here - there))
    assert abs(found[0]) < 0.05
    assert found[1] > 0.2


def test_overlap_carries_no_identity_and_clean_history_does(exact, prior):
    windows = row(exact, prior, WindowsPlan(FRAMES, 16, 8, LEVELS))
    chunked = row(exact, prior, DiagonalPlan(FRAMES, LEVELS, 4, LEVELS // 4, history=4))
    assert windows["at 16"] < 0.15
    assert windows["worst"] > chunked["worst"]
    assert chunked["at 16"] > 0.4
    assert chunked["worst"] < 1.2


def test_rescheduled_noise_repeats(exact, prior):
    """What FreeNoise's start buys: a sequence that comes back to itself."""
    start = Rescheduled(Independent(0, SHAPE, LEVELS), 0)
    assert row(exact, prior, WindowsPlan(FRAMES, 16, 8, LEVELS), start=start)["at 16"] > 0.9


def test_early_renewal_keeps_windows_in_agreement(exact, prior):
    """FlowLong's stochastic part: no seams, as predictions are fused and a frame's noise is one."""
    found = row(exact, prior, WindowsPlan(FRAMES, 16, 8, LEVELS), moves=Sampler(renew=round(0.9 * LEVELS)))
    assert found["worst"] < 1.8
    assert found["variance"] > 0.4


def test_two_bands_take_the_slow_part_from_far_windows(exact, prior):
    blended = row(exact, prior, BandsPlan(FRAMES, 16, 8, LEVELS), reduce=SpectralBlend(0.25))
    assert blended["at 16"] > 0.3 > row(exact, prior, WindowsPlan(FRAMES, 16, 8, LEVELS))["at 16"]


# ---- equalities


def toy(z, level):
    """Not linear; couples the frames of a window, and depends on each one's level."""
    place = torch.sin(torch.arange(len(z), dtype=z.dtype) * 0.3).view(-1, 1, 1, 1)
    scale = 0.5 + 0.02 * torch.as_tensor(level).view(-1, 1, 1, 1)
    return torch.tanh(0.7 * z + 0.4 * z.mean(0, keepdim=True) + 0.2 * place + 0.1 * z.roll(1, 0)) * scale


def run(plan, ladder, start, predict=toy):
    def call(steps, latents):
        return [predict(z, torch.from_numpy(step.level)) for step, z in zip(steps, latents, strict=True)]

    def solver(n, z, x0, level, to):
        return ddim(ladder, z, x0, level, to)

    return torch.stack([z for _, z in Executor(plan, call, start, solver).run()])


def latent(frame):
    return noise(0, frame, 100, (1, 2, 3))


def cosine(levels, **options):
    return ddim_ladder(levels, (np.cos(np.linspace(0, 1, 1001)[1:] * np.pi / 2 * 0.98) ** 2).tolist(), **options)


def test_fifo_is_the_queue_of_its_authors():
    """Parts run from tail to head in place, the first half of each as context, as in the authors' loop."""
    frames, levels, part = 40, 16, 8
    ladder, half = cosine(levels), part // 2
    x = torch.stack([latent(n) for n in range(frames)])
    place = np.arange(frames)
    for g in range(levels + frames - 1):
        before, after = (np.clip(levels + place - i, 0, levels) for i in (g, g + 1))
        active = np.flatnonzero(before != after)
        for end in range(active[-1] + 1, active[0], -half):
            k = np.arange(max(end - part, 0), end)
            x0 = toy(x[k], torch.from_numpy(before[k]))
            moves = (k >= end - half) & (k >= active[0])
            for n, clean in zip(k[moves], x0[moves], strict=True):
                x[n] = ddim(ladder, x[n], clean, int(before[n]), int(after[n]))
    assert torch.equal(run(fifo(frames, part, 2), ladder, latent), x)


def test_a_diagonal_without_pace_is_plain_sampling():
    ladder = cosine(9)
    x = torch.stack([latent(n) for n in range(12)])
    for level in range(9, 0, -1):
        here = torch.full((12,), level)
        x = ddim(ladder, x, toy(x, here), here, here - 1)
    assert torch.allclose(run(DiagonalPlan(12, 9, pace=0), ladder, latent), x, atol=1e-6)


def test_chunks_are_windows_one_after_the_other():
    """The pace T: each chunk starts when the one before it is clean."""
    plan, ladder = DiagonalPlan(10, 4, chunk=3, pace=4, history=2), cosine(4)
    clean = torch.empty(0, 1, 2, 3)
    for first in range(0, 10, 3):
        x = torch.stack([latent(n) for n in range(first, min(first + 3, 10))])
        for level in range(4, 0, -1):
            levels = torch.tensor([0] * min(2, len(clean)) + [level] * len(x))
            x0 = toy(torch.cat([clean[-2:], x]), levels)[-len(x) :]
            x = torch.stack([ddim(ladder, a, b, level, level - 1) for a, b in zip(x, x0, strict=True)])
        clean = torch.cat([clean, x])
    assert torch.equal(run(plan, ladder, latent), clean)


def test_inversion_is_the_same_core_and_comes_back():
    """With a prediction of the noise that does not depend on the latent the round trip is exact."""
    ladder = cosine(12, clean=False)
    kind = torch.linspace(-0.3, 0.3, 6).view(1, 1, 2, 3)

    def predict(z, level):
        alpha, sigma = (torch.tensor(v)[level].view(-1, 1, 1, 1) for v in (ladder.alpha, ladder.sigma))
        return ((z - sigma * kind) / alpha).float()

    up = run(WindowsPlan(30, 8, 3, 12, inverse=True), ladder, latent, predict)
    back = run(WindowsPlan(30, 8, 3, 12), ladder, lambda n: up[n], predict)
    assert torch.allclose(back, torch.stack([latent(n) for n in range(30)]), atol=1e-5)
