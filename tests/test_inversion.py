"""Inversion: on priors whose answers are known, sampled back, in any order and store, resumed anywhere."""

import json
from itertools import islice

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from vrestore.errors import PlanError, ResumeError
from vrestore.executor import Executor, State
from vrestore.inversion import Inversion, round_trip
from vrestore.noise import noise
from vrestore.plan import ConsistentPlan, CrossedPlan, WindowsPlan, split
from vrestore.plan.inversion import climbing
from vrestore.sampling import Ladder, advance, bridge_ladder, ddim_ladder, flow_ladder, lcm_ladder
from vrestore.store import MmapStore, RamStore

SHAPE = (2, 4, 5)
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
PRODUCTS = torch.cumprod(1 - BETAS, 0)
LADDER = ddim_ladder(10, PRODUCTS, "leading", offset=1)
FRAMES = 18


def clean(frame):
    return noise(5, frame, 0, SHAPE)


def gaussian(ladder: Ladder):
    """The exact denoiser of a Gaussian process over the frames of a window, each with its own level."""

    def predict(steps, latents):
        found = []
        for step, z in zip(steps, latents, strict=True):
            distance = np.abs(np.subtract.outer(step.frames, step.frames))
            kernel = 0.6 * np.exp(-0.5 * (distance / 30) ** 2) + 0.4 * np.exp(-0.5 * (distance / 4) ** 2)
            kernel += 0.3 * np.eye(len(z))
            alpha, sigma = (np.array(values)[step.level] for values in (ladder.alpha, ladder.sigma))
            gain = (kernel * alpha) @ np.linalg.inv(alpha[:, None] * kernel * alpha + np.diag(sigma**2))
            found.append(torch.einsum("ij,jchw->ichw", torch.from_numpy(gain), z.double()).float())
        return found

    return predict


def toy(steps, latents):
    """Not linear; every frame sees the whole call, its place in it and its own level."""
    out = []
    for step, z in zip(steps, latents, strict=True):
        place, level = torch.arange(len(z)).view(-1, 1, 1, 1), torch.from_numpy(step.level).view(-1, 1, 1, 1)
        out.append(torch.tanh(0.9 * z + 0.1 * z.mean((0, 2, 3), keepdim=True) + 0.05 * torch.sin(place) * level))
    return out


def starts(inversion, frames=FRAMES):
    return torch.stack([inversion.start(frame) for frame in range(frames)])


# ---- the truth


@pytest.mark.parametrize(("window", "overlap"), [pytest.param(9, 0, id="whole"), pytest.param(4, 2, id="windows")])
def test_on_a_gaussian_prior_the_way_back_ends_where_it_began(window, overlap):
    plan, ladder = WindowsPlan(9, window, overlap, 5), ddim_ladder(5, PRODUCTS, "leading", offset=1)
    errors = {}
    for guesses in (1, 6, 16):
        inversion = Inversion(plan, gaussian(ladder), clean, ladder, guesses=guesses)
        trip = list(round_trip(inversion, plan, gaussian(ladder), clean, ladder))
        assert [frame for frame, _, _ in trip] == list(range(9))
        errors[guesses] = max(error for _, _, error in trip)
        assert errors[guesses] == pytest.approx(
            max(float((z - clean(n)).norm() / clean(n).norm()) for n, z, _ in trip), rel=1e-3
        )
    assert errors[1] > 20 * errors[6] > 400 * errors[16]
    assert errors[16] < 1e-5
    assert inversion.residual < 1e-5


@pytest.mark.parametrize("ladder", [flow_ladder(4, 3.0), bridge_ladder(4)], ids=lambda ladder: ladder.kind)
def test_flows_and_bridges_are_inverted_too(ladder):
    plan = WindowsPlan(6, 4, 2, 4)
    prior = gaussian(ladder)
    inversion = Inversion(plan, prior, clean, ladder, guesses=16)
    assert max(error for *_, error in round_trip(inversion, plan, prior, clean, ladder)) < 1e-3


def test_a_level_zero_with_noise_can_be_left_as_well():
    ladder = ddim_ladder(5, PRODUCTS, "leading", offset=1, clean=False)
    plan = WindowsPlan(6, 4, 2, 5)
    inversion = Inversion(plan, gaussian(ladder), clean, ladder, guesses=16)
    assert max(error for *_, error in round_trip(inversion, plan, gaussian(ladder), clean, ladder)) < 1e-5


# ---- order, store, batch, resume


def plans():
    tiles = split(4, 5, 3, 1)
    yield WindowsPlan(FRAMES, 5, 2, 4)
    yield CrossedPlan(WindowsPlan(FRAMES, 5, 0, 4, tiles=tiles))
    yield CrossedPlan(WindowsPlan(FRAMES, 5, 3, 4))


