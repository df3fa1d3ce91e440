"""Maps of a shot made steady: every place is averaged with itself in the frames before and after, along the motion.

What a network says of a place wavers from frame to frame with noise, compression and the place's position on its grid,
also where registration has made scale and shift agree. The same place in neighbouring frames is as good a witness, so
far as it is seen there: forward and backward flow agree, and it looks the same (compare Lang et al., "Practical
Temporal Consistency for Image-Based Graphics Applications", SIGGRAPH 2012).
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float

from vrestore.flow import FlowArray, Luma, dense, visible
from vrestore.registration import Map

REACH = 4
"""Frames to either side, unless another number is asked for."""
ALIKE = 16.0
"""Difference of brightness, in 8-bit codes, at which a witness counts a third."""
Seen = Bool[np.ndarray, "rows columns"]
Place = Float[np.ndarray, "rows columns"]


@dataclass(frozen=True)
class _Way:
    """From each pixel of a frame to a neighbour: the flow, and where it can be followed."""

    flow: FlowArray
    seen: Seen


def steadied(maps: Callable[[int], Map], lumas: Callable[[int], Luma], frames: int, reach: int) -> Iterator[Map]:
    """The maps of all frames in order, averaged with those of up to ``reach`` frames to either side; holds as many.

    ``maps`` and ``lumas`` (of the same size) are asked by frame. Flow goes from frame to frame and is added up, so a
    witness is lost where it is hidden in between.
    """
    window: deque[_Neighbour] = deque()
    first = 0
    for frame in range(frames):
        while first + len(window) <= min(frame + reach, frames - 1):
            window.append(_Neighbour.after(window[-1] if window else None, maps, lumas, first + len(window)))
        while first < frame - reach:
            window.popleft()
            first += 1
        yield _mean(list(window), frame - first)


@dataclass(frozen=True)
class _Neighbour:
    """A frame of the window, with the ways between it and the one before."""

    found: Map
    luma: Luma
    back: _Way | None
    """From this frame to the one before."""
    forth: _Way | None
    """From the one before to this frame."""

    @classmethod
    def after(
        cls, before: "_Neighbour | None", maps: Callable[[int], Map], lumas: Callable[[int], Luma], frame: int
    ) -> "_Neighbour":
        luma = lumas(frame)
        if before is None:
            return cls(maps(frame), luma, None, None)
        back, forth = dense(luma, before.luma), dense(before.luma, luma)
        return cls(maps(frame), luma, _Way(back, visible(back, forth)), _Way(forth, visible(forth, back)))


def _mean(window: list[_Neighbour], middle: int) -> Map:
    here = window[middle]
    total, weight = here.found.astype(np.float32), np.ones_like(here.found, np.float32)
    for others, ways in (
        (window[middle + 1 :], [one.forth for one in window[middle + 1 :]]),
        (window[:middle][::-1], [one.back for one in window[1 : middle + 1][::-1]]),
    ):
        height, width = here.found.shape
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        seen = np.ones(weight.shape, np.float32)
        for other, way in zip(others, ways, strict=True):
            if way is None:
                break
            seen = seen * (_at(way.seen.astype(np.float32), x, y) > 0.99)
            moved = _at(way.flow, x, y)
            x, y = x + moved[..., 0], y + moved[..., 1]
            apart = _at(other.luma.astype(np.float32), x, y) - here.luma
            trust = seen * np.exp(-((apart / ALIKE) ** 2))
            total += trust * _at(other.found, x, y)
            weight += trust
    return np.asarray(total / weight, np.float32)


def _at(values: np.ndarray, x: Place, y: Place) -> np.ndarray:
    """Values at places, edges repeated."""
    found: np.ndarray = cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found
