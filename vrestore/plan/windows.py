"""Overlapping windows whose predictions are fused at every level, run along diagonals: the wavefront.

A frame at one level depends only on the windows that cover it one level above, so a level need not be finished for the
whole video before the next one starts. Window k takes ladder step l at tick ``position(k) + (reach + 1) * l``, where
``reach`` is how many positions apart two overlapping windows can be: every window that overlaps window k has then
taken step l - 1, and none has taken a step that moves one of its frames further. Frames are final in order, a constant
number of them is held, and the result is that of the level-by-level sweep.

A last window that was shifted back takes the position of the window before it. It overlaps one window more than the
others do; a place of its own would widen ``reach``, and with it the frames held, for the whole video.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from vrestore.errors import PlanError
from vrestore.plan.cover import Cover
from vrestore.plan.descending import Downward, Tiled
from vrestore.plan.steps import Step, Tile


@dataclass(frozen=True)
class WindowsPlan(Downward, Tiled):
    """The plan of restoration: every level is predicted in overlapping windows, fused by smooth weights.

    Args:
        frames: length of the latent sequence, at least 1.
        window: frames per call of the prior, at least 1; a shorter sequence is one shorter window.
        overlap: frames that neighbouring windows share, in [0, window).
        levels: T, ladder steps from the noisiest level to the clean one, at least 1.
        tiles: parts of the latent picture (see :func:`vrestore.plan.split`); ``None``: the whole picture in one call.
        order: "wavefront"; "sweep" for level by level (every frame is held); "apart" for one window after the other,
            each down the whole ladder, which windows that do not overlap allow: a window is held. Same result.
        inverse: climb the ladder, from level 0 to T.

    Raises:
        PlanError: an argument outside its range.
    """

    frames: int
    window: int
    overlap: int
    levels: int
    tiles: tuple[Tile, ...] | None = None
    order: Literal["wavefront", "sweep", "apart"] = "wavefront"
    inverse: bool = False

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise PlanError(f"A plan of {self.levels} levels moves nothing; use at least 1.")
        self._check_tiles()
        if self.order not in ("wavefront", "sweep", "apart"):
            raise PlanError(f"Unknown order {self.order!r}; use 'wavefront', 'sweep' or 'apart'.")
        if self.order == "apart" and self.overlap > 0:
            raise PlanError(f"Windows that share {self.overlap} frames cannot be walked apart; use the wavefront.")
        Cover(self.frames, self.window, self.overlap)  # raises PlanError

    @cached_property
    def cover(self) -> Cover:
        """Where the windows lie."""
        return Cover(self.frames, self.window, self.overlap)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First frame of each window, ascending."""
        return self.cover.starts()

    @property
    def start_level(self) -> int:
        """T, or 0 for an inversion."""
        return 0 if self.inverse else self.levels

    @property
    def end_level(self) -> int:
        """0, or T for an inversion."""
        return self.levels if self.inverse else 0

    @property
    def calls(self) -> int:
        """Windows times ladder steps times tiles."""
        return self.cover.count * self.levels * self._parts

    @cached_property
    def positions(self) -> int:
        """Places in the wavefront: the windows, a shifted-back last one counted with the window before it."""
        return self.cover.count - (self.cover.shift > 0)

    @cached_property
    def reach(self) -> int:
        """How many positions apart two overlapping windows can be."""
        return min((self.window - 1) // self.cover.stride, self.positions - 1)

    @property
    def critical_path(self) -> int:
        """Number of ticks."""
        if self.order == "sweep":
            return self.levels
        if self.order == "apart":
            return self.positions * self.levels
        return self.positions + (self.reach + 1) * (self.levels - 1)

    @property
    def live_bound(self) -> int:
        """Frames held at most, inside a tick; does not grow with ``frames`` beyond the length of one wavefront.

        From the first frame of the window that takes the last ladder step to the last frame of the window that takes
        the first one, ``(reach + 1) * (levels - 1)`` positions ahead of it. Apart: the frames of a position.
        """
        if self.order == "sweep":
            return self.frames
        cover = self.cover
        lead = 0 if self.order == "apart" else (self.reach + 1) * (self.levels - 1) * cover.stride
        tail = cover.stride - cover.shift if cover.shift else 0
        return min(self.frames, lead + cover.length + tail)

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        """Steps that may run together, in order; within a tick by ladder step, window and tile."""
        if self.order == "sweep":
            for ladder_step in range(self.levels):
                yield tuple(s for k in range(self.cover.count) for s in self._steps(k, ladder_step))
            return
        if self.order == "apart":
            for position in range(self.positions):
                for ladder_step in range(self.levels):
                    yield tuple(s for k in self._windows_at(position) for s in self._steps(k, ladder_step))
            return
        pace = self.reach + 1
        for tick in range(self.critical_path):
            yield tuple(
                step
                for ladder_step in range(min(self.levels, tick // pace + 1))
                for k in self._windows_at(tick - pace * ladder_step)
                for step in self._steps(k, ladder_step)
            )

    def _windows_at(self, position: int) -> range:
        """The windows at a position of the wavefront: one, two at the last position, none outside."""
        if not 0 <= position < self.positions:
            return range(0)
        return range(position, self.cover.count if position == self.positions - 1 else position + 1)

    def _steps(self, k: int, ladder_step: int) -> Iterator[Step]:
        """Window k at a ladder step: one step for each tile."""
        cover = self.cover
        start = cover.start(k)
        near = range(max(0, k - self.reach - 1), min(cover.count, k + self.reach + 2))
        weight = _shares(tuple(cover.start(j) - start for j in near), cover.length)
        frames = np.arange(start, start + cover.length)
        level = ladder_step if self.inverse else self.levels - ladder_step
        before = np.full(cover.length, level)
        after = before + (1 if self.inverse else -1)
        for tile in self.tiles or (None,):
            yield Step(frames, before, after, weight, tile)


@lru_cache(maxsize=256)
def _shares(offsets: tuple[int, ...], length: int) -> np.ndarray:
    """Shares of a window in the fused prediction of its frames: triangular, normalised for each frame.

    ``offsets``: starts of the window (0) and of all windows that overlap it, relative to its own. float64 (length,).
    """
    index = np.arange(length)
    total = np.zeros(length)
    for offset in offsets:
        # Height of the neighbour's triangle at our frames: 1 at its first and last frame, 0 outside.
        total += np.maximum(np.minimum(index - offset + 1, length - (index - offset)), 0)
    share = np.minimum(index + 1, length - index) / total
    share.setflags(write=False)  # shared by all windows that lie alike
    return np.asarray(share)