@pytest.mark.parametrize("guesses", [1, 3])
@pytest.mark.parametrize("plan", list(plans()), ids=["windows", "touching", "crossed"])
def test_streaming_is_the_sweep_in_constant_memory(plan, guesses, tmp_path):
    inner = plan.windows if isinstance(plan, CrossedPlan) else plan
    swept = WindowsPlan(FRAMES, inner.window, inner.overlap, 4, inner.tiles, order="sweep")
    swept, ladder = CrossedPlan(swept) if isinstance(plan, CrossedPlan) else swept, ddim_ladder(4, PRODUCTS)
    expected = starts(Inversion(swept, toy, clean, ladder, guesses=guesses))
    with MmapStore(tmp_path, slots=5) as disk:
        inversion = Inversion(plan, toy, clean, ladder, guesses=guesses, store=disk, batch=3)
        found = starts(inversion)
        assert disk.peak <= inversion.executor.plan.live_bound
    assert torch.equal(found, expected)


def test_few_frames_are_read_ahead_and_the_trail_is_let_go():
    plan = WindowsPlan(80, 4, 2, 3)
    ladder = ddim_ladder(3, PRODUCTS)
    asked, store, trail = [], RamStore(), RamStore(half=True)
    ahead = 0
    inversion = Inversion(
        plan, toy, lambda n: asked.append(n) or clean(n), ladder, guesses=2, store=store, trail=trail
    )  # fmt: skip

    def sample(frame):
        nonlocal ahead
        latent = inversion.start(frame)
        ahead = max(ahead, max(asked) - frame)
        torch.testing.assert_close(inversion.at(frame, 3), latent, rtol=1e-3, atol=1e-3)
        return latent

    def solver(frame, z, x0, level, to):
        if to:
            assert inversion.at(frame, to).shape == z.shape
        return advance(ladder, z, x0, level, to, clean)

    for frame, _ in Executor(plan, toy, sample, solver).run():
        inversion.release(frame)
    assert store.peak <= climbing(plan, 2).live_bound == climbing(WindowsPlan(4000, 4, 2, 3), 2).live_bound
    assert ahead < climbing(plan, 2).live_bound
    assert trail.live == 0
    assert trail.peak <= 3 * (climbing(plan, 2).live_bound + plan.live_bound)


@pytest.mark.parametrize("stop", [0, 7, 14])
def test_a_run_resumed_anywhere_gives_the_same_bits(stop):
    plan = CrossedPlan(WindowsPlan(FRAMES, 5, 1, 4))
    ladder = ddim_ladder(4, PRODUCTS)

    def begin():
        return Inversion(plan, toy, clean, ladder, guesses=2, trail=RamStore(half=True))

    whole = begin()
    expected = starts(whole)
    first = begin()
    done = [first.start(frame) for frame in range(stop)]
    state = first.state()
    second = begin()
    second.restore(State(load(save(state.tensors)), json.loads(json.dumps(state.meta))))
    done += [second.start(frame) for frame in range(stop, FRAMES)]
    assert torch.equal(torch.stack(done), expected)
    assert second.residual == whole.residual
    for frame, level in ((0, 1), (stop, 2), (FRAMES - 1, 4)):
        assert torch.equal(second.at(frame, level), whole.at(frame, level))


def test_the_prior_is_told_what_the_sampling_tells_it():
    """Windows, levels and directives of an inversion are those of the sampling, upwards."""
    plan, ladder = ConsistentPlan(WindowsPlan(9, 4, 1, 3, order="sweep")), ddim_ladder(3, PRODUCTS)
    heard = []

    def hears(steps, latents):
        heard.extend((tuple(step.frames), tuple(step.level), step.attend) for step in steps)
        return toy(steps, latents)

    starts(Inversion(plan, hears, clean, ladder, guesses=2), 9)
    sampled = [(tuple(s.frames), tuple(s.level), s.attend) for steps in plan.ticks() for s in steps]
    assert len(heard) == 2 * len(sampled)
    assert set(heard) == set(sampled)


# ---- what is refused


def test_what_cannot_be_is_refused():
    plan = WindowsPlan(12, 8, 4, 10)
    with pytest.raises(PlanError, match="10 levels and the ladder 5"):
        Inversion(plan, toy, clean, ddim_ladder(5, PRODUCTS))
    with pytest.raises(PlanError, match="0 guesses"):
        Inversion(plan, toy, clean, LADDER, guesses=0)
    with pytest.raises(PlanError, match="climbs already"):
        climbing(climbing(plan))
    with pytest.raises(ValueError, match="consistency models cannot be climbed"):
        Inversion(plan, toy, clean, lcm_ladder(10, PRODUCTS)).start(0)
    inversion = Inversion(plan, toy, clean, LADDER)
    inversion.start(0)
    with pytest.raises(PlanError, match="frame 0 has been given out"):
        inversion.start(0)
    with pytest.raises(PlanError, match="no trail"):
        inversion.at(0, 3)
    with pytest.raises(ResumeError, match="took 1 guesses, this one 2"):
        Inversion(plan, toy, clean, LADDER, guesses=2).restore(inversion.state())
    assert len(list(islice(iter(inversion.state().tensors), 3))) == 3
