"""What the output is encoded as, and the writer of one independently encoded segment of it."""

import json
import logging
import os
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.filter

from vrestore.errors import ConfigError, OutputError
from vrestore.video.colour import FULL, LIMITED, RGB, UNSPECIFIED, default_matrix, yuv_rule
from vrestore.video.info import ColorTags, Rgb, VideoInfo
from vrestore.video.planes import PixelLayout, has_alpha, pixel_layout, readable_format, rgb_to_frame
from vrestore.video.source import reason
from vrestore.video.stills import STILL_SUFFIXES

log = logging.getLogger(__name__)

VIDEO_FORMATS = {".mkv": "matroska", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".webm": "webm"}
"""libav's muxer by the output's suffix."""

_CHROMA_NAMES = {1: "left", 2: "center", 3: "topleft", 4: "top", 5: "bottomleft", 6: "bottom"}
_SUBSAMPLING = {(2, 2): "420", (1, 2): "422", (1, 1): "444", (2, 1): "440", (1, 4): "411", (4, 4): "410"}
# fixed thread counts: the same bits on every machine
_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "12", "preset": "faster", "threads": "4"},
    "libx265": {"crf": "12", "preset": "fast", "threads": "4"},
    "libvpx-vp9": {"crf": "14", "cpu-used": "5", "deadline": "good", "row-mt": "1", "threads": "4"},
    "libsvtav1": {"crf": "16", "preset": "8"},
    "ffv1": {"level": "3", "slices": "4", "slicecrc": "1", "g": "1", "threads": "4"},
}


@dataclass(frozen=True)
class Encoding:
    """A codec with its settings, and what the samples will mean. All segments of one output share one."""

    codec: str
    pix_fmt: str
    options: tuple[tuple[str, str], ...]
    color: ColorTags
    sample_aspect: Fraction
    lossless: bool
    dither: bool
    """Whether 8-bit samples are dithered."""


def output_beside(path: Path, tag: str) -> Path:
    """``clip_TAG.mp4`` beside ``clip.mp4``; .mkv, which holds everything, where outputs cannot have the suffix."""
    known = path.suffix.lower() in (*VIDEO_FORMATS, *STILL_SUFFIXES)
    return path.with_name(f"{path.stem}_{tag}{path.suffix if known else '.mkv'}")


def choose_encoding(info: VideoInfo, output: Path | str, size: tuple[int, int]) -> Encoding:
    """How an output of ``size`` (height, width) is encoded, from what the input is and the output's suffix.

    Lossless stays lossless in .mkv (FFV1, same sampling and depth). Else H.264 for 8 bits, H.265 for more or where the
    input is H.265; VP9 or AV1 in .webm; at high quality, with the input's chroma sampling. Odd sizes, which 4:2:0
    codecs cannot hold, become 4:4:4. Colour tags stay what they are; an untagged input gets the tags of what was used
    where the output's size alone would suggest others, and an RGB input always gets them.

    Raises:
        ConfigError: a suffix that is not one of `VIDEO_FORMATS`.
    """
    suffix = Path(output).suffix.lower()
    if suffix not in VIDEO_FORMATS:
        hint = "a picture is written by write_still" if suffix in STILL_SUFFIXES else "choose one of them"
        raise ConfigError(f"output suffix {suffix or '(none)'} is not one of {', '.join(VIDEO_FORMATS)}; {hint}")
    layout = pixel_layout(readable_format(info.pix_fmt))
    if layout is None:
        raise ConfigError(f"pixel format {info.pix_fmt} of the input is not handled")
    if has_alpha(info.pix_fmt):
        log.warning("%s: transparency is not kept in the output", info.path)
    lossless = suffix == ".mkv" and (info.lossless or layout.kind != "yuv")
    codec = "ffv1" if lossless else _lossy_codec(info, suffix)
    pix_fmt = _lossless_format(layout) if lossless else _lossy_format(layout, codec, size)
    color = _output_color(info, layout, pix_fmt, size)
    aspect = _output_aspect(info, size)
    if suffix == ".webm" and aspect != 1:
        log.warning("%s: pixels that are not square cannot be marked in .webm; choose .mkv or .mp4", output)
    return Encoding(
        codec=codec, pix_fmt=pix_fmt, options=tuple(_options(codec, info, color)), color=color,
        sample_aspect=aspect, lossless=lossless, dither=not lossless,
    )  # fmt: skip


