"""Solvers against closed forms, against each other and, step by step, against diffusers' schedulers."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import ConfigError
from vrestore.sampling import (
    advance,
    bridge_euler,
    bridge_ladder,
    ddim,
    ddim_ladder,
    flow_euler,
    flow_ladder,
    interpolate,
    lcm,
    lcm_ladder,
    start,
    undone,
)

few = settings(max_examples=40, deadline=None)
SHAPE = (3, 2, 4, 5)  # time channels h w
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
PRODUCTS = torch.cumprod(1 - BETAS, 0)
MEAN, DEVIATION = 0.7, 0.5  # of Gaussian data, for which everything is known in closed form


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ladders(steps):
    return {
        "bridge": (bridge_ladder(steps), bridge_euler),
        "flow": (flow_ladder(steps, 3.0), flow_euler),
        "ddim": (ddim_ladder(steps, PRODUCTS), ddim),
    }


# ---- closed forms


def posterior_mean(ladder, z, level):
    """E[x0 | z] for x0 ~ N(MEAN, DEVIATION²) and z = alpha x0 + sigma noise."""
    a, s = ladder.alpha[level], ladder.sigma[level]
    gain = a * DEVIATION**2 / (a**2 * DEVIATION**2 + s**2)
    return MEAN + gain * (z - a * MEAN)


def flow_of_probability(ladder, z, level, to):
    """Where the exact probability flow takes z: z = alpha MEAN + sqrt(alpha² DEVIATION² + sigma²) u with u constant."""

    def deviation(i):
        return (ladder.alpha[i] ** 2 * DEVIATION**2 + ladder.sigma[i] ** 2) ** 0.5

    return ladder.alpha[to] * MEAN + deviation(to) / deviation(level) * (z - ladder.alpha[level] * MEAN)


def sampled(ladder, solver, z):
    for level in range(ladder.levels, 0, -1):
        z = solver(ladder, z, posterior_mean(ladder, z, level), level, level - 1)
    return z


@pytest.mark.parametrize(("kind", "steps"), [("flow", 25), ("ddim", 25)])
def test_deterministic_solvers_converge_at_first_order(kind, steps):
    # A schedule as smooth as the limit needs: the 1,000 timesteps of training would be felt at 200 steps.
    products = torch.exp(-5 * torch.linspace(0, 1, 64_001, dtype=torch.float64)[1:] ** 2).tolist()

    def error(steps):
        ladder, solver = ladders(steps)[kind] if kind == "flow" else (ddim_ladder(steps, products), ddim)
        z = normal(*SHAPE)
        return float((sampled(ladder, solver, z) - flow_of_probability(ladder, z, steps, 0)).norm())

    errors = [error(steps * 2**i) for i in range(4)]
    assert errors[-2] / errors[-1] == pytest.approx(2, abs=0.1)  # twice the steps, half the error
    assert errors[-1] < 0.02 * float(normal(*SHAPE).norm())


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_ddim_converges_with_every_spacing(spacing):
    ladder = ddim_ladder(500, PRODUCTS, spacing)
    z = normal(*SHAPE)
    exact = flow_of_probability(ladder, z, 500, 0)
    assert float((sampled(ladder, ddim, z) - exact).abs().max()) < 0.02


def test_inversion_and_sampling_cancel_to_first_order():
    """Up with DDIM and down again, the prior asked at every level: the error halves with the steps."""

    def error(steps):
        ladder = ddim_ladder(steps, PRODUCTS, clean=False)
        data = z = MEAN + DEVIATION * normal(*SHAPE)
        for level in range(steps):
            z = ddim(ladder, z, posterior_mean(ladder, z, level), level, level + 1)
        return float((sampled(ladder, ddim, z) - data).norm())

    assert error(50) / error(100) == pytest.approx(2, abs=0.3)


@few
@given(st.integers(1, 40), st.sampled_from(["bridge", "flow", "ddim"]), st.data())
def test_with_the_true_x0_every_step_stays_on_the_path(steps, kind, data):
    ladder, solver = ladders(steps)[kind]
    level = data.draw(st.integers(1, steps))
    to = data.draw(st.integers(0, steps))
    clean, end = normal(*SHAPE), normal(*SHAPE, seed=1)
    z = interpolate(ladder, clean, end, level)
    torch.testing.assert_close(solver(ladder, z, clean, level, to), interpolate(ladder, clean, end, to))


@pytest.mark.parametrize("kind", ["bridge", "flow", "ddim"])
def test_the_last_step_gives_the_prediction_to_the_bit(kind):
    ladder, solver = ladders(7)[kind]
    x0, z = normal(2, *SHAPE).float()
    assert torch.equal(solver(ladder, z, x0, 1, 0), x0)


@few
@given(st.integers(2, 30), st.data())
def test_ddim_with_noise_keeps_the_marginal(steps, data):
    """From z = a x0 + s eps with the true x0, the next deviation is sigma for every eta (DDIM, lemma 1)."""
    ladder = ddim_ladder(steps, PRODUCTS)
    level = data.draw(st.integers(1, steps))
    to = data.draw(st.integers(0, level - 1))
    eta = data.draw(st.floats(0, 1))
    zero, one = torch.zeros(1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64)
    of_noise_so_far = float(ddim(ladder, one * ladder.sigma[level], zero, level, to, zero, eta=eta))
    of_new_noise = float(ddim(ladder, zero, zero, level, to, one, eta=eta))
    assert of_noise_so_far**2 + of_new_noise**2 == pytest.approx(ladder.sigma[to] ** 2, abs=1e-12)


@few
@given(st.integers(2, 30), st.floats(0.01, 2), st.data())
def test_the_stochastic_bridge_keeps_the_marginal(steps, spread, data):
    ladder = bridge_ladder(steps, spread)
    level = data.draw(st.integers(1, steps))
    to = data.draw(st.integers(0, level - 1))
    zero, one = torch.zeros(1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64)

    def deviation(i):
        return float(interpolate(ladder, zero, zero, i, one))

    so_far = float(bridge_euler(ladder, one * deviation(level), zero, level, to, zero, strength=1.0))
    new = float(bridge_euler(ladder, zero, zero, level, to, one, strength=1.0))
    assert so_far**2 + new**2 == pytest.approx(deviation(to) ** 2, abs=1e-12)
    assert deviation(to) ** 2 == pytest.approx(spread**2 * to / steps * (1 - to / steps), abs=1e-12)


def test_strength_scales_the_noise_of_the_bridge():
    ladder = bridge_ladder(4, 0.5)
    z, x0, noise = normal(3, *SHAPE)
    still = bridge_euler(ladder, z, x0, 3, 1)
    full = bridge_euler(ladder, z, x0, 3, 1, noise, strength=1.0)
    torch.testing.assert_close(bridge_euler(ladder, z, x0, 3, 1, noise, strength=0.25), still + (full - still) / 4)


# ---- levels, one for each frame


@few
@given(st.integers(1, 12), st.sampled_from(["bridge", "flow", "ddim"]), st.data())
def test_a_level_for_each_frame_is_each_frame_at_its_level(steps, kind, data):
    ladder, solver = ladders(steps)[kind]
    level = data.draw(st.lists(st.integers(0, steps), min_size=3, max_size=3))
    to = [data.draw(st.integers(0, i)) for i in level]
    z, x0 = normal(2, *SHAPE).float()
    together = solver(ladder, z, x0, torch.tensor(level), torch.tensor(to))
    for i in range(3):
        assert torch.equal(together[i], solver(ladder, z[i], x0[i], level[i], to[i]))
        if level[i] == to[i]:
            assert torch.equal(together[i], z[i]), "context was written"


# ---- diffusers


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("spacing", "offset"), [("leading", 1), ("trailing", 0)])
def test_ddim_is_that_of_diffusers(spacing, offset, eta):
    steps = 20
    theirs = DDIMScheduler(
        trained_betas=BETAS.numpy(), clip_sample=False, prediction_type="sample",
        timestep_spacing=spacing, steps_offset=offset,
    )  # fmt: skip
    theirs.alphas_cumprod, theirs.final_alpha_cumprod = PRODUCTS, torch.tensor(1.0, dtype=torch.float64)
    theirs.set_timesteps(steps)
    ladder = ddim_ladder(steps, PRODUCTS, spacing, offset=offset)
    assert [int(t) for t in theirs.timesteps] == list(ladder.time[:0:-1])
    ours = reference = normal(*SHAPE)
    for i, timestep in enumerate(theirs.timesteps):
        level = steps - i
        x0, noise = torch.tanh(reference), normal(*SHAPE, seed=level)
        reference = theirs.step(x0, int(timestep), reference, eta=eta, variance_noise=noise).prev_sample
        ours = ddim(ladder, ours, torch.tanh(ours), level, level - 1, noise, eta=eta)
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


def test_inversion_is_that_of_diffusers():
    steps = 20
    theirs = DDIMInverseScheduler(
        trained_betas=BETAS.numpy(), clip_sample=False, prediction_type="sample", set_alpha_to_one=False, steps_offset=1
    )
    theirs.alphas_cumprod, theirs.initial_alpha_cumprod = PRODUCTS, PRODUCTS[0]
    theirs.set_timesteps(steps)
    ladder = ddim_ladder(steps, PRODUCTS, "leading", offset=1, clean=False)
    ours = reference = normal(*SHAPE)
    for level, timestep in enumerate(theirs.timesteps):
        reference = theirs.step(torch.tanh(reference), int(timestep), reference).prev_sample
        ours = ddim(ladder, ours, torch.tanh(ours), level, level + 1)
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("steps", "original", "strength"), [(1, 50, 1.0), (4, 50, 1.0), (7, 50, 0.6), (3, 20, 0.5)])
def test_lcm_is_that_of_diffusers(steps, original, strength, monkeypatch):
    """On the same noise and predictions, step by step."""
    drawn = []
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_lcm.randn_tensor",
        lambda shape, **_: drawn.append(normal(*shape, seed=len(drawn))) or drawn[-1],
    )
    theirs = LCMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    theirs.set_timesteps(steps, original_inference_steps=original, strength=strength)
    ladder = lcm_ladder(steps, theirs.alphas_cumprod, original=original, strength=strength)
    assert [int(t) for t in ladder.time[:0:-1]] == theirs.timesteps.tolist()
    assert ladder.mixed == (strength < 1)
    z = z_theirs = normal(*SHAPE[1:], seed=99)
    for i, timestep in enumerate(theirs.timesteps):
        level = steps - i
        eps = torch.tanh(z_theirs) * 0.9
        z_theirs = theirs.step(eps, timestep, z_theirs, return_dict=False)[0]
        x0 = (z - ladder.sigma[level] * torch.tanh(z) * 0.9) / ladder.alpha[level]
        z = advance(ladder, z, x0, level, level - 1, lambda to, i=i: drawn[i])
        torch.testing.assert_close(z, z_theirs, rtol=1e-5, atol=1e-6)
    assert len(drawn) == steps - 1


def test_the_timesteps_of_lcm_are_those_of_diffusers():
    scheduler = LCMScheduler()
    for steps in range(1, 51):
        scheduler.set_timesteps(steps)
        assert [int(t) for t in lcm_ladder(steps, PRODUCTS).time[:0:-1]] == scheduler.timesteps.tolist()


def test_lcm_takes_a_level_for_each_frame():
    ladder, z, x0, fresh = lcm_ladder(4, PRODUCTS), *(normal(*SHAPE, seed=i) for i in range(3))
    level, to = torch.tensor([4, 2, 1]), torch.tensor([3, 2, 0])
    found = lcm(ladder, z, x0, level, to, fresh)
    for i in (0, 2):
        noise = fresh[i] if to[i] else None
        torch.testing.assert_close(found[i], lcm(ladder, z[i], x0[i], int(level[i]), int(to[i]), noise))
    assert torch.equal(found[1], z[1])


# ---- inversion


@pytest.mark.parametrize("kind", ["bridge", "flow", "ddim"])
def test_a_step_is_undone_by_what_was_said_at_its_start(kind):
    """At the fixed point, whatever the prediction; also into a clean level."""
    ladder, solver = ladders(6)[kind]
    for to in range(6, 0, -1):
        start_, x0 = normal(*SHAPE), torch.tanh(normal(*SHAPE, seed=1))
        end = solver(ladder, start_, x0, to, to - 1)
        torch.testing.assert_close(undone(ladder, end, start_, x0, to - 1, to), start_)


@pytest.mark.parametrize("kind", ["bridge", "flow", "ddim"])
def test_guesses_converge_to_where_the_step_began(kind):
    ladder, solver = ladders(10)[kind]
    for to in range(9 if kind == "ddim" else 10, 0, -1):
        begun = normal(*SHAPE)
        end = solver(ladder, begun, posterior_mean(ladder, begun, to), to, to - 1)
        tried = end
        for _ in range(60):
            tried = undone(ladder, end, tried, posterior_mean(ladder, tried, to), to - 1, to)
        torch.testing.assert_close(tried, begun, rtol=0, atol=1e-6)


def test_the_first_guess_is_the_inversion_of_diffusers():
    """Its network is told the level to which it climbs, and sees what lies below."""
    scheduler = DDIMInverseScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False,
        timestep_spacing="leading", steps_offset=0,
    )  # fmt: skip
    scheduler.set_timesteps(5)
    ladder = ddim_ladder(5, scheduler.alphas_cumprod, "leading", clean=False)
    z = z_theirs = normal(*SHAPE)
    for level, timestep in enumerate(scheduler.timesteps):
        eps = torch.tanh(z_theirs)
        z_theirs = scheduler.step(eps, timestep, z_theirs, return_dict=False)[0]
        x0 = (z - ladder.sigma[level + 1] * torch.tanh(z)) / ladder.alpha[level + 1]
        z = undone(ladder, z, z, x0, level, level + 1)
        torch.testing.assert_close(z, z_theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_is_that_of_diffusers(shift):
    steps = 12
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    ladder = flow_ladder(steps, shift)
    np.testing.assert_allclose(theirs.sigmas.numpy(), ladder.sigma[::-1], rtol=1e-6)
    ours = reference = normal(*SHAPE).float()
    for i, timestep in enumerate(theirs.timesteps):
        level = steps - i
        velocity = (reference - torch.tanh(reference)) / ladder.sigma[level]
        reference = theirs.step(velocity, timestep, reference).prev_sample
        ours = flow_euler(ladder, ours, torch.tanh(ours), level, level - 1)
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)


# ---- ladders and errors


@pytest.mark.parametrize("kind", ["bridge", "flow", "ddim"])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_ladders_run_from_clean_to_their_end(kind, steps):
    ladder, _ = ladders(steps)[kind]
    assert ladder.levels == steps
    assert (ladder.time[0], ladder.alpha[0], ladder.sigma[0]) == (0, 1, 0)
    assert list(ladder.sigma) == sorted(set(ladder.sigma))
    assert list(ladder.alpha) == sorted(set(ladder.alpha), reverse=True)
    if kind != "ddim":
        assert (ladder.time[-1], ladder.alpha[-1], ladder.sigma[-1]) == (1, 0, 1)


def test_one_step_of_the_trailing_ladder_starts_at_the_last_timestep():
    assert ddim_ladder(1, PRODUCTS).time == (0, 999)
    assert ddim_ladder(4, PRODUCTS).time == (0, 249, 499, 749, 999)
    assert ddim_ladder(4, PRODUCTS, "leading", offset=1).time == (0, 1, 251, 501, 751)
    assert ddim_ladder(4, PRODUCTS, "linspace").time == (0, 0, 333, 666, 999)


z, x0 = normal(2, *SHAPE)
flow, vp, bridge = flow_ladder(4), ddim_ladder(4, PRODUCTS), bridge_ladder(4, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(bridge_ladder, 0), "0 steps"),
        (partial(bridge_ladder, 2, -1.0), "spread -1"),
        (partial(flow_ladder, 2, 0.0), "shift 0"),
        (partial(ddim_ladder, 1001, PRODUCTS), "1001 steps; use 1 or more, at most 1000"),
        (partial(ddim_ladder, 1000, PRODUCTS, "leading", offset=1), "offset 1"),
        (partial(ddim, flow, z, x0, 2, 1), "a ddim ladder, not a flow ladder"),
        (partial(flow_euler, vp, z, x0, 2, 1), "a flow ladder"),
        (partial(bridge_euler, vp, z, x0, 2, 1), "a bridge ladder"),
        (partial(flow_euler, flow, z, x0, 5, 4), "Level 5 is not on the ladder; use 0 to 4"),
        (partial(flow_euler, flow, z, x0, 0, -1), "Level -1"),
        (partial(flow_euler, flow, z, x0, 0, 1), "Level 0 holds no noise"),
        (partial(ddim, vp, z, x0, 0, 1), "Level 0 holds no noise"),
        (partial(ddim, vp, z, x0, 2, 1, eta=1.0), "needs noise"),
        (partial(ddim, vp, z, x0, 1, 2, z, eta=1.0), "takes no noise"),
        (partial(bridge_euler, bridge, z, x0, 2, 1, strength=1.0), "needs noise"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


# ---------------------------------------------------------------- the ladder's kind decides


def draw(level):
    """Noise that tells of its level."""
    return torch.full((2, 3, 4), float(level))


def refuse(level):
    pytest.fail(f"noise of level {level} is asked for")


def test_where_a_run_starts():
    degraded = torch.randn(2, 3, 4)
    products = torch.linspace(0.99, 0.01, 100)
    assert torch.equal(start(bridge_ladder(4), degraded, refuse), degraded)
    for ladder in (flow_ladder(4), ddim_ladder(4, products)):
        assert torch.equal(start(ladder, degraded, draw), draw(4))
        mixed = start(replace(ladder, mixed=True), degraded, draw)
        assert torch.allclose(mixed, ladder.alpha[4] * degraded + ladder.sigma[4] * draw(4))


@pytest.mark.parametrize("freedom", [0.0, 0.5])
@pytest.mark.parametrize(("level", "to"), [(4, 3), (1, 0)])
def test_which_solver_moves_a_latent(freedom, level, to):
    """Noise is drawn for the level that is reached, and never in the last step."""
    z, x0 = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    drawn = freedom if to else 0.0
    fresh, noise = (draw, draw(to)) if drawn else (refuse, None)
    bridge, line = bridge_ladder(4, spread=0.5), ddim_ladder(4, torch.linspace(0.99, 0.01, 100))
    expected = bridge_euler(bridge, z, x0, level, to, noise, strength=drawn)
    assert torch.equal(advance(bridge, z, x0, level, to, fresh, freedom=freedom), expected)
    expected = ddim(line, z, x0, level, to, noise, eta=drawn)
    assert torch.equal(advance(line, z, x0, level, to, fresh, freedom=freedom), expected)
    flow = flow_ladder(4)
    assert torch.equal(advance(flow, z, x0, level, to, refuse, freedom=freedom), flow_euler(flow, z, x0, level, to))
