"""What plans have in common: parts of the `Plan` protocol that need no thought, for dataclasses with these fields."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from vrestore.errors import PlanError
from vrestore.plan.steps import Step, Tile


class Downward:
    """Every frame is led from level T down to 0, none is given, and none is read once it is final."""

    levels: int

    @property
    def start_level(self) -> int:
        """T."""
        return self.levels

    @property
    def end_level(self) -> int:
        """0."""
        return 0

    @property
    def keep(self) -> int:
        """0: no step reads a final frame."""
        return 0

    def given(self, frame: int) -> bool:
        """No frame is."""
        return False


class Tiled:
    """The picture is cut into tiles, or is not."""

    tiles: tuple[Tile, ...] | None

    def _check_tiles(self) -> None:
        """Raises PlanError: no tiles."""
        if self.tiles is not None and not self.tiles:
            raise PlanError("The sequence of tiles is empty; pass None for the whole picture.")

    @property
    def picture(self) -> tuple[int, int] | None:
        """Latent (height, width) that the tiles cover."""
        if self.tiles is None:
            return None
        return max(t.y + len(t.weight_y) for t in self.tiles), max(t.x + len(t.weight_x) for t in self.tiles)

    @property
    def _parts(self) -> int:
        """Calls for one step: the tiles."""
        return len(self.tiles) if self.tiles else 1


class Descending(Downward, Tiled):
    """Plans from T down to 0 in tiles, whose frames may be read as clean context after they are final.

    Such a frame is held by ``trail``, in frames, rather than by ``keep``, in ticks: how far the output must have come
    before nothing reads it any more.
    """

    frames: int

    def _check(self) -> None:
        """Raises PlanError: no frames, no levels, or no tiles."""
        if self.frames < 1:
            raise PlanError(f"A plan of {self.frames} frames makes nothing; use at least 1.")
        if self.levels < 1:
            raise PlanError(f"A plan of {self.levels} levels moves nothing; use at least 1.")
        self._check_tiles()

    def trail(self, frame: int) -> int:
        """0: no step reads a frame that has been handed out."""
        return 0

    def _tiled(
        self, frames: np.ndarray, level: np.ndarray, to: np.ndarray, weight: np.ndarray, group: str = "main"
    ) -> Iterator[Step]:
        """A step for each tile."""
        attend: Any = getattr(self, "attend", None)
        for tile in self.tiles or (None,):
            yield Step(frames, level, to, weight, tile, group, attend)


class Swept(Descending):
    """Level by level: one tick for each, and every frame is held."""

    @property
    def critical_path(self) -> int:
        """T."""
        return self.levels

    @property
    def live_bound(self) -> int:
        """All frames."""
        return self.frames


def shown(frames: np.ndarray) -> Step:
    """A step that only brings given frames up, to be handed out in their turn; no call."""
    still = np.zeros(len(frames), int)
    return Step(frames, still, still, np.zeros(len(frames)))
