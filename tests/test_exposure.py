"""Exposure against what an open shutter does to a motion that is known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import ConfigError
from vrestore.exposure import Exposure, exposure, light_gain, to_light, to_values
from vrestore.flow import FlowPair

SIZE = (20, 40)


def uniform(dx, dy=0.0, size=SIZE):
    """Everything moves by (dx, dy) from the left frame to the right one."""
    flow = torch.tensor([dx, dy], dtype=torch.float64)[None, :, None, None].expand(1, 2, *size)
    seen = torch.ones(1, 1, *size)
    return FlowPair(flow, -flow, seen, seen)


def anywhere(seed, size, reach=4.0):
    generator = torch.Generator().manual_seed(seed)
    forward, backward = reach * torch.randn(2, 1, 2, *size, generator=generator, dtype=torch.float64)
    return FlowPair(forward, backward, torch.ones(1, 1, *size), torch.ones(1, 1, *size))


def bar(at, width=1):
    """A bright bar on black, (3, height, width)."""
    picture = torch.zeros(3, *SIZE, dtype=torch.float64)
    picture[:, :, at : at + width] = 1
    return picture


@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    shutter=st.floats(0, 1),
    instants=st.integers(1, 9),
    sides=st.sampled_from([(True, True), (True, False), (False, True), (False, False)]),
)
@settings(max_examples=60, deadline=None)
def test_the_adjoint_is_exact(seed, size, shutter, instants, sides):
    before, after = (anywhere(seed + i, size) if side else None for i, side in enumerate(sides))
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    operator = exposure(before, after, shutter, instants=instants)
    left, right = (operator.apply(x) * y).sum(), (x * operator.adjoint(y)).sum()
    assert abs(left - right) < 1e-10 * max(1, abs(left))


@pytest.mark.parametrize("sides", [(1, 1), (1, 0), (0, 1)])
@pytest.mark.parametrize("dx", [7, -7])
def test_a_moving_bar_becomes_a_streak(dx, sides):
    """Seven instants, a pixel apart: a streak of seven columns, centred; also where a neighbour is missing."""
    before, after = (uniform(dx) if side else None for side in sides)
    seen = exposure(before, after, 1.0, instants=7).apply(bar(20))
    expected = torch.zeros_like(seen)
    expected[:, :, 17:24] = 1 / 7
    assert torch.allclose(seen, expected, atol=1e-12)


def test_half_the_shutter_is_half_the_streak():
    seen = exposure(uniform(10), uniform(10), 0.5, instants=5).apply(bar(20))
    assert torch.allclose(seen[0, 0, 18:23], torch.full((5,), 0.2, dtype=torch.float64), atol=1e-12)
    assert seen[0, 0, :18].abs().max() < 1e-12


@pytest.mark.parametrize("sides", [(1, 1), (1, 0), (0, 1)])
def test_how_far_things_move_while_they_are_seen(sides):
    before, after = (uniform(6, 8) if side else None for side in sides)
    like = bar(0)
    found = exposure(before, after, 0.5, instants=5).length(like)
    torch.testing.assert_close(found, torch.full(SIZE, 10 * 0.5 * 4 / 5, dtype=torch.float64))
    assert not exposure(None, None, 0.5, instants=5).length(like).any()
    assert not exposure(before, after, 0.0).length(like).any()


def test_each_side_has_its_own_motion():
    """Still until the middle of the exposure, fast after it: the streak lies on one side; time does not wrap."""
    seen = exposure(uniform(0), uniform(9), 1.0, instants=9).apply(bar(20))[0, 0]
    assert torch.allclose(seen[20], torch.tensor(5 / 9, dtype=torch.float64))
    assert seen[:20].abs().max() < 1e-12
    assert abs(seen[21:25].sum() - 4 / 9) < 1e-12


def test_a_still_and_a_closed_shutter_change_nothing():
    picture = torch.rand(3, *SIZE)
    assert torch.equal(exposure(None, None, 1.0).apply(picture), picture)
    assert torch.equal(exposure(uniform(9), uniform(9), 0.0).apply(picture), picture)


def test_a_mean_keeps_what_is_even():
    flat = torch.full((3, *SIZE), 0.3, dtype=torch.float64)
    assert torch.allclose(exposure(anywhere(0, SIZE), anywhere(1, SIZE), 1.0).apply(flat), flat)


@pytest.mark.parametrize(("speed", "instants"), [(0, 1), (2, 7), (11, 13), (200, 31)])
def test_fast_motion_asks_for_more_instants(speed, instants):
    found = exposure(uniform(speed), uniform(speed), 1.0 if speed else 0.0).instants
    assert found == instants


def test_light_and_values_are_inverse():
    values = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(to_values(to_light(values)), values)


def test_the_gain_is_the_derivative():
    values = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64).expand(3, 1, 3)
    light = to_light(values)
    step = 1e-7
    assert torch.allclose(light_gain(light, 1e-3), (to_values(light + step) - values) / step, rtol=1e-5)
    assert torch.equal(light_gain(0 * light, 0.25), light_gain(torch.full_like(light, 0.25), 1e-3))


@pytest.mark.parametrize("bad", [{"shutter": -0.1}, {"shutter": 1.1}, {"shutter": 0.5, "instants": 0}])
def test_what_cannot_be_is_refused(bad):
    with pytest.raises(ConfigError, match="give"):
        exposure(None, None, **bad)
    with pytest.raises(ConfigError, match="instant"):
        Exposure([])
