"""Photographs under a moving camera: whole pixels of one picture, sharp ones rather than soft ones."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from vrestore.weights.recipe.footage import SOFT_DB, regained_db
from vrestore.weights.recipe.panned import FASTEST, SHAKE, STILL, panned
from vrestore.weights.recipe.textures import TextureBank

FRAMES, SIZE = 5, 64
FARTHEST = int(FASTEST + 10 * SHAKE)


def drawn(folder, seed):
    return panned(np.random.default_rng(seed), TextureBank(folder), FRAMES, SIZE)


def shift_between(one, two):
    """The whole pixels by which a frame (h, w, 3) shows the other: the only ones at which they agree exactly."""
    found = []
    for dy in range(-FARTHEST, FARTHEST + 1):
        for dx in range(-FARTHEST, FARTHEST + 1):
            a = one[max(dy, 0) : SIZE + min(dy, 0), max(dx, 0) : SIZE + min(dx, 0)]
            b = two[max(-dy, 0) : SIZE + min(-dy, 0), max(-dx, 0) : SIZE + min(-dx, 0)]
            if np.array_equal(a, b):
                found.append((dy, dx))
    return found


@pytest.fixture(scope="module")
def sharp_and_soft(tmp_path_factory):
    """One photograph of fine noise and one of a soft ramp, of one size."""
    folder, rng = tmp_path_factory.mktemp("stills"), np.random.default_rng(0)
    cv2.imwrite(str(folder / "sharp.png"), rng.integers(0, 256, (240, 320, 3), dtype=np.uint8))
    ramp = np.linspace(0, 255, 320)[None, :, None] * np.ones((240, 1, 3))
    cv2.imwrite(str(folder / "soft.png"), ramp.astype(np.uint8))
    return folder


@pytest.mark.parametrize("seed", range(4))
def test_frames_are_one_picture_moved_by_whole_pixels(sharp_and_soft, seed):
    clip = drawn(sharp_and_soft, seed)
    assert clip.shape == (FRAMES, 3, SIZE, SIZE)
    assert torch.equal(clip, drawn(sharp_and_soft, seed))
    assert not torch.equal(clip, drawn(sharp_and_soft, seed + 10))
    for one, two in pairwise(clip.permute(0, 2, 3, 1).numpy()):
        assert len(shift_between(one, two)) == 1


def test_some_cameras_stand_still(sharp_and_soft):
    """As many as is said, to three deviations; no other clip repeats its first frame all the time."""
    clips = [drawn(sharp_and_soft, seed) for seed in range(200)]
    still = sum(bool((clip == clip[:1]).all()) for clip in clips)
    assert abs(still / len(clips) - STILL) <= 3 * (STILL * (1 - STILL) / len(clips)) ** 0.5


def test_soft_photographs_are_passed_over(sharp_and_soft):
    """Half of the photographs are soft, hardly any of what is drawn."""
    for seed in range(12):
        frame = (drawn(sharp_and_soft, seed)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        assert regained_db(frame) <= SOFT_DB


def test_photographs_smaller_than_the_way_are_enlarged(tmp_path):
    cv2.imwrite(str(tmp_path / "small.png"), np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    assert drawn(tmp_path, 0).shape == (FRAMES, 3, SIZE, SIZE)
