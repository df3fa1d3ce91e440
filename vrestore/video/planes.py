"""libav frames to R'G'B' arrays and back, plane by plane, without swscale."""

import re
from dataclasses import dataclass
from typing import Literal

import av
import numpy as np
from jaxtyping import Shaped

from vrestore.errors import UnsupportedMediaError
from vrestore.video.colour import Plane, YuvRule, rgb_to_yuv, yuv_to_rgb
from vrestore.video.info import AlphaPlane, Outside, Rgb


@dataclass(frozen=True)
class PixelLayout:
    """How the samples of a pixel format lie in its planes."""

    kind: Literal["yuv", "rgb", "gray"]
    depth: int
    factors: tuple[int, int] = (1, 1)
    """Chroma subsampling (down, across)."""
    order: tuple[int, int, int] = (0, 1, 2)
    """Where R, G and B are: plane numbers, or positions inside a packed pixel."""
    samples: int = 1
    """Samples per pixel of a packed format; 1 for planes."""
    full: bool = False
    """Full range by name (the yuvj formats)."""

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        return np.dtype(np.uint8 if self.depth == 8 else "<u2")


_FACTORS = {"420": (2, 2), "422": (1, 2), "444": (1, 1), "440": (2, 1), "411": (1, 4), "410": (4, 4)}
_YUV = re.compile(r"yuv([aj]?)(420|422|444|440|411|410)p(9|10|12|14|16)?(?:le)?")
_GBR = re.compile(r"gbra?p(9|10|12|14|16)?(?:le)?")
_GRAY = re.compile(r"gray(9|10|12|14|16)?(?:le)?")
_PACKED = re.compile(r"([rgba0]{3,4})(24|48le|64le)?")
# formats that libav can lay out anew without touching a value
_SAME_VALUES = {
    "nv12": "yuv420p", "nv21": "yuv420p", "nv16": "yuv422p", "nv24": "yuv444p",
    "yuyv422": "yuv422p", "uyvy422": "yuv422p", "yvyu422": "yuv422p",
    "p010le": "yuv420p10le", "p210le": "yuv422p10le", "pal8": "rgb24", "ya8": "gray", "monow": "gray", "monob": "gray",
    "ya16le": "gray16le", "ya16be": "gray16le",
}  # fmt: skip
_ROUNDING = 1e-5
"""Less than half a code of 14 bits: no superwhite, but the rounding of a conversion."""
_WITH_ALPHA = {"pal8": "rgba", "ya8": "rgba", "ya16le": "rgba64le", "ya16be": "rgba64le"}
"""Where `_SAME_VALUES` leaves alpha out, a format that holds it."""


def pixel_layout(pix_fmt: str) -> PixelLayout | None:
    """The layout of a libav pixel format, or ``None`` where there is no direct one."""
    if match := _YUV.fullmatch(pix_fmt):
        return PixelLayout("yuv", int(match[3] or 8), _FACTORS[match[2]], full=match[1] == "j")
    if match := _GBR.fullmatch(pix_fmt):
        return PixelLayout("rgb", int(match[1] or 8), order=(2, 0, 1))
    if match := _GRAY.fullmatch(pix_fmt):
        return PixelLayout("gray", int(match[1] or 8), order=(0, 0, 0))
    match = _PACKED.fullmatch(pix_fmt)
    if match and all(letter in match[1] for letter in "rgb"):
        order = (match[1].index("r"), match[1].index("g"), match[1].index("b"))
        depth = 8 if match[2] in (None, "24") else 16
        return PixelLayout("rgb", depth, order=order, samples=len(match[1]))
    return None


def readable_format(pix_fmt: str) -> str:
    """The format with a direct layout and equal values.

    Raises:
        UnsupportedMediaError: there is none (Bayer, floating point, exotic packings).
    """
    name = _SAME_VALUES.get(pix_fmt, pix_fmt)
    name = name.removesuffix("be") + "le" if name.endswith("be") else name
    if pixel_layout(name) is None:
        raise UnsupportedMediaError(
            f"pixel format {pix_fmt} is not handled; convert the video to yuv420p, yuv444p, rgb24 or gbrp16le first"
        )
    return name


def has_alpha(pix_fmt: str) -> bool:
    """Whether the format carries transparency."""
    named = pix_fmt.startswith(("yuva", "gbrap", "ya")) or bool(re.match("[rgb]*a", pix_fmt))
    return pix_fmt == "pal8" or (named and not pix_fmt.startswith("gray"))


def frame_to_alpha(frame: av.VideoFrame) -> AlphaPlane:
    """The opacity of a decoded frame whose format `has_alpha`, in [0, 1]."""
    name = _WITH_ALPHA.get(frame.format.name) or readable_format(frame.format.name)
    if name != frame.format.name:
        frame = frame.reformat(format=name)
    layout = pixel_layout(name)
    if layout is None or not has_alpha(name):
        raise UnsupportedMediaError(f"pixel format {frame.format.name} has no alpha that can be read")
    return _alpha(frame, layout).astype(np.float32) / np.float32(2**layout.depth - 1)


