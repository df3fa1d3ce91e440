"""What a training step sees, and the small change that pools keep it in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vrestore.priors.motion import FINE, fine_motions
from vrestore.weights.recipe.drawn import Tensors
from vrestore.weights.recipe.textures import FLAT

MOTION_UNIT = 64.0
"""Motion is stored as int16 in this fraction of a latent pixel."""
LATENT = 8
"""Pixels of a latent pixel: crops lie on their grid."""
CELL = LATENT // FINE
"""Pixels of a cell of a clip's motion."""

Window = tuple[slice, slice]
Place = tuple[int, slice, Window]
"""Of a crop in a pool: number of the clip, frames, rows and columns."""


@dataclass(frozen=True)
class Batch(Tensors):
    """What a training step sees.

    ``sharp`` and ``degraded`` (b, t, 3, h, w) in [0, 1]; ``motion`` (b, t, 6, rows, columns) in
    latent pixels, a cell for each of them or finer;
    ``aligned`` (b, t, 6, h, w): what the decoder sees of the neighbours, None where it follows from the others;
    ``keys``: frames of a window that are given clean, nothing is learned of them.
    """

    sharp: Tensor
    degraded: Tensor
    motion: Tensor
    aligned: Tensor | None = None
    keys: tuple[int, ...] = ()


def augmented(batch: Batch, choose: np.ndarray) -> Batch:
    """Mirrored in x, mirrored in y, transposed, reversed in time: pictures and motion alike. ``choose``: four flags."""
    mirror_x, mirror_y, transpose, reverse = choose
    for flag, dim, channels in ((mirror_x, -1, [0, 3]), (mirror_y, -2, [1, 4])):
        if flag:
            batch = batch.each(partial(torch.flip, dims=(dim,)))
            batch.motion[:, :, channels] *= -1
    if transpose:
        batch = batch.each(lambda part: part.transpose(-1, -2))
        batch = replace(batch, motion=batch.motion[:, :, [1, 0, 2, 4, 3, 5]])
    if reverse:  # what was earlier is later now
        batch = batch.each(lambda part: part.flip(1))
        aligned = None if batch.aligned is None else batch.aligned[:, :, [3, 4, 5, 0, 1, 2]]
        last = batch.sharp.shape[1] - 1
        keys = tuple(sorted(last - key for key in batch.keys))
        batch = replace(batch, motion=batch.motion[:, :, [3, 4, 5, 0, 1, 2]], aligned=aligned, keys=keys)
    return batch


def joined(parts: Sequence[Batch]) -> Batch:
    """Batches of one clip each as one."""
    aligned = [p.aligned for p in parts if p.aligned is not None]
    return Batch(
        torch.cat([p.sharp for p in parts]),
        torch.cat([p.degraded for p in parts]),
        torch.cat([p.motion for p in parts]),
        torch.cat(aligned) if aligned else None,
        parts[0].keys,
    )


def packed_motion(motion: Tensor) -> np.ndarray:
    """Motion in latent pixels as the pool stores it."""
    return (motion * MOTION_UNIT).round().clamp(-32000, 32000).to(torch.int16).numpy()


def unpacked_motion(stored: np.ndarray) -> Tensor:
    """Motion in latent pixels from what the pool stores."""
    return torch.from_numpy(stored.copy()).float() / MOTION_UNIT


def clip_motion(degraded: Tensor) -> Tensor:
    """Motion of a clip (t, 3, h, w) to both neighbours: (t, 6, h / 4, w / 4), in latent pixels."""
    return torch.stack(list(fine_motions(degraded)))


def unit(stored: np.ndarray) -> Tensor:
    """8-bit pictures in [0, 1]."""
    return torch.from_numpy(stored.copy()).float() / 255


def frames_of(clip: np.ndarray) -> Tensor:
    """Footage (t, h, w, 3) uint8 as frames (t, 3, h, w) in [0, 1]."""
    return torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 255


def crop_window(pictures: np.ndarray, rng: np.random.Generator, crop: int) -> Window:
    """A window on the grid of latent pixels, anywhere in the pictures (..., size, size)."""
    y, x = (int(v) * LATENT for v in rng.integers((pictures.shape[-1] - crop) // LATENT + 1, size=2))
    return slice(y, y + crop), slice(x, x + crop)


def crop_place(
    pictures: np.ndarray,
    rng: np.random.Generator,
    frames: int,
    crop: int,
    good: Callable[[Place], bool],
    tries: int = 10,
) -> Place:
    """A place of ``frames`` frames in the clips (n, t, 3, size, size) that is ``good``, or the last that was tried."""
    for _ in range(tries):
        index = int(rng.integers(len(pictures)))
        first = int(rng.integers(pictures.shape[1] - frames + 1))
        place = index, slice(first, first + frames), crop_window(pictures, rng, crop)
        if good(place):
            break
    return place


def crop_of(pictures: np.ndarray, place: Place) -> np.ndarray:
    """What lies at a place of the clips (n, t, 3, size, size): (frames, 3, crop, crop)."""
    index, time, window = place
    return pictures[index, time, :, *window]


def cells(window: Window, fine: int = 1) -> Window:
    """A window of pixels in cells, of which ``fine`` lie along one side of a latent pixel."""
    rows, columns = (slice(*(edge * fine // LATENT for edge in (part.start, part.stop))) for part in window)
    return rows, columns


def flat(picture: np.ndarray) -> bool:
    """Whether an 8-bit picture holds nothing to learn."""
    return bool(picture[..., ::2, ::2].std() < FLAT)
