"""OpenEXR pictures by libav: scene-linear light in and out, half or full floats, with alpha.

Rule: light in [0, 1] is coded by the sRGB curve, which makes it a picture like any other to a prior. What lies beyond
(highlights, negative values) goes beside the picture, is enlarged bicubically, and comes back on top of it.
"""

import io
import logging
import re
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


def probe_exr(path: Path) -> VideoInfo:
    """Facts of an OpenEXR picture: a video of one frame at one frame per second.

    Raises:
        UnreadableMediaError: damaged.
        UnsupportedMediaError: without plain R, G, B (or Y) channels, such as layers or depth alone.
    """
    samples, pix_fmt = _decoded(path)
    # the format's own default: Rec. 709 primaries
    return VideoInfo(
        path=path, width=samples.shape[2], height=samples.shape[1], frames=1, fps=Fraction(1), time_base=Fraction(1),
        start_pts=0, duration_s=0.0, codec="exr", pix_fmt=pix_fmt, bit_depth=16 if "f16" in pix_fmt else 32,
        color=ColorTags(1, SRGB, 2, 2), is_still=True,
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


def exr_bytes(rgb: Rgb, pix_fmt: str, transfer: int, beside: Beside) -> bytes:
    """An OpenEXR file (ZIP compression) of a coded picture, which is brought to linear light.

    ``pix_fmt``: one of `HALF_FORMATS` and `FLOAT_FORMATS`. Halves are rounded to the nearest.
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
        encoder.options = {"format": "half" if half else "float", "compression": "zip16"}
        frame.pts = 0
        return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
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
