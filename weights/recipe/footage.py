"""Crops of real footage, for its real detail and motion."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import cv2
import numpy as np

from vrestore.weights.recipe.textures import FLAT

STARTS = 16
"""Instants of a clip of footage that crops are taken at, at most."""
SOFT_DB = 31.0
"""PSNR above which footage that was reduced to a quarter and enlarged again is soft: it has no detail to learn."""


def footage_clips(folder: Path, frames: int, size: int) -> Sequence[np.ndarray]:
    """Crops of real footage for its real detail and motion: (frames, size, size, 3) uint8.

    At most `STARTS` instants of a clip, evenly spread; soft clips are reduced first.
    """
    found: list[np.ndarray] = []
    for path in sorted(folder.glob("*.mp4")):
        pictures = _sharp_enough(decoded(path), size)
        last = len(pictures) - frames
        for first in np.unique(np.linspace(0, last, STARTS).astype(int)) if last >= 0 else ():
            found += _crops(pictures[first : first + frames], size)
    return found


def decoded(path: Path) -> list[np.ndarray]:
    """All frames of a clip, (h, w, 3) uint8 RGB."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return frames


def _sharp_enough(frames: list[np.ndarray], size: int) -> list[np.ndarray]:
    """The frames; reduced until the shorter side is ``size`` if they are soft, halved if they are large."""
    side = min(frames[0].shape[:2]) if frames else 0
    if side <= size:
        return frames
    factor = size / side if regained_db(frames[len(frames) // 2]) > SOFT_DB else 0.5 if side > 2 * size else 1.0
    height, width = (max(size, round(n * factor)) for n in frames[0].shape[:2])
    return frames if factor == 1 else [cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in frames]


def regained_db(frame: np.ndarray) -> float:
    """PSNR of a picture reduced to a quarter and enlarged again: high where there is no detail."""
    height, width = frame.shape[:2]
    small = cv2.resize(frame, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    return float(cv2.PSNR(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), frame))


def _crops(frames: list[np.ndarray], size: int) -> list[np.ndarray]:
    """As many squares as cover the picture, evenly spread; without the flat ones."""
    tops, lefts = (np.linspace(0, n - size, -(-n // size)).astype(int) for n in frames[0].shape[:2])
    crops = []
    for y, x in product(tops, lefts):
        crop = np.stack([f[y : y + size, x : x + size] for f in frames])
        if min(crop.shape[1:3]) == size and crop[0, ::4, ::4].std() >= FLAT:
            crops.append(crop)
    return crops
