"""What a file holds, found by reading it: exact frame count, times, colour, rotation."""

import heapq
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Literal

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vrestore.errors import ConfigError, EmptyMediaError, UnsupportedMediaError
from vrestore.video.colour import yuv_rule
from vrestore.video.fields import FLAGS_OF, flagged, looks_progressive
from vrestore.video.hdr import hdr_metadata, lost_metadata
from vrestore.video.info import Fields, VideoInfo
from vrestore.video.planes import pixel_layout, readable_format
from vrestore.video.sequence import Pattern, probe_sequence
from vrestore.video.source import AnyPacket, check_file, decoded, open_container, time_base_of, video_stream
from vrestore.video.stills import is_still_name, probe_still
from vrestore.video.tags import color_tags, unseen

log = logging.getLogger(__name__)

# where a packet need not be a frame, frames are counted by decoding
_UNEVEN_CODECS = {"vp8"}
_UNEVEN_FORMATS = {"mpegts", "mpeg", "mpegvideo", "avi", "h264", "hevc", "m4v", "obu", "ivf", "gif"}
_JUMP_S = Fraction(1, 2)
"""Seconds by which a time may lie behind the one before it; such frames are moved to follow each other."""
_REORDER_BOUND = 64
"""More packets than any codec decodes before it shows the first of them."""


def probe(path: Path | str, fps: Fraction | None = None) -> VideoInfo:
    """Reads a video, picture or image sequence from one end to the other (without decoding it all): what it is.

    ``fps`` is the rate of what has none of its own: an image sequence (see `probe_sequence`).

    Raises:
        MissingInputError: there is no such file.
        UnreadableMediaError: not a video or picture, empty, truncated or damaged.
        EmptyMediaError: a container without a frame.
        UnsupportedMediaError: understood but not handled; the message says what to do.
    """
    path = Path(path)
    if Pattern.of(path):
        return probe_sequence(path, fps)
    check_file(path)
    if fps is not None:
        raise ConfigError(f"fps is given, but {path} is no image sequence and has its own times; leave fps out")
    if is_still_name(path):
        return probe_still(path)
    with open_container(path) as container:
        if container.format.name.endswith("_pipe") or container.format.name == "image2":
            return probe_still(path)
        stream = video_stream(container, path)
        frame, fields = _first_frame(container, stream, path)
        return _describe(path, container, stream, frame, fields, _times(path))


def presentation_times(packets: Iterable[AnyPacket]) -> Iterator[int]:
    """Presentation times of the shown frames of one stream, in the order of showing, from packets as demuxed."""
    heap: list[int] = []
    for packet in packets:
        if packet.size and packet.pts is not None and not packet.is_discard:
            heapq.heappush(heap, packet.pts)
            if len(heap) > _REORDER_BOUND:
                yield heapq.heappop(heap)
    while heap:
        yield heapq.heappop(heap)


@dataclass
class _Times:
    """Statistics of presentation times, gathered in one pass."""

    count: int = 0
    first: int = 0
    last: int = 0
    shortest: int = 0
    longest: int = 0
    last_duration: int = 0
    back: int = 0
    """The farthest that a time lies behind the one before it."""
    moved: bool = False
    """Whether a time was not later than the one before it, and moved to be."""
    hidden: bool = False
    clock: Literal["frames", "packets", "count"] = "frames"
    uneven: bool = False

    @classmethod
    def of_packets(cls, container: InputContainer, stream: VideoStream) -> "_Times":
        times = cls()
        for pts in presentation_times(times._watched(container.demux(stream))):
            times._add(pts)
        times.uneven = times.uneven or times.moved
        return times

    @classmethod
    def of_frames(cls, container: InputContainer, stream: VideoStream, packets: "_Times") -> "_Times":
        """Counts by decoding; keeps what only packets tell."""
        times = cls(hidden=packets.hidden, last_duration=packets.last_duration, uneven=True)
        for index, frame in enumerate(container.decode(stream)):
            timed = frame.pts is not None and times.clock == "frames"
            times.clock = "frames" if timed else "count"
            times._add(frame.pts if timed and frame.pts is not None else index)
        return times

    def _watched(self, packets: Iterable[AnyPacket]) -> Iterator[AnyPacket]:
        key = latest = decoding = None
        for packet in packets:
            if packet.size:
                key = packet.pts if key is None else key
                self.hidden = self.hidden or packet.is_discard
                self.last_duration = packet.duration or self.last_duration
                # pictures before the first key picture may not be decodable
                self.uneven = self.uneven or packet.pts is None or key is None or packet.pts < key
                # what is decoded before a key picture is shown before it, unless times jump back
                if packet.pts is not None and latest is not None:
                    self.uneven = self.uneven or (packet.is_keyframe and packet.pts <= latest)
                if packet.dts is not None and decoding is not None:
                    self.uneven = self.uneven or packet.dts <= decoding
                latest = packet.pts if latest is None else max(latest, packet.pts or latest)
                decoding = packet.dts
                yield packet

    def _add(self, pts: int) -> None:
        if self.count == 0:
            self.first = pts
        else:
            if pts <= self.last:  # the reader moves it too
                self.back, self.moved = max(self.back, self.last - pts), True
                pts = self.last + 1
            delta = pts - self.last
            self.shortest = delta if self.count == 1 else min(self.shortest, delta)
            self.longest = max(self.longest, delta)
        self.last = pts
        self.count += 1

    @property
    def vfr(self) -> bool:
        """A constant rate that is no multiple of the time base gives steps that differ by one tick."""
        spread = self.longest - self.shortest
        return self.clock != "count" and (spread > 1 or (spread == 1 and self.shortest < 8))


