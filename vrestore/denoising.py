"""Noise and compression averaged away along the motion: what neighbouring frames show differently by chance alone.

Every place is averaged with itself in the frames before and after it, as far as it is seen there and looks alike: a
neighbour counts the less, the more it differs around the place from how much neighbours differ on the whole, which is
what noise does (motion-compensated temporal filtering; the weights are those of non-local means, Buades, Coll and
Morel, CVPR 2005, over the places that the motion tells).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from jaxtyping import Float

from vrestore.errors import ConfigError
from vrestore.flow import FlowArray, Luma, dense, luma8, visible
from vrestore.neighbours import with_neighbours
from vrestore.shapes import Frame

REACH = 3
"""Frames to either side."""
AROUND = 1.0
"""Deviation, in pixels, of the surroundings that must look alike."""
ALIKE = 1.5
"""Difference at which a neighbour counts a third, at strength 1, over the middle one of a frame."""
PIXEL_BYTES = 28 * (2 * REACH + 1) + 16 * 2 * REACH + 60
"""Memory for a pixel of the source: frames with the ways between them, what is brought onto one, what that takes."""

LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
MOST_NOISE = 1.5
"""Difference, over the deviation of noise as it is measured in one frame, that noise explains: a frame of something
else altogether, as a flash or a cut that nobody saw, is no noise."""

Picture = Float[np.ndarray, "rows columns 3"]
Plane = Float[np.ndarray, "rows columns"]


@dataclass(frozen=True)
class _Held:
    """A frame, with the ways between it and the one before: flow, and where it can be followed."""

    picture: Picture
    back: FlowArray | None = None
    """From this frame to the one before."""
    forth: FlowArray | None = None
    """From the one before to this frame."""


def denoised(frames: Iterable[Frame], strength: float) -> Iterator[Frame]:
    """Frames of a shot, in [0, 1], in order, each averaged with up to `REACH` on either side of it.

    Args:
        strength: 0, to the last bit the frames themselves, to 1; more is for heavy noise. Raises ConfigError below 0.
    """
    if strength < 0:
        raise ConfigError(f"denoise is {strength}; give 0 or more")
    if strength == 0:
        yield from frames
        return
    for held, group in with_neighbours(_connected(frames), 1, REACH, REACH):
        mean = _mean(held, group.start, strength)
        yield torch.from_numpy(mean).permute(2, 0, 1).contiguous()


def _connected(frames: Iterable[Frame]) -> Iterator[_Held]:
    before: Luma | None = None
    for frame in frames:
        luma, picture = luma8(frame), frame.permute(1, 2, 0).float().numpy()
        if before is None:
            yield _Held(picture)
        else:
            back, forth = dense(luma, before), dense(before, luma)
            yield _Held(picture, _seen(back, forth), _seen(forth, back))
        before = luma


def _seen(flow: FlowArray, back: FlowArray) -> FlowArray:
    """The flow, not a number where the other frame does not show the place."""
    return np.where(visible(flow, back)[..., None], flow, np.float32(np.nan))


def _mean(held: list[_Held], place: int, strength: float) -> Picture:
    here = held[place].picture
    forth = [(one.picture, one.forth) for one in held[place + 1 :]]
    back = [(one.picture, after.back) for one, after in pairwise(held[: place + 1])][::-1]
    total, weight, scale = here.copy(), np.ones(here.shape[:2], np.float32), 0.0
    sides = [_along(here, side) for side in (back, forth)]
    nearest = [_middle(side[0][1]) for side in sides if side]
    if nearest:
        scale = strength * ALIKE * min(float(np.mean(nearest)), MOST_NOISE * noise_of(here))
    for brought, apart in (one for side in sides for one in side):
        trust = np.exp(-np.square(apart / max(scale, 1e-6))).astype(np.float32)
        total += trust[..., None] * brought
        weight += trust
    return np.asarray(total / weight[..., None], np.float32)


def _along(here: Picture, others: list[tuple[Picture, FlowArray | None]]) -> list[tuple[Picture, Plane]]:
    """Neighbours to one side brought onto a picture, and how far they are from it around every place; infinite where
    they do not show it."""
    height, width = here.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    found, seen = [], np.ones((height, width), bool)
    for other, flow in others:
        if flow is None:
            break
        moved = cv2.remap(flow, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(np.nan,) * 4)
        seen = seen & np.isfinite(moved).all(-1)
        moved = np.where(seen[..., None], moved, 0).astype(np.float32)
        x, y = x + moved[..., 0], y + moved[..., 1]
        seen = seen & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        brought = cv2.remap(other, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        apart = cv2.GaussianBlur(np.abs(brought - here).mean(-1), (0, 0), AROUND)
        found.append((brought, np.where(seen, apart, np.inf).astype(np.float32)))
    return found


def noise_of(picture: Picture) -> float:
    """Deviation of the noise in a picture, or more than it where there is texture.

    Immerkaer, "Fast Noise Variance Estimation", Computer Vision and Image Understanding, 1996, eq. 4.
    """
    answer = cv2.filter2D(picture, -1, LAPLACIAN, borderType=cv2.BORDER_REFLECT_101)
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(answer).mean())


def _middle(apart: Plane) -> float:
    """The middle one of the differences that can be told; 0 if there are none."""
    known = apart[np.isfinite(apart)]
    return float(np.median(known)) if known.size else 0.0
