"""Solvers against closed forms and against each other."""

from dataclasses import replace
from functools import partial

import pytest
import torch
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