def _times(path: Path) -> _Times:
    with open_container(path) as container:
        stream = video_stream(container, path)
        uneven = stream.codec_context.name in _UNEVEN_CODECS
        uneven = uneven or bool(_UNEVEN_FORMATS.intersection(container.format.name.split(",")))
        times = _Times.of_packets(container, stream)
        in_avi, time_base = container.format.name == "avi", time_base_of(stream)
    if times.count and not (uneven or times.uneven):
        return times
    with open_container(path) as container:
        counted = _Times.of_frames(container, video_stream(container, path), times)
    if in_avi and times.count == counted.count:
        # AVI knows when packets are shown, in any order; decoders mix that up
        return replace(times, clock="packets", uneven=True)
    if counted.clock == "frames" and counted.back * time_base > _JUMP_S:
        raise UnsupportedMediaError(
            f"{path}: its times jump back by {float(counted.back * time_base):.3f} s, as where recordings were joined; "
            "split it there, or give it new times with a remuxing tool"
        )
    return counted


def _first_frame(container: InputContainer, stream: VideoStream, path: Path) -> tuple[VideoFrame, Fields]:
    """The first frame, and who says that the video is interlaced."""
    frames = decoded(container.demux(stream), stream)
    first = next(frames, None)
    if first is None:
        raise EmptyMediaError(f"{path} holds no decodable frame; give a video with at least one")
    flags = [first.interlaced_frame]
    try:
        flags += [frame.interlaced_frame for frame in islice(frames, FLAGS_OF - 1)]
    except av.error.FFmpegError as error:  # whoever reads so far will hear of it
        log.debug("%s: %s", path, error)
    return first, flagged(stream.codec_context.field_order, flags)


def _describe(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    frame: VideoFrame,
    fields: Fields,
    times: _Times,
) -> VideoInfo:
    layout = pixel_layout(readable_format(frame.format.name))
    if layout is None or times.count == 0:
        raise EmptyMediaError(f"{path} holds no frame that is shown; give a video with at least one")
    rotation = _rotation(frame, path)
    width, height = (frame.height, frame.width) if rotation % 180 else (frame.width, frame.height)
    chroma, shape = unseen(frame)
    aspect = stream.sample_aspect_ratio or shape or Fraction(1)
    fps, time_base = _rate(stream, times)
    color = color_tags(stream.codec_context, frame, layout.full, chroma)
    if layout.kind == "yuv":
        yuv_rule(color, frame.height, frame.width)  # refuses what cannot be converted
    interlaced = fields != "none" and not looks_progressive(path)
    if fields != "none" and not interlaced:
        log.warning("%s is flagged as interlaced, but its pictures are not; it is taken as progressive", path)
    if lost := lost_metadata(frame):
        log.warning("%s: left out: %s", path, ", ".join(lost))
    duration = fps and (times.last - times.first) * time_base + (times.last_duration * time_base or 1 / fps)
    return VideoInfo(
        path=path, width=width, height=height, frames=times.count, fps=fps, time_base=time_base,
        start_pts=times.first, duration_s=float(duration), codec=_codec(stream), pix_fmt=frame.format.name,
        bit_depth=layout.depth, color=color, sample_aspect=1 / aspect if rotation % 180 else aspect,
        rotation=rotation, vfr=times.vfr, interlaced=interlaced, fields=fields, edit_list=times.hidden,
        clock=times.clock, seekable=not times.uneven, audio_streams=len(container.streams.audio),
        subtitle_streams=len(container.streams.subtitles), hdr=hdr_metadata(frame),
    )  # fmt: skip


def _codec(stream: VideoStream) -> str:
    """The codec's own name, not that of the decoder that libav prefers for it (av1, not libdav1d)."""
    return str(stream.codec_context.codec.canonical_name)


def _rate(stream: VideoStream, times: _Times) -> tuple[Fraction, Fraction]:
    """Frames per second and the time base."""
    named = stream.average_rate or stream.guessed_rate or Fraction(25)
    if times.clock == "count":
        return named, 1 / named
    time_base = time_base_of(stream)
    if times.count < 2 or times.last <= times.first:
        return named, time_base
    mean = (times.count - 1) / ((times.last - times.first) * time_base)
    # a container's own rate is exact where the times are rounded (24000/1001 in milliseconds)
    usual = (named, stream.guessed_rate, Fraction(round(mean)), Fraction(round(mean) * 1000, 1001))
    for rate in usual:
        if rate and not times.vfr and abs(rate / mean - 1) <= Fraction(1, times.last - times.first):
            return Fraction(rate), time_base
    return mean.limit_denominator(100_000), time_base


def _rotation(frame: VideoFrame, path: Path) -> int:
    degrees = int(frame.rotation)
    if degrees % 90:
        log.warning("%s: a rotation by %d degrees is not a quarter turn and is left out", path, degrees)
        return 0
    return degrees % 360
