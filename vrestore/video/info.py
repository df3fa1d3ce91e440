"""What is known of a video before it is read, and the frames that a reader gives."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

Rgb = Float32[np.ndarray, "3 height width"]
"""One picture: R'G'B' (as coded, not linear light), nominally in [0, 1]."""


@dataclass(frozen=True)
class ColorTags:
    """How sample values mean colours: code points of ITU-T H.273, which libav's AVColor* enums repeat.

    2 is "unspecified" for ``primaries``, ``transfer`` and ``matrix``. ``range``: 0 unspecified, 1 limited, 2 full.
    ``chroma_location``: 0 unspecified, 1 left, 2 center, 3 top left, 4 top, 5 bottom left, 6 bottom.
    """

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    range: int = 0
    chroma_location: int = 0


LOSSLESS_CODECS = frozenset(
    {"ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "v210", "magicyuv", "qtrle", "gif"}
    | {"png", "apng", "bmp", "tiff", "ppm"}
)
"""Codecs that give back the very samples they were given."""


@dataclass(frozen=True)
class VideoInfo:
    """Facts of one input, a video or a still picture (which is a video of one frame)."""

    path: Path
    width: int
    """Pixels, as shown: after rotation."""
    height: int
    """Pixels, as shown: after rotation."""
    frames: int
    """Exact number of frames that a reader gives."""
    fps: Fraction
    """Frames per second; the mean of a variable rate."""
    time_base: Fraction
    """Seconds per unit of every ``pts``."""
    start_pts: int
    """``pts`` of the first frame."""
    duration_s: float
    codec: str
    pix_fmt: str
    bit_depth: int
    color: ColorTags
    sample_aspect: Fraction = Fraction(1)
    """Width of a pixel over its height, as shown: after rotation."""
    rotation: int = 0
    """Degrees counter-clockwise that the reader turns the coded picture: 0, 90, 180 or 270."""
    is_still: bool = False
    vfr: bool = False
    """Whether the time between frames varies by more than the rounding of the time base."""
    interlaced: bool = False
    edit_list: bool = False
    """Whether the container holds coded frames that are not shown."""
    clock: Literal["frames", "packets", "count"] = "frames"
    """Where times come from: decoded frames; packets, where decoded frames lose them (AVI); or, for a stream without
    times, the frame's number at ``fps``."""
    seekable: bool = True
    """Whether a frame can be found by its ``pts`` without decoding all before it."""
    audio_streams: int = 0
    subtitle_streams: int = 0

    @property
    def lossless(self) -> bool:
        """Whether the samples are those that were stored, free of a codec's errors."""
        return self.codec in LOSSLESS_CODECS


@dataclass(frozen=True, eq=False)
class DecodedFrame:
    """One frame of a video."""

    index: int
    """Position in the whole video, from 0."""
    pts: int
    """Presentation time in units of the video's ``time_base``."""
    rgb: Rgb


@runtime_checkable
class FrameReader(Protocol):
    """A source of frames in presentation order. It streams: memory does not grow with the length of the video."""

    info: VideoInfo

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[DecodedFrame]:
        """Frames ``start`` (included) to ``stop`` (excluded; ``None`` is the end).

        Raises:
            ConfigError: the range does not lie inside the video.
            UnreadableMediaError: the file is damaged inside the range.
        """
        ...

    def close(self) -> None:
        """Ends a running iteration and closes the file."""
        ...

    def __enter__(self) -> "FrameReader": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
