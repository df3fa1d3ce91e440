"""What lies between clean keys: every frame between two neighbouring keys is predicted with these two as context.

The local part of NUWA-XL (Yin et al., ACL 2023) and SEINE (Chen et al., ICLR 2024): keys are given, never moved, and
held only as long as a frame beside them is under way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from vrestore.errors import PlanError
from vrestore.plan.descending import Downward, Tiled, shown
from vrestore.plan.steps import Step, Tile


@dataclass(frozen=True, eq=False)
class KeyframesPlan(Downward, Tiled):
    """Steps of three frames (key, frame, key) at levels (0, l, 0), one gap between keys after the other.

    A gap takes ``levels`` ticks, each with a step (and tile) for every frame in it; keys without a frame between them
    take a tick whose step moves nothing.

    Args:
        frames: length of the latent sequence, at least 1.
        keys: positions that are given, ascending; the first and the last frame are among them.
        levels: T, ladder steps from the noisiest level to the clean one, at least 1.
        tiles: parts of the latent picture; ``None``: the whole picture in one call.

    Raises:
        PlanError: an argument outside its range.
    """

    frames: int
    keys: np.ndarray
    levels: int
    tiles: tuple[Tile, ...] | None = None

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise PlanError(f"A plan of {self.levels} levels moves nothing; use at least 1.")
        self._check_tiles()
        keys = self.keys
        if not (keys.size and keys[0] == 0 and keys[-1] == self.frames - 1 and (np.diff(keys) > 0).all()):
            raise PlanError(
                f"Keys must ascend from 0 to {self.frames - 1}, the first to the last of {self.frames} frames; they "
                f"are {keys[:3].tolist()} ... {keys[-3:].tolist()}."
            )

    @property
    def keep(self) -> int:
        """From the first tick of the gap before a key to the last one of the gap after it."""
        return 2 * self.levels - 1

    @property
    def window(self) -> int:
        """A frame and the keys on both sides."""
        return 3

    @property
    def calls(self) -> int:
        """Frames between keys times ladder steps times tiles."""
        return (self.frames - len(self.keys)) * self.levels * self._parts

    @cached_property
    def live_bound(self) -> int:
        """Frames held at most: a key a tick for as long as keys are kept, and the gaps that end in that time."""
        longest = int(np.diff(self.keys).max(initial=1)) - 1
        gaps = 2 if self.levels == 1 else 3
        return min(self.frames, 2 * self.levels + 1 + gaps * longest)

    def given(self, frame: int) -> bool:
        """Whether it is a key."""
        place = int(np.searchsorted(self.keys, frame))
        return place < len(self.keys) and int(self.keys[place]) == frame

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        """Gap by gap, level by level."""
        if self.frames == 1:
            yield (shown(np.zeros(1, int)),)
        for left, right in pairwise(self.keys.tolist()):
            if right == left + 1:
                yield (shown(np.array([left, right])),)
                continue
            for level in range(self.levels, 0, -1):
                yield tuple(
                    _between(left, frame, right, level, tile)
                    for frame in range(left + 1, right)
                    for tile in self.tiles or (None,)
                )


def _between(left: int, frame: int, right: int, level: int, tile: Tile | None) -> Step:
    frames = np.array([left, frame, right])
    return Step(frames, np.array([0, level, 0]), np.array([0, level - 1, 0]), np.array([0.0, 1.0, 0.0]), tile)
