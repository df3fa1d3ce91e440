"""Short windows at several dilations, each complete in itself; a reducer makes them agree afterwards.

The plan of RollingDepth (Ke et al., "Video Depth without Video Models", CVPR 2025): a snippet is a few frames of a
video, next to one another or far apart; every one is walked down the whole ladder alone. So a frame of the video stands
in several snippets, and a position of the plan is a slot of a snippet: `SnippetsPlan.source` tells its frame. And the
plan of its refinement, in which all snippets of a frame are averaged at every level, at a falling dilation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vrestore.errors import PlanError
from vrestore.plan.descending import Downward, Tiled
from vrestore.plan.steps import Step, Tile


def capped(dilations: Sequence[int], pictures: int, length: int) -> tuple[int, ...]:
    """Dilations that a clip has room for, ascending, 1 among them: a snippet spans about a clip at most.

    Of a clip too short for a snippet of neighbours, 1 alone.
    """
    if length < 1 or not dilations or min(dilations) < 1:
        raise PlanError(f"snippets of {length} frames at dilations {tuple(dilations)} are none; use 1 or more of each")
    most = max(1, pictures // length - 1)
    return tuple(sorted({1, *(min(one, most) for one in dilations)})) if length > 1 else (1,)


@dataclass(frozen=True)
class SnippetsPlan(Downward, Tiled):
    """The plan of depth: every snippet by itself, from noise to the end, in the order of their last frames.

    Args:
        pictures: frames of the shot, at least 1; a shot shorter than a snippet is one snippet.
        dilations: distances between the frames of a snippet, capped where the shot is short (see `capped`).
        length: frames of a snippet, at least 1.
        levels: T, ladder steps from the noisiest level to the clean one, at least 1.
        tiles: parts of the latent picture; ``None``: the whole picture in one call.
        together: snippets that are walked at the same time, at least 1.
        refined: ladder steps of the refinement that follows, 0 for none (see `refinement`).
        mirror: whether every second snippet is mirrored (see `mirrored`).

    Raises:
        PlanError: an argument outside its range.
    """

    pictures: int
    dilations: tuple[int, ...] = (1, 25)
    length: int = 3
    levels: int = 1
    tiles: tuple[Tile, ...] | None = None
    together: int = 1
    refined: int = 0
    mirror: bool = False

    def __post_init__(self) -> None:
        if self.refined < 0:
            raise PlanError(f"A refinement of {self.refined} levels is none; use 1 or more, or 0 to leave it out.")
        if min(self.pictures, self.levels, self.together) < 1:
            raise PlanError(
                f"A plan of {self.pictures} pictures, {self.levels} levels and {self.together} snippets together does "
                "nothing; use at least 1 of each."
            )
        self._check_tiles()
        capped(self.dilations, self.pictures, self.length)  # raises PlanError

    @cached_property
    def window(self) -> int:
        """Frames of a snippet, less where the shot has less."""
        return min(self.length, self.pictures)

    @cached_property
    def snippets(self) -> np.ndarray:
        """Frames of every snippet, int (count, window), in the order of their last frames."""
        if self.pictures <= self.length:
            return np.arange(self.pictures)[None]
        found = []
        for dilation in capped(self.dilations, self.pictures, self.length):
            starts = np.arange(self.pictures - (self.window - 1) * dilation)
            found.append(starts[:, None] + dilation * np.arange(self.window))
        every = np.concatenate(found)
        return np.asarray(every[np.argsort(every[:, -1], kind="stable")])

    @cached_property
    def reach(self) -> int:
        """Frames between the first and the last of a snippet, at most."""
        return int((self.snippets[:, -1] - self.snippets[:, 0]).max())

    def source(self, slot: int) -> int:
        """The frame of the shot that a position of the plan is."""
        return int(self.snippets[slot // self.window, slot % self.window])

    @property
    def mirrors(self) -> bool:
        """Whether some snippets are mirrored: where a frame would be in one snippet alone, none is."""
        return self.mirror and 1 < self.window < self.pictures

    def mirrored(self, slot: int) -> bool:
        """Whether the prior sees a position's snippet with left and right changed: those that begin at odd frames."""
        return self.mirrors and bool(self.snippets[slot // self.window, 0] % 2)

    @property
    def frames(self) -> int:
        """Slots of all snippets."""
        return len(self.snippets) * self.window

    @property
    def calls(self) -> int:
        """Snippets times ladder steps times tiles, and those of a refinement.

        At one level, without tiles and refinement: the sum over d of N - (n - 1) d.
        """
        after = self.refinement
        return len(self.snippets) * self.levels * self._parts + (after.calls if after else 0)

    @property
    def alone(self) -> "SnippetsPlan":
        """The same without the refinement: what an executor runs first."""
        return replace(self, refined=0)

    @cached_property
    def refinement(self) -> "RefinementPlan | None":
        """The plan of what follows when all snippets agree."""
        if not self.refined:
            return None
        return RefinementPlan(self.pictures, self.refined, length=self.length, tiles=self.tiles)

    @property
    def live_bound(self) -> int:
        """Slots of the snippets that are walked together."""
        return self.window * min(self.together, len(self.snippets))

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        """Group by group, level by level."""
        for first in range(0, len(self.snippets), self.together):
            group = range(first, min(first + self.together, len(self.snippets)))
            for level in range(self.levels, 0, -1):
                yield tuple(self._step(k, level, tile) for k in group for tile in self.tiles or (None,))

    def _step(self, k: int, level: int, tile: Tile | None) -> Step:
        slots = np.arange(k * self.window, (k + 1) * self.window)
        before = np.full(self.window, level)
        return Step(slots, before, before - 1, np.ones(self.window), tile)


@dataclass(frozen=True)
class RefinementPlan(Downward, Tiled):
    """Every level in all snippets of one dilation, whose predictions of a frame are averaged; the dilation falls.

    Positions are frames of the shot. A level follows the one above as soon as that is complete, so the frames held do
    not grow with the shot.

    Args:
        pictures: frames of the shot, at least 1.
        levels: T, at least 1.
        dilation: of the first level, falling evenly to 1.
        length: frames of a snippet, at least 1.
        tiles: parts of the latent picture; ``None``: the whole picture in one call.

    Raises:
        PlanError: an argument outside its range.
    """

    pictures: int
    levels: int
    dilation: int = 6
    length: int = 3
    tiles: tuple[Tile, ...] | None = None

    def __post_init__(self) -> None:
        self._check_tiles()
        if min(self.pictures, self.levels, self.dilation, self.length) < 1:
            raise PlanError(
                f"A refinement of {self.pictures} pictures at {self.levels} levels, from dilation {self.dilation}, in "
                f"snippets of {self.length} does nothing; use at least 1 of each."
            )

    @cached_property
    def window(self) -> int:
        """Frames of a snippet, less where the shot has less."""
        return min(self.length, self.pictures)

    @cached_property
    def dilations(self) -> tuple[int, ...]:
        """Of every ladder step, falling to 1; a shot has room for two snippets beside one another at each."""
        most = max(1, (self.pictures // (2 * max(1, self.window - 1))) if self.window > 1 else 1)
        falling = ((self.levels - i) * (self.dilation - 1) // self.levels + 1 for i in range(self.levels))
        return tuple(min(one, most) for one in falling)

    @cached_property
    def lags(self) -> tuple[int, ...]:
        """Ticks by which each ladder step follows the first."""
        spans = [(self.window - 1) * one for one in self.dilations]
        return tuple(int(n) for n in np.cumsum([0, *(span + 1 for span in spans[:-1])]))

    @property
    def frames(self) -> int:
        """Those of the shot."""
        return self.pictures

    @property
    def calls(self) -> int:
        """All snippets of all ladder steps."""
        return self._parts * sum(self.pictures - (self.window - 1) * one for one in self.dilations)

    @property
    def live_bound(self) -> int:
        """From the first frame of the snippet at the last ladder step to the last one of that at the first."""
        spans = [(self.window - 1) * one for one in self.dilations]
        return min(self.pictures, self.lags[-1] + spans[-1] + 1)

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        """By the last frame of the snippets of the first ladder step; each further step lags."""
        for tick in range(self.pictures + self.lags[-1]):
            steps = []
            for i, (dilation, lag) in enumerate(zip(self.dilations, self.lags, strict=True)):
                last = tick - lag
                if (self.window - 1) * dilation <= last < self.pictures:
                    steps += [self._step(last, dilation, self.levels - i, tile) for tile in self.tiles or (None,)]
            if steps:
                yield tuple(steps)

    def _step(self, last: int, dilation: int, level: int, tile: Tile | None) -> Step:
        frames = last - dilation * np.arange(self.window - 1, -1, -1)
        before = np.full(self.window, level)
        weight = np.array([1 / self._count(int(n), dilation) for n in frames])
        return Step(frames, before, before - 1, weight, tile)

    def _count(self, frame: int, dilation: int) -> int:
        """Snippets of a dilation that show a frame."""
        last = self.pictures - (self.window - 1) * dilation
        return sum(0 <= frame - slot * dilation < last for slot in range(self.window))
