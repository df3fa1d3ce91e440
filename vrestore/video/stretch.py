"""Slow motion for what lies beside the pictures: sound is stretched, its pitch kept; subtitles and chapters move."""

import heapq
import io
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from vrestore.video.copied import Span, add_streams, chapters, copied_packets, track_tags
from vrestore.video.source import AnyPacket, open_container, reading

log = logging.getLogger(__name__)

_ENCODERS = {"opus": "libopus", "vorbis": "libopus", "mp3": "libmp3lame"}
"""Of codecs whose encoder has another name than they have."""
_USUAL = {"matroska": "libopus", "webm": "libopus"}
"""Encoder for what cannot be encoded as it was; AAC where nothing is said."""
_RATES = {"libopus": 48000}


@dataclass(frozen=True)
class Stretch:
    """Time runs ``slow`` times slower from ``origin`` on, in seconds of the source; outputs are moved by ``shift``.

    ``start`` and ``stop``: the part of the source that is kept.
    """

    slow: Fraction
    origin: Fraction
    shift: Fraction
    start: Fraction | None
    stop: Fraction | None

    @classmethod
    def of(cls, slow: Fraction, first: Fraction, span: Span) -> "Stretch":
        """From an output's span; ``first``: when the input's pictures begin."""
        origin = first if span.start is None else span.start
        stop = None if span.stop is None else origin + (span.stop - origin) / slow
        return cls(slow, origin, span.shift, span.start, stop)

    @property
    def kept(self) -> Span:
        """The part that is kept, of which ``origin`` is taken off."""
        return Span(self.start, self.stop, self.origin)

    def moved(self, ticks: int, time_base: Fraction) -> int:
        """Output time of a time after ``origin``."""
        return round(ticks * self.slow + (self.origin - self.shift) / time_base)


class Stretched:
    """The other streams of an input in an output whose time runs slower.

    Sound is decoded, stretched (libav's ``atempo``) and encoded again, as it was where that can be; data is left out.
    """

    def __init__(
        self, container: OutputContainer, kind: str, source: InputContainer, main: VideoStream, path: Path, how: Stretch
    ) -> None:
        self._source, self._path, self._how = source, path, how
        self._copied = add_streams(container, kind, source, main, path, without=("audio", "data"))
        self._sound: dict[int, AudioStream] = {}
        for stream in source.streams.audio:
            encoder = _encoder(kind, stream)
            if encoder is None:
                log.warning("%s: audio stream %d is left out: it cannot be stretched", path, stream.index)
                continue
            made = _added(container, encoder, stream)
            made.metadata.update(track_tags(stream, kind))
            made.disposition = stream.disposition
            self._sound[stream.index] = made

    @property
    def streams(self) -> dict[int, Stream]:
        """The output's streams by the index of the input's."""
        return {**self._copied, **self._sound}

    def chapters(self) -> list[Any]:
        """Those of the part that is kept."""
        how = self._how
        return [
            chapter | {at: how.moved(chapter[at], chapter["time_base"] or Fraction(1, av.time_base)) for at in _ENDS}
            for chapter in chapters(self._source, how.kept)
        ]

    def packets(self) -> Iterator[tuple[float, AnyPacket]]:
        """Packets of all streams, with the seconds by which they are to be sorted."""
        sounds = [self._stretched(index, made) for index, made in self._sound.items()]
        yield from heapq.merge(self._moved(), *sounds, key=lambda item: item[0])

    def _moved(self) -> Iterator[tuple[float, AnyPacket]]:
        if not self._copied:
            return
        for seconds, packet in copied_packets(self._source, self._copied, self._how.kept, self._path):
            if math.isfinite(seconds):
                base = Fraction(packet.time_base)
                packet.pts = packet.dts = self._how.moved(packet.pts if packet.dts is None else packet.dts, base)
                packet.duration = round((packet.duration or 0) * self._how.slow)
                seconds = float(packet.pts * base)
            yield seconds, packet

    def _stretched(self, index: int, made: AudioStream) -> Iterator[tuple[float, AnyPacket]]:
        """Packets of one stream of sound, encoded anew."""
        first: int | None = None
        count = 0
        for frame, begin in self._slowed(index):
            if first is None:
                ticks = round((begin - self._how.origin) * frame.rate)
                first = self._how.moved(ticks, Fraction(1, frame.rate))
            frame.pts, frame.time_base = first + count, Fraction(1, frame.rate)
            count += frame.samples
            yield from _timed(made.encode(frame))
        if first is not None:
            yield from _timed(made.encode(None))

    def _slowed(self, index: int) -> Iterator[tuple[av.AudioFrame, Fraction]]:
        """Slowed sound, and when in the source the first of it was heard."""
        heard = self._how.origin if self._how.start is None else self._how.start
        with open_container(self._path) as container, reading(self._path):
            graph = None
            for frame in container.decode(container.streams.audio[self._number(index)]):
                if frame.pts is None or frame.time_base is None:
                    continue
                if graph is None:
                    graph = _graph(frame, heard, self._how)
                    heard = max(heard, frame.pts * frame.time_base)
                if not _pushed(graph, frame):
                    break
                yield from ((slow, heard) for slow in _pulled(graph))
            if graph is not None:
                _pushed(graph, None)
                yield from ((slow, heard) for slow in _pulled(graph))

    def _number(self, index: int) -> int:
        """Of a stream among those of sound."""
        return [stream.index for stream in self._source.streams.audio].index(index)