def _lossy_codec(info: VideoInfo, suffix: str) -> str:
    if suffix == ".webm":
        return "libvpx-vp9" if info.bit_depth == 8 else "libsvtav1"
    return "libx265" if info.bit_depth > 8 or info.codec == "hevc" else "libx264"


def _lossless_format(layout: PixelLayout) -> str:
    depth = next(d for d in (8, 10, 12, 14, 16) if d >= layout.depth)
    if layout.kind == "yuv":
        return f"yuv{_SUBSAMPLING[layout.factors]}p" + (f"{depth}le" if depth > 8 else "")
    return "bgr0" if depth == 8 else f"gbrp{depth}le"


def _lossy_format(layout: PixelLayout, codec: str, size: tuple[int, int]) -> str:
    sampling = _SUBSAMPLING[layout.factors] if layout.kind == "yuv" else "420"
    if sampling not in ("420", "422", "444") or (sampling != "444" and (size[0] % 2 or size[1] % 2)):
        sampling = "444"
    if codec == "libsvtav1":  # nothing else; odd sizes are fine with it
        return "yuv420p10le"
    depth = 8 if layout.depth == 8 else 10 if layout.depth <= 10 else 12
    return f"yuv{sampling}p" + (f"{depth}le" if depth > 8 else "")


def _output_color(info: VideoInfo, layout: PixelLayout, pix_fmt: str, size: tuple[int, int]) -> ColorTags:
    """The tags to write. Matrix and range say what `SegmentWriter` does; the rest is the input's."""
    tags = info.color
    target = pixel_layout(pix_fmt)
    if target is None or target.kind != "yuv":
        return replace(tags, chroma_location=0)
    location = 0 if target.factors == (1, 1) else tags.chroma_location or 1
    if layout.kind != "yuv":  # R'G'B' comes as the matrix that its new size suggests, always tagged
        matrix = default_matrix(*size)
        unknown = tags.primaries == UNSPECIFIED and tags.transfer == UNSPECIFIED
        primaries, transfer = (matrix, matrix) if unknown else (tags.primaries, tags.transfer)
        return ColorTags(primaries, transfer, matrix, LIMITED, location)
    if tags.matrix not in (UNSPECIFIED, RGB):
        return replace(tags, chroma_location=location)
    used = default_matrix(info.height, info.width)
    if used == default_matrix(*size):
        return replace(tags, matrix=UNSPECIFIED, chroma_location=location)
    return replace(tags, matrix=used, range=FULL if tags.range == FULL else LIMITED, chroma_location=location)


def _output_aspect(info: VideoInfo, size: tuple[int, int]) -> Fraction:
    """Keeps the pixel shape where both sides grow alike (to 2 %), else the shape of the whole picture."""
    height, width = size
    stretch = Fraction(width * info.height, height * info.width)
    if abs(stretch - 1) < Fraction(1, 50):
        return info.sample_aspect
    return (info.sample_aspect / stretch).limit_denominator(1000)


def _options(codec: str, info: VideoInfo, color: ColorTags) -> list[tuple[str, str]]:
    options = dict(_OPTIONS[codec])
    if codec == "libx264" and not info.vfr:
        options["x264-params"] = "force-cfr=1"  # the stream then names the frame rate, not the time base
    if codec == "libx265":
        # without reordering: libx265 leaves the decoding times of a stream shorter than its delay unset
        options["x265-params"] = "log-level=none:open-gop=0:pools=4:frame-threads=2:bframes=0"
    if codec in ("libx264", "libx265") and color.chroma_location:
        options["chroma_sample_location"] = _CHROMA_NAMES[color.chroma_location]
    return list(options.items())


