"""What an output takes from its input beside the pictures: sound, subtitles, data, cover, fonts, chapters, tags."""

import io
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.stream import AttachmentStream, Discard, Disposition, Stream
from av.video.stream import VideoStream

from vrestore.video.source import AnyPacket, open_container, reading

log = logging.getLogger(__name__)

_OWN_TAGS = ("encoder", "duration", "major_brand", "minor_version", "compatible_brands", "vendor_id")
_OWN_TAG_STARTS = ("_STATISTICS", "BPS", "NUMBER_OF_", "DURATION-")
_ITUNES_TAGS = frozenset(
    {"title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping"}
    | {"lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "track", "disc"}
)
"""Tags for which libav's MP4 writer has a place that every player knows."""
_QUICKTIME_LANGUAGES = {
    "bod": "tib", "cym": "wel", "deu": "ger", "ell": "gre", "eus": "baq", "hye": "arm", "isl": "ice", "kat": "geo",
    "mkd": "mac", "msa": "may", "mya": "bur", "nld": "dut", "sqi": "alb", "zho": "chi",
}  # fmt: skip
"""ISO 639-2's other code for a language, where libav's QuickTime writer knows only that."""
_COVER_SUFFIXES = {"mjpeg": ("jpg", "image/jpeg"), "png": ("png", "image/png"), "bmp": ("bmp", "image/bmp")}


@dataclass(frozen=True)
class Span:
    """The part of the input's time that is kept, and what is taken off every time. In seconds."""

    start: Fraction | None
    stop: Fraction | None
    shift: Fraction

    def holds(self, time: Fraction) -> bool:
        """Whether what begins at ``time`` is kept."""
        return (self.start is None or time >= self.start) and (self.stop is None or time < self.stop)


def is_cover(stream: Stream) -> bool:
    """Whether the stream is a picture that stands for the file."""
    return bool(int(stream.disposition) & int(Disposition.attached_pic))


def timecode_of(source: InputContainer, main: VideoStream) -> str | None:
    """The timecode of the first frame: that of the video, of a timecode track, or of the container."""
    tracks = [stream.metadata for stream in source.streams if stream.type == "data"]
    for tags in (main.metadata, *tracks, source.metadata):
        for name, text in tags.items():
            if name.lower() == "timecode":
                return str(text)
    return None


def kept_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags without those that a writer says of its own file, and without the timecode, which has its own place."""
    return {
        name: text
        for name, text in tags.items()
        if name.lower() not in (*_OWN_TAGS, "timecode") and not name.startswith(_OWN_TAG_STARTS)
    }


def needs_free_tags(tags: Mapping[str, str], source: InputContainer, kind: str) -> bool:
    """Whether MP4 holds the tags under names of their own only, a form that excludes a cover."""
    cover = kind == "mp4" and any(map(is_cover, source.streams.video))
    return not cover and not {name.lower() for name in tags} <= _ITUNES_TAGS


def add_streams(
    container: OutputContainer,
    kind: str,
    source: InputContainer,
    main: VideoStream,
    path: Path,
    without: Sequence[str] = (),
) -> dict[int, Stream]:
    """Adds what the container holds; output streams, whose packets are still to come, by the index of the input's.

    ``without``: kinds of streams that are no concern of this.
    """
    copied: dict[int, Stream] = {}
    files: list[tuple[str, str, bytes]] = []
    # covers and files last: they are no tracks, and would put the numbers of the tracks out of step
    for stream in sorted(source.streams, key=lambda stream: is_cover(stream)):
        if stream.index == main.index or _is_made_anew(stream) or stream.type in without:
            continue
        if isinstance(stream, AttachmentStream) and kind == "matroska":
            files.append((stream.name or "attachment", stream.mimetype or "application/octet-stream", stream.data))
        elif is_cover(stream) and kind == "matroska" and stream.codec_context is not None:
            files.append(_as_file(stream, path))
        elif kind == "mp4" if is_cover(stream) else _holds(kind, stream):
            copy = container.add_stream_from_template(stream, opaque=True)
            copy.metadata.clear()
            copy.metadata.update(track_tags(stream, kind))
            copy.disposition = stream.disposition
            copied[stream.index] = copy
        else:
            log.warning("%s: %s is left out: %s", path, _described(stream), _why_not(stream, kind))
    for name, mimetype, data in files:
        container.add_attachment(name, mimetype, data)
    return copied


def track_tags(stream: Stream, kind: str) -> dict[str, str]:
    """The tags of a track, as the writer of a container wants them."""
    tags = kept_tags(stream.metadata)
    if "name" in tags:  # libav reads a track's title of MP4 by this name, and writes it by the other
        tags.setdefault("title", tags.pop("name"))
    if kind == "mov" and "language" in tags:
        tags["language"] = _QUICKTIME_LANGUAGES.get(tags["language"], tags["language"])
    return tags


def _is_made_anew(stream: Stream) -> bool:
    """Tracks that MP4 has for its chapters (which libav marks as of no use) and its timecode."""
    names = {name.lower() for name in stream.metadata}
    return stream.type == "data" and (stream.discard == Discard.all or "timecode" in names)


def _described(stream: Stream) -> str:
    kind = "cover" if is_cover(stream) else str(stream.type)
    codec = "" if stream.codec_context is None else f" ({stream.codec_context.codec.canonical_name})"
    return f"{kind} stream {stream.index}{codec}"


def _why_not(stream: Stream, kind: str) -> str:
    if stream.type == "video" and not is_cover(stream):
        return "one video stream is restored, the first"
    return f"{kind} does not hold it"


def _as_file(stream: Stream, path: Path) -> tuple[str, str, bytes]:
    """A cover as the attached file that it is in Matroska: name, type, content."""
    suffix, mimetype = _COVER_SUFFIXES.get(str(stream.codec_context.codec.canonical_name), ("bin", "image/x-unknown"))
    with open_container(path) as container:
        data = next(bytes(packet) for packet in container.demux(container.streams[stream.index]) if packet.size)
    return stream.metadata.get("filename", f"cover.{suffix}"), stream.metadata.get("mimetype", mimetype), data


def _holds(kind: str, stream: Stream) -> bool:
    """Whether a container of this kind takes the stream; tried out, because libav's own tables do not say for sure."""
    if stream.type not in ("audio", "subtitle", "data"):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=kind) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def contents(path: Path) -> list[str]:
    """Words for all that a video holds beside its pictures, for outputs that hold nothing else."""
    with open_container(path) as source:
        main = next((stream for stream in source.streams.video if not is_cover(stream)), None)
        streams = [stream for stream in source.streams if stream is not main and not _is_made_anew(stream)]
        found = [_with_language(stream) for stream in streams]
        found += ["chapters"] if source.chapters() else []
        found += [f"tag {name}" for name in kept_tags(source.metadata)]
        timecode = timecode_of(source, main) if main else None
        return found + ([f"timecode {timecode}"] if timecode else [])


