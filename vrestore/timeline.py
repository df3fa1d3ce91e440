"""Output times and what lies at them: a source frame as it is, or a picture between two. Rational arithmetic only.

Output times that a source frame has exactly show that frame. Nothing lies between frames of different shots: after the
last frame of a shot, that frame is held until the next shot begins; so twice as many frames last exactly as long.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

MOST_REPEATS = 4
"""Repeated frames in a row that are taken for a slower rate inside of the video's (12 in 60); more are a picture that
stands still."""
FINEST = (1 << 31) - 1
"""Units per second that every container can count."""
MICROSECOND = Fraction(1, 1_000_000)
_NOTHING = Fraction(0)


@dataclass(frozen=True)
class Retiming:
    """Which output times are wanted: ``factor`` times as many as source frames, or ``rate`` per second (None: the
    source's), in a time that runs ``slow`` times slower.

    ``repeats``: a frame that only repeats the one before it is no picture of its own; motion runs between the others.
    """

    factor: int | None = None
    rate: Fraction | None = None
    slow: Fraction = Fraction(1)
    repeats: bool = True


@dataclass(frozen=True)
class Slot:
    """A place in the sequence of a shot, in order of time."""

    left: int
    """Source frame at or before it."""
    right: int | None
    """Source frame after it; None: a key, which is ``left`` itself."""
    time: Fraction
    """Where it lies between the two, in [0, 1)."""
    pts: int | None
    """Output time; None: a key that is not shown, only looked at from beside it."""


class Timeline:
    """The slots of a part of a video, shot by shot.

    Args:
        wanted: which output times.
        times: of the source frames, and where the last of them ends: one more than frames, ascending.
        unit: seconds per unit of ``times``.
        rate: frames per second of the source, the mean of a variable rate.
        start: time of the first frame in seconds; the output begins there too.
        vfr: whether ``times`` are measured, so that they are true to half a unit only. Those of a constant rate are
            best given as frame numbers, which no container has rounded.
        origin: number of the first frame.
        repeated: of each frame, whether it repeats the one before it; empty: none does.
    """

    def __init__(
        self,
        wanted: Retiming,
        times: Sequence[int],
        *,
        unit: Fraction,
        rate: Fraction,
        start: Fraction,
        vfr: bool = False,
        origin: int = 0,
        repeated: Sequence[int] = (),
    ) -> None:
        self._times, self._repeated = times, repeated if wanted.repeats else ()
        self._start, self._origin, self.slow = start, origin, wanted.slow
        self.vfr = vfr and wanted.factor is not None
        """Whether the output's rate varies: each interval of a variable rate is divided alike."""
        self.rate = rate * (wanted.factor or 1) if wanted.rate is None else wanted.rate
        """Frames per second of the output."""
        self._parts = wanted.factor or 1
        step = unit / self._parts if self.vfr else 1 / (self.rate * wanted.slow)
        self._tick = _common(unit, step)
        self._scale, self._step = int(unit / self._tick), int(step / self._tick)
        self._near = self._scale // 2 if vfr and not self.vfr else 0
        length = self._at(origin + len(times) - 1)
        self.frames = (len(times) - 1) * self._parts if self.vfr else -(-length // self._step)
        """Frames of the output."""
        exact = _common(self._tick * wanted.slow, start)
        self.time_base = exact if exact.denominator <= FINEST else MICROSECOND
        """Seconds per unit of output times."""
        self.start_pts, self.end_pts = self._pts(0), self._pts(length)
        self.source_s = length * self._tick
        """Seconds of the source that the output shows."""

    def slots(self, first: int, stop: int) -> Iterator[Slot]:
        """The sequence of the shot of frames ``first`` to ``stop`` (excluded).

        Between two neighbouring keys lie only pictures between those two; it begins and ends with a key.
        """
        anchors = self._anchors(first, stop)
        left, right = next(anchors), next(anchors, None)
        key: int | None = None
        awaited: int | None = None
        for tick, pts in self._wanted(first, stop):
            while right is not None and self._at(right) - self._near <= tick:
                left, right = right, next(anchors, None)
            passes = right is None or tick <= self._at(left) + self._near
            if awaited is not None and left != key:
                if not (passes and left == awaited):
                    yield Slot(awaited, None, _NOTHING, None)
                    key = awaited
                awaited = None
            if passes:
                yield Slot(left, None, _NOTHING, pts)
                key = left
                continue
            if key != left:
                yield Slot(left, None, _NOTHING, None)
                key = left
            if right is not None:
                awaited, begin = right, self._at(left)
                yield Slot(left, right, Fraction(tick - begin, self._at(right) - begin), pts)
        if awaited is not None:
            yield Slot(awaited, None, _NOTHING, None)

    def _at(self, frame: int) -> int:
        """Ticks from the first frame to a frame, or to the end."""
        return int(self._times[frame - self._origin] - self._times[0]) * self._scale

    def _pts(self, tick: int) -> int:
        return round((self._start + tick * self._tick * self.slow) / self.time_base)

    def _wanted(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Ticks and output times of a shot."""
        if self.vfr:
            for frame in range(first, stop):
                begin, end = self._at(frame), self._at(frame + 1)
                for part in range(self._parts):
                    tick = begin + part * (end - begin) // self._parts
                    yield tick, self._pts(tick)
            return
        for n in range(-(-self._at(first) // self._step), -(-self._at(stop) // self._step)):
            yield n * self._step, self._pts(n * self._step)

    def _anchors(self, first: int, stop: int) -> Iterator[int]:
        """Frames of a shot between which motion runs: all but repeats, where those are few and motion goes on after."""
        frame = first
        while frame < stop:
            run = frame + 1
            while run < stop and len(self._repeated) and self._repeated[run - self._origin]:
                run += 1
            seen_through = run - frame - 1 <= MOST_REPEATS and run < stop
            yield from range(frame, frame + 1 if seen_through else run)
            frame = run


def _common(a: Fraction, b: Fraction) -> Fraction:
    """The largest unit of which both are multiples."""
    numerator = math.gcd(a.numerator * b.denominator, b.numerator * a.denominator)
    return Fraction(numerator, a.denominator * b.denominator)
