"""Keyframes first, then the frames between them with those as clean context, again and again until none is missing.

Each depth has the frames at a stride: the coarsest are few enough for one window, which thus carries identity over the
whole video; every finer depth is predicted in overlapping windows of its own stride, fused by smooth weights, in which
the keyframes stand as clean anchors and are never moved. With windows that reach from key to key (overlap 1) it is
NUWA-XL (Yin et al., ACL 2023); with overlap it is keyframes and co-denoised infill, which measures best against an
exact prior in covariance, seams and drift.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from vrestore.errors import PlanError
from vrestore.plan.descending import Descending, shown
from vrestore.plan.steps import Step, Tile
from vrestore.plan.windows import WindowsPlan


@dataclass(frozen=True)
class HierarchyPlan(Descending):
    """Keyframes at ever finer strides; see `strides`.

    Args:
        frames: length of the latent sequence, at least 1.
        window: frames of a call, at least 3 where the sequence is longer.
        levels: T, at least 1.
        overlap: positions that neighbouring windows share at least, 1 to ``window - 1``; left out: a quarter of the
            window. Windows begin and end at keys: what lies at an end is held by an anchor there.
        ratio: most by which the stride falls from depth to depth, 2 to ``window - 1``; left out: three eighths of the
            window, so that each window holds two or three keys.
        order: "parallel": all windows of a depth in each tick, in the memory of all frames; "streaming": frames are
            final in order, and the frames held grow with the logarithm of the length. Same result.
        known: positions that are given, as a first and a last picture are.
        tiles: parts of the latent picture; ``None``: the whole picture in one call.

    Raises:
        PlanError: an argument outside its range.
    """

    frames: int
    window: int
    levels: int
    overlap: int | None = None
    ratio: int | None = None
    order: Literal["parallel", "streaming"] = "parallel"
    known: frozenset[int] = field(default_factory=frozenset)
    tiles: tuple[Tile, ...] | None = None

    def __post_init__(self) -> None:
        self._check()
        if self.frames > self.window < 3:
            raise PlanError(f"A window of {self.window} holds nothing between two keys; use at least 3.")
        if self.overlap is not None and not 1 <= self.overlap < max(2, self.window):
            raise PlanError(f"Windows between keys cannot overlap by {self.overlap}; use 1 to {self.window - 1}.")
        if self.ratio is not None and not 2 <= self.ratio < max(3, self.window):
            raise PlanError(f"A ratio of {self.ratio} between depths is impossible; use 2 to {self.window - 1}.")
        if self.known and not 0 <= min(self.known) <= max(self.known) < self.frames:
            raise PlanError(f"Frames {sorted(self.known)[:3]} ... are given; they must be in 0 to {self.frames - 1}.")

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """Distance between the frames of each depth, falling to 1, by ratios that are as even as can be."""
        most = self.ratio or max(2, 3 * self.window // 8)
        wanted = 1 if self.frames <= self.window else -(-(self.frames - 1) // (self.window - 1))
        depths, ratios = 0, []
        while most**depths < wanted:
            depths += 1
        while wanted > 1:
            ratio = next(r for r in range(2, most + 1) if r**depths >= wanted)
            ratios.append(ratio)
            wanted, depths = -(-wanted // ratio), depths - 1
        return tuple(int(np.prod(ratios[d:], dtype=int)) for d in range(len(ratios) + 1))

    @cached_property
    def lanes(self) -> tuple[WindowsPlan, ...]:
        """The windows of each depth, counted in its own positions.

        Position i is frame ``i * stride``, the last position the last frame. Between the last two keys there may be
        positions without a frame: so windows that begin and end at keys fit every length.
        """
        keys = -(-(self.frames - 1) // self.strides[0])
        order: Literal["wavefront", "sweep"] = "sweep" if self.order == "parallel" else "wavefront"
        lanes = [WindowsPlan(keys + 1, self.window, 0, self.levels, self.tiles, order)]
        overlap = max(1, self.window // 4) if self.overlap is None else self.overlap
        for depth in range(1, len(self.strides)):
            ratio = self._ratio(depth)
            segments = -(-(self.frames - 1) // self.strides[depth - 1])
            length = ratio * ((self.window - 1) // ratio) + 1
            stride = ratio * max(1, (length - overlap) // ratio)
            lanes.append(WindowsPlan(ratio * segments + 1, length, length - stride, self.levels, self.tiles, order))
        return tuple(lanes)

    @cached_property
    def calls(self) -> int:
        """Those of all depths."""
        if self._plain:
            return sum(lane.calls for lane in self.lanes)
        return sum(bool(step.weight.any()) for steps in self.ticks() for step in steps)

    @cached_property
    def critical_path(self) -> int:
        """Ticks in which the prior is asked: in parallel order depths times levels, whatever the length."""
        if self._plain:
            return sum(lane.critical_path for lane in self.lanes)
        return sum(any(step.weight.any() for step in steps) for steps in self.ticks())

    @property
    def _plain(self) -> bool:
        """Whether every window of every lane moves something."""
        ends = zip(self.lanes[1:], self.strides[1:], strict=True)
        return not self.known and all((lane.starts[-1] + 1) * m < self.frames - 1 for lane, m in ends)

    @cached_property
    def live_bound(self) -> int:
        """All frames in parallel order; else what each depth holds under way, ahead of the depth below, and behind."""
        if self.order == "parallel":
            return self.frames
        span, total = 0, 1
        for depth in reversed(range(len(self.lanes))):
            lane, stride = self.lanes[depth], self.strides[depth]
            span += (lane.live_bound + lane.cover.stride) * stride
            held = min(lane.frames, -(-(span + self._trail(depth)) // stride) + 1)
            total += held - (held // self._ratio(depth) if depth else 0)
        return min(self.frames, total + len(self.known))

    def given(self, frame: int) -> bool:
        """Whether it is known."""
        return frame in self.known

    def trail(self, frame: int) -> int:
        """As far as the windows reach in which a key is an anchor."""
        depth = next(d for d, m in enumerate(self.strides) if frame % m == 0 or frame == self.frames - 1)
        if frame in self.known:
            return (self.window - 1) * self.strides[min(depth + 1, len(self.strides) - 1)]
        return self._trail(depth)

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        """Depth by depth, or each only as far as the next one needs it."""
        last = len(self.lanes) - 1
        progress = [_Progress(lane.ticks()) for lane in self.lanes]
        for depth in range(last + 1) if self.order == "parallel" else (last,):
            yield from self._until(progress, depth, self.lanes[depth].frames - 1)

    def _until(self, progress: list["_Progress"], depth: int, position: int) -> Iterator[tuple[Step, ...]]:
        """Go on until a position of a depth is final, and those of coarser ones that this needs."""
        here = progress[depth]
        while here.final <= position:
            if depth and self.order == "streaming":
                yield from self._until(progress, depth - 1, self._key_before(depth, here.tick))
            steps = tuple(step for one in next(here.ticks) for step in self._anchored(depth, one))
            here.tick += 1
            here.final = self._final(depth, here.tick)
            if steps:
                yield steps

    def _final(self, depth: int, ticks: int) -> int:
        """Positions of a depth that are final after some of its ticks, in order."""
        lane = self.lanes[depth]
        if ticks >= lane.critical_path:
            return lane.frames
        done = ticks - 1 - (lane.reach + 1) * (lane.levels - 1)
        return lane.cover.start(done + 1) if done >= 0 and lane.order == "wavefront" else 0

    def _key_before(self, depth: int, tick: int) -> int:
        """The last anchor of the windows that a tick starts, as a position of the depth above."""
        lane = self.lanes[depth]
        newest = tick if tick < lane.positions - 1 else lane.cover.count - 1
        end = lane.cover.start(newest) + lane.cover.length - 1
        return self.lanes[depth - 1].frames - 1 if end == lane.frames - 1 else end // self._ratio(depth)

    def _ratio(self, depth: int) -> int:
        return self.strides[depth - 1] // self.strides[depth]

    def _trail(self, depth: int) -> int:
        return (self.window - 1) * self.strides[depth + 1] if depth + 1 < len(self.strides) else 0

    def _anchored(self, depth: int, step: Step) -> Iterator[Step]:
        """A step of a lane with its keys as clean context, in frames; nothing where it moves none."""
        ends = step.frames == self.lanes[depth].frames - 1
        there = ends | (step.frames * self.strides[depth] < self.frames - 1)
        positions, weight = step.frames[there], step.weight[there]
        frames = np.where(ends[there], self.frames - 1, positions * self.strides[depth])
        still = np.isin(frames, list(self.known)) if self.known else np.zeros(len(frames), bool)
        known = frames[still]
        if depth:
            still |= positions % self._ratio(depth) == 0
        if not still.all():
            level, to = np.where(still, 0, step.level[there]), np.where(still, 0, step.to[there])
            yield Step(frames, level, to, np.where(still, 0.0, weight), step.tile)
        elif known.size and self.strides[depth] == 1 and int(step.level[0]) == self.levels:
            yield shown(known)


@dataclass
class _Progress:
    """How far a depth has come."""

    ticks: Iterator[tuple[Step, ...]]
    tick: int = 0
    final: int = 0
