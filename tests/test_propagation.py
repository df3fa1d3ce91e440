"""Guidance along the motion, on a scalar prior: a pattern that moves in a known way, and independent noise on every
frame as a prior that knows nothing of neighbours leaves it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import ConfigError
from vrestore.propagation import MOST_SHARE, STEP, disagreement, motion_guidance, propagate

FRAMES, HEIGHT, WIDTH = 6, 48, 64
INNER = (..., slice(12, -12), slice(12, -12))
"""Where every frame's trajectory lies inside all of them."""


def moving(dx, dy, frames=FRAMES):
    """A pattern (frames, 1, HEIGHT, WIDTH) under uniform motion in whole pixels, and the motion field of each frame."""
    world = torch.rand(1, HEIGHT + 40, WIDTH + 40)
    views = [world[:, 20 - i * dy : 20 - i * dy + HEIGHT, 20 - i * dx : 20 - i * dx + WIDTH] for i in range(frames)]
    motion = torch.tensor([-dx, -dy, 1, dx, dy, 1], dtype=torch.float32)[:, None, None].expand(6, HEIGHT, WIDTH)
    fields = motion[None].repeat(frames, 1, 1, 1)
    fields[0, :3] = fields[-1, 3:] = 0
    return torch.stack(views), fields


def shares(guide, motion):
    """What a frame of the result takes of every frame, (result, source): linear, so seen on one frame at a time."""
    columns = []
    for j in range(len(motion)):
        one = torch.zeros(len(motion), 1, HEIGHT, WIDTH)
        one[j] = 1
        columns.append(guide(one, motion)[:, 0, HEIGHT // 2, WIDTH // 2])
    return torch.stack(columns, dim=1)


def geometric(strength):
    """The shares of propagation, from its recurrence: backward over the predictions, forward over that."""
    b = MOST_SHARE * strength
    found = torch.eye(FRAMES)
    for i in range(FRAMES - 2, -1, -1):
        found[i] = (1 - b) * found[i] + b * found[i + 1]
    for i in range(1, FRAMES):
        found[i] = (1 - b) * found[i] + b * found[i - 1]
    return found


def propagated(strength):
    return lambda x0, motion: propagate(x0, motion, strength=strength)


def guided(strength):
    return lambda x0, motion: motion_guidance(x0, motion, strength=strength)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_propagation_has_the_shares_of_its_recurrence(strength):
    found = shares(propagated(strength), moving(0, 0)[1])
    torch.testing.assert_close(found, geometric(strength))
    torch.testing.assert_close(found.sum(1), torch.ones(FRAMES))


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (2, -1), (-1, 2)])
@pytest.mark.parametrize("guide", [propagated, guided])
def test_noise_falls_along_trajectories_as_the_shares_say(guide, dx, dy, strength):
    """Independent noise of variance 1: what is left has the sum of squared shares; the moving pattern itself stays."""
    pattern, motion = moving(dx, dy)
    noise = torch.randn(40, FRAMES, 1, HEIGHT, WIDTH)
    found = torch.stack([guide(strength)(pattern + one, motion) - pattern for one in noise])
    expected = shares(guide(strength), moving(0, 0)[1]).square().sum(1)
    measured = found[INNER].square().mean(dim=(0, 2, 3, 4))
    torch.testing.assert_close(measured, expected, rtol=0.05, atol=0)
    assert measured.max() < 0.8
    assert found[INNER].mean().abs() < 0.01
    clean = guide(strength)(pattern, motion)
    assert (clean - pattern)[INNER].abs().max() < 1e-5


@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_noise_that_is_left_far_from_the_ends(strength):
    """Both passes together are a two-sided exponential filter, whose sum of squares is known: 0.185 at strength 1."""
    motion = torch.tensor([0.0, 0, 1, 0, 0, 1])[:, None, None].expand(61, 6, 2, 2)
    impulse = torch.zeros(61, 1, 2, 2)
    impulse[30] = 1
    b = MOST_SHARE * strength
    expected = ((1 - b) / (1 + b)) ** 2 * (1 + b**2) / (1 - b**2)
    found = propagate(impulse, motion, strength=strength)[:, 0, 0, 0].square().sum()
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("guide", [propagated, guided])
def test_hidden_places_stay_as_predicted(guide):
    pattern, motion = moving(1, 0)
    hidden = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    hidden[20:30, 20:40] = True
    motion[:, [2, 5]] = torch.where(hidden, 0.0, motion[:, [2, 5]])
    noisy = pattern + torch.randn_like(pattern)
    found = guide(1.0)(noisy, motion)
    if guide is propagated:
        assert torch.equal(found[..., hidden], noisy[..., hidden])
    else:  # what others see of the place may move it, but nothing is brought there that is not seen
        back = torch.zeros_like(motion)
        assert torch.equal(guide(1.0)(noisy, back), noisy)
    assert not torch.equal(found[..., ~hidden], noisy[..., ~hidden])


