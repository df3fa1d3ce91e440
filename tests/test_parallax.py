"""Nearness from parallax: exact flows give back motion and nearness; without parallax nothing changes."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.parallax import DISTANCES, FARTHEST, LEAST, PLANES, corrected, evidence, with_parallax
from vrestore.structure import Seen, bases, camera_motion, moves, triangulated

ROWS, COLUMNS = 60, 90
SMALL = st.floats(-0.02, 0.02)


def smooth(seed, deviation=9.0):
    """Something in [0, 1] without edges."""
    values = np.random.default_rng(seed).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    found = cv2.GaussianBlur(values, (0, 0), deviation)
    return (found - found.min()) / np.ptp(found)


def scene(seed):
    """Inverse depth of a ground with something on it, from about 0 to 1."""
    return np.float32(0.7) * smooth(seed) + np.linspace(0, 0.3, ROWS, dtype=np.float32)[:, None]


def flow_of(near, motion):
    translation, rotation = bases(*near.shape)
    moved = near * np.tensordot(motion[:3], translation, (0, 1)) + np.tensordot(motion[3:], rotation, (0, 1))
    return np.moveaxis(moved, 0, -1).astype(np.float32)


def exact(near, motion):
    """What is seen of a map that moves so, without error."""
    one = np.ones_like(near)
    return Seen(flow_of(near, motion), one, 0.3 / COLUMNS * one)


def fitted(found, true):
    """Mean error after one scale and shift."""
    rows = np.stack([found.ravel(), np.ones(found.size)], 1).astype(np.float64)
    return np.abs(rows @ np.linalg.lstsq(rows, true.ravel(), rcond=None)[0] - true.ravel()).mean()


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[SMALL] * 6), st.integers(0, 5))
def test_motion_and_nearness_come_back_from_exact_flow(motion, seed):
    near, motion = scene(seed) + np.float32(0.1), np.array(motion)
    seen = exact(near, motion)
    found = camera_motion(near, np.full_like(near, 1e-3), seen)
    assert np.abs(found - motion).max() < 1e-4
    says, precision, odd = triangulated(motion, seen)
    sure = precision > 1e3
    assert np.abs(says - near)[sure].max(initial=0) < 1e-2
    assert odd.max() < 1e-3


@pytest.mark.parametrize("motion", [(0.1, 0, 0, 0, 0, 0), (0.06, 0.04, 0.1, 0.02, -0.04, 0.02), (0, 0, 0.3, 0, 0, 0)])
def test_a_wrong_map_is_mended_where_the_camera_moves(motion):
    true = scene(0) + np.float32(0.05)
    wrong = np.clip(true + 0.3 * (smooth(7) - 0.5), 0, None)
    seen = exact(true, np.array(motion))
    found = corrected(wrong, np.full(true.shape, 128, np.uint8), [seen])
    assert fitted(wrong, true) > 0.03
    assert fitted(found, true) < 0.5 * fitted(wrong, true)


@pytest.mark.parametrize("motion", [(0, 0, 0, 0, 0, 0), (0, 0, 0, 0.02, 0.03, -0.01)], ids=["none", "turning"])
def test_without_parallax_maps_stay(motion):
    near = scene(1)
    found = corrected(near, np.full(near.shape, 128, np.uint8), [exact(near, np.array(motion))])
    assert np.abs(found - near).max() < 2e-3 + FARTHEST * 0.05


def test_what_moves_before_a_camera_at_rest_is_neither_near_nor_far():
    near = scene(1)
    seen = exact(near, np.zeros(6))
    seen.flow[20:40, 30:60] = 0.05
    assert moves(seen) < 0.05
    found = corrected(near, np.full(near.shape, 128, np.uint8), [seen])
    assert np.abs(found - near).max() < 0.05


def test_what_moves_as_no_depth_explains_it_is_odd():
    near, motion = scene(1) + np.float32(0.1), np.array([0.1, 0, 0, 0, 0, 0])
    seen = exact(near, motion)
    seen.flow[20:40, 30:60, 1] += 0.05
    found = evidence(near - np.float32(FARTHEST), np.full(near.shape, 128, np.uint8), [seen])
    thing = np.zeros(near.shape, bool)
    thing[20:40, 30:60] = True
    assert found.odd[thing].min() > 1
    assert found.odd[~thing].max() < 0.1
    assert found.surer[thing].max() < 0.1 * np.median(found.surer[~thing])


def test_what_cannot_be_followed_has_no_say():
    true = scene(2)
    wrong = np.clip(true + 0.3 * (smooth(8) - 0.5), 0, None)
    seen = exact(true, np.array([0.05, 0, 0, 0, 0, 0]))
    blind = Seen(seen.flow, np.zeros_like(true), seen.error)
    found = corrected(wrong, np.full(true.shape, 128, np.uint8), [blind])
    assert np.abs(found - wrong).max() < 1e-4


def test_evidence_is_the_correction_and_what_it_came_from():
    true = scene(2) + np.float32(0.05)
    wrong = np.clip(true + 0.3 * (smooth(8) - 0.5), 0, None)
    seen = exact(true, np.array([0.1, 0, 0, 0, 0, 0]))
    blind = Seen(seen.flow, np.zeros_like(true), seen.error)
    luma = np.full(true.shape, 51, np.uint8)
    found = evidence(wrong, luma, [seen])
    assert np.array_equal(found.found - FARTHEST, corrected(wrong, luma, [seen]))
    assert found.surer.mean() > 3
    assert found.apart.max() < 1e-6  # one flow agrees with itself
    assert found.likely > 0.95
    assert evidence(wrong, luma, [blind]).surer.max() < 1e-6
    assert np.allclose(evidence(wrong, luma, [seen, blind]).trusted, 0.5)
    planes = found.planes()
    assert planes.shape == (PLANES, ROWS, COLUMNS)
    assert planes.dtype == np.float32
    assert np.allclose(planes[0], 0.2)
    assert np.array_equal(planes[2], found.found)


def test_what_completes_has_the_last_word():
    lumas, true = filmed(3, 1)
    given = []

    def half(seen):
        given.append(seen)
        return np.float32(0.5) * seen.found

    plain, found = (
        np.stack(list(with_parallax(lambda i: true[i], lambda i: lumas[i], 3, 0.0, 1.0, complete)))
        for complete in (None, half)
    )
    assert np.allclose(found + FARTHEST, 0.5 * (plain + FARTHEST), atol=1e-6)
    assert [np.array_equal(seen.luma, luma) for seen, luma in zip(given, lumas, strict=True)] == [True] * 3
    assert all(seen.first.min() >= LEAST for seen in given)


def filmed(frames, shift):
    """Frames of three textured layers that go ``shift`` pixels a frame, twice and four times as many, and how near."""
    random = np.random.default_rng(3)
    layers = [
        cv2.GaussianBlur(random.integers(0, 256, (96, 260)).astype(np.uint8), (0, 0), 1.2).astype(float) for _ in "123"
    ]
    places = [np.s_[:, :], np.s_[40:, :], np.s_[30:, 40:100]]
    lumas, near = [], []
    for frame in range(frames):
        picture, map_ = np.zeros((96, 144)), np.zeros((96, 144), np.float32)
        for number, (layer, place) in enumerate(zip(layers, places, strict=True)):
            begin = 90 - shift * 2**number * frame
            moved = layer[:, begin : begin + 144]
            picture[place], map_[place] = moved[place], 2**number / 4
        lumas.append(np.clip(3 * (picture - 127) + 127, 0, 255).astype(np.uint8))
        near.append(map_)
    return np.stack(lumas), np.stack(near)


def test_pictures_tell_what_is_near():
    lumas, true = filmed(6, 1)
    ground = np.linspace(0, 1, 96, dtype=np.float32)[None, :, None]
    flat = 0.3 * true + 0.7 * ground  # as of a prior that sees little but the ground
    found = np.stack(list(with_parallax(lambda i: flat[i], lambda i: lumas[i], 6, 0.0, 1.0)))
    assert found.shape == true.shape
    assert found.dtype == np.float32
    assert fitted(found, true) < 0.6 * fitted(flat, true)


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_short_shots(frames):
    lumas, true = filmed(frames, 1)
    found = np.stack(list(with_parallax(lambda i: true[i], lambda i: lumas[i], frames, 0.0, 1.0)))
    assert np.isfinite(found).all()
    if frames == 1:
        assert np.array_equal(found, true)


def test_scale_and_shift_of_maps_make_no_difference():
    lumas, true = filmed(4, 1)
    plain = np.stack(list(with_parallax(lambda i: true[i], lambda i: lumas[i], 4, 0.0, 1.0)))
    other = np.stack(list(with_parallax(lambda i: 0.3 * true[i] - 2, lambda i: lumas[i], 4, -2.0, -1.7)))
    assert np.allclose((other + 2) / 0.3, plain, atol=1e-3)


def test_a_flat_map_stays():
    lumas, _ = filmed(3, 1)
    flat = np.full((96, 144), 0.4, np.float32)
    found = list(with_parallax(lambda i: flat, lambda i: lumas[i], 3, 0.4, 0.4))
    assert np.abs(np.stack(found) - 0.4).max() < 1e-4


def test_frames_are_asked_for_in_reach():
    lumas, true = filmed(20, 1)
    asked = []

    def luma(frame):
        asked.append(frame)
        return lumas[frame]

    for frame, _ in enumerate(with_parallax(lambda i: true[i], luma, 20, 0.0, 1.0)):
        assert max(asked) <= frame + max(DISTANCES)