_ENDS = ("start", "end")


def _graph(frame: av.AudioFrame, begin: Fraction, how: Stretch) -> av.filter.Graph:
    """A filter from the part that is kept to slower sound, for frames like this one."""
    graph = av.filter.Graph()
    last = graph.add_abuffer(
        sample_rate=frame.rate, format=frame.format.name, layout=frame.layout.name, time_base=frame.time_base
    )
    end = "" if how.stop is None else f":end={float(how.stop):.6f}"
    steps = max(1, math.ceil(math.log2(how.slow)))
    tempo = [("atempo", f"{float(how.slow) ** (-1 / steps):.9f}")] * steps
    for name, arguments in [("atrim", f"start={float(begin):.6f}{end}"), ("asetpts", "PTS-STARTPTS"), *tempo]:
        node = graph.add(name, arguments)
        last.link_to(node)
        last = node
    last.link_to(graph.add("abuffersink"))
    graph.configure()
    return graph


def _pushed(graph: av.filter.Graph, frame: av.AudioFrame | None) -> bool:
    """Whether the filter wants more: not after the end of what is kept."""
    try:
        graph.push(frame)
    except av.error.EOFError:
        return False
    return True


def _pulled(graph: av.filter.Graph) -> Iterator[av.AudioFrame]:
    while True:
        try:
            yield graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def _timed(packets: list[AnyPacket]) -> Iterator[tuple[float, AnyPacket]]:
    for packet in packets:
        yield float((packet.pts or 0) * packet.time_base), packet


def _added(container: OutputContainer, encoder: str, like: AudioStream) -> AudioStream:
    made = container.add_stream(encoder, rate=_RATES.get(encoder, like.rate))
    if not isinstance(made, AudioStream):
        raise ValueError(f"{encoder} encodes no sound")
    made.layout = like.layout
    return made


def _encoder(kind: str, stream: AudioStream) -> str | None:
    """The encoder that keeps a stream's codec where the container holds what it makes, else a usual one, else none."""
    if stream.codec_context is None:
        return None
    name = stream.codec_context.codec.canonical_name
    for encoder in (_ENCODERS.get(name, name), _USUAL.get(kind, "aac")):
        try:
            with av.open(io.BytesIO(), "w", format=kind) as trial:
                _added(trial, encoder, stream)
                trial.start_encoding()
            return encoder
        except (av.error.FFmpegError, ValueError):
            continue
    return None
