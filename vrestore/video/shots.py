"""Shot boundaries, by PySceneDetect's detectors on small pictures from our own reader."""

from array import array
from collections.abc import Callable
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
_CADENCE = 4
"""Repeated frames in a row, at most, of pictures that come at a slower rate than the video's."""
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
    watch: Callable[[DecodedFrame], bool] | None = None,
) -> list[Shot]:
    """The shots of frames ``start`` to ``stop``: they cover the range without gap or overlap.

    Hard cuts are found by changes that stand out from those around them, fades through black by brightness. A still is
    one shot. ``watch`` is shown every frame, and says whether it only repeats the one before it: where every picture
    comes twice, say, every change stands out, and only what is a cut among distinct pictures, too, is one.

    Raises:
        the errors of `probe` and of `FrameReader.frames`.
    """
    whole, distinct, numbers = _Cuts(), _Cuts(), array("q")
    with open_reader(path, pace="fast") as reader:
        stop = reader.info.frames if stop is None else stop
        count = stop - start
        if count < 2 and watch is None:
            return [Shot(start, stop)] if count > 0 else []
        for position, frame in enumerate(reader.frames(start, stop)):
            repeats = watch is not None and watch(frame)
            small = _small(frame.rgb)
            whole.see(small)
            if watch is not None and not repeats:
                distinct.see(small)
                numbers.append(position)
    cuts = whole.found()
    if watch is not None and len(numbers) < count:
        among = {numbers[cut] for cut in distinct.found()}
        after = dict(zip(numbers[1:], numbers, strict=False))
        cuts = [cut for cut in cuts if cut in among or cut - after.get(cut, cut) > _CADENCE + 1]
    edges = [start, *(start + cut for cut in cuts), stop]
    return [Shot(first, last) for first, last in pairwise(edges)]


class _Cuts:
    """Detectors at work. They look at neighbours on both sides, so the first picture and the last are repeated."""

    def __init__(self) -> None:
        self._detectors = (
            AdaptiveDetector(min_scene_len=_SHORTEST),
            ThresholdDetector(min_scene_len=_SHORTEST),
        )
        self._seen = 0
        self._last: np.ndarray | None = None
        self._cuts: set[int] = set()

    def see(self, picture: np.ndarray) -> None:
        """Pictures in order."""
        for _ in range(1 if self._seen else _SHORTEST + 1):
            self._feed(picture)
        self._last = picture

    def found(self) -> list[int]:
        """First pictures of all shots but the first, counted from the first picture."""
        count = self._seen - _SHORTEST
        for _ in range(_SHORTEST if self._last is not None else 0):
            self._feed(self._last)
        kept: list[int] = []
        for cut in sorted(self._cuts):
            near = bool(kept) and cut - kept[-1] < _SHORTEST
            if 0 < cut < count and not near:
                kept.append(cut)
        return kept

    def _feed(self, picture: np.ndarray | None) -> None:
        at = FrameTimecode(self._seen, fps=25.0)  # the rate plays no part: everything is counted in frames
        for detector in self._detectors:
            self._cuts.update(cut.frame_num - _SHORTEST for cut in detector.process_frame(at, picture))
        self._seen += 1


def _small(rgb: Rgb) -> np.ndarray:
    """uint8 (height, width, 3), blue first."""
    height, width = rgb.shape[1:]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    planes = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in rgb[::-1]]
    return np.asarray((np.stack(planes, axis=-1) * np.float32(255) + np.float32(0.5)).astype(np.uint8))
