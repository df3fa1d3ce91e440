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
AlphaPlane = Float32[np.ndarray, "height width"]
"""Opacity of every pixel in [0, 1]."""


Fields = Literal["none", "frames", "top", "bottom"]
"""Who says that a video is interlaced: nobody; its frames, each with its own order; or the codec's parameters alone,
with the field that is shown first."""

CHROMA_LOCATIONS = ("unspecified", "left", "center", "topleft", "top", "bottomleft", "bottom")
"""libav's names by their number."""


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


@dataclass(frozen=True)
class MasteringDisplay:
    """The display that a film was graded on (SMPTE ST 2086)."""

    chromaticities: tuple[Fraction, ...]
    """CIE 1931 x and y of red, green, blue and white: eight values. Empty if unknown."""
    luminance: tuple[Fraction, ...]
    """Least and most, in cd/m2. Empty if unknown."""


@dataclass(frozen=True)
class HdrMetadata:
    """Static metadata of HDR10."""

    mastering: MasteringDisplay | None
    light: tuple[int, int] | None
    """Content light level in cd/m2 (CTA-861.3): that of the brightest pixel, and of the brightest frame's mean."""


LOSSLESS_CODECS = frozenset(
    {"ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "v210", "magicyuv", "qtrle", "gif"}
    | {"png", "apng", "bmp", "tiff", "ppm", "dpx", "exr"}
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
    """Whether frames are two fields of different times: see `vrestore.video.fields` for the rule."""
    fields: Fields = "none"
    deinterlace: bool = False
    """Whether readers make whole pictures of fields; nothing that `probe` sets."""
    edit_list: bool = False
    """Whether the container holds coded frames that are not shown."""
    clock: Literal["frames", "packets", "count"] = "frames"
    """Where times come from: decoded frames; packets, where decoded frames lose them (AVI); or, for a stream without
    times, the frame's number at ``fps``."""
    seekable: bool = True
    """Whether a frame can be found by its ``pts`` without decoding all before it."""
    audio_streams: int = 0
    subtitle_streams: int = 0
    numbers: tuple[int, int] | None = None
    """First and last number of an image sequence; ``path`` is then its pattern."""
    hdr: HdrMetadata | None = None
    chromaticities: tuple[float, ...] = ()
    """Of OpenEXR: CIE 1931 x and y of red, green, blue and white, as the file says them; empty where it does not."""

    @property
    def pictures(self) -> bool:
        """A still or an image sequence: no container, so no other streams and no times of its own."""
        return self.is_still or self.numbers is not None

    @property
    def linear(self) -> bool:
        """Whether the samples are scene-linear light, not bounded by 1 (OpenEXR)."""
        return self.codec == "exr"

    @property
    def lossless(self) -> bool:
        """Whether the samples are those that were stored, free of a codec's errors."""
        return self.codec in LOSSLESS_CODECS


@dataclass(frozen=True, eq=False)
class Beside:
    """What belongs to a frame beside the picture that a prior sees: it is resized like the picture and written with it.

    ``outside``: what the samples exceed [0, 1] by; added to the picture, it gives them back (superwhite, colours
    outside of the gamut, the highlights of a scene).
    """

    alpha: AlphaPlane | None = None
    outside: Rgb | None = None


Outside = Literal["none", "white", "luma", "all"]
"""How much of what lies outside of [0, 1] is kept: nothing; luma above white (superwhite, where cameras put
highlights); luma above white and below black; everything, with the colours around saturated edges."""


@dataclass(frozen=True)
class Keep:
    """What a reader gives beside the picture; the rest is left out."""

    alpha: bool = False
    outside: Outside = "none"


@dataclass(frozen=True, eq=False)
class DecodedFrame:
    """One frame of a video."""

    index: int
    """Position in the whole video, from 0."""
    pts: int
    """Presentation time in units of the video's ``time_base``."""
    rgb: Rgb
    beside: Beside | None = None
    """What a reader was asked to keep, where the frame has it."""


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
