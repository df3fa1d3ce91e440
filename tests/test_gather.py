"""The warp and its transpose on flows that leave the picture."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.flow import warp
from vrestore.gather import Warp

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
