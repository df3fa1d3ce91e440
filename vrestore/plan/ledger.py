"""Where every frame of a running plan stands: the bookkeeping that validation and the executor share."""

from dataclasses import dataclass, field, replace
from typing import Any

from vrestore.errors import PlanError
from vrestore.plan.steps import Lingers, Plan, Step

COMPLETE = 1e-6
"""A frame's level is complete when its shares add up to one within this."""


@dataclass(frozen=True)
class Move:
    """A frame whose predictions at ``level`` are complete, so that it goes to level ``to``."""

    frame: int
    level: int
    to: int


@dataclass(frozen=True)
class Outcome:
    """What a tick achieves."""

    moves: tuple[Move, ...]
    """Frames that change their level, in the order in which they were completed."""
    finished: tuple[int, ...]
    """Frames to hand out now: final, as are all frames before them. Ascending."""
    released: tuple[int, ...]
    """Frames that no later step reads."""
    faded: tuple[tuple[int, int], ...] = ()
    """Frames and levels that they have left, at which no later step reads them."""


@dataclass
class Ledger:
    """Levels and partial shares of the frames that are held, updated tick by tick.

    Memory grows with the frames held, never with the length of the video. Frames below ``handed_out`` are final and
    handed out, frames that are neither below it nor in ``level`` have not been started.
    """

    plan: Plan
    tick: int = 0
    """Ticks done."""
    handed_out: int = 0
    """Frames 0 .. handed_out - 1 are final and handed out."""
    level: dict[int, int] = field(default_factory=dict)
    """Level of each frame that is held."""
    partial: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Frame -> (level it moves to, sum of the shares so far)."""
    final: dict[int, int] = field(default_factory=dict)
    """Held frames that are final -> the tick at which they became so; of given ones, that which first read them."""
    left: dict[tuple[int, int], int] = field(default_factory=dict)
    """Frame and a level at which it is still readable as context -> the last tick at which it is."""

    def __post_init__(self) -> None:
        self._lingers = self.plan.lingers if isinstance(self.plan, Lingers) else lambda n: 0

    @property
    def held(self) -> int:
        """Latents that are held."""
        return len(self.level) + len(self.left)

    def lingers(self, n: int, level: int) -> bool:
        """Whether a frame is read at a level that it has left."""
        return self.level.get(n) != level and (n, level) in self.left

    def advance(self, steps: tuple[Step, ...]) -> Outcome:
        """Take one tick. All its steps see the levels from before the tick.

        Raises:
            PlanError: the first step that breaks an invariant. The ledger is of no further use then.
        """
        complete: list[int] = []
        for index, step in enumerate(steps):
            share = self._share_of_picture(step)
            for n, level, to, weight in zip(
                step.frames.tolist(), step.level.tolist(), step.to.tolist(), step.weight.tolist(), strict=True
            ):
                if weight > 0 or not self.lingers(n, level):
                    self._read(index, n, level)
                if weight > 0:
                    self._add(index, n, to, weight * share)
                    if abs(self.partial[n][1] - 1) < COMPLETE:
                        complete.append(n)
        self._check_bound()
        moves, faded = self._move(complete), self._fade()
        self._check_bound()
        outcome = Outcome(moves, self._finish(), self._release(), faded)
        self.tick += 1
        return outcome

    def _check_bound(self) -> None:
        if self.held > self.plan.live_bound:
            raise PlanError(
                f"Tick {self.tick} holds {self.held} frames, but the plan promises at most "
                f"{self.plan.live_bound} (live_bound)."
            )

    def close(self) -> None:
        """After the last tick: every frame is final and handed out, or this raises PlanError."""
        if self.handed_out == self.plan.frames:
            return
        n = self.handed_out
        if n in self.partial:
            to, share = self.partial[n]
            raise PlanError(f"The plan ends, but the shares of frame {n} on its way to level {to} add up to {share:g}.")
        where = f"stays at level {self.level[n]}" if n in self.level else "is in no step"
        raise PlanError(
            f"The plan ends, but frame {n} of {self.plan.frames} {where}; every frame must reach level "
            f"{self.plan.end_level}."
        )

    def copy(self) -> "Ledger":
        """An independent copy: advance it, and keep it only if the tick succeeds."""
        return replace(
            self,
            level=dict(self.level),
            partial=dict(self.partial),
            final=dict(self.final),
            left=dict(self.left),
        )

    def state(self) -> dict[str, Any]:
        """Everything but the plan, as JSON values."""
        return {
            "tick": self.tick,
            "handed_out": self.handed_out,
            "level": [[n, level] for n, level in self.level.items()],
            "partial": [[n, to, share] for n, (to, share) in self.partial.items()],
            "final": [[n, tick] for n, tick in self.final.items()],
            "left": [[n, level, until] for (n, level), until in self.left.items()],
        }

    @classmethod
    def from_state(cls, plan: Plan, state: dict[str, Any]) -> "Ledger":
        """The ledger that ``state`` describes, of a run of ``plan``."""
        return cls(
            plan,
            state["tick"],
            state["handed_out"],
            dict(state["level"]),
            {n: (to, share) for n, to, share in state["partial"]},
            dict(state["final"]),
            {(n, level): until for n, level, until in state["left"]},
        )

    def _share_of_picture(self, step: Step) -> float:
        if step.tile is None or self.plan.picture is None:
            return 1.0
        height, width = self.plan.picture
        return step.tile.area / (height * width)

    def _read(self, index: int, n: int, level: int) -> None:
        """A step reads frame n at a level: the frame must be there."""
        at = self.level.get(n)
        if at is None:
            if n < self.handed_out:
                raise PlanError(
                    f"Tick {self.tick}, step {index}: frame {n} is read at level {level}, but it is final and "
                    f"released; a plan that needs it longer must say so (keep is {self.plan.keep})."
                )
            given = self.plan.given(n)
            at = self.level[n] = self.plan.end_level if given else self.plan.start_level
            if given:
                self.final[n] = self.tick
        if at != level:
            raise PlanError(
                f"Tick {self.tick}, step {index}: frame {n} is read at level {level}, but it is at level {at}."
            )

    def _add(self, index: int, n: int, to: int, share: float) -> None:
        """A step contributes to frame n."""
        if n in self.final:
            raise PlanError(f"Tick {self.tick}, step {index}: frame {n} is final, but moved again to level {to}.")
        agreed, before = self.partial.get(n, (to, 0.0))
        if agreed != to:
            raise PlanError(
                f"Tick {self.tick}, step {index}: frame {n} moves to level {to}, but another step moves it to {agreed}."
            )
        if before > 1 - COMPLETE or before + share > 1 + COMPLETE:
            raise PlanError(
                f"Tick {self.tick}, step {index}: the shares of frame {n} on its way to level {to} add up to "
                f"{before + share:g}; they must add up to one."
            )
        self.partial[n] = (to, before + share)

    def _move(self, complete: list[int]) -> tuple[Move, ...]:
        moves = []
        for n in complete:
            to, _ = self.partial.pop(n)
            moves.append(Move(n, self.level[n], to))
            if self._lingers(n):
                self.left[n, self.level[n]] = self.tick + self._lingers(n)
            self.level[n] = to
            if to == self.plan.end_level:
                self.final[n] = self.tick
        return tuple(moves)

    def _finish(self) -> tuple[int, ...]:
        first = self.handed_out
        while self.handed_out in self.final:
            self.handed_out += 1
        return tuple(range(first, self.handed_out))

    def _fade(self) -> tuple[tuple[int, int], ...]:
        due = [at for at, until in self.left.items() if until <= self.tick]
        for at in due:
            del self.left[at]
        return tuple(due)

    def _release(self) -> tuple[int, ...]:
        over, trail = self.handed_out == self.plan.frames, getattr(self.plan, "trail", None)
        due = [
            n
            for n, tick in self.final.items()
            if n < self.handed_out
            and tick + self.plan.keep <= self.tick
            and (over or trail is None or self.handed_out - n > trail(n))
        ]
        for n in due:
            del self.final[n], self.level[n]
        return tuple(due)
