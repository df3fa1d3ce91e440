"""The final file: segments joined without re-encoding, sound and subtitles copied packet by packet."""

import heapq
import json
import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from vrestore.errors import ConfigError, OutputError
from vrestore.video.copied import (
    Span,
    Wanted,
    add_streams,
    chapters,
    copied_packets,
    kept_tags,
    needs_free_tags,
    timecode_of,
)
from vrestore.video.encode import VIDEO_FORMATS
from vrestore.video.files import replacing
from vrestore.video.hdr import marked_template
from vrestore.video.info import ColorTags, VideoInfo
from vrestore.video.source import AnyPacket, open_container, reason, time_base_of, video_stream
from vrestore.video.stretch import Stretch, Stretched
from vrestore.video.tags import lost_tags
from vrestore.video.timecode import advanced, counting_rate

log = logging.getLogger(__name__)

_REORDER_BOUND = 64
_FREE_CLOCKS = {"mpegts", "mpeg"}
"""Formats whose times start anywhere: outputs start at zero."""


@dataclass(frozen=True)
class _Segment:
    """What is known of a segment before it is copied."""

    path: Path
    first_pts: int
    last_pts: int
    delay: int
    """Frames: how far decoding runs ahead of showing."""
    frames: int
    color: ColorTags


class Trim(TypedDict, total=False):
    """What `mux` is told of times."""

    start_pts: int
    stop_pts: int
    slow: Fraction


def mux(
    segments: Sequence[Path],
    info: VideoInfo,
    output: Path | str,
    *,
    start_pts: int | None = None,
    stop_pts: int | None = None,
    slow: Fraction = Fraction(1),
    note: str = "",
) -> None:
    """Joins segments (as `SegmentWriter` leaves them, in order) to ``output``, with the input's other streams.

    Video times are the input's, exactly (to a millisecond in .mkv and .webm, which hold no more); decoding times are
    made anew over all segments, strictly increasing. Sound and subtitle packets are copied as they are, with language,
    title and disposition; chapters, attachments and the container's tags too. What the container cannot hold is left
    out with a warning. With ``start_pts`` or ``stop_pts`` (in ``info.time_base``; the part kept is half open), packets
    outside are dropped and what is kept starts at zero. ``slow``: the video runs so many times slower than the input,
    from its start on; sound is stretched then, subtitles and chapters move. ``note``: the file's comment, in
    place of the input's. Nothing but a complete file gets the name ``output``.

    Raises:
        ConfigError: no segments, or an unknown suffix.
        OutputError: segments that overlap in time, or a file that cannot be written.
        UnreadableMediaError: the input cannot be read any more.
    """
    output = Path(output)
    kind = VIDEO_FORMATS.get(output.suffix.lower())
    if kind is None:
        raise ConfigError(f"output suffix {output.suffix or '(none)'} is not one of {', '.join(VIDEO_FORMATS)}")
    if not segments:
        raise ConfigError(f"{output} needs at least one segment")
    parts = [_examined(Path(path)) for path in segments]
    for before, after in pairwise(parts):
        if after.first_pts <= before.last_pts:
            raise OutputError(
                f"{after.path} starts at {after.first_pts}, before {before.path} ends; give them in order"
            )
    with replacing(output) as temporary, ExitStack() as stack:
        try:
            source = None if info.pictures else stack.enter_context(open_container(info.path))
            span = _span(info, source, start_pts, stop_pts)
            how = None if slow == 1 else Stretch.of(slow, info.start_pts * info.time_base, span)
            _write(temporary, kind, parts, info, source, span, how, note)
        except (av.error.FFmpegError, ValueError) as error:
            raise OutputError(f"{output} cannot be written: {reason(error)}") from error


def _examined(path: Path) -> _Segment:
    with open_container(path) as container:
        note = _note(container, path)
        recent: deque[int] = deque(maxlen=_REORDER_BOUND)
        delay = last = frames = 0
        for _, pts in _segment_packets(container, note):
            frames += 1
            delay = max(delay, sum(other > pts for other in recent))
            recent.append(pts)
            last = max(last, pts)
    primaries, transfer, matrix, range_ = note["color"]
    color = ColorTags(primaries, transfer, matrix, range_, note.get("chroma", 0))
    return _Segment(path, note["first_pts"], max(last, note["first_pts"]), delay, frames, color)


def _note(container: InputContainer, path: Path) -> dict[str, Any]:
    try:
        note: dict[str, Any] = json.loads(container.metadata["comment"])
    except (KeyError, ValueError) as error:
        raise OutputError(f"{path} is not a segment written by SegmentWriter") from error
    return note


def _segment_packets(container: InputContainer, note: dict[str, Any]) -> Iterator[tuple[AnyPacket, int]]:
    """Packets in decoding order with their times in the output's time base."""
    stream = container.streams.video[0]
    scale = time_base_of(stream) / Fraction(note["time_base"])
    for packet in container.demux(stream):
        if packet.size and packet.pts is not None:
            yield packet, int(packet.pts * scale) + note["first_pts"]


def _span(info: VideoInfo, source: InputContainer | None, start_pts: int | None, stop_pts: int | None) -> Span:
    start = None if start_pts is None else start_pts * info.time_base
    stop = None if stop_pts is None else stop_pts * info.time_base
    if start is None and source is not None and source.format.name in _FREE_CLOCKS and source.start_time:
        return Span(None, stop, Fraction(source.start_time, av.time_base))
    return Span(start, stop, start or Fraction(0))


