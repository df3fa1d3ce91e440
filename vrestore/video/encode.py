"""The settings and tags of an encoding, and the writer of one independently encoded segment of an output."""

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
import cv2

from vrestore.errors import OutputError
from vrestore.video.colour import FULL, LIMITED, RGB, UNSPECIFIED, default_matrix, yuv_rule
from vrestore.video.hdr import with_hdr
from vrestore.video.info import CHROMA_LOCATIONS, Beside, ColorTags, Outside, Rgb, VideoInfo
from vrestore.video.planes import PixelLayout, pixel_layout, rgb_to_frame
from vrestore.video.source import reason

log = logging.getLogger(__name__)

VIDEO_FORMATS = {".mkv": "matroska", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".webm": "webm"}
"""libav's muxer by the output's suffix."""

NARROW = 64
"""Columns."""
_CV_AVX512 = 13
"""OpenCV's number of AVX-512, which its Python interface does not name."""
_X264_ASM = "asm=MMX2,SSE2Fast,LZCNT,SSSE3,SSE4.2,AVX,FMA3,BMI2,AVX2"
"""All that a processor with AVX-512 has but that; libx264 wants commas between them."""

# fixed thread counts: the same bits on every machine
_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "12", "preset": "faster", "threads": "4"},
    "libx265": {"crf": "12", "preset": "fast", "threads": "4"},
    "libvpx-vp9": {"crf": "14", "cpu-used": "5", "deadline": "good", "row-mt": "1", "threads": "4"},
    "libsvtav1": {"crf": "16", "preset": "8"},
    "ffv1": {"level": "3", "slices": "4", "slicecrc": "1", "g": "1", "threads": "4"},
    "prores_ks": {"profile": "hq", "vendor": "apl0", "threads": "4"},
    "rawvideo": {},
}
_SEGMENT_FORMATS = {"prores_ks": "mov"}
"""libav's muxer for segments; NUT, which keeps any time base exactly, where nothing is said. NUT holds no ProRes."""


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

    @property
    def outside(self) -> Outside:
        """What is written of what lies outside of [0, 1]."""
        layout = pixel_layout(self.pix_fmt)
        if layout is None or layout.kind != "yuv":
            return "none"
        if self.lossless:
            return "all"
        return "luma" if layout.depth > 8 else "white"  # below black, eight compressed bits hold little but noise


def output_color(info: VideoInfo, layout: PixelLayout, pix_fmt: str, size: tuple[int, int]) -> ColorTags:
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


def output_aspect(info: VideoInfo, size: tuple[int, int]) -> Fraction:
    """Keeps the pixel shape where both sides grow alike (to 2 %), else the shape of the whole picture."""
    height, width = size
    stretch = Fraction(width * info.height, height * info.width)
    if abs(stretch - 1) < Fraction(1, 50):
        return info.sample_aspect
    return (info.sample_aspect / stretch).limit_denominator(1000)


def codec_options(codec: str, info: VideoInfo, color: ColorTags) -> list[tuple[str, str]]:
    options = dict(_OPTIONS[codec])
    if codec == "libx264" and not info.vfr:
        options["x264-params"] = "force-cfr=1"  # the stream then names the frame rate, not the time base
    if codec == "libx265":
        # without reordering: libx265 leaves the decoding times of a stream shorter than its delay unset
        options["x265-params"] = "log-level=none:open-gop=0:pools=4:frame-threads=2:bframes=0"
    if codec in ("libx264", "libx265", "libsvtav1") and color.chroma_location:
        options["chroma_sample_location"] = CHROMA_LOCATIONS[color.chroma_location]
    return list(with_hdr(options, codec, info.hdr).items())


class SegmentWriter:
    """Encodes frames to a closed piece of the output: its own encoder, its first frame a key picture.

    The file (see `_SEGMENT_FORMATS`; times are exact) has its name only once `close` has ended.
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

    def write(self, rgb: Rgb, pts: int, beside: Beside | None = None) -> None:
        """Encodes one frame: (3, height, width) in [0, 1], shown at ``pts`` (later than the one before it).

        ``beside`` of the same size: alpha, where the pixel format has it, and what lies outside of [0, 1].

        Raises:
            OutputError: wrong size or time, or the segment cannot be written.
        """
        if rgb.shape[1:] != self._size:
            raise OutputError(f"a frame of {rgb.shape[2]}x{rgb.shape[1]} does not fit {self._size[1]}x{self._size[0]}")
        if self.frames and pts <= self._last_pts:
            raise OutputError(f"frame time {pts} does not come after {self._last_pts}; times must increase")
        encoding = self._encoding
        if beside is not None and beside.outside is not None:
            rgb = rgb + beside.outside
        frame = rgb_to_frame(
            rgb, encoding.pix_fmt, self._rule, dither=encoding.dither, exact=encoding.lossless,
            alpha=None if beside is None else beside.alpha,
        )  # fmt: skip
        try:
            if self._container is None:
                self._open(pts)
            frame.pts, frame.time_base = pts - self._first_pts, self._info.time_base
            frame.duration = round(1 / self._info.fps / self._info.time_base)
            if encoding.codec == "prores_ks":  # its headers say what the frames do, not what the encoder was told
                color = encoding.color
                frame.color_primaries, frame.color_trc, frame.colorspace = color.primaries, color.transfer, color.matrix
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
        kind, own = _SEGMENT_FORMATS.get(encoding.codec, "nut"), {"avoid_negative_ts": "disabled"}
        if kind == "mov":
            own["video_track_timescale"] = str(self._info.time_base.denominator)
        self._container = av.open(f"file:{self._part}", "w", format=kind, container_options=own)
        self._container.metadata["comment"] = segment_note(encoding, self._info.time_base, first_pts)
        stream = self._container.add_stream(
            encoding.codec, rate=self._info.fps, width=self._size[1], height=self._size[0], pix_fmt=encoding.pix_fmt,
            time_base=self._info.time_base, options=_safe_options(encoding, self._size),
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


def _safe_options(encoding: Encoding, size: tuple[int, int]) -> dict[str, str]:
    """The encoder's options, without what its code gets wrong.

    libx264's AVX-512 code for macroblock trees reads memory that nothing was written to: at some sizes (704 columns are
    one) the bits differ from run to run, and from those of machines without it. libx265's cutree (its AVX2 code) writes
    beyond its tables for pictures of up to 48 columns and damages memory.
    """
    options = dict(encoding.options)
    if encoding.codec == "libx264" and cv2.checkHardwareSupport(_CV_AVX512):
        options["x264-params"] = ":".join(filter(None, (_X264_ASM, options.get("x264-params"))))
    if encoding.codec == "libx265" and size[1] < NARROW:
        options["x265-params"] = ":".join(filter(None, (options.get("x265-params"), "cutree=0")))
    return options


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
            "chroma": color.chroma_location,
        }
    )
