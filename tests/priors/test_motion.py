"""Motion between pictures whose shift is known."""

import cv2
import numpy as np
import pytest
import torch

from vrestore.flow import warp
from vrestore.priors.motion import FLOW_FACTOR, PER_LATENT, flow_picture, motion_between, motions, no_motion

HEIGHT, WIDTH = 96, 128
INTERIOR = (slice(4, -4), slice(4, -4))
"""Latent pixels that no tested shift brings in from outside."""


def world(height=HEIGHT + 64, width=WIDTH + 64, seed=0):
    """A texture without flat parts, float32 in [0, 1]."""
    noise = np.random.default_rng(seed).random((height, width), np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return cv2.normalize(smooth, None, 0, 1, cv2.NORM_MINMAX)


def picture(dx=0, dy=0, seed=0):
    """A view of the world in which everything has moved by (dx, dy) pixels."""
    view = world(seed=seed)[32 - dy : 32 - dy + HEIGHT, 32 - dx : 32 - dx + WIDTH]
    return np.round(view * 255).astype(np.uint8)


@pytest.mark.parametrize(("dx", "dy"), [(4, 0), (0, -4), (2, 3), (-6, 5)])
def test_a_known_shift_is_found(dx, dy):
    forth, back = motion_between(picture(), picture(dx, dy))
    assert forth.shape == back.shape == (3, HEIGHT // PER_LATENT, WIDTH // PER_LATENT)
    for field, sign in ((forth, 1), (back, -1)):
        inner = field[:, *INTERIOR]
        shift = torch.tensor([dx, dy])[:, None, None] * sign / PER_LATENT
        assert (inner[:2] - shift).abs().max() < 0.02
        assert inner[2].min() == 1


def test_the_flow_brings_the_neighbour_here():
    """The convention that flow and warp share: out[y, x] = neighbour[y + dy, x + dx]."""
    first, second = picture(), picture(4, -8)
    field, _ = motion_between(first, second)
    pixels = torch.nn.functional.interpolate(field[None, :2] * PER_LATENT, scale_factor=PER_LATENT)
    here, there = (torch.from_numpy(p.astype(np.float32) / 255)[None, None] for p in (first, second))
    inner = (..., slice(16, -16), slice(16, -16))
    assert (warp(there, pixels)[inner] - here[inner]).abs().mean() < 0.01
    assert (there[inner] - here[inner]).abs().mean() > 0.1


def test_unrelated_pictures_are_mostly_invisible():
    forth, back = motion_between(picture(seed=1), picture(seed=2))
    assert max(forth[2].mean(), back[2].mean()) < 0.5
    assert forth[2].min() >= 0
    assert forth[2].max() <= 1


def test_no_neighbour_is_zeros():
    only = torch.stack(list(motions([picture()])))
    assert torch.equal(only, torch.zeros(1, 6, HEIGHT // PER_LATENT, WIDTH // PER_LATENT))
    assert list(motions([])) == []


def test_motions_pair_up():
    pictures = [picture(), picture(2, 1), picture(3, 3)]
    first, second, third = motions(pictures)
    forth, back = motion_between(pictures[0], pictures[1])
    forth_again, back_again = motion_between(pictures[1], pictures[2])
    nothing = no_motion(pictures[0])
    assert torch.equal(first, torch.cat([nothing, forth]))
    assert torch.equal(second, torch.cat([back, forth_again]))
    assert torch.equal(third, torch.cat([back_again, nothing]))


def test_motions_reads_one_ahead():
    pulled = 0

    def pictures():
        nonlocal pulled
        for _ in range(5):
            pulled += 1
            yield np.zeros((8, 8), np.uint8)

    seen = [pulled for _ in motions(pictures())]
    assert seen == [2, 3, 4, 5, 5]


@pytest.mark.parametrize("size", [(4, 4), (8, 64), (15, 16), (16, 16), (16, 20), (17, 19), (16, 200)])
def test_tiny_pictures(size):
    """Below the flow's smallest picture nothing is seen; from there on the answer is finite."""
    first, second = np.random.default_rng(0).integers(0, 256, (2, *size), dtype=np.uint8)
    for field in motion_between(first, second):
        assert field.shape == (3, size[0] // PER_LATENT, size[1] // PER_LATENT)
        assert torch.isfinite(field).all()
        assert min(size) >= 16 or not field.any()


def test_flow_picture_is_luma_at_half_the_size():
    frame = torch.zeros(3, 8, 12)
    frame[1, :, :6] = 1
    frame[:, :2, 6:] = 1
    found = flow_picture(frame)
    expected = np.zeros((8 // FLOW_FACTOR, 12 // FLOW_FACTOR), np.uint8)
    expected[:, :3] = round(0.587 * 255)
    expected[:1, 3:] = 255
    np.testing.assert_array_equal(found, expected)
    assert flow_picture(torch.full((3, 8, 8), 1.5)).max() == 255  # frames may overshoot, bytes must not wrap around
    assert flow_picture(torch.full((3, 8, 8), -0.5)).max() == 0
