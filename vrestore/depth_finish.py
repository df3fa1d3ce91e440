"""What a prior of depth sees of a frame, and what becomes of a map that it made."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vrestore.priors import PriorSource
from vrestore.registration import Map

LARGEST = 2.0
"""How many times larger than the source, at most, the prior sees it: it was not trained on mush."""
SMALLEST = 2
"""Sides of what the prior sees, at least, in what its sides are multiples of."""


def sees(prior: PriorSource, height: int, width: int, resolution: int | None = None) -> tuple[int, int]:
    """(height, width) at which the prior sees a frame: its longer side as asked for, both sides what it takes."""
    wanted = resolution or prior.adapter.resolution_of(prior.folder)
    scale = min(wanted / max(height, width), LARGEST)
    multiple = prior.facts.size_multiple
    rows, columns = (max(SMALLEST, round(side * scale / multiple)) * multiple for side in (height, width))
    return rows, columns


def unit(values: np.ndarray, low: float, high: float) -> NDArray[np.float32]:
    """Values with ``low`` and what is below at 0, ``high`` and what is above at 1."""
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0, 1), np.float32)


@dataclass(frozen=True)
class Finish:
    """What becomes of a registered map."""

    size: tuple[int, int]
    """(height, width) that the prior sees."""
    picture: Callable[[Map, "Range", Tensor | None], Tensor]
    """The output frame (3, height, width) of a map, from the shot's range and the source (where ``with_source``)."""
    with_source: bool = False
    align: bool = True
    block: int = 128
    nearer: bool = True
    """Whether the prior's answers grow towards the camera; otherwise they are negated."""
    parallax: bool = False
    """Whether maps are corrected by how far places move as the camera does. Only inverse depth can be. A prior that has
    a ``complete`` makes the best of both."""
    steady: int = 0
    """Frames to either side over which maps are averaged along the motion."""

    @property
    def corrected(self) -> bool:
        """Whether parallax is asked for and can be had."""
        return self.parallax and self.nearer

    @property
    def watched(self) -> bool:
        """Whether the motion of the picture is looked at."""
        return self.corrected or self.steady > 0


@dataclass(frozen=True)
class Range:
    """Of all maps of a shot."""

    low: float
    high: float
    usual: tuple[float, float]
    """What all but a hundredth at either end lies between."""
