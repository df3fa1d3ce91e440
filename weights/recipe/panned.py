"""Photographs under a moving camera, pixel by pixel: natural detail as it is, which drawing a scene would smooth."""

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from vrestore.weights.recipe.footage import SOFT_DB, regained_db
from vrestore.weights.recipe.textures import TextureBank

FASTEST = 9.0
"""Pixels that the camera moves from frame to frame, at most, along each axis."""
SHAKE = 1.5
"""Deviation of its place from an even motion, in pixels."""
STILL = 0.12
"""Share of clips in which it does not move at all."""
LEAST_REDUCED = 0.4
"""Least factor by which a photograph is reduced first: large ones are soft at their own size."""
TRIES = 12


def panned(rng: np.random.Generator, bank: TextureBank, frames: int, size: int) -> Tensor:
    """A square window that moves over a photograph by whole pixels: (frames, 3, size, size) in [0, 1].

    Reduced by four, such motion is one by quarters of a pixel: neighbours hold what is above a frame's sampling limit.
    """
    places = _path(rng, frames)
    extent = size + places.max(0)
    for _ in range(TRIES):
        picture = _reduced(rng, bank.photo(rng), extent)
        y, x = (int(rng.integers(n - side + 1)) for n, side in zip(picture.shape[:2], extent, strict=True))
        if regained_db(picture[y : y + size, x : x + size]) <= SOFT_DB:
            break
    windows = np.stack([picture[y + dy : y + dy + size, x + dx : x + dx + size] for dy, dx in places])
    turned = np.rot90(windows, int(rng.integers(4)), axes=(1, 2))
    return rearrange(torch.from_numpy(turned.copy()), "t h w c -> t c h w").float() / 255


def _path(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Top left corners, whole pixels from (0, 0) on: (frames, 2). Slow motion is as frequent as fast."""
    if rng.random() < STILL:
        return np.zeros((frames, 2), int)
    velocity = rng.uniform(-1, 1, 2) * FASTEST * rng.random()
    shake = SHAKE * rng.random() * rng.standard_normal((frames, 2))
    places: np.ndarray = np.rint(np.arange(frames)[:, None] * velocity + shake).astype(int)
    found: np.ndarray = places - places.min(0)
    return found


def _reduced(rng: np.random.Generator, photo: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """The photograph, smaller by chance, but at least as large as ``extent`` (height, width)."""
    least = float((extent / photo.shape[:2]).max())
    factor = max(least, rng.uniform(LEAST_REDUCED, 1))
    height, width = (max(int(e), round(n * factor)) for n, e in zip(photo.shape[:2], extent, strict=True))
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    resized: np.ndarray = cv2.resize(photo, (width, height), interpolation=kind)
    return resized
