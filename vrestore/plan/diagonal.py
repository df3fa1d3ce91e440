"""The diagonal family: later frames stand at noisier levels, and every tick moves them all by one.

``level[n, g] = clip(T + pace * (n // chunk) - g, 0, T)`` before tick g. One formula has FIFO-Diffusion (Kim et al.,
NeurIPS 2024: chunk 1, pace 1, in parts), PA-VDM (Xie et al., 2024: chunk = pace = 5), Rolling Forcing (Liu et al.,
2025: chunk 3, pace 1), diffusion forcing (Chen et al., NeurIPS 2024: chunk 1, any pace), autoregression by chunks (pace
T) and, with pace 0, all frames at once. The ends come of themselves: the window grows at the start and shrinks at the
end, as in PA-VDM.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vrestore.errors import PlanError
from vrestore.plan.attend import CleanHistory
from vrestore.plan.descending import Descending, shown
from vrestore.plan.steps import Step, Tile


@dataclass(frozen=True)
class DiagonalPlan(Descending):
    """Frames along a diagonal of levels, in one call a tick, or in parts of it that overlap by half.

    Args:
        frames: length of the latent sequence, at least 1.
        levels: T, at least 1.
        chunk: neighbours that always share a level, at least 1.
        pace: levels between neighbouring chunks, 0 to T.
        history: frames before the diagonal that its call sees as context.
        held: level at which a frame waits as history before its last steps, 0 to T - 1. Above 0 it is slightly noised:
            the stabilisation of diffusion forcing, `addnoise_condition` of SkyReels-V2.
        part: frames of a call, where the diagonal is cut into parts. Of each the later half moves, the earlier half,
            which is less noisy, is context: the lookahead of FIFO-Diffusion. It takes the place of ``history``.
        prefix: frames at the start that are given, as in the continuation of a video.
        keeps: whether what the history gives in layers of time is computed once and kept; see `CleanHistory`. It must
            be clean in every step, so there are neither parts nor held frames.
        tiles: parts of the latent picture; ``None``: the whole picture in one call.

    Raises:
        PlanError: an argument outside its range, ``part`` with ``history`` or ``held``, or ``keeps`` without a history
            that is clean.
    """

    frames: int
    levels: int
    chunk: int = 1
    pace: int = 1
    history: int = 0
    held: int = 0
    part: int | None = None
    prefix: int = 0
    keeps: bool = False
    tiles: tuple[Tile, ...] | None = None

    def __post_init__(self) -> None:
        self._check()
        for name, value, most in (
            ("chunk", self.chunk - 1, self.frames),
            ("pace", self.pace, self.levels),
            ("history", self.history, None),
            ("held", self.held, self.levels - 1),
            ("part", 0 if self.part is None else self.part - 1, None),
            ("prefix", self.prefix, self.frames - 1),
        ):
            if value < 0 or (most is not None and name != "chunk" and value > most):
                least = 1 if name in ("chunk", "part") else 0
                allowed = f"{least} or more" if most is None or name == "chunk" else f"{least} to {most}"
                raise PlanError(f"A diagonal cannot have the {name} {getattr(self, name)}; use {allowed}.")
        if self.part is not None and (self.history or self.held):
            raise PlanError("A diagonal in parts sees no other history than each part's first half; use 0 for both.")
        if self.keeps and (not self.history or self.held):
            raise PlanError(
                f"A history of {self.history} frames held at level {self.held} cannot be kept: what noisy frames give "
                "changes from step to step; use a history of at least 1, held at 0."
            )

    @cached_property
    def chunks(self) -> int:
        """Chunks that move."""
        return -(-(self.frames - self.prefix) // self.chunk)

    @property
    def critical_path(self) -> int:
        """Ticks in which the prior is asked."""
        return sum(self._calls_at(g) > 0 for g in range(self._ticks)) if self.held else self._ticks

    @cached_property
    def calls(self) -> int:
        """One a tick, or one for each part, times tiles."""
        if self.part is None:
            return self.critical_path * self._parts
        return sum(self._calls_at(g) for g in range(self._ticks)) * self._parts

    @cached_property
    def window(self) -> int:
        """Frames of the longest call."""
        longest = max(self._end(g) - self._begin(g) for g in self._typical)
        if self.part is not None:
            longest = min(longest + self.part, self.part)
        return max(longest, min(self.chunk, self.prefix))

    @cached_property
    def live_bound(self) -> int:
        """The diagonal and the history behind it."""
        held = [self._end(g) - max(0, self._first(g) - self.trail(0)) for g in self._typical]
        return min(self.frames, max(*held, self.trail(0) + min(self.chunk, self.prefix), 1))

    def given(self, frame: int) -> bool:
        """Whether it is of the prefix."""
        return frame < self.prefix

    def trail(self, frame: int) -> int:
        """The history, or as much as a part reaches back; frames that are held as history are not final yet."""
        if self.part is not None:
            return self.part - 1
        return 0 if self.held and not self.given(frame) else self.history

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        """The prefix, and then one tick of the diagonal after the other."""
        for start in range(0, self.prefix, self.chunk):
            yield (shown(np.arange(start, min(start + self.chunk, self.prefix))),)
        for g in range(self._ticks):
            first = self._begin(g) if self.part is None else max(0, self._first(g) - self.part)
            frames = np.arange(first, self._end(g))
            before, after = self._levels(frames, g), self._levels(frames, g + 1)
            if (before != after).any():
                yield tuple(self._cut(frames, before, after))

    def _cut(self, frames: np.ndarray, before: np.ndarray, after: np.ndarray) -> Iterator[Step]:
        moves = before != after
        if self.part is None:
            past = int(moves.argmax()) if self.keeps else 0
            attend = CleanHistory(tuple(range(past))) if past else None
            yield from (replace(s, attend=attend) for s in self._tiled(frames, before, after, moves.astype(float)))
            return
        half, start = max(1, self.part // 2), int(np.flatnonzero(moves)[0])
        for end in range(len(frames), start, -half):
            span = np.arange(max(0, end - self.part), end)
            here = moves[span] & (span >= end - half)
            yield from self._tiled(frames[span], before[span], np.where(here, after[span], before[span]), here + 0.0)

    def _calls_at(self, g: int) -> int:
        """Calls in tick g, tiles apart."""
        if self.part is not None:
            return -(-(self._end(g) - self._first(g)) // max(1, self.part // 2))
        chunk = np.arange(self._first_chunk(g), self._last_chunk(g) + 1)
        return int((self._level(chunk, g) != self._level(chunk, g + 1)).any())

    @property
    def _ticks(self) -> int:
        return self.levels + self.pace * (self.chunks - 1)

    @property
    def _typical(self) -> range:
        """Ticks among which the longest call and the most frames held are found: beyond them it goes on alike."""
        behind = -(-self.trail(0) // self.chunk)
        return range(min(self._ticks, 2 * self.levels + self.pace * (self._wait + behind + 3)))

    @cached_property
    def _wait(self) -> int:
        """Chunks ahead that must have come down before a held one takes its last steps."""
        return -(-self.history // self.chunk) if self.held else 0

    def _levels(self, frames: np.ndarray, g: int) -> np.ndarray:
        level = self._level((frames - self.prefix) // self.chunk, g)
        return np.asarray(np.where(frames < self.prefix, 0, level))

    def _level(self, chunk: np.ndarray, g: int) -> np.ndarray:
        """Level before tick g."""
        down = np.clip(self.levels + self.pace * chunk - g, self.held, self.levels)
        released = self.levels - self.held + self.pace * np.minimum(chunk + self._wait, self.chunks - 1)
        return np.asarray(down - np.clip(g - released, 0, self.held))

    def _first_chunk(self, g: int) -> int:
        """The first that is not final before tick g."""
        if not self.pace:
            return 0
        return max(0, (g - self.levels) // self.pace + 1 - self._wait)

    def _last_chunk(self, g: int) -> int:
        """The last that has been started when tick g is over."""
        return min(self.chunks - 1, g // self.pace) if self.pace else self.chunks - 1

    def _first(self, g: int) -> int:
        return self.prefix + self.chunk * self._first_chunk(g)

    def _end(self, g: int) -> int:
        return min(self.frames, self.prefix + self.chunk * (self._last_chunk(g) + 1))

    def _begin(self, g: int) -> int:
        """First frame that a call in tick g sees: the history of the first chunk that is not yet held."""
        moving = (g - self.levels + self.held) // self.pace + 1 if self.pace else 0
        history = self.prefix + self.chunk * max(0, moving) - self.history
        return max(0, min(self._first(g), history))
