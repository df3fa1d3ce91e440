"""Measures over time on videos whose answer is known."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrestore import metrics
from vrestore.temporal import Change, MotionMeter, summarise, visible, warp

HEIGHT, WIDTH = 72, 96


def panning(frames, right=2, down=1):
    """A camera that moves by whole pixels over a smooth texture."""
    noise = np.random.default_rng(5).normal(size=(20, 26, 3))
    large = metrics.resize(noise, 160, 208)
    scene = metrics.to_uint8(128 + 60 * large / large.std())
    return [scene[20 + down * t :, 20 + right * t :][:HEIGHT, :WIDTH] for t in range(frames)]


def flat(*levels):
    return [np.full((HEIGHT, WIDTH, 3), level, np.uint8) for level in levels]


def scores(video, reference, bounds=()):
    meter = MotionMeter()
    changes, own = [], []
    for (a, b), (ref_a, ref_b) in zip(pairwise(video), pairwise(reference), strict=True):
        motion = meter.motion(ref_a, ref_b)
        own.append(meter.change(ref_a, ref_b, motion, is_reference=True))
        changes.append(meter.change(a, b, motion))
    return summarise(changes, own, bounds)


def test_flow_of_a_pan_is_its_displacement():
    before, after = panning(2, right=3, down=-2)
    flow = MotionMeter().flow(after, before)
    np.testing.assert_allclose(np.median(flow, axis=(0, 1)), [3, -2], atol=0.1)


def test_the_reference_itself_scores_one():
    video = panning(5)
    result = scores(video, video, bounds=(2,))
    assert result.warp_rel == pytest.approx(1, abs=1e-6)
    assert result.seam == pytest.approx(1)
    assert result.jump == pytest.approx(1)
    assert result.tof == 0
    assert result.warp < 1.5  # levels: motion compensation takes nearly all of the change away


def test_a_video_that_stands_still_has_the_wrong_motion():
    video = panning(4)
    frozen = [video[0]] * 4
    result = scores(frozen, video)
    assert result.tof == pytest.approx(3, abs=0.3)  # |2| + |1| pixels
    assert result.jump == pytest.approx(0)


def test_flicker_is_the_change_where_the_reference_stands_still():
    still = [np.clip(panning(1)[0], 10, 245)] * 4
    swinging = [(frame.astype(int) + (-1) ** t * 3).astype(np.uint8) for t, frame in enumerate(still)]
    result = scores(swinging, still)
    assert result.flicker == pytest.approx(6)
    assert result.warp == pytest.approx(6)
    assert scores(still, still).flicker == 0


def test_a_seam_at_a_window_start_is_found():
    reference = flat(100, 101, 102, 103, 104, 105)
    video = flat(100, 101, 102, 106, 107, 108)  # steps of one, and one of four at frame 3
    result = scores(video, reference, bounds=(3,))
    assert result.seam == pytest.approx(4)
    assert result.jump == pytest.approx(4)
    assert scores(video, reference, bounds=(2,)).seam == pytest.approx(1 / 1.75)
    assert math.isnan(scores(video, reference).seam)


def test_bounds_outside_the_video_count_for_nothing():
    reference = flat(100, 101, 102)
    assert math.isnan(scores(reference, reference, bounds=(0, 3, 99)).seam)


def test_one_frame_has_no_time():
    result = summarise([], [])
    assert all(math.isnan(value) for value in vars(result).values())


def test_still_pixels_weigh_by_their_number():
    changes = [Change(1.0, 4.0, 100, 1.0), Change(1.0, math.nan, 0, 1.0), Change(1.0, 1.0, 300, 1.0)]
    reference = [Change(1.0, 1.0, 100, 1.0), Change(1.0, math.nan, 0, 1.0), Change(1.0, 1.0, 300, 1.0)]
    result = summarise(changes, reference)
    assert result.flicker == pytest.approx((4 * 100 + 1 * 300) / 400)
    assert result.flicker_rel == pytest.approx(1.75)


@given(right=st.integers(-9, 9), down=st.integers(-9, 9))
def test_warp_and_visibility_of_a_uniform_flow(right, down):
    picture = np.random.default_rng(0).uniform(size=(24, 32, 3)).astype(np.float32)
    flow = np.broadcast_to(np.float32([right, down]), (24, 32, 2)).copy()
    y, x = np.mgrid[:24, :32]
    expected = picture[np.clip(y + down, 0, 23), np.clip(x + right, 0, 31)]
    np.testing.assert_allclose(warp(picture, flow), expected, atol=1e-6)
    inside = (y + down >= 0) & (y + down < 24) & (x + right >= 0) & (x + right < 32)
    np.testing.assert_array_equal(visible(flow, -flow), inside)


def test_a_flow_that_does_not_lead_back_is_occluded():
    flow = np.zeros((24, 32, 2), np.float32)
    opposite = np.zeros((24, 32, 2), np.float32)
    opposite[:, 16:] = 5
    assert visible(flow, opposite)[:, :15].all()
    assert not visible(flow, opposite)[:, 17:].any()
