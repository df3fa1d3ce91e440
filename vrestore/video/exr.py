"""OpenEXR pictures by libav: scene-linear light in and out, half or full floats, with alpha.

Rule: light in [0, 1] is coded by the sRGB curve, which makes it a picture like any other to a prior. What lies beyond
(highlights, negative values) goes beside the picture, is enlarged bicubically, and comes back on top of it.
"""

import io
import logging
import math
import re
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float32

from vrestore.errors import OutputError, UnreadableMediaError, UnsupportedMediaError
from vrestore.video.info import Beside, ColorTags, Rgb, VideoInfo
from vrestore.video.source import reason
from vrestore.video.transfer import SRGB, from_linear, to_linear

log = logging.getLogger(__name__)

Samples = Float32[np.ndarray, "channels height width"]
"""R, G, B, and alpha where there is one."""

HALF_FORMATS = ("gbrpf16le", "gbrapf16le")
FLOAT_FORMATS = ("gbrpf32le", "gbrapf32le")
_PLANES = {"gbrp": (2, 0, 1), "gbrap": (2, 0, 1, 3), "gray": (0, 0, 0)}
"""Where R, G, B and alpha are."""
_FLOATS = re.compile(r"(gbrp|gbrap|gray)f(16|32)le")
_LARGEST_HALF = 65504.0
_D65 = (0.3127, 0.3290)
PRIMARIES = {
    1: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, *_D65),
    5: (0.640, 0.330, 0.290, 0.600, 0.150, 0.060, *_D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *_D65),
}
"""CIE 1931 x and y of red, green, blue and white by the code of H.273, table 2."""
_HEADER = 8
_UNSPECIFIED = 2


@dataclass(frozen=True)
class Marks:
    """What the header of an OpenEXR file says of its pixels."""

    chromaticities: tuple[float, ...] = ()
    """As in `PRIMARIES`; empty where the file does not say, which means Rec. 709."""
    aspect: Fraction = Fraction(1)
    """Width of a pixel over its height."""

    @property
    def primaries(self) -> int:
        """The code of H.273, `_UNSPECIFIED` for others."""
        codes = (c for c, known in PRIMARIES.items() if np.allclose(self.chromaticities, known, atol=5e-4))
        return next(codes, _UNSPECIFIED) if self.chromaticities else 1


_UNMARKED = Marks()


def probe_exr(path: Path) -> VideoInfo:
    """Facts of an OpenEXR picture: a video of one frame at one frame per second.

    Raises:
        UnreadableMediaError: damaged.
        UnsupportedMediaError: without plain R, G, B (or Y) channels, such as layers or depth alone.
    """
    samples, pix_fmt = _decoded(path)
    marks = _marks(path.read_bytes())
    return VideoInfo(
        path=path, width=samples.shape[2], height=samples.shape[1], frames=1, fps=Fraction(1), time_base=Fraction(1),
        start_pts=0, duration_s=0.0, codec="exr", pix_fmt=pix_fmt, bit_depth=16 if "f16" in pix_fmt else 32,
        color=ColorTags(marks.primaries, SRGB, 2, 2), sample_aspect=marks.aspect, is_still=True,
        chromaticities=marks.chromaticities,
    )  # fmt: skip


def read_exr(path: Path) -> tuple[Rgb, Beside]:
    """The picture coded by the sRGB curve, in [0, 1], and beside it alpha and what is beyond (if there is any)."""
    samples, _ = _decoded(path)
    if not np.isfinite(samples).all():
        log.warning("%s holds values that are not finite: not-a-number becomes 0, infinity %g", path, _LARGEST_HALF)
        samples = np.nan_to_num(samples, nan=0.0, posinf=_LARGEST_HALF, neginf=-_LARGEST_HALF)
    light = samples[:3]
    coded = from_linear(light)
    rgb = np.clip(coded, 0, 1)
    beyond = (light < 0) | (light > 1)
    outside = np.where(beyond, coded - rgb, np.float32(0)) if beyond.any() else None
    return rgb, Beside(np.clip(samples[3], 0, 1) if len(samples) == 4 else None, outside)


