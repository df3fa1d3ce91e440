"""Statistics of pictures whose statistics are known."""

import numpy as np
import pytest
import torch

from vrestore.weights.recipe.statistics import EDGES, compare, measure, table


def coloured(exponent, size=64, count=12, frames=1):
    """Noise whose amplitude falls with frequency to the power ``exponent``: (frames, 3, size, size) each."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1
    for _ in range(count):
        plane = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * frequency**exponent, s=(size, size))
        grey = torch.from_numpy(0.5 + 0.12 * plane / plane.std()).float().clamp(0, 1)
        yield torch.stack([grey.roll(2 * i, -1).expand(3, -1, -1) for i in range(frames)])


@pytest.mark.parametrize("exponent", [0.0, -0.5, -1.0])
def test_the_slope_is_that_of_the_power(exponent):
    assert measure(coloured(exponent)).slope == pytest.approx(2 * exponent, abs=0.15)


def test_gaussian_gradients_have_a_kurtosis_of_three():
    found = measure(coloured(-0.5))
    assert found.kurtosis == pytest.approx(3, abs=0.2)
    assert found.gradients.sum() == pytest.approx(1)
    assert len(found.gradients) == len(EDGES) - 1


def test_motion_is_measured_in_pixels():
    found = measure(coloured(-1.0, frames=2))
    assert found.motion_px[0] == pytest.approx(2, abs=0.1)
    assert measure(coloured(-1.0)).motion_px == ()


def test_divergence_is_zero_only_from_itself():
    rough, smooth = measure(coloured(0.0)), measure(coloured(-1.0))
    assert rough.distance(rough) == 0
    assert rough.distance(smooth) > 0.1


def test_the_world_is_compared_with_stills_and_footage(data):
    found = compare(data, 2, 32, 0)
    assert set(found) == {"world", "stills", "footage"}
    assert found["stills"].motion_px == ()
    assert found["footage"].motion_px[0] == pytest.approx(1, abs=0.3)  # halved: it is soft
    assert table(found).count("\n") == 2
