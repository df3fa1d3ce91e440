"""Readers: PyAV is the exact one; decord the fast one where it is right."""

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from av.video.frame import VideoFrame

from vrestore.errors import ConfigError, UnreadableMediaError, UnsupportedMediaError
from vrestore.video.colour import YuvRule, yuv_rule
from vrestore.video.info import DecodedFrame, FrameReader, Rgb, VideoInfo
from vrestore.video.planes import frame_to_rgb, has_alpha
from vrestore.video.probe import presentation_times, probe
from vrestore.video.source import open_container, video_stream
from vrestore.video.stills import read_still

log = logging.getLogger(__name__)

_WORTH_SEEKING = 32
"""Frames; a start before this is reached by decoding."""


def open_reader(path: Path | str | VideoInfo, *, pace: Literal["slow", "fast"] = "slow") -> FrameReader:
    """A reader of a video or picture.

    Args:
        path: the file, or what `probe` has found out about it (saves a second look).
        pace: "slow" for a consumer that takes its time: PyAV, exact, one frame at a time. "fast" for one that keeps
            up and needs 8 bits only (shot detection, previews): decord where it is right and bounded, else PyAV. The
            frames are the same; colours differ by the rounding and chroma filter of decord's own conversion.

    Raises:
        the errors of `probe`.
    """
    info = path if isinstance(path, VideoInfo) else probe(path)
    if has_alpha(info.pix_fmt):
        log.warning("%s: transparency is left out", info.path)
    if info.is_still:
        return StillReader(info)
    if pace == "fast":
        from vrestore.video.read_decord import DecordReader, decord_is_right

        if decord_is_right(info):
            return DecordReader(info)
    return PyavReader(info)


class _Reader:
    """What readers have in common: the range check, and that closing ends a running iteration."""

    def __init__(self, info: VideoInfo) -> None:
        self.info = info
        self._running: list[Iterator[DecodedFrame]] = []

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[DecodedFrame]:
        stop = self.info.frames if stop is None else stop
        if not 0 <= start <= stop <= self.info.frames:
            raise ConfigError(
                f"frames {start} to {stop} are not in {self.info.path}, which has {self.info.frames}; "
                f"give 0 <= start <= stop <= {self.info.frames}"
            )
        running = self._frames(start, stop)
        self._running.append(running)
        return running

    def _frames(self, start: int, stop: int) -> Iterator[DecodedFrame]:
        raise UnsupportedMediaError(f"{type(self).__name__} reads nothing")

    def close(self) -> None:
        for running in self._running:
            if hasattr(running, "close"):
                running.close()
        self._running.clear()

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StillReader(_Reader):
    """A picture as a video of one frame."""

    def _frames(self, start: int, stop: int) -> Iterator[DecodedFrame]:
        if start < stop:
            yield DecodedFrame(0, 0, read_still(self.info.path))


class PyavReader(_Reader):
    """Decodes with PyAV: exact frame numbers and times, any codec and depth, one frame at a time."""

    def _frames(self, start: int, stop: int) -> Iterator[DecodedFrame]:
        if start == stop:
            return
        rule = yuv_rule(self.info.color, self.info.height, self.info.width)
        decoded, index = self._decoded_from(start)
        times = self._packet_times() if self.info.clock == "packets" else None
        last = None
        for frame in decoded:
            own = frame.pts if times is None else next(times, None)
            if index >= start:
                pts = self._pts(own, index, last)
                yield DecodedFrame(index, pts, self._picture(frame, index, rule))
                last = pts
            index += 1
            if index == stop:
                return
        raise UnreadableMediaError(
            f"{self.info.path} is damaged: {index} of {self.info.frames} frames could be decoded; end before that"
        )

    def _pts(self, pts: int | None, index: int, last: int | None) -> int:
        """A frame's time, made later than the one before it where the file is wrong."""
        if self.info.clock == "count":
            return index
        if pts is None:
            return self.info.start_pts if last is None else last + 1
        if last is not None and pts <= last:
            log.warning("%s: frame %d is not later than the one before it; moved by one tick", self.info.path, index)
            return last + 1
        return pts

    def _picture(self, frame: VideoFrame, index: int, rule: YuvRule) -> Rgb:
        turned = self.info.rotation % 180 != 0
        if (frame.height, frame.width)[:: -1 if turned else 1] != (self.info.height, self.info.width):
            raise UnsupportedMediaError(
                f"{self.info.path}: the frame size changes at frame {index} to {frame.width}x{frame.height}; "
                "split the video there, or end before that frame"
            )
        rgb = frame_to_rgb(frame, rule)
        turns = self.info.rotation // 90
        return np.ascontiguousarray(np.rot90(rgb, turns, axes=(1, 2))) if turns else rgb

    def _decoded_from(self, start: int) -> tuple[Iterator[VideoFrame], int]:
        """Decoded frames from ``start`` or before it, and the index of the first."""
        if start >= _WORTH_SEEKING and self.info.seekable:
            target = next(islice(self._packet_times(), start, None), None)
            found = target is not None and self._decoded_at(target)
            if found:
                return found, start
        return self._decoded(None), 0

    def _packet_times(self) -> Iterator[int]:
        with open_container(self.info.path) as container:
            yield from presentation_times(container.demux(video_stream(container, self.info.path)))

    def _decoded_at(self, target: int) -> Iterator[VideoFrame] | None:
        """Frames from the one whose pts is ``target`` on; ``None`` where seeking does not lead to it."""
        frames = self._decoded(target)
        for frame in frames:
            if frame.pts is None or frame.pts > target:
                return None
            if frame.pts == target:
                return _chain(frame, frames)
        return None

    def _decoded(self, target: int | None) -> Iterator[VideoFrame]:
        """All frames from the key picture at or before ``target`` (``None``: from the beginning)."""
        path = self.info.path
        with open_container(path) as container:
            stream = video_stream(container, path)
            if target is not None:
                container.seek(target, stream=stream, backward=True)
            packets = container.demux(stream)
            first = next(packets, None)
            # leading pictures of an open group, before the key picture in time, may lack their references
            if target is not None and (first is None or first.pts is None or first.pts > target):
                return
            if first is not None:
                yield from first.decode()
            for packet in packets:
                yield from packet.decode()


def _chain(first: VideoFrame, rest: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    yield first
    yield from rest
