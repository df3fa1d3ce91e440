"""Dense flow, warping and the picture between two frames, on motion that is known."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.flow import between, dense, dense_doubled, dense_fine, flow_pair, luma8, splat, visible, warp

HEIGHT, WIDTH = 96, 128
INNER = (..., slice(16, -16), slice(16, -16))


def picture(dx=0.0, dy=0.0, seed=0):
    """A view (3, HEIGHT, WIDTH) of a texture in which everything has moved by (dx, dy) pixels."""
    noise = np.random.default_rng(seed).random((HEIGHT + 64, WIDTH + 64, 3), np.float32)
    smooth = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 1, cv2.NORM_MINMAX)
    shift = np.float32([[1, 0, dx - 32], [0, 1, dy - 32]])
    return torch.from_numpy(cv2.warpAffine(smooth, shift, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)).permute(2, 0, 1)


def test_no_flow_is_the_identity():
    features = torch.randn(2, 3, 17, 23)
    assert (warp(features, torch.zeros(2, 2, 17, 23)) - features).abs().max() < 1e-5


@given(dx=st.integers(-4, 4), dy=st.integers(-4, 4), height=st.integers(5, 24), width=st.integers(5, 24))
@settings(max_examples=25, deadline=None)
def test_whole_pixels_shift_and_edges_repeat(dx, dy, height, width):
    """Off by a fraction of a pixel that grows towards the edges if corners were aligned."""
    features = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
    flow = torch.tensor([dx, dy], dtype=torch.float32)[None, :, None, None].expand(1, 2, height, width)
    rows = (torch.arange(height) + dy).clamp(0, height - 1)
    columns = (torch.arange(width) + dx).clamp(0, width - 1)
    expected = features[:, :, rows][..., columns]
    assert (warp(features, flow) - expected).abs().max() < 1e-5 * height * width


def test_half_pixels_interpolate():
    ramp = torch.arange(10.0).expand(1, 1, 10, 10)
    flow = torch.zeros(1, 2, 10, 10)
    flow[:, 0] = 0.5
    assert torch.allclose(warp(ramp, flow)[..., :-1], ramp[..., :-1] + 0.5, atol=1e-5)


def test_warp_keeps_the_precision_of_features():
    assert warp(torch.rand(1, 1, 4, 4).bfloat16(), torch.zeros(1, 2, 4, 4)).dtype == torch.bfloat16


@pytest.mark.parametrize("find", [dense, dense_fine])
def test_dense_flow_points_from_the_first_to_the_second(find):
    flow = find(luma8(picture()), luma8(picture(5, -3)))
    assert np.abs(flow[16:-16, 16:-16] - [5, -3]).max() < 0.2


def test_fine_flow_follows_motion_that_changes_within_a_few_pixels():
    first = luma8(picture())
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    ripple = np.sin(2 * np.pi * x / 32)
    second = cv2.remap(first, x + ripple, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    true = np.stack([ripple, np.zeros_like(ripple)], axis=-1)  # of what is second, it lies there in the first
    plain, fine = (np.abs(find(second, first) - true)[16:-16, 16:-16].mean() for find in (dense, dense_fine))
    assert fine < 0.1
    assert fine < 0.6 * plain


def test_fine_flow_of_what_is_too_small_is_none():
    assert not dense_fine(*np.random.default_rng(0).integers(0, 256, (2, 15, 40), np.uint8)).any()


@pytest.mark.parametrize("move", [(1.4, -0.7), (5, -3), (0, 0)])
def test_flow_of_doubled_pictures_is_in_pixels_of_theirs(move):
    flow = dense_doubled(luma8(picture()), luma8(picture(*move)))
    assert flow.shape == (HEIGHT, WIDTH, 2)
    assert np.abs(flow[16:-16, 16:-16] - move).max() < 0.2


def test_tiny_pictures_have_no_flow():
    tiny = luma8(torch.rand(3, 8, 40))
    assert not dense(tiny, tiny).any()
    assert not dense_doubled(tiny[:7], tiny[:7]).any()


def test_what_moves_in_front_hides_what_is_behind():
    """A square that moves right by its own width uncovers its old place, which the earlier picture does not show."""
    forward, backward = np.zeros((2, 96, 128, 2), np.float32)
    forward[30:70, 40:52], backward[30:70, 52:64] = (12, 0), (-12, 0)
    seen = visible(backward, forward)
    assert not seen[30:70, 40:52].any()
    seen[30:70, 40:52] = True
    assert seen.all()


@pytest.mark.parametrize("time", [0.25, 0.5, 0.75])
def test_uniform_motion_is_met_at_any_time(time):
    left, right, truth = picture(), picture(8, 4), picture(8 * time, 4 * time)
    found = between(left, right, flow_pair(left, right), time)
    assert (found.blend[0] - truth)[INNER].abs().max() < 0.03
    assert (found.blend[0] - truth)[INNER].abs().mean() < 0.005
    assert found.agreement[INNER].min() > 0.6
    assert torch.allclose(found.share[INNER], torch.tensor(1 - time), atol=0.02)


def test_time_runs_both_ways():
    """From the right to the left is the same picture."""
    left, right = picture(), picture(6, -2)
    one = between(left, right, flow_pair(left, right), 0.3)
    other = between(right, left, flow_pair(right, left), 0.7)
    assert torch.allclose(one.blend, other.blend, atol=1e-5)
    assert torch.allclose(one.to_left, other.to_right, atol=1e-4)


def test_pictures_without_anything_in_common_disagree():
    left, right = picture(seed=1), picture(seed=2)
    assert between(left, right, flow_pair(left, right), 0.5).agreement.mean() < 0.3


@given(dx=st.integers(-3, 3), dy=st.integers(-3, 3))
@settings(max_examples=20, deadline=None)
def test_splatting_carries_vectors_to_where_they_point(dx, dy):
    flow = torch.tensor([2.0 * dx, 2.0 * dy])[None, :, None, None].expand(1, 2, 20, 24).clone()
    carried, hit = splat(flow, torch.ones(1, 1, 20, 24), 0.5)
    assert torch.allclose(carried, flow * hit, atol=1e-5)
    expected = torch.zeros(20, 24, dtype=torch.bool)
    expected[max(0, dy) : 20 + min(0, dy), max(0, dx) : 24 + min(0, dx)] = True
    assert torch.equal(hit[0, 0], expected)
