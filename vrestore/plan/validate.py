"""Check a plan without a model: always on, in one pass, in memory that does not grow with the video."""

import math
from collections.abc import Iterable

import numpy as np

from vrestore.errors import PlanError
from vrestore.plan.ledger import COMPLETE, Ledger
from vrestore.plan.steps import Plan, Step, Tile, is_call


def validate(plan: Plan) -> None:
    """Run through a plan and prove the invariants of the core.

    Every frame starts at ``plan.start_level``, passes every level on its way (only re-noising may leap upwards), is
    read only at the level it is at, and ends at ``plan.end_level``; a given one is there from the start. The shares of
    its predictions at a level add up to one, at every latent pixel. Context is never written. No step reads what
    another step of its tick produces. Never are more than ``plan.live_bound`` frames held. The number of calls is
    ``plan.calls``.

    Raises:
        PlanError: names the first tick, step and frame that break an invariant.
    """
    ledger, coverage = Ledger(plan), _Coverage(plan.picture)
    calls = 0
    for tick, steps in enumerate(plan.ticks()):
        for index, step in enumerate(steps):
            try:
                _check_form(step, plan)
                if is_call(step, plan):
                    coverage.add(step)
                    calls += 1
            except PlanError as error:
                raise PlanError(f"Tick {tick}, step {index}: {error}") from None
        for move in ledger.advance(steps).moves:
            coverage.check(tick, move.frame, move.level)
    ledger.close()
    if calls != plan.calls:
        raise PlanError(f"The plan has {calls} steps, but promises {plan.calls} (calls).")


def _check_form(step: Step, plan: Plan) -> None:
    """What can be said of a step alone."""
    size = len(step.frames)
    fields = {"frames": step.frames, "level": step.level, "to": step.to, "weight": step.weight}
    for name, values in fields.items():
        if values.shape != (size,):
            raise PlanError(f"{name} has shape {values.shape}; a step of {size} frames needs ({size},).")
        if name != "weight" and values.dtype.kind != "i":
            raise PlanError(f"{name} holds {values.dtype}; it must hold signed integers.")
    if not 1 <= size <= plan.window:
        raise PlanError(f"it has {size} frames; the plan's window allows 1 to {plan.window}.")
    frames = step.frames.tolist()
    if len(set(frames)) != size:
        raise PlanError(f"a frame appears twice in {frames}.")
    if min(frames) < 0 or max(frames) >= plan.frames:
        raise PlanError(f"frames {min(frames)} to {max(frames)} reach outside the sequence, 0 to {plan.frames - 1}.")
    # Re-noising may leap; an inversion walks.
    climb = 1 if plan.end_level > plan.start_level else plan.levels
    for n, level, to, weight in zip(frames, step.level.tolist(), step.to.tolist(), step.weight.tolist(), strict=True):
        if not (math.isfinite(weight) and weight >= 0):
            raise PlanError(f"frame {n} has weight {weight}; weights are finite and not negative.")
        if (weight == 0) != (to == level):
            raise PlanError(
                f"frame {n} goes from level {level} to {to} with weight {weight:g}; context has weight 0 and keeps its "
                "level, every other frame has a weight and changes it."
            )
        if not (max(0, level - 1) <= to <= min(plan.levels, level + climb)):
            raise PlanError(
                f"frame {n} goes from level {level} to {to}; levels are 0 to {plan.levels}, and every one on the way "
                "is passed."
            )


class _Coverage:
    """Do the shares of a frame at a level add up to one at every latent pixel?

    Sums are kept by tile for the frames under way; what the tiles add up to is computed once for each pattern.
    """

    def __init__(self, picture: tuple[int, int] | None) -> None:
        self._picture = picture
        self._sums: dict[int, dict[Tile | None, float]] = {}
        self._good: set[frozenset[tuple[Tile | None, float]]] = set()

    def add(self, step: Step) -> None:
        tile = step.tile
        if (tile is None) != (self._picture is None):
            raise PlanError(f"the tile is {'missing' if tile is None else 'given'}, but picture is {self._picture}.")
        if tile is not None and self._picture is not None:
            bottom, right = tile.y + len(tile.weight_y), tile.x + len(tile.weight_x)
            if min(tile.y, tile.x) < 0 or bottom > self._picture[0] or right > self._picture[1]:
                raise PlanError(
                    f"rows {tile.y} to {bottom} and columns {tile.x} to {right} of the tile reach outside the latent "
                    f"picture of {self._picture[0]}x{self._picture[1]}."
                )
        for n, weight in zip(step.frames.tolist(), step.weight.tolist(), strict=True):
            if weight > 0:
                sums = self._sums.setdefault(n, {})
                sums[tile] = sums.get(tile, 0.0) + weight

    def check(self, tick: int, n: int, level: int) -> None:
        """Frame n has all its shares at a level."""
        pattern = frozenset((tile, round(total, 9)) for tile, total in self._sums.pop(n).items())
        if pattern in self._good:
            return
        worst = _worst(pattern, self._picture or (1, 1))
        if abs(worst - 1) > COMPLETE:
            raise PlanError(
                f"Tick {tick}: the shares of frame {n} at level {level} add up to {worst:g} at some latent pixel; "
                "they must add up to one at every pixel."
            )
        if len(self._good) > 1000:
            self._good.clear()
        self._good.add(pattern)


def _worst(pattern: Iterable[tuple[Tile | None, float]], picture: tuple[int, int]) -> float:
    """The sum of shares, over the pixels of the picture, that is farthest from one."""
    total = np.zeros(picture)
    for tile, share in pattern:
        if tile is None:
            total += share
        else:
            part = total[tile.y : tile.y + len(tile.weight_y), tile.x : tile.x + len(tile.weight_x)]
            part += share * np.outer(tile.weight_y, tile.weight_x)
    return float(total.flat[np.abs(total - 1).argmax()])