def exr_bytes(rgb: Rgb, pix_fmt: str, transfer: int, beside: Beside, marks: Marks = _UNMARKED) -> bytes:
    """An OpenEXR file (ZIP compression) of a coded picture, which is brought to linear light.

    ``pix_fmt``: one of `HALF_FORMATS` and `FLOAT_FORMATS`. Halves are rounded to the nearest.

    Raises:
        OutputError: it cannot be encoded.
    """
    height, width = rgb.shape[1:]
    light = to_linear(rgb if beside.outside is None else rgb + beside.outside, transfer)
    half = pix_fmt in HALF_FORMATS
    work = FLOAT_FORMATS[HALF_FORMATS.index(pix_fmt)] if half else pix_fmt
    frame = av.VideoFrame(width, height, work)
    opaque = np.ones((height, width), np.float32) if beside.alpha is None else beside.alpha
    for samples, at in zip((*light, opaque), _PLANES["gbrap"][: len(frame.planes)], strict=False):
        if half:
            samples = np.clip(samples, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16).astype(np.float32)
        plane = np.frombuffer(memoryview(frame.planes[at]), np.float32).reshape(height, -1)
        plane[:, :width] = samples
    try:
        encoder = av.CodecContext.create("exr", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, work, Fraction(1)
        encoder.sample_aspect_ratio = marks.aspect
        encoder.options = {"format": "half" if half else "float", "compression": "zip16"}
        frame.pts = 0
        data = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
        return _marked(data, marks)
    except (av.error.FFmpegError, ValueError) as error:
        raise OutputError(f"a picture of {width}x{height} cannot be encoded as EXR: {reason(error)}") from error


def _decoded(path: Path) -> tuple[Samples, str]:
    """The samples as they are, and the pixel format they came in (gray counts as R = G = B)."""
    try:
        # from memory: libav takes some file names for patterns
        with av.open(io.BytesIO(path.read_bytes()), "r", format="exr_pipe") as container:
            frame = next(container.decode(video=0), None)
    except av.error.PatchWelcomeError as error:
        raise UnsupportedMediaError(
            f"{path} has no plain R, G and B channels (layers, parts or other channels only); save RGB(A) first"
        ) from error
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableMediaError(f"{path} is not a readable OpenEXR picture: {reason(error)}") from error
    if frame is None:
        raise UnreadableMediaError(f"{path} is not a readable OpenEXR picture")
    kind = _FLOATS.fullmatch(frame.format.name)
    if kind is None:
        raise UnsupportedMediaError(
            f"{path} holds {frame.format.name} samples; save it as RGB(A) in half or float first"
        )
    order, dtype = _PLANES[kind[1]], np.dtype("<f2" if kind[2] == "16" else "<f4")
    samples = np.empty((len(order), frame.height, frame.width), np.float32)
    for channel, at in enumerate(order):
        plane = np.frombuffer(memoryview(frame.planes[at]), dtype).reshape(frame.height, -1)
        samples[channel] = plane[:, : frame.width]
    return samples, frame.format.name.replace("gray", "gbrp")


def _header(data: bytes) -> tuple[dict[str, tuple[int, int]], int]:
    """Place and size of every value of the (first) header by its name, and where the header's closing zero stands.

    The layout is that of "OpenEXR File Layout": name, type, size, value.
    """
    found, at = {}, _HEADER
    while data[at]:
        end = data.index(0, at)
        start = data.index(0, end + 1) + 5
        size = int.from_bytes(data[start - 4 : start], "little")
        found[data[at:end].decode("latin-1")] = (start, size)
        at = start + size
    return found, at


def _marks(data: bytes) -> Marks:
    """What a file says; nothing where its header is damaged."""
    try:
        values = {name: data[start : start + size] for name, (start, size) in _header(data)[0].items()}
        chromaticities = struct.unpack("<8f", values["chromaticities"]) if "chromaticities" in values else ()
        (aspect,) = struct.unpack("<f", values.get("pixelAspectRatio", b"\0\0\x80?"))
    except (IndexError, ValueError, struct.error):
        return _UNMARKED
    shape = Fraction(aspect).limit_denominator(1000) if math.isfinite(aspect) and aspect > 0 else Fraction(1)
    if not all(map(math.isfinite, chromaticities)):
        chromaticities = ()
    return Marks(tuple(round(value, 6) for value in chromaticities), shape or Fraction(1))


def _marked(data: bytes, marks: Marks) -> bytes:
    """A file as libav wrote it, which has no chromaticities, with those of ``marks`` in its header."""
    if not marks.chromaticities:
        return data
    _, end = _header(data)
    new = b"chromaticities\0chromaticities\0" + struct.pack("<I8f", 32, *marks.chromaticities)
    # a table of where each block of lines begins follows; the first begins where the table ends
    (first,) = struct.unpack_from("<Q", data, end + 1)
    table = np.frombuffer(data[end + 1 : first], "<u8") + np.uint64(len(new))
    return data[:end] + new + b"\0" + table.astype("<u8").tobytes() + data[first:]
