"""The warp and its transpose on flows that leave the picture; pictures on a grid of half pixels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.flow import warp
from vrestore.gather import Warp, doubled, doubled_adjoint

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def problem(seed, size, reach=6.0, frames=2):
    """A flow that points anywhere, and two clips, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    flow = reach * torch.randn(frames, 2, *size, generator=generator, dtype=torch.float64)
    one, two = torch.randn(2, frames, 3, *size, generator=generator, dtype=torch.float64)
    return flow, one, two


@given(seed=st.integers(0, 10**6), size=sizes)
@settings(max_examples=50, deadline=None)
def test_the_adjoint_is_exact(seed, size):
    flow, x, y = problem(seed, size)
    operator = Warp(flow)
    left, right = (operator.apply(x) * y).sum(), (x * operator.adjoint(y)).sum()
    assert abs(left - right) < 1e-10 * max(1, abs(left))


@given(seed=st.integers(0, 10**6), size=sizes)
@settings(max_examples=20, deadline=None)
def test_it_is_the_warp_of_the_flow(seed, size):
    flow, x, _ = problem(seed, size)
    torch.testing.assert_close(Warp(flow).apply(x).float(), warp(x.float(), flow.float()), atol=1e-4, rtol=1e-4)


def test_what_comes_from_inside():
    flow = torch.zeros(1, 2, 4, 5)
    flow[:, 0] = 2
    assert torch.equal(Warp(flow).inside()[0, 0], torch.tensor([True, True, True, False, False]).expand(4, 5))


@given(seed=st.integers(0, 10**6), size=sizes)
@settings(max_examples=50, deadline=None)
def test_the_adjoint_from_half_pixels_is_exact(seed, size):
    flow, x, y = problem(seed, size)
    operator = Warp(flow, halves=True)
    left = (operator.apply(doubled(x)) * y).sum()
    right = (x * doubled_adjoint(operator.adjoint(y))).sum()
    assert abs(left - right) < 1e-10 * max(1, abs(left))


@given(seed=st.integers(0, 10**6), size=sizes)
@settings(max_examples=20, deadline=None)
def test_doubling_keeps_the_pixels_and_their_edges(seed, size):
    _, x, _ = problem(seed, size)
    found = doubled(x)
    assert torch.equal(found[..., ::2, ::2], x)
    flat = torch.full_like(x, 0.7)
    torch.testing.assert_close(doubled(flat), torch.full_like(found, 0.7))


@given(seed=st.integers(0, 10**6), size=sizes)
@settings(max_examples=20, deadline=None)
def test_whole_pixels_are_taken_as_they_are(seed, size):
    flow, x, _ = problem(seed, size)
    whole = flow.round()
    torch.testing.assert_close(Warp(whole, halves=True).apply(doubled(x)), Warp(whole).apply(x))


@pytest.mark.parametrize("part", [0.25, 0.5, 0.7])
def test_less_is_lost_between_half_pixels(part):
    """A wave of four pixels, moved by a part of one: against the wave that was drawn there."""
    places = torch.arange(40, dtype=torch.float64)
    wave = torch.sin(places * torch.pi / 2).expand(1, 1, 4, 40)
    moved = torch.sin((places + part) * torch.pi / 2).expand(1, 1, 4, 40)
    flow = torch.tensor([part, 0.0], dtype=torch.float64)[None, :, None, None].expand(1, 2, 4, 40)
    inner = slice(8, -8)
    plain = (Warp(flow).apply(wave) - moved)[..., inner].abs().max()
    fine = (Warp(flow, halves=True).apply(doubled(wave)) - moved)[..., inner].abs().max()
    assert fine < plain / 2