def frame_to_rgb(frame: av.VideoFrame, rule: YuvRule, *, clip: bool = True) -> Rgb:
    """The picture of a decoded frame in [0, 1]. ``rule`` counts for YCbCr (and, its range, for gray) only.

    Without ``clip``, YCbCr codes that mean values outside of [0, 1] give those.
    """
    name = readable_format(frame.format.name)
    if name != frame.format.name:
        frame = frame.reformat(format=name)
    layout = pixel_layout(name)
    if layout is None:  # readable_format has seen to it
        raise UnsupportedMediaError(f"pixel format {name} is not handled")
    if layout.kind == "yuv":
        y, u, v = (_plane(frame, i, layout) for i in range(3))
        return yuv_to_rgb(y, u, v, layout.depth, rule, clip=clip)
    top = float(2**layout.depth - 1)
    rgb = np.empty((3, frame.height, frame.width), np.float32)
    for channel, at in enumerate(layout.order):
        samples = _plane(frame, 0 if layout.samples > 1 else at, layout)
        np.multiply(samples[:, at :: layout.samples] if layout.samples > 1 else samples, 1 / top, out=rgb[channel])
    return rgb


def parted(rgb: Rgb, rule: YuvRule, keep: Outside) -> tuple[Rgb, Rgb | None]:
    """A picture in [0, 1], and what was asked to be kept of what lies outside, if anything does; ``rgb`` is used up.

    Luma is taken off all three channels alike, so that the colour of a highlight stays.
    """
    outside = None
    if keep in ("white", "luma"):
        luma = rule.kr * rgb[0] + (1 - rule.kr - rule.kb) * rgb[1] + rule.kb * rgb[2]
        beyond = luma - np.clip(luma, 0 if keep == "luma" else None, 1)
        if np.abs(beyond).max() > _ROUNDING:
            outside = np.repeat(beyond[None].astype(np.float32), 3, axis=0)
            rgb -= outside
    elif keep == "all" and (rgb.min() < 0 or rgb.max() > 1):
        outside = rgb - np.clip(rgb, 0, 1)
    return np.clip(rgb, 0, 1, out=rgb), outside


def rgb_to_frame(
    rgb: Rgb, pix_fmt: str, rule: YuvRule, *, dither: bool, exact: bool = False, alpha: AlphaPlane | None = None
) -> av.VideoFrame:
    """A frame of ``pix_fmt`` (YCbCr, RGB, or gray, of blue; little endian) with ``rgb``; values are rounded, half up.

    ``dither`` adds a fixed 8 x 8 ordered pattern of less than half a code before rounding: a value that is exactly
    representable stays what it is, and everything else keeps its local mean. ``exact``: subsampled chroma is what
    `frame_to_rgb` enlarges to the picture's, which gives a decoded picture its own codes back. A format with alpha
    gets ``alpha``, or is opaque.
    """
    layout = pixel_layout(pix_fmt)
    if layout is None:
        raise UnsupportedMediaError(f"pixel format {pix_fmt} cannot be written")
    height, width = rgb.shape[1:]
    frame = av.VideoFrame(width, height, pix_fmt)
    if layout.kind == "yuv":
        for i, plane in enumerate(rgb_to_yuv(rgb, layout.depth, layout.factors, rule, exact=exact)):
            _plane(frame, i, layout)[...] = _rounded(plane, layout, dither)
    else:
        for channel, at in enumerate(layout.order):
            codes = _rounded(rgb[channel] * np.float32(2**layout.depth - 1), layout, dither)
            if layout.samples > 1:
                _plane(frame, 0, layout)[:, at :: layout.samples] = codes
            else:
                _plane(frame, at, layout)[...] = codes
    if has_alpha(pix_fmt):
        opaque = 2**layout.depth - 1
        _alpha(frame, layout)[...] = opaque if alpha is None else _rounded(alpha * np.float32(opaque), layout, False)
    elif layout.samples == 4:  # the byte that means nothing is part of what an encoder sees
        _alpha(frame, layout)[...] = 0
    return frame


def _alpha(frame: av.VideoFrame, layout: PixelLayout) -> Shaped[np.ndarray, "_ _"]:
    """A writable view of the fourth component."""
    if layout.samples == 1:
        return _plane(frame, 3, layout)
    (at,) = {0, 1, 2, 3} - set(layout.order)
    return _plane(frame, 0, layout)[:, at::4]


def _plane(frame: av.VideoFrame, i: int, layout: PixelLayout) -> Shaped[np.ndarray, "_ _"]:
    """A writable view of one plane, without its padding."""
    plane = frame.planes[i]
    samples = np.frombuffer(memoryview(plane), layout.dtype).reshape(plane.height, -1)
    return samples[:, : plane.width * layout.samples]


def _rounded(codes: Plane, layout: PixelLayout, dither: bool) -> Shaped[np.ndarray, "_ _"]:
    """Rounds in place; the result's type is the layout's."""
    if dither:
        rows, columns = codes.shape
        codes += np.tile(_PATTERN, (-(-rows // 8), -(-columns // 8)))[:rows, :columns]
    else:
        codes += np.float32(0.5)
    np.clip(codes, 0, 2**layout.depth - 1, out=codes)
    return codes.astype(layout.dtype)


def _ordered_pattern() -> Plane:
    """Bayer's (1973) 8 x 8 matrix, in (0, 1) with mean one half: flooring a sum with it dithers."""
    matrix = np.zeros((1, 1))
    for _ in range(3):
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return ((matrix + 0.5) / 64).astype(np.float32)


_PATTERN = _ordered_pattern()
