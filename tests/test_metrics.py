"""Measures of pictures on cases whose answer is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from vrestore import metrics
from vrestore.degradation import Resize

SIZE = (48, 64, 3)
SYMMETRIC = [metrics.psnr_rgb, metrics.psnr_y, metrics.ssim_y, metrics.gmsd, metrics.haarpsi]
FULL_REFERENCE = [*SYMMETRIC, metrics.vif]

pictures = arrays(np.uint8, (32, 34, 3))


def texture(seed=0, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def flat(level, size=SIZE):
    return np.full(size, level, np.uint8)


def smooth(height=96, width=128):
    """Low-pass noise, 30..220."""
    noise = np.random.default_rng(3).normal(size=(height // 8, width // 8, 3))
    wide = metrics.resize(noise, height, width)
    return metrics.to_uint8(30 + 190 * (wide - wide.min()) / np.ptp(wide))


@pytest.mark.parametrize(
    ("measure", "best"),
    [
        (metrics.psnr_rgb, 100),
        (metrics.psnr_y, 100),
        (metrics.ssim_y, 1),
        (metrics.vif, 1),
        (metrics.gmsd, 0),
        (metrics.haarpsi, 1),
    ],
)
def test_equal_pictures_get_the_best_value(measure, best):
    assert measure(texture(), texture()) == pytest.approx(best, abs=1e-8)


@pytest.mark.parametrize("measure", SYMMETRIC)
@given(one=pictures, two=pictures)
@settings(max_examples=10, deadline=None)
def test_symmetry(measure, one, two):
    assert measure(one, two) == pytest.approx(measure(two, one), abs=1e-9)


@pytest.mark.parametrize("measure", FULL_REFERENCE)
@pytest.mark.parametrize("crop", [3, 8])
def test_crop_is_measuring_the_inner_picture(measure, crop):
    one, two = texture(1), texture(2)
    inner = (slice(crop, -crop), slice(crop, -crop))
    assert measure(one, two, crop) == pytest.approx(measure(one[inner], two[inner]), rel=1e-12)


@given(picture=pictures)
@settings(max_examples=20, deadline=None)
def test_haarpsi_and_gmsd_stay_in_range(picture):
    other = texture(4, picture.shape)
    assert 0 <= metrics.haarpsi(picture, other) <= 1 + 1e-9
    assert 0 <= metrics.gmsd(picture, other) <= 1


def test_luma_of_black_white_and_primaries():
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    expected = [[16, 235, 16 + 65.481, 16 + 128.553, 16 + 24.966]]
    np.testing.assert_allclose(metrics.luma(colours), expected, rtol=1e-14)


@pytest.mark.parametrize("step", [1, 5, 40])
def test_psnr_of_a_known_error(step):
    sign = np.random.default_rng(0).choice([-1, 1], SIZE)
    noisy = (128 + step * sign).astype(np.uint8)  # variance exactly step squared
    assert metrics.psnr_rgb(noisy, flat(128)) == pytest.approx(20 * math.log10(255 / step), rel=1e-12)


def test_psnr_of_gaussian_noise_follows_its_variance():
    noisy = 128 + np.random.default_rng(0).normal(0, 10, (200, 200, 3))
    assert metrics.psnr_rgb(noisy, np.full((200, 200, 3), 128.0)) == pytest.approx(20 * math.log10(25.5), abs=0.1)


def test_psnr_y_of_a_gray_offset():
    assert metrics.psnr_y(flat(110), flat(100)) == pytest.approx(20 * math.log10(255 / (10 * 219 / 255)), rel=1e-12)


def test_ssim_of_flat_pictures_is_the_brightness_term():
    x, y, c1 = 16 + 100 * 219 / 255, 16 + 150 * 219 / 255, 2.55**2
    expected = (2 * x * y + c1) / (x * x + y * y + c1)
    assert metrics.ssim_y(flat(100), flat(150)) == pytest.approx(expected, rel=1e-9)


def test_vif_knows_loss_and_gain_of_contrast():
    reference = smooth()
    middle = reference.mean()
    softer, stronger = (middle + gain * (reference - middle) for gain in (0.5, 1.5))
    assert metrics.vif(softer, reference) < 1 < metrics.vif(stronger, reference)
    assert metrics.vif(255.0 - reference, reference) == pytest.approx(
        0, abs=0.01
    )  # an inverted picture informs of nothing


def test_vif_of_a_flat_picture_is_nothing_and_against_one_unknown():
    assert metrics.vif(flat(100), texture()) == 0
    assert math.isnan(metrics.vif(texture(), flat(100)))


def test_gmsd_sees_no_difference_where_nothing_has_a_gradient():
    assert metrics.gmsd(flat(10), flat(200)) == 0


def test_haarpsi_of_black_pictures():
    assert metrics.haarpsi(flat(0), flat(0)) == 1


@pytest.mark.parametrize("gain", [0.25, 0.5, 2.0])
def test_sharpness_grows_with_the_square_of_contrast(gain):
    reference = texture()
    assert metrics.sharpness(gain * reference.astype(np.float64), reference) == pytest.approx(gain**2, rel=1e-9)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, -2), (-4, 5)])
def test_displacement_finds_a_shift(right, down):
    large = smooth(160, 192)
    reference = large[20:-20, 20:-20]
    moved = large[20 - down : 140 - down, 20 - right : 172 - right]
    found = metrics.displacement(moved, reference)
    assert tuple(round(pixels) for pixels in found) == (right, down)


def test_a_reduced_picture_is_consistent_with_its_reduction():
    picture = texture(size=(48, 64, 3))
    low = metrics.to_uint8(metrics.resize(picture, 12, 16))
    assert metrics.consistency_psnr(picture, low) == 100
    assert metrics.consistency_psnr(picture, texture(9, low.shape)) < 20


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    new=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    level=st.integers(0, 255),
)
@settings(max_examples=40, deadline=None)
def test_resizing_keeps_a_flat_picture_flat(size, new, level):
    resized = metrics.resize(np.full((*size, 3), level, np.uint8), *new)
    assert resized.shape == (*new, 3)
    np.testing.assert_allclose(resized, level, atol=1e-9)


def test_resizing_to_the_same_size_changes_nothing():
    np.testing.assert_allclose(metrics.resize(texture(), *SIZE[:2]), texture(), atol=1e-9)


@pytest.mark.parametrize("new", [(16, 24), (24, 13), (120, 160), (31, 200)])
def test_resizing_equals_pillow_inside(new):
    """Pillow has the same kernel, but cuts it off at the border where we mirror."""
    picture = smooth(60, 80).astype(np.float32)
    expected = np.stack(
        [np.asarray(Image.fromarray(picture[..., c]).resize(new[::-1], Image.Resampling.BICUBIC)) for c in range(3)], -1
    )
    border = [1 + math.ceil(2 * max(1, n / o)) for n, o in zip(new, picture.shape[:2], strict=True)]
    inside = tuple(slice(b, -b) for b in border)
    np.testing.assert_allclose(metrics.resize(picture, *new)[inside], expected[inside], atol=1e-3)


@pytest.mark.parametrize("new", [(15, 20), (17, 33), (120, 160)])
def test_resizing_equals_the_degradation_that_the_engine_knows(new):
    """A run's consistency and that of ``vrestore compare`` speak of the same reduction."""
    picture = texture(size=(60, 80, 3))
    frame = torch.from_numpy(picture).permute(2, 0, 1).float()
    expected = Resize((60, 80), new).apply(frame).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(metrics.resize(picture, *new), expected, atol=1e-3)


def test_to_uint8_rounds_and_clips():
    levels = np.array([[[-3.0, 0.6, 254.4], [255.7, 1.5, 2.5]]])
    np.testing.assert_array_equal(metrics.to_uint8(levels), [[[0, 1, 254], [255, 2, 2]]])
