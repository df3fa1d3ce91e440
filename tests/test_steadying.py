"""Averaging along the motion: noise goes, what moves stays where it is, what is not seen has no say."""

import cv2
import numpy as np
import pytest

from vrestore.steadying import steadied

SIZE = (48, 64)


def texture(seed=0, size=(90, 120)):
    noise = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip(127 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def run(maps, lumas, reach):
    found = np.stack(list(steadied(lambda i: maps[i], lambda i: lumas[i], len(maps), reach)))
    assert found.shape == maps.shape
    assert found.dtype == np.float32
    return found


def test_a_still_picture_has_the_mean_of_its_window():
    luma = texture(size=SIZE)
    maps = np.random.default_rng(1).normal(size=(9, *SIZE)).astype(np.float32)
    found = run(maps, np.stack([luma] * 9), 2)
    assert np.allclose(found[4], maps[2:7].mean(0), atol=1e-5)
    assert np.allclose(found[0], maps[:3].mean(0), atol=1e-5)
    assert np.allclose(found[8], maps[6:].mean(0), atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_windows_longer_than_the_shot(frames):
    maps = np.random.default_rng(1).normal(size=(frames, *SIZE)).astype(np.float32)
    found = run(maps, np.stack([texture(size=SIZE)] * frames), 5)
    assert np.allclose(found, maps.mean(0), atol=1e-5)


def test_what_moves_keeps_its_place_and_loses_its_noise():
    wide = texture()
    depth = cv2.GaussianBlur(texture(5).astype(np.float32) / 255, (0, 0), 5.0)
    lumas = np.stack([wide[i : i + SIZE[0], 3 * i : 3 * i + SIZE[1]] for i in range(7)])
    true = np.stack([depth[i : i + SIZE[0], 3 * i : 3 * i + SIZE[1]] for i in range(7)])
    noise = 0.1 * np.random.default_rng(2).normal(size=true.shape).astype(np.float32)
    inner = np.s_[3, 12:-12, 16:-16]
    assert np.abs(run(true, lumas, 3) - true)[inner].max() < 0.01
    left = (run(true + noise, lumas, 3) - true)[inner].std()
    assert left < 0.1 / 7**0.5 * 1.3


def test_another_picture_has_no_say():
    lumas = np.stack([np.full(SIZE, 20, np.uint8)] * 3 + [np.full(SIZE, 220, np.uint8)] * 3)
    maps = np.repeat([0.0, 1.0], 3)[:, None, None] * np.ones((1, *SIZE)).astype(np.float32)
    assert np.allclose(run(maps, lumas, 4), maps, atol=1e-6)


def test_no_more_than_a_window_is_held():
    asked = []
    lumas = np.stack([texture(size=SIZE)] * 20)

    def maps(i):
        asked.append(i)
        return np.zeros(SIZE, np.float32)

    for frame, _ in enumerate(steadied(maps, lambda i: lumas[i], 20, 3)):
        assert max(asked) == min(frame + 3, 19)
    assert asked == list(range(20))
