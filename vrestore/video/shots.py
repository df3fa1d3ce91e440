"""Shot boundaries, by PySceneDetect's detectors on small pictures from our own reader."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from scenedetect import AdaptiveDetector, FrameTimecode, ThresholdDetector

from vrestore.video.info import DecodedFrame, Rgb, VideoInfo
from vrestore.video.read import open_reader

_SHORTEST = 4
"""Frames; a cut that follows another sooner is not a shot but a flash."""
_SIDE = 256
"""Pixels on the long side: enough for the detectors' statistics."""


@dataclass(frozen=True)
class Shot:
    """Frames ``start`` (included) to ``stop`` (excluded) of one take."""

    start: int
    stop: int


def detect_shots(
    path: Path | str | VideoInfo,
    start: int = 0,
    stop: int | None = None,
    watch: Callable[[DecodedFrame], None] | None = None,
) -> list[Shot]:
    """The shots of frames ``start`` to ``stop``: they cover the range without gap or overlap.

    ``watch`` is shown every frame of them. Hard cuts are found by changes that stand out from those around them, fades
    through black by brightness.
    A still is one shot.

    Raises:
        the errors of `probe` and of `FrameReader.frames`.
    """
    with open_reader(path, pace="fast") as reader:
        stop = reader.info.frames if stop is None else stop
        frames = _watched(reader.frames(start, stop), watch)
        if stop - start < 2:
            deque(frames, maxlen=0)
            return [Shot(start, stop)] if stop > start else []
        cuts = _cuts(frames, stop - start)
    edges = [start, *(start + cut for cut in cuts), stop]
    return [Shot(first, last) for first, last in pairwise(edges)]


def _watched(frames: Iterator[DecodedFrame], watch: Callable[[DecodedFrame], None] | None) -> Iterator[DecodedFrame]:
    for frame in frames:
        if watch is not None:
            watch(frame)
        yield frame


def _cuts(frames: Iterator[DecodedFrame], count: int) -> list[int]:
    """First frames of all shots but the first, counted from the first frame."""
    adaptive = AdaptiveDetector(min_scene_len=_SHORTEST)
    fades = ThresholdDetector(min_scene_len=_SHORTEST)
    hard: set[int] = set()
    soft: set[int] = set()
    for number, picture in enumerate(_padded(frames)):
        at = FrameTimecode(number, fps=25.0)  # the rate plays no part: everything is counted in frames
        hard.update(cut.frame_num - _SHORTEST for cut in adaptive.process_frame(at, picture))
        soft.update(cut.frame_num - _SHORTEST for cut in fades.process_frame(at, picture))
    kept: list[int] = []
    for cut in sorted(hard | soft):
        near = bool(kept) and cut - kept[-1] < _SHORTEST
        if 0 < cut < count and not near:
            kept.append(cut)
    return kept


def _padded(frames: Iterator[DecodedFrame]) -> Iterator[np.ndarray]:
    """Small pictures, the first and the last repeated: the detectors look at the neighbours on both sides."""
    picture = None
    for frame in frames:
        small = _small(frame.rgb)
        if picture is None:
            yield from [small] * _SHORTEST
        picture = small
        yield picture
    if picture is not None:
        yield from [picture] * _SHORTEST


def _small(rgb: Rgb) -> np.ndarray:
    """uint8 (height, width, 3), blue first."""
    height, width = rgb.shape[1:]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    planes = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in rgb[::-1]]
    return np.asarray((np.stack(planes, axis=-1) * np.float32(255) + np.float32(0.5)).astype(np.uint8))
