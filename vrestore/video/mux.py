"""The final file: segments joined without re-encoding, sound and subtitles copied packet by packet."""

import heapq
import io
import json
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.stream import AttachmentStream, Stream
from av.video.stream import VideoStream

from vrestore.errors import ConfigError, OutputError
from vrestore.video.encode import VIDEO_FORMATS
from vrestore.video.files import replacing
from vrestore.video.info import VideoInfo
from vrestore.video.source import AnyPacket, open_container, reading, reason, time_base_of

log = logging.getLogger(__name__)

_REORDER_BOUND = 64
_FREE_CLOCKS = {"mpegts", "mpeg"}
"""Formats whose times start anywhere: outputs start at zero."""
_OWN_TAGS = ("encoder", "duration", "major_brand", "minor_version", "compatible_brands", "vendor_id")
_OWN_TAG_STARTS = ("_STATISTICS", "BPS", "NUMBER_OF_")


@dataclass(frozen=True)
class _Segment:
    """What is known of a segment before it is copied."""

    path: Path
    first_pts: int
    last_pts: int
    delay: int
    """Frames: how far decoding runs ahead of showing."""


@dataclass(frozen=True)
class _Span:
    """The part of the input's time that is kept, and what is taken off every time. In seconds."""

    start: Fraction | None
    stop: Fraction | None
    shift: Fraction

    def holds(self, time: Fraction) -> bool:
        return (self.start is None or time >= self.start) and (self.stop is None or time < self.stop)


def mux(
    segments: Sequence[Path],
    info: VideoInfo,
    output: Path | str,
    *,
    start_pts: int | None = None,
    stop_pts: int | None = None,
) -> None:
    """Joins segments (as `SegmentWriter` leaves them, in order) to ``output``, with the input's other streams.

    Video times are the input's, exactly (to a millisecond in .mkv and .webm, which hold no more); decoding times are
    made anew over all segments, strictly increasing. Sound and subtitle packets are copied as they are, with language,
    title and disposition; chapters, attachments and the container's tags too. What the container cannot hold is left
    out with a warning. With ``start_pts`` or ``stop_pts`` (in ``info.time_base``; the part kept is half open), packets
    outside are dropped and what is kept starts at zero. Nothing but a complete file gets the name ``output``.

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
            _write(temporary, kind, parts, info, source, _span(info, source, start_pts, stop_pts))
        except (av.error.FFmpegError, ValueError) as error:
            raise OutputError(f"{output} cannot be written: {reason(error)}") from error


def _examined(path: Path) -> _Segment:
    with open_container(path) as container:
        note = _note(container, path)
        recent: deque[int] = deque(maxlen=_REORDER_BOUND)
        delay = last = 0
        for _, pts in _segment_packets(container, note):
            delay = max(delay, sum(other > pts for other in recent))
            recent.append(pts)
            last = max(last, pts)
    return _Segment(path, note["first_pts"], max(last, note["first_pts"]), delay)


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


def _span(info: VideoInfo, source: InputContainer | None, start_pts: int | None, stop_pts: int | None) -> _Span:
    start = None if start_pts is None else start_pts * info.time_base
    stop = None if stop_pts is None else stop_pts * info.time_base
    if start is None and source is not None and source.format.name in _FREE_CLOCKS and source.start_time:
        return _Span(None, stop, Fraction(source.start_time, av.time_base))
    return _Span(start, stop, start or Fraction(0))


def _write(
    path: Path, kind: str, parts: list[_Segment], info: VideoInfo, source: InputContainer | None, span: _Span
) -> None:
    options = {"movflags": "+faststart"} if kind in ("mp4", "mov") else {"avoid_negative_ts": "disabled"}
    if kind in ("mp4", "mov"):
        # the time base, also for the start of a track, which would be rounded to milliseconds
        scale = info.time_base.denominator
        options |= {"video_track_timescale": str(scale), "movie_timescale": str(scale * -(-1000 // scale))}
    with av.open(
        f"file:{path}", "w", format=kind, container_options=options, metadata_errors="surrogateescape"
    ) as container:
        video = _video_stream(container, kind, parts[0].path, info, source)
        copied = _copied_streams(container, kind, info, source) if source else {}
        if source:
            container.metadata.update(_kept_tags(source.metadata))
            container.set_chapters(_chapters(source, span))
        container.start_encoding()
        sound = _copied_packets(source, copied, span, info.path) if source and copied else iter(())
        for _, packet in heapq.merge(_video_packets(video, parts, info, span), sound, key=lambda item: item[0]):
            container.mux(packet)


def _video_stream(
    container: OutputContainer, kind: str, segment: Path, info: VideoInfo, source: InputContainer | None
) -> VideoStream:
    with open_container(segment) as template:
        note = _note(template, segment)
        stream = container.add_stream_from_template(template.streams.video[0], opaque=True)
    stream.time_base = info.time_base
    context = stream.codec_context
    context.color_primaries, context.color_trc, context.colorspace, context.color_range = note["color"]
    context.sample_aspect_ratio = Fraction(note["aspect"])
    if context.name == "hevc" and kind in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # the tag that Apple's players ask for
    for original in source.streams.video[:1] if source else ():
        stream.metadata.update(_kept_tags(original.metadata))
        stream.disposition = original.disposition
    return stream


def _video_packets(
    stream: VideoStream, parts: list[_Segment], info: VideoInfo, span: _Span
) -> Iterator[tuple[float, AnyPacket]]:
    """Packets of all segments with (decoding time in seconds). Decoding time n is presentation time n - delay."""
    time_base = time_base_of(stream)
    delay = max(part.delay for part in parts)
    step = max(1, round(1 / info.fps / time_base))
    shown: list[int] = []
    first, number = None, 0
    for part in parts:
        with open_container(part.path) as container:
            for packet, pts in _segment_packets(container, _note(container, part.path)):
                ticks = round((pts * info.time_base - span.shift) / time_base)
                first = ticks if first is None else first
                heapq.heappush(shown, ticks)
                packet.time_base, packet.pts, packet.duration = time_base, ticks, step
                packet.dts = heapq.heappop(shown) if number >= delay else first - (delay - number) * step
                packet.stream = stream
                yield float(packet.dts * time_base), packet
                number += 1


def _copied_streams(
    container: OutputContainer, kind: str, info: VideoInfo, source: InputContainer
) -> dict[int, Stream]:
    """Output streams by the index of the input's."""
    copied = {}
    main = source.streams.video[0].index
    for stream in source.streams:
        if isinstance(stream, AttachmentStream) and kind == "matroska":
            container.add_attachment(stream.name or "attachment", stream.mimetype or "application/octet-stream",
                                     stream.data)  # fmt: skip
        elif stream.type in ("audio", "subtitle") and _holds(kind, stream):
            copy = container.add_stream_from_template(stream)
            copy.metadata.update(_kept_tags(stream.metadata))
            copy.disposition = stream.disposition
            copied[stream.index] = copy
        elif stream.index != main:
            log.warning("%s: %s stream %d is left out: %s does not hold it", info.path, stream.type, stream.index, kind)
    return copied


