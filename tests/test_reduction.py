"""How a source was reduced: told exactly of the truth, near enough of something restored, and mixed linearly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.bicubic import BICUBIC, GAUSSIAN, taps
from vrestore.degradation import Resize
from vrestore.reduction import Reduction
from vrestore.tasks.super_resolution import SuperResolution

LARGE, SMALL = (96, 128), (24, 32)


@pytest.fixture(scope="module")
def truth():
    return torch.rand((3, *LARGE), generator=torch.Generator().manual_seed(0))


def test_a_gaussian_reduction_is_that_of_the_protocol():
    """BD: deviation 1.6, samples at 4 i + 1.5."""
    reached, weight = taps(64, 16, GAUSSIAN)
    at = np.arange(64)
    for i in range(3, 13):
        expected = np.exp(-((at - (4 * i + 1.5)) ** 2) / (2 * 1.6**2))
        found = np.bincount(reached[i], weight[i], 64)
        assert np.allclose(found, expected / expected.sum(), atol=2e-4)


@pytest.mark.parametrize(("kernel", "expected"), [(BICUBIC, 0.0), (GAUSSIAN, 1.0)])
def test_the_truth_tells_exactly(truth, kernel, expected):
    source = Resize(LARGE, SMALL, kernel).apply(truth)
    assert Reduction(LARGE, SMALL).softness(truth, source) == pytest.approx(expected, abs=1e-5)
    noisy = source + 0.001 * torch.randn(source.shape, generator=torch.Generator().manual_seed(1))
    assert Reduction(LARGE, SMALL).softness(truth, noisy) == pytest.approx(expected, abs=0.02)


@settings(max_examples=20, deadline=None)
@given(softness=st.floats(0, 1), seed=st.integers(0, 99))
def test_what_is_between_is_found_again(softness, seed):
    frame = torch.rand((3, *LARGE), generator=torch.Generator().manual_seed(seed))
    reduction = Reduction(LARGE, SMALL)
    assert reduction.softness(frame, reduction.apply(frame, softness)) == pytest.approx(softness, abs=1e-4)


@pytest.mark.parametrize("side", [1, 3, 4])
def test_a_tiny_or_flat_source_tells_nothing(side):
    reduction = Reduction((4 * side, 4 * side), (side, side))
    flat = torch.full((3, 4 * side, 4 * side), 0.5)
    assert reduction.softness(flat, torch.full((3, side, side), 0.5)) == 0


@pytest.mark.parametrize("kernel", [BICUBIC, GAUSSIAN])
def test_an_exact_source_is_projected_on_as_it_was_reduced(truth, kernel):
    down = Resize(LARGE, SMALL, kernel)
    source = down.apply(truth)
    answer = truth + 0.02 * torch.sin(torch.arange(128.0))
    right = (down.apply(SuperResolution().finish(answer, source, exact=True)) - source).square().mean()
    assert right < 0.3 * (down.apply(answer) - source).square().mean()
    other = Resize(LARGE, SMALL, GAUSSIAN if kernel is BICUBIC else BICUBIC)
    assert right < 0.3 * (other.apply(SuperResolution().finish(answer, source, exact=True)) - source).square().mean()


def test_another_prior_is_projected_bicubically(truth):
    source = Resize(LARGE, SMALL, GAUSSIAN).apply(truth)
    own, other = (
        SuperResolution(prior=name).finish(truth, source, exact=True) for name in ("restoration", "elsewhere")
    )
    bicubic = Resize(LARGE, SMALL)
    assert (bicubic.apply(other) - source).square().mean() < (bicubic.apply(own) - source).square().mean()
