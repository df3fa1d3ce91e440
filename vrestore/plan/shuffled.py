"""Plans that draw a new geometry at every level: randomised boundaries, and grids of frames taken at random.

What two windows disagree on then falls on other frames at each level. All windows of a level see one snapshot, so every
frame of the sequence is held.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vrestore.errors import PlanError
from vrestore.plan.cover import Cover
from vrestore.plan.descending import Swept
from vrestore.plan.steps import Step, Tile


def _generator(seed: int, level: int) -> np.random.Generator:
    """Random numbers that depend on seed and level alone."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, level], np.uint64)))


@dataclass(frozen=True)
class CutsPlan(Swept):
    """Overlapping windows of which one moves a frame: they meet at a place in their overlap drawn anew at every level.

    Randomised blending of StreamingT2V (Henschel et al., CVPR 2025), section 4.3.

    Args:
        frames, window, overlap, levels, tiles: as of `WindowsPlan`.
        seed: of the places, 0 or more.

    Raises:
        PlanError: an argument outside its range.
    """

    frames: int
    window: int
    overlap: int
    levels: int
    seed: int = 0
    tiles: tuple[Tile, ...] | None = None

    def __post_init__(self) -> None:
        self._check()
        Cover(self.frames, self.window, self.overlap)  # raises PlanError

    @cached_property
    def cover(self) -> Cover:
        """Where the windows lie."""
        return Cover(self.frames, self.window, self.overlap)

    @property
    def calls(self) -> int:
        """Windows times ladder steps times tiles."""
        return self.cover.count * self.levels * self._parts

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        """One for each level."""
        starts, length = self.cover.starts(), self.cover.length
        for level in range(self.levels, 0, -1):
            draw = _generator(self.seed, level)
            ends = [*starts[2:], self.frames]  # a window moves at least the frame before its neighbour's first cut
            cuts = [
                int(draw.integers(start, min(before + length + 1, end)))
                for before, start, end in zip(starts, starts[1:], ends, strict=False)
            ]
            steps: list[Step] = []
            for start, left, right in zip(starts, [0, *cuts], [*cuts, self.frames], strict=True):
                frames = np.arange(start, start + length)
                moves = (frames >= left) & (frames < right)
                steps += self._tiled(frames, np.full(length, level), np.where(moves, level - 1, level), moves + 0.0)
            yield tuple(steps)


@dataclass(frozen=True)
class GridsPlan(Swept):
    """Frames in groups drawn anew at every level, from the whole sequence: RAVE (Kara et al., CVPR 2024), section 3.2.

    Args:
        frames: length of the latent sequence, at least 1.
        grid: frames of a group, at least 1 (RAVE: 9, laid out as one picture); the last group may be smaller.
        levels: T, at least 1.
        seed: of the groups, 0 or more.
        tiles: parts of the latent picture; ``None``: the whole picture in one call.
        attend: directive that lets the frames of a group see one another, for a prior whose frames do not.

    Raises:
        PlanError: an argument outside its range.
    """

    frames: int
    grid: int
    levels: int
    seed: int = 0
    tiles: tuple[Tile, ...] | None = None
    attend: Any = None

    def __post_init__(self) -> None:
        self._check()
        if self.grid < 1:
            raise PlanError(f"A grid of {self.grid} frames holds nothing; use at least 1.")

    @property
    def window(self) -> int:
        """Frames of a group."""
        return min(self.grid, self.frames)

    @property
    def calls(self) -> int:
        """Groups times ladder steps times tiles."""
        return -(-self.frames // self.grid) * self.levels * self._parts

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        """One for each level."""
        for level in range(self.levels, 0, -1):
            order = _generator(self.seed, level).permutation(self.frames)
            yield tuple(
                step
                for start in range(0, self.frames, self.grid)
                for step in self._group(order[start : start + self.grid], level)
            )

    def _group(self, frames: np.ndarray, level: int) -> Iterator[Step]:
        here = np.full(len(frames), level)
        return self._tiled(frames, here, here - 1, np.ones(len(frames)))
