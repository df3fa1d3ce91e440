"""Motion between pictures whose shift is known."""

import cv2
import numpy as np
import pytest
import torch

from vrestore.flow import warp
from vrestore.priors.motion import (
    FINE,
    FINE_GRID,
    FLOW_FACTOR,
    PER_LATENT,
    Grid,
    coarse,
    fine_motions,
    flow_picture,
    motions,
)

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


GRIDS = pytest.mark.parametrize("grid", [Grid(), FINE_GRID], ids=["latent", "fine"])


@GRIDS
@pytest.mark.parametrize(("dx", "dy"), [(4, 0), (0, -4), (2, 3), (-6, 5)])
def test_a_known_shift_is_found(grid, dx, dy):
    forth, back = grid.between(picture(), picture(dx, dy))
    assert forth.shape == back.shape == (3, HEIGHT // PER_LATENT * grid.fine, WIDTH // PER_LATENT * grid.fine)
    for field, sign in ((forth, 1), (back, -1)):
        inner = coarse(field[None], (HEIGHT // PER_LATENT, WIDTH // PER_LATENT))[0][:, *INTERIOR]
        shift = torch.tensor([dx, dy])[:, None, None] * sign / PER_LATENT
        assert (inner[:2] - shift).abs().max() < 0.02
        assert inner[2].min() == 1


def test_a_fine_field_follows_motion_that_differs_from_place_to_place():
    """A ripple that is as short as some latent pixels: the field of latent pixels misses more of it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    ripple = 1.2 * np.sin(2 * np.pi * x / (6 * PER_LATENT))
    first = picture()
    second = cv2.remap(first, x - ripple, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    errors = []
    for grid in (Grid(), FINE_GRID):
        back = grid.between(second, first)[0][None, :2] * PER_LATENT
        pixels = torch.nn.functional.interpolate(back, (HEIGHT, WIDTH), mode="bilinear")[0, 0]
        errors.append(float((pixels + torch.from_numpy(ripple))[16:-16, 16:-16].abs().mean()))
    assert errors[1] < 0.5 * errors[0]


@GRIDS
def test_the_flow_brings_the_neighbour_here(grid):
    """The convention that flow and warp share: out[y, x] = neighbour[y + dy, x + dx]."""
    first, second = picture(), picture(4, -8)
    field, _ = grid.between(first, second)
    pixels = torch.nn.functional.interpolate(field[None, :2] * PER_LATENT, scale_factor=PER_LATENT // grid.fine)
    here, there = (torch.from_numpy(p.astype(np.float32) / 255)[None, None] for p in (first, second))
    inner = (..., slice(16, -16), slice(16, -16))
    assert (warp(there, pixels)[inner] - here[inner]).abs().mean() < 0.01
    assert (there[inner] - here[inner]).abs().mean() > 0.1


def test_unrelated_pictures_are_mostly_invisible():
    forth, back = Grid().between(picture(seed=1), picture(seed=2))
    assert max(forth[2].mean(), back[2].mean()) < 0.5
    assert forth[2].min() >= 0
    assert forth[2].max() <= 1


def test_no_neighbour_is_zeros():
    only = torch.stack(list(motions([picture()], Grid())))
    assert torch.equal(only, torch.zeros(1, 6, HEIGHT // PER_LATENT, WIDTH // PER_LATENT))
    assert list(motions([], Grid())) == []


def test_motions_pair_up():
    pictures = [picture(), picture(2, 1), picture(3, 3)]
    first, second, third = motions(pictures, Grid())
    forth, back = Grid().between(pictures[0], pictures[1])
    forth_again, back_again = Grid().between(pictures[1], pictures[2])
    nothing = Grid().none(pictures[0])
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

    seen = [pulled for _ in motions(pictures(), Grid())]
    assert seen == [2, 3, 4, 5, 5]


def test_fine_motion_is_of_frames_and_coarse_motion_its_mean():
    frames = [torch.from_numpy(world(seed=seed)).expand(3, -1, -1) for seed in (1, 1, 2)]
    height, width = (side // 8 for side in frames[0].shape[1:])
    fine = torch.stack(list(fine_motions(iter(frames))))
    assert fine.shape == (3, 6, FINE * height, FINE * width)
    assert fine[1, :2].abs().max() < 0.01  # nothing moved
    assert fine[1, 2].min() == 1
    seen = coarse(fine, (height, width))
    assert torch.allclose(seen[0, 3, 2, 5], fine[0, 3, 4:6, 10:12].mean(), atol=1e-6)
    assert torch.equal(coarse(seen, (height, width)), seen)


@GRIDS
@pytest.mark.parametrize("size", [(4, 4), (8, 64), (15, 16), (16, 16), (16, 20), (17, 19), (16, 200)])
def test_tiny_pictures(grid, size):
    """Below the flow's smallest picture nothing is seen; from there on the answer is finite."""
    first, second = np.random.default_rng(0).integers(0, 256, (2, *size), dtype=np.uint8)
    for field in grid.between(first, second):
        assert field.shape == (3, size[0] // PER_LATENT * grid.fine, size[1] // PER_LATENT * grid.fine)
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
