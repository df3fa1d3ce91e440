"""The words of the core: a step is one call of the prior, a plan is a lazy, validly ordered stream of steps."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Tile:
    """A part of the latent picture, in latent pixels, half-open, with its separable blending weights.

    ``weight_y`` (height,) and ``weight_x`` (width,): the outer products of all tiles of a picture add up to one
    at every latent pixel.
    """

    y: int
    x: int
    weight_y: tuple[float, ...]
    weight_x: tuple[float, ...]

    @property
    def area(self) -> float:
        """Sum of the blending weights, in latent pixels: the tile's share of the picture times the picture's area."""
        return sum(self.weight_y) * sum(self.weight_x)


@dataclass(frozen=True, eq=False)
class Step:
    """One call of the prior on a window of frames (and a tile of the picture); see also `is_call`."""

    frames: np.ndarray
    """int (W,): positions in the latent sequence, any order or stride, no repeats."""
    level: np.ndarray
    """int (W,): level of each frame before the call."""
    to: np.ndarray
    """int (W,): level after it. Equal to ``level``: context. Higher: inversion or re-noising."""
    weight: np.ndarray
    """float64 (W,): share of the fused prediction; 0 for context. Shares of a frame at a level add up to one."""
    tile: Tile | None = None
    """Part of the picture; ``None`` is all of it."""
    group: str = "main"
    """Which input of the reducer this feeds."""
    attend: Any = None
    """Directive to the prior's attention; opaque to the core."""


@runtime_checkable
class Plan(Protocol):
    """A lazily generated, validly ordered set of steps, and what is known of it before it runs."""

    @property
    def frames(self) -> int:
        """Length of the latent sequence."""
        ...

    @property
    def levels(self) -> int:
        """T: the noisiest level; the ladder has levels 0..T."""
        ...

    @property
    def start_level(self) -> int:
        """The level at which every frame starts that is not given: T, or 0 for an inversion."""
        ...

    @property
    def end_level(self) -> int:
        """The level at which a frame is final once a step has moved it there: 0, or T for an inversion."""
        ...

    @property
    def keep(self) -> int:
        """Ticks for which a final frame stays readable as context after the tick that finished it."""
        ...

    @property
    def window(self) -> int:
        """The largest number of frames in a step."""
        ...

    @property
    def picture(self) -> tuple[int, int] | None:
        """Latent (height, width) that the tiles cover; ``None`` when no step has a tile."""
        ...

    @property
    def calls(self) -> int:
        """How many steps the plan has that are calls of the prior (before batching)."""
        ...

    @property
    def live_bound(self) -> int:
        """Upper bound of the frames that are held at any moment: started, and not yet handed out in frame order."""
        ...

    def given(self, frame: int) -> bool:
        """Whether a frame is there from the start, final at ``end_level``: read as context, never moved."""
        ...

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        """Groups of steps in execution order. The steps of one tick are independent: none reads a frame at a level
        that another step of the same tick produces. Every call starts from the first tick."""
        ...


@runtime_checkable
class Trails(Plan, Protocol):
    """A plan that says for each frame how long it is needed: an optional part of the protocol, beside ``keep``."""

    def trail(self, frame: int) -> int:
        """A final frame is held until the one ``trail`` places after it has been handed out, or the last one has."""
        ...


@runtime_checkable
class Lingers(Plan, Protocol):
    """A plan whose context may be at a level that its frame has left: the optional part of what a plan says."""

    def lingers(self, frame: int) -> int:
        """Ticks for which a frame's latent stays readable as context at a level, after the tick that left it."""
        ...


def is_call(step: Step, plan: Plan) -> bool:
    """Whether the prior is asked; a step of given frames alone only brings them up, to be handed out in their turn."""
    moves = bool(step.weight.any()) or step.attend is not None
    return moves or not all(plan.given(frame) for frame in step.frames.tolist())