def _holds(kind: str, stream: Stream) -> bool:
    """Whether a container of this kind takes the stream; tried out, because libav's own tables do not say for sure."""
    try:
        with av.open(io.BytesIO(), "w", format=kind) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _copied_packets(
    source: InputContainer, copied: dict[int, Stream], span: _Span, path: Path
) -> Iterator[tuple[float, AnyPacket]]:
    last: dict[int, int] = {}
    with reading(path):
        for packet in source.demux([source.streams[index] for index in copied]):
            start = packet.dts if packet.pts is None else packet.pts
            time_base = Fraction(packet.time_base)
            if not packet.size or start is None or not span.holds(start * time_base):
                continue
            shift = round(span.shift / time_base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            stream = packet.stream.index
            if packet.dts is not None and packet.dts <= last.get(stream, packet.dts - 1):  # damaged: never backwards
                packet.dts = last[stream] + 1
                packet.pts = None if packet.pts is None else max(packet.pts, packet.dts)
            last[stream] = last.get(stream, 0) if packet.dts is None else packet.dts
            packet.stream = copied[stream]
            yield float((start - shift) * time_base), packet


def _chapters(source: InputContainer, span: _Span) -> list[Any]:
    """The chapters that begin or go on inside the span, cut to it."""
    kept = []
    for chapter in source.chapters():
        time_base = chapter["time_base"] or Fraction(1, av.time_base)
        start, end = chapter["start"] * time_base, chapter["end"] * time_base
        if (span.start is not None and end <= span.start) or (span.stop is not None and start >= span.stop):
            continue
        start = start if span.start is None else max(start, span.start)
        end = end if span.stop is None else min(end, span.stop)
        moved = {"start": round((start - span.shift) / time_base), "end": round((end - span.shift) / time_base)}
        kept.append({**chapter, **moved})
    return kept


def _kept_tags(tags: dict[str, str]) -> dict[str, str]:
    """Tags without those that a writer says of its own file."""
    return {
        name: text
        for name, text in tags.items()
        if name.lower() not in _OWN_TAGS and not name.startswith(_OWN_TAG_STARTS)
    }