def _write(
    path: Path,
    kind: str,
    parts: list[_Segment],
    info: VideoInfo,
    source: InputContainer | None,
    span: Span,
    how: Stretch | None,
    note: str,
) -> None:
    tags = (kept_tags(source.metadata) if source else {}) | ({"comment": note} if note else {})
    options = {"avoid_negative_ts": "disabled"}
    if kind in ("mp4", "mov"):
        scales = _time_scales(info, source)
        options = {"video_track_timescale": str(scales[0]), "movie_timescale": str(scales[1])}
        free = source is not None and needs_free_tags(tags, source, kind)
        options["movflags"] = "+faststart" + ("+use_metadata_tags" if free else "")
    with av.open(
        f"file:{path}", "w", format=kind, container_options=options, metadata_errors="surrogateescape"
    ) as container:
        video = _coded_stream(container, kind, parts[0].path, info)
        copied: dict[int, Stream] = {}
        others: Iterator[tuple[float, AnyPacket]] = iter(())
        wanted = None
        container.metadata.update(tags)
        if source:
            main = video_stream(source, info.path)
            timecode = _mark(video, kind, main, timecode_of(source, main), info, span)
            if how is None:
                copied = add_streams(container, kind, source, main, info.path)
                container.set_chapters(chapters(source, span))
                others = copied_packets(source, copied, span, info.path) if copied else others
            else:
                slowed = Stretched(container, kind, source, main, info.path, how)
                copied, others = slowed.streams, slowed.packets()
                container.set_chapters(slowed.chapters())
            wanted = Wanted.of(container, source, copied, timecode)
        container.start_encoding()
        for _, packet in heapq.merge(_video_packets(video, parts, info, span), others, key=lambda item: item[0]):
            container.mux(packet)
    lost = [*(wanted.missing_in(path) if wanted else []), *lost_tags(path, parts[0].color, info.hdr)]
    if lost:
        log.warning("%s: left out, because %s does not hold it: %s", info.path, kind, ", ".join(lost))


def _time_scales(info: VideoInfo, source: InputContainer | None) -> tuple[int, int]:
    """Of the video, and of the starts of all tracks, which would be rounded to milliseconds."""
    scale = info.time_base.denominator
    rates = [time_base_of(stream).denominator for stream in source.streams.audio] if source else []
    common = math.lcm(scale, *rates)
    movie = common if common < 1 << 31 else scale
    return scale, movie * -(-1000 // movie)


def _coded_stream(container: OutputContainer, kind: str, segment: Path, info: VideoInfo) -> VideoStream:
    """The output's video stream, as the segment's encoder describes it."""
    with open_container(segment) as coded, ExitStack() as stack:
        note, like = _note(coded, segment), coded.streams.video[0]
        location = note.get("chroma", 0) if kind in ("matroska", "webm") else 0
        marked = marked_template(like.codec_context, info.hdr, location) if info.hdr or location else None
        if marked is None:
            stream = container.add_stream_from_template(like, opaque=True)
        else:
            stream = container.add_stream_from_template(stack.enter_context(marked).streams.video[0], opaque=True)
            for name in ("extradata", "width", "height", "pix_fmt", "profile", "bits_per_coded_sample"):
                if getattr(like.codec_context, name):
                    setattr(stream.codec_context, name, getattr(like.codec_context, name))
    stream.time_base = info.time_base
    context = stream.codec_context
    context.framerate = info.fps
    context.color_primaries, context.color_trc, context.colorspace, context.color_range = note["color"]
    context.sample_aspect_ratio = Fraction(note["aspect"])
    if context.name == "hevc" and kind in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # the tag that Apple's players ask for
    return stream


def _mark(
    stream: VideoStream, kind: str, main: VideoStream, timecode: str | None, info: VideoInfo, span: Span
) -> str | None:
    """Gives the output's video the tags of the input's, and the timecode of the first frame that is kept."""
    stream.metadata.update(kept_tags(main.metadata))
    stream.disposition = main.disposition
    if timecode is None:
        return None
    late = 0 if span.start is None else round((span.start - info.start_pts * info.time_base) * info.fps)
    stream.metadata["timecode"] = advanced(timecode, late, info.fps)
    rate = counting_rate(info.fps)
    if kind in ("mp4", "mov"):
        if rate is None:
            del stream.metadata["timecode"]
        else:
            stream.codec_context.framerate = rate  # of which the timecode track makes its own
    return advanced(timecode, late, info.fps)


def _video_packets(
    stream: VideoStream, parts: list[_Segment], info: VideoInfo, span: Span
) -> Iterator[tuple[float, AnyPacket]]:
    """Packets of all segments with (decoding time in seconds). Decoding time n is presentation time n - delay."""
    time_base = time_base_of(stream)
    delay = max(part.delay for part in parts)
    step = max(1, round(1 / info.fps / time_base))
    end = span.stop or (info.start_pts + round(info.duration_s / info.time_base)) * info.time_base
    total, final = sum(part.frames for part in parts), parts[-1].last_pts
    shown: list[int] = []
    first, number = None, 0
    for part in parts:
        with open_container(part.path) as container:
            for packet, pts in _segment_packets(container, _note(container, part.path)):
                ticks = round((pts * info.time_base - span.shift) / time_base)
                first = ticks if first is None else first
                heapq.heappush(shown, ticks)
                packet.time_base, packet.pts, packet.duration = time_base, ticks, step
                if pts == final or number == total - 1:  # the others last until the next one
                    packet.duration = max(1, round((end - pts * info.time_base) / time_base))
                packet.dts = heapq.heappop(shown) if number >= delay else first - (delay - number) * step
                packet.stream = stream
                yield float(packet.dts * time_base), packet
                number += 1
