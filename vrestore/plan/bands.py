"""Two predictions of every frame, for a reducer that takes the slow part of one and the fast part of the other."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vrestore.plan.descending import Swept
from vrestore.plan.steps import Step, Tile
from vrestore.plan.windows import WindowsPlan

GLOBAL, LOCAL = "global", "local"
"""Groups of the steps."""


@dataclass(frozen=True)
class BandsPlan(Swept):
    """At every level overlapping windows (group "local"), and windows that span the whole sequence ("global").

    The idea of FreeLong (Lu et al., NeurIPS 2024) with a prior's calls in the place of its attention. A window that
    spans the sequence takes every k-th frame; k of them, one frame apart, cover all. Every frame is held.

    Args:
        frames, window, overlap, levels, tiles: as of `WindowsPlan`.

    Raises:
        PlanError: an argument outside its range.
    """

    frames: int
    window: int
    overlap: int
    levels: int
    tiles: tuple[Tile, ...] | None = None

    def __post_init__(self) -> None:
        self._check()
        _ = self.local

    @cached_property
    def local(self) -> WindowsPlan:
        """The windows of the group "local"."""
        return WindowsPlan(self.frames, self.window, self.overlap, self.levels, self.tiles, "sweep")

    @property
    def apart(self) -> int:
        """Distance between the frames of a window that spans the sequence."""
        return -(-self.frames // self.window)

    @property
    def calls(self) -> int:
        """Windows of both groups times ladder steps times tiles."""
        return self.local.calls + self.apart * self.levels * self._parts

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        """One for each level; each group has half the share of a frame."""
        for level, steps in zip(range(self.levels, 0, -1), self.local.ticks(), strict=True):
            near = tuple(replace(step, weight=step.weight / 2, group=LOCAL) for step in steps)
            yield (*near, *(step for first in range(self.apart) for step in self._spanning(first, level)))

    def _spanning(self, first: int, level: int) -> Iterator[Step]:
        frames = np.arange(first, self.frames, self.apart)
        here = np.full(len(frames), level)
        return self._tiled(frames, here, here - 1, np.full(len(frames), 0.5), GLOBAL)