class SegmentWriter:
    """Encodes frames to a closed piece of the output: its own encoder, its first frame a key picture.

    The file (NUT, which keeps any time base exactly) has its name only once `close` has ended.
    Use as a context manager: leaving it by an error aborts.

    Args:
        path: the segment's file.
        size: (height, width) of every frame.
        encoding: the same for all segments of an output.
        info: gives ``time_base`` and ``fps`` (of the output).
    """

    def __init__(self, path: Path | str, size: tuple[int, int], encoding: Encoding, info: VideoInfo) -> None:
        self.path = Path(path)
        self.frames = 0
        self._part = self.path.with_name(self.path.name + ".part")
        self._size, self._encoding, self._info = size, encoding, info
        self._rule = yuv_rule(encoding.color, *size)
        self._first_pts = self._last_pts = 0
        self._container: Any = None
        self._stream: Any = None
        self._shaped: Any = None

    def write(self, rgb: Rgb, pts: int) -> None:
        """Encodes one frame: (3, height, width) in [0, 1], shown at ``pts`` (later than the one before it).

        Raises:
            OutputError: wrong size or time, or the segment cannot be written.
        """
        if rgb.shape[1:] != self._size:
            raise OutputError(f"a frame of {rgb.shape[2]}x{rgb.shape[1]} does not fit {self._size[1]}x{self._size[0]}")
        if self.frames and pts <= self._last_pts:
            raise OutputError(f"frame time {pts} does not come after {self._last_pts}; times must increase")
        frame = rgb_to_frame(rgb, self._encoding.pix_fmt, self._rule, dither=self._encoding.dither)
        try:
            if self._container is None:
                self._open(pts)
            frame.pts, frame.time_base = pts - self._first_pts, self._info.time_base
            frame.duration = round(1 / self._info.fps / self._info.time_base)
            if self._shaped is not None:
                self._shaped.push(frame)
                frame = self._shaped.pull()
            self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self.abort()
            raise OutputError(f"{self.path} cannot be written: {reason(error)}") from error
        self.frames, self._last_pts = self.frames + 1, pts

    def close(self) -> None:
        """Ends the segment and gives it its name.

        Raises:
            OutputError: nothing was written, or it cannot be finished.
        """
        if self._container is None:
            raise OutputError(f"{self.path} would hold no frame; write at least one before closing")
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
            self._container = None
            self._part.replace(self.path)
        except (av.error.FFmpegError, OSError) as error:
            self.abort()
            raise OutputError(f"{self.path} cannot be written: {reason(error)}") from error

    def abort(self) -> None:
        """Gives up; nothing is left of the segment."""
        container, self._container = self._container, None
        try:
            if container is not None:
                container.close()
        except (av.error.FFmpegError, OSError) as error:
            log.debug("%s: closing after a failure: %s", self._part, error)
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> "SegmentWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _open(self, first_pts: int) -> None:
        """Starts the encoder. Times count from the first frame, because NUT holds none below zero."""
        encoding, color = self._encoding, self._encoding.color
        if encoding.codec == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only; it prints by itself
        self._first_pts = first_pts
        self._container = av.open(
            f"file:{self._part}", "w", format="nut", container_options={"avoid_negative_ts": "disabled"}
        )
        self._container.metadata["comment"] = segment_note(encoding, self._info.time_base, first_pts)
        stream = self._container.add_stream(
            encoding.codec, rate=self._info.fps, width=self._size[1], height=self._size[0], pix_fmt=encoding.pix_fmt,
            time_base=self._info.time_base, options=dict(encoding.options),
        )  # fmt: skip
        stream.time_base = self._info.time_base
        context = stream.codec_context
        context.color_primaries, context.color_trc = color.primaries, color.transfer
        context.colorspace, context.color_range = color.matrix, color.range
        context.sample_aspect_ratio = encoding.sample_aspect
        self._container.start_encoding()
        self._stream = stream
        if encoding.codec == "ffv1" and encoding.sample_aspect != 1:
            self._shaped = _shaping(encoding, self._size, self._info.time_base)


def _shaping(encoding: Encoding, size: tuple[int, int], time_base: Fraction) -> av.filter.Graph:
    """A filter that marks frames with their pixel shape: FFV1 keeps that of frames only, and PyAV has no other way."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=size[1], height=size[0], format=encoding.pix_fmt, time_base=time_base)
    aspect = encoding.sample_aspect
    graph.link_nodes(source, graph.add("setsar", f"{aspect.numerator}/{aspect.denominator}"), graph.add("buffersink"))
    graph.configure()
    return graph


def segment_note(encoding: Encoding, time_base: Fraction, first_pts: int) -> str:
    """What a segment says of itself beside the coded frames (as JSON): see `mux`."""
    color = encoding.color
    return json.dumps(
        {
            "first_pts": first_pts,
            "time_base": str(time_base),
            "aspect": str(encoding.sample_aspect),
            "color": [color.primaries, color.transfer, color.matrix, color.range],
        }
    )
