"""Readers: PyAV is the exact one; decord the fast one where it is right."""

import logging
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from av.video.frame import VideoFrame

from vrestore.errors import ConfigError, UnreadableMediaError, UnsupportedMediaError
from vrestore.video.colour import YuvRule, yuv_rule
from vrestore.video.fields import TimedFrame, deinterlaced
from vrestore.video.info import Beside, DecodedFrame, FrameReader, Keep, VideoInfo
from vrestore.video.planes import frame_to_alpha, frame_to_rgb, has_alpha, parted
from vrestore.video.probe import presentation_times, probe
from vrestore.video.sequence import sequence_files
from vrestore.video.source import decoded, open_container, video_stream
from vrestore.video.stills import read_still

log = logging.getLogger(__name__)

_WORTH_SEEKING = 32
"""Frames; a start before this is reached by decoding."""
_NOTHING = Keep()


def open_reader(
    path: Path | str | VideoInfo, *, pace: Literal["slow", "fast"] = "slow", keep: Keep = _NOTHING
) -> FrameReader:
    """A reader of a video, picture or image sequence.

    Args:
        path: the file, or what `probe` has found out about it (saves a second look).
        pace: "slow" for a consumer that takes its time: PyAV, exact, one frame at a time. "fast" for one that keeps
            up and needs 8 bits only (shot detection, previews): decord where it is right and bounded, else PyAV. The
            frames are the same; colours differ by the rounding and chroma filter of decord's own conversion.
        keep: what to give beside the picture.

    Raises:
        the errors of `probe`.
    """
    info = path if isinstance(path, VideoInfo) else probe(path)
    if info.pictures:
        return PictureReader(info, keep, told=pace == "fast")
    if pace == "fast":
        from vrestore.video.read_decord import DecordReader, decord_is_right

        if decord_is_right(info):
            return DecordReader(info)
    return PyavReader(info, keep)


class _Reader:
    """What readers have in common: the range check, and that closing ends a running iteration."""

    def __init__(self, info: VideoInfo, keep: Keep = _NOTHING) -> None:
        self.info, self.keep = info, keep
        self._told = False
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


class PictureReader(_Reader):
    """A picture as a video of one frame, or the pictures of a sequence. ``told``: warnings have been given."""

    def __init__(self, info: VideoInfo, keep: Keep = _NOTHING, *, told: bool = False) -> None:
        super().__init__(info, keep)
        self._files = sequence_files(info)
        self._told = told

    def _frames(self, start: int, stop: int) -> Iterator[DecodedFrame]:
        for index in range(start, stop):
            rgb, beside = read_still(self._files[index], alpha=self.keep.alpha)
            if rgb.shape[1:] != (self.info.height, self.info.width):
                raise UnsupportedMediaError(
                    f"{self._files[index]} is {rgb.shape[2]}x{rgb.shape[1]}, the first picture of the sequence "
                    f"{self.info.width}x{self.info.height}; all must have one size"
                )
            if beside.outside is not None and self.keep.outside == "none" and not self._told:
                log.warning("%s: light beyond 0 and 1 is clipped; only an .exr output keeps it", self._files[index])
                self._told = True
            alpha = beside.alpha if self.keep.alpha else None
            outside = None if self.keep.outside == "none" else beside.outside
            yield DecodedFrame(index, index, rgb, Beside(alpha, outside))


class PyavReader(_Reader):
    """Decodes with PyAV: exact frame numbers and times, any codec and depth, one frame at a time."""

    def _frames(self, start: int, stop: int) -> Iterator[DecodedFrame]:
        if start == stop:
            return
        rule = yuv_rule(self.info.color, self.info.height, self.info.width)
        if self.info.deinterlace:  # a picture is made of its frame and the neighbours on both sides
            around = self._timed(max(0, start - 1), min(stop + 1, self.info.frames))
            shown = deinterlaced(around, self.info.fields, self.info.path)
        else:
            shown = self._timed(start, stop)
        for index, pts, frame in shown:
            if start <= index < stop:
                yield self._shown(index, pts, frame, rule)

    def _timed(self, start: int, stop: int) -> Iterator[TimedFrame]:
        """Decoded frames with their numbers and times."""
        decoded, index = self._decoded_from(start)
        times = self._packet_times() if self.info.clock == "packets" else None
        last = None
        for frame in decoded:
            # also of frames before the start: a time that is put right depends on the one before it
            last = self._pts(frame.pts if times is None else next(times, None), index, last)
            if index >= start:
                self._check_size(frame, index)
                yield index, last, frame
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
            if not self._told:
                log.warning(
                    "%s: frame %d is not later than the one before; such are moved to be", self.info.path, index
                )
            self._told = True
            return last + 1
        return pts

    def _check_size(self, frame: VideoFrame, index: int) -> None:
        turned = self.info.rotation % 180 != 0
        if (frame.height, frame.width)[:: -1 if turned else 1] != (self.info.height, self.info.width):
            raise UnsupportedMediaError(
                f"{self.info.path}: the frame size changes at frame {index} to {frame.width}x{frame.height}; "
                "split the video there, or end before that frame"
            )

    def _shown(self, index: int, pts: int, frame: VideoFrame, rule: YuvRule) -> DecodedFrame:
        rgb, outside = parted(self._upright(frame_to_rgb(frame, rule, clip=False)), rule, self.keep.outside)
        alpha = None
        if self.keep.alpha and has_alpha(frame.format.name):
            alpha = self._upright(frame_to_alpha(frame))
        return DecodedFrame(index, pts, rgb, Beside(alpha, outside))

    def _upright(self, planes: np.ndarray) -> np.ndarray:
        turns = self.info.rotation // 90
        return np.ascontiguousarray(np.rot90(planes, turns, axes=(-2, -1))) if turns else planes

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
            yield from decoded(packets if first is None else chain([first], packets), stream)


def _chain(first: VideoFrame, rest: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    yield first
    yield from rest
