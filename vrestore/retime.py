"""The parts of a run's sequence: its shots, each with what is to be walked, for heads that keep times and others."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np

from vrestore.errors import ConfigError
from vrestore.timeline import Retiming, Timeline
from vrestore.video import DecodedFrame, Shot, VideoInfo, detect_shots, open_reader

REPEAT = 1.5 / 255
"""Mean difference over a block of a compressed repeat, at most: beyond the noise of its codec."""
BLOCK = 8


@dataclass(frozen=True, eq=False)
class Part:
    """A shot as it is walked."""

    shot: Shot
    first: int
    """Place of its first position in the sequence of the whole run: noise belongs to places."""
    length: int
    """Positions, each a source frame or something between two."""
    shown: int
    """Frames of the output."""
    keys: np.ndarray | None = None
    """Positions of source frames, where the others lie between them; None: every position is a frame to restore."""


def plain_parts(
    info: VideoInfo, span: tuple[int, int], given: Sequence[tuple[int, int]] | None = None
) -> tuple[Part, ...]:
    """Every frame in its time. Shots that are ``given`` are not looked for.

    Raises:
        ConfigError: given shots do not cover the span.
    """
    shots = _shots(given, span) if given else detect_shots(info, *span)
    return tuple(Part(shot, shot.start, shot.stop - shot.start, shot.stop - shot.start) for shot in shots)


def _shots(given: Sequence[tuple[int, int]], span: tuple[int, int]) -> list[Shot]:
    edges = [span[0], *(stop for _, stop in given)]
    if [start for start, _ in given] != edges[:-1] or edges != sorted(set(edges)) or edges[-1] != span[1]:
        raise ConfigError(f"shots are {list(given)}; give ranges that cover frames {span[0]} to {span[1]} in order")
    return [Shot(start, stop) for start, stop in given]


def drafted(wanted: Retiming, info: VideoInfo, span: tuple[int, int]) -> VideoInfo:
    """The output's facts before its input has been looked through; of a variable rate, roughly."""
    return retimed_info(info, _even(wanted, info, span, ()), info.vfr and wanted.factor is not None)


def retimed_parts(wanted: Retiming, info: VideoInfo, span: tuple[int, int]) -> tuple[Timeline, tuple[Part, ...]]:
    """The timeline of a run, and its shots along it. The input is read once."""
    watch = _Watch(info.lossless)
    shots = detect_shots(info, *span, watch if wanted.repeats or info.vfr else None)
    if info.vfr:
        watch.times.append(max(_end(info, span), watch.times[-1] + 1))
        start = watch.times[0] * info.time_base
        timeline = Timeline(
            wanted, watch.times, unit=info.time_base, rate=info.fps, start=start, vfr=True, origin=span[0],
            repeated=watch.repeated,
        )  # fmt: skip
    else:
        timeline = _even(wanted, info, span, watch.repeated)
    parts, first = [], 0
    for shot in shots:
        keys, length, shown = array("q"), 0, 0
        for slot in timeline.slots(shot.start, shot.stop):
            if slot.right is None:
                keys.append(length)
            length, shown = length + 1, shown + (slot.pts is not None)
        parts.append(Part(shot, first, length, shown, np.array(keys, np.int64)))
        first += length
    return timeline, tuple(parts)


def retimed_info(info: VideoInfo, timeline: Timeline, vfr: bool) -> VideoInfo:
    """The output's facts, for its encoder and container."""
    start_pts = round(info.start_pts * info.time_base / timeline.time_base)
    return replace(
        info,
        fps=timeline.rate,
        time_base=timeline.time_base,
        start_pts=start_pts,
        frames=timeline.frames,
        duration_s=float((timeline.end_pts - start_pts) * timeline.time_base),
        vfr=vfr,
    )


def _even(wanted: Retiming, info: VideoInfo, span: tuple[int, int], repeated: Sequence[int]) -> Timeline:
    """Of a constant rate: its times are frame numbers, which no container has rounded."""
    start = info.start_pts * info.time_base + span[0] / info.fps
    times = range(span[1] - span[0] + 1)
    return Timeline(
        wanted, times, unit=1 / info.fps, rate=info.fps, start=Fraction(start), origin=span[0], repeated=repeated
    )


def _end(info: VideoInfo, span: tuple[int, int]) -> int:
    """When the last frame of a span ends."""
    if span[1] == info.frames:
        return info.start_pts + round(info.duration_s / info.time_base)
    with open_reader(info) as reader:
        return next(reader.frames(span[1], span[1] + 1)).pts


class _Watch:
    """Notes times and repeats of the frames that it is shown."""

    def __init__(self, exact: bool) -> None:
        self.times, self.repeated = array("q"), bytearray()
        self._exact = exact
        self._before: np.ndarray | None = None

    def __call__(self, frame: DecodedFrame) -> bool:
        """Frames in order; whether this one repeats the one before it."""
        repeats = self._before is not None and _same(self._before, frame.rgb, self._exact)
        self.times.append(frame.pts)
        self.repeated.append(repeats)
        self._before = frame.rgb
        return repeats


def _same(before: np.ndarray, here: np.ndarray, exact: bool) -> bool:
    """Whether a frame repeats the one before it: to the bit in a lossless video, else to a codec's noise."""
    if exact:
        return bool(np.array_equal(before, here))
    height, width = here.shape[1:]
    size = (max(1, width // BLOCK), max(1, height // BLOCK))
    return all(
        cv2.resize(cv2.absdiff(*planes), size, interpolation=cv2.INTER_AREA).max() <= REPEAT
        for planes in zip(before, here, strict=True)
    )