@pytest.mark.parametrize("guide", [propagated, guided])
def test_nothing_comes_from_outside_the_picture(guide):
    """The flow points beyond the edge: a repeated edge is no neighbour."""
    pattern, motion = moving(0, 0)
    motion[:, [0, 3]] = 2.0 * WIDTH
    found = guide(1.0)(pattern, motion)
    assert torch.equal(found, pattern)


@pytest.mark.parametrize("guide", [propagated, guided])
def test_no_strength_or_no_neighbour_is_the_identity(guide):
    pattern, motion = moving(1, 1)
    assert guide(0.0)(pattern, motion) is pattern
    assert torch.equal(guide(1.0)(pattern[:1], motion[:1]), pattern[:1])


@pytest.mark.parametrize("guide", [propagated, guided])
@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_strengths_out_of_range_are_refused(guide, strength):
    with pytest.raises(ConfigError, match=r"give a number from 0 \(off\) to 1"):
        guide(strength)(*moving(0, 0))


@given(seed=st.integers(0, 10**6), frames=st.integers(2, 4), height=st.integers(2, 6), width=st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_the_gradient_is_that_of_the_energy(seed, frames, height, width):
    """Against automatic differentiation, for motion and visibility of any kind."""
    draw = torch.Generator().manual_seed(seed)
    x0 = torch.randn(frames, 2, height, width, generator=draw, dtype=torch.float64, requires_grad=True)
    motion = 2 * torch.randn(frames, 6, height, width, generator=draw, dtype=torch.float64)
    motion[:, [2, 5]] = torch.rand(frames, 2, height, width, generator=draw, dtype=torch.float64)
    energy, gradient = disagreement(x0.detach(), motion)
    (expected,) = torch.autograd.grad(independent_energy(x0, motion), x0)
    torch.testing.assert_close(energy, independent_energy(x0, motion).detach())
    torch.testing.assert_close(gradient, expected, atol=1e-10, rtol=1e-8)


def independent_energy(x0, motion):
    """The energy pixel by pixel, from its definition, with explicit corners."""
    frames, _, h, w = x0.shape
    total = x0.new_zeros(())
    for i in range(frames):
        for n, part in ((i - 1, motion[i, :3]), (i + 1, motion[i, 3:])):
            if not 0 <= n < frames:
                continue
            x = torch.arange(w) + part[0]
            y = torch.arange(h)[:, None] + part[1]
            inside = (x >= -0.5) & (x <= w - 0.5) & (y >= -0.5) & (y <= h - 0.5)
            x, y = x.clamp(0, w - 1), y.clamp(0, h - 1)
            brought = 0.0
            for a in (x.floor(), x.floor() + 1):
                for b in (y.floor(), y.floor() + 1):
                    near = (1 - (x - a).abs()) * (1 - (y - b).abs())
                    brought = brought + near * x0[n][:, b.clamp(max=h - 1).long(), a.clamp(max=w - 1).long()]
            total = total + ((part[2] * inside * (brought - x0[i])) ** 2).sum() / 2
    return total


def test_every_step_of_motion_guidance_lowers_the_energy():
    pattern, motion = moving(1, -1)
    x0 = pattern + torch.randn_like(pattern)
    energies = []
    for _ in range(10):
        energies.append(float(disagreement(x0, motion)[0]))
        x0 = motion_guidance(x0, motion, strength=1.0)
    assert energies == sorted(energies, reverse=True)
    assert energies[-1] < 0.2 * energies[0]


def test_motion_guidance_leaves_a_frame_half_of_itself():
    found = shares(guided(1.0), moving(0, 0)[1])
    assert torch.allclose(found[2], torch.tensor([0, 2 * STEP, 1 - 4 * STEP, 2 * STEP, 0, 0]))