def _with_language(stream: Stream) -> str:
    words, language = _described(stream), stream.metadata.get("language", "und")
    return words if language == "und" or not words.endswith(")") else f"{words[:-1]}, {language})"


def copied_packets(
    source: InputContainer, copied: dict[int, Stream], span: Span, path: Path
) -> Iterator[tuple[float, AnyPacket]]:
    """Packets of the copied streams that lie in the span, with the seconds by which they are to be sorted."""
    last: dict[int, int] = {}
    moved: set[int] = set()
    with reading(path):
        for packet in source.demux([source.streams[index] for index in copied]):
            stream, start = packet.stream, packet.dts if packet.pts is None else packet.pts
            if packet.size and is_cover(stream):
                packet.stream = copied[stream.index]
                yield -math.inf, packet
                continue
            if not packet.size or start is None or not _cut(packet, start, span):
                continue
            if packet.dts is not None and packet.dts <= last.get(stream.index, packet.dts - 1):
                packet.dts = last[stream.index] + 1
                packet.pts = None if packet.pts is None else max(packet.pts, packet.dts)
                if stream.index not in moved and stream.type != "subtitle":
                    log.warning("%s: times of %s go back; packets are moved to follow", path, _described(stream))
                moved.add(stream.index)
            if packet.dts is not None:
                last[stream.index] = packet.dts
            packet.stream = copied[stream.index]
            yield float((packet.pts if packet.pts is not None else packet.dts or 0) * packet.time_base), packet


def _cut(packet: AnyPacket, start: int, span: Span) -> bool:
    """Moves a packet to the output's time, cuts a subtitle to the span, and says whether anything is left of it."""
    time_base = Fraction(packet.time_base)
    begin, duration = start * time_base, (packet.duration or 0) * time_base
    shift = round(span.shift / time_base)
    if packet.stream.type == "subtitle" and duration:
        end = begin + duration
        first = begin if span.start is None else max(begin, span.start)
        final = end if span.stop is None else min(end, span.stop)
        if first >= final:
            return False
        packet.pts = packet.dts = round(first / time_base) - shift
        packet.duration = round((final - first) / time_base)
        return True
    if not span.holds(begin):
        return False
    packet.pts = None if packet.pts is None else packet.pts - shift
    packet.dts = None if packet.dts is None else packet.dts - shift
    return True


def chapters(source: InputContainer, span: Span) -> list[Any]:
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


@dataclass(frozen=True)
class Wanted:
    """What was given to the writer of a container, to be looked for in what it wrote."""

    tags: dict[str, str]
    chapters: int
    timecode: str | None
    streams: tuple[tuple[str, int, dict[str, str], Disposition], ...]
    """Words for it, its number in the output, tags and disposition."""

    @classmethod
    def of(
        cls, container: OutputContainer, source: InputContainer, copied: dict[int, Stream], timecode: str | None
    ) -> "Wanted":
        """From a container that is ready to be written."""
        streams = tuple(
            (_described(source.streams[index]), stream.index, dict(stream.metadata), Disposition(stream.disposition))
            for index, stream in copied.items()
            if not is_cover(stream)
        )
        return cls(dict(container.metadata), len(container.chapters()), timecode, streams)

    def missing_in(self, written: Path) -> list[str]:
        """Words for everything that the file does not have."""
        with open_container(written) as found:
            names = {name.lower() for name in found.metadata}
            lost = [f"tag {name}" for name in self.tags if name.lower() not in names]
            if len(found.chapters()) < self.chapters:
                lost.append("chapters")
            if self.timecode and timecode_of(found, found.streams.video[0]) != self.timecode:
                lost.append(f"timecode {self.timecode}")
            for words, index, tags, disposition in self.streams:
                if index < len(found.streams):
                    lost += _missing_of_stream(words, tags, disposition, found.streams[index])
                else:  # a stream of a damaged input, of which no packet could be read
                    lost.append(words)
        return lost


def _missing_of_stream(words: str, tags: dict[str, str], disposition: Disposition, found: Stream) -> list[str]:
    has = {name.lower(): text for name, text in found.metadata.items()}
    has.setdefault("title", has.get("name", ""))
    lost = [
        f"{name} {tags[name]} of {words}"
        for name in ("language", "title")
        if tags.get(name, "und") != "und" and has.get(name) != tags[name]
    ]
    bits = disposition & ~Disposition(found.disposition)
    return lost + [f"disposition {bit.name} of {words}" for bit in Disposition if bit in bits]
