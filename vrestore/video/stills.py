"""Still pictures: facts, reading and writing. Pillow checks the file, OpenCV keeps 16 bits, libav does EXR and DPX."""

import warnings
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from vrestore.errors import ConfigError, OutputError, UnreadableMediaError, UnsupportedMediaError
from vrestore.video.colour import yuv_rule
from vrestore.video.exr import Marks, exr_bytes, probe_exr, read_exr
from vrestore.video.files import replacing
from vrestore.video.info import AlphaPlane, Beside, ColorTags, Rgb, VideoInfo
from vrestore.video.planes import frame_to_alpha, frame_to_rgb, has_alpha, pixel_layout, readable_format, rgb_to_frame
from vrestore.video.png import read_colour
from vrestore.video.source import open_container, reading, reason

STILL_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".exr")
"""Kinds of picture that are written."""
READ_SUFFIXES = (*STILL_SUFFIXES, ".dpx")
_DEEP_SUFFIXES = (".png", ".tif", ".tiff")
_OPTIONS = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95], ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95]}
_ORIENTATION = 0x0112
_TURNS = {1: (0, False), 2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True),
          8: (1, False)}  # fmt: skip
"""Quarter turns counter-clockwise, after mirroring left and right or not, by the value of Exif's orientation."""
_PLAIN = Beside()
_UNMARKED = Marks()


def is_still_name(path: Path) -> bool:
    """Whether the name ends like that of a still picture."""
    return path.suffix.lower() in READ_SUFFIXES


def probe_still(path: Path, *, moving: bool = False) -> VideoInfo:
    """Facts of a picture: a video of one frame at one frame per second.

    Alpha that is opaque all over counts as none, unless it is that of one frame among more (``moving``).

    Raises:
        UnreadableMediaError: not a picture, or damaged.
        UnsupportedMediaError: an animation, or too large.
    """
    suffix = path.suffix.lower()
    if suffix in (".exr", ".dpx"):
        return probe_exr(path) if suffix == ".exr" else _probe_dpx(path)
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:  # damage ends in an error anyway
            if getattr(image, "n_frames", 1) > 1 and image.format != "TIFF":
                raise UnsupportedMediaError(f"{path} is an animation; convert it to a video first")
            image.load()
            width, height = image.size
            turned = _TURNS.get(image.getexif().get(_ORIENTATION, 1), (0, False))[0] % 2 == 1
            name = (image.format or "image").lower()
            transparent = image.has_transparency_data
    except Image.DecompressionBombError as error:
        raise UnsupportedMediaError(f"{path} is too large a picture; split it into parts first") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UnreadableMediaError(f"{path} is not a readable picture: {str(error).splitlines()[0]}") from error
    color = read_colour(path) if name == "png" else ColorTags(range=2)
    depth = _pixels(path).dtype.itemsize * 8
    alpha = "a" if transparent and (moving or _alpha(path) is not None) else ""
    return VideoInfo(
        path=path, width=height if turned else width, height=width if turned else height, frames=1, fps=Fraction(1),
        time_base=Fraction(1), start_pts=0, duration_s=0.0, codec=name,
        pix_fmt=f"rgb{alpha}" + {"8": "24", "8a": "", "16": "48le", "16a": "64le"}[f"{depth}{alpha}"],
        bit_depth=depth, color=color, is_still=True,
    )  # fmt: skip


def read_still(path: Path, *, alpha: bool = True) -> tuple[Rgb, Beside]:
    """The picture, upright, in [0, 1], gray repeated; beside it alpha (if it is not opaque) and what is beyond 1."""
    suffix = path.suffix.lower()
    if suffix == ".exr":
        return read_exr(path)
    if suffix == ".dpx":
        frame = _dpx(path)
        rgb = frame_to_rgb(frame, yuv_rule(ColorTags(), frame.height, frame.width))
        return rgb, Beside(frame_to_alpha(frame)) if has_alpha(frame.format.name) else _PLAIN
    pixels = _pixels(path)
    top = float(np.iinfo(pixels.dtype).max)
    rgb = np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1)) / np.float32(top)
    return rgb, Beside(_alpha(path)) if alpha else _PLAIN


def write_still(path: Path | str, rgb: Rgb, *, bit_depth: int = 8) -> None:
    """Writes an opaque picture (png, jpg, tif, webp, bmp by its name); it appears only when it is complete.

    Args:
        rgb: (3, height, width) in [0, 1]; what lies outside is clipped.
        bit_depth: 8, or 16 for png and tif; other kinds hold 8 bits and get 8.

    Raises:
        ConfigError: the name ends like no kind of picture.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in STILL_SUFFIXES or suffix == ".exr":
        named = ", ".join(kind for kind in STILL_SUFFIXES if kind != ".exr")
        raise ConfigError(f"{path.name} does not end like a picture; end it with one of {named}")
    if bit_depth not in (8, 16):
        raise ConfigError(f"bit depth {bit_depth} of a picture is not 8 or 16")
    deep = bit_depth == 16 and suffix in _DEEP_SUFFIXES
    data = still_bytes(rgb, suffix, "rgb48le" if deep else "rgb24")
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def still_bytes(
    rgb: Rgb, suffix: str, pix_fmt: str, *, transfer: int = 0, beside: Beside = _PLAIN, marks: Marks = _UNMARKED
) -> bytes:
    """A picture file of the kind that ``suffix`` names.

    ``pix_fmt``: rgb24, rgba, rgb48le, rgba64le, or for .exr a floating point one; ``transfer`` is the curve by which
    .exr gets linear light, ``marks`` what its header says.

    Raises:
        OutputError: it cannot be encoded.
    """
    if suffix == ".exr":
        return exr_bytes(rgb, pix_fmt, transfer, beside, marks)
    top = 65535 if "64" in pix_fmt or "48" in pix_fmt else 255
    dtype = np.uint16 if top == 65535 else np.uint8
    planes = list(rgb[::-1])
    if has_alpha(pix_fmt):
        planes.append(np.ones(rgb.shape[1:], np.float32) if beside.alpha is None else beside.alpha)
    codes = np.clip(np.stack(planes, -1), 0, 1) * np.float32(top) + np.float32(0.5)
    if len(planes) == 4 and suffix in (".tif", ".tiff"):
        return _tiff_with_alpha(rgb, pix_fmt, planes[3])  # OpenCV does not say in the file that the fourth is alpha
    done, data = cv2.imencode(suffix, np.ascontiguousarray(codes.astype(dtype)), _OPTIONS.get(suffix, []))
    if not done:
        raise OutputError(f"a picture of {rgb.shape[2]}x{rgb.shape[1]} cannot be encoded as {suffix[1:]}")
    return bytes(data.tobytes())


def _tiff_with_alpha(rgb: Rgb, pix_fmt: str, alpha: AlphaPlane) -> bytes:
    height, width = rgb.shape[1:]
    frame = rgb_to_frame(np.clip(rgb, 0, 1), pix_fmt, yuv_rule(ColorTags(), height, width), dither=False, alpha=alpha)
    try:
        encoder = av.CodecContext.create("tiff", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, pix_fmt, Fraction(1)
        encoder.options = {"compression_algo": "lzw"}
        frame.pts = 0
        return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    except (av.error.FFmpegError, ValueError) as error:
        raise OutputError(f"a picture of {width}x{height} cannot be encoded as TIFF: {reason(error)}") from error


def _pixels(path: Path) -> np.ndarray:
    """(height, width, 3) blue first, uint8 or uint16, turned as Exif says."""
    data = np.fromfile(path, np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if pixels is None:
        raise UnreadableMediaError(f"{path} is not a readable picture")
    if pixels.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise UnsupportedMediaError(f"{path} holds {pixels.dtype} samples; save it with 8 or 16 bits first")
    return np.asarray(pixels)


def _alpha(path: Path) -> AlphaPlane | None:
    """Opacity, turned as Exif says; ``None`` where there is none or the picture is opaque all over."""
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim < 3 or pixels.shape[2] != 4:
        return None
    codes, top = np.asarray(pixels[..., 3]), np.iinfo(pixels.dtype).max
    if codes.min() == top:
        return None
    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        turns, mirrored = _TURNS.get(image.getexif().get(_ORIENTATION, 1), (0, False))
    codes = np.rot90(codes[:, ::-1] if mirrored else codes, turns)
    return np.ascontiguousarray(codes).astype(np.float32) / np.float32(top)


def _dpx(path: Path) -> av.VideoFrame:
    with reading(path), open_container(path) as container:
        for frame in container.decode(video=0):
            return frame
    raise UnreadableMediaError(f"{path} is not a readable picture")


def _probe_dpx(path: Path) -> VideoInfo:
    frame = _dpx(path)
    name = frame.format.name
    layout = pixel_layout(readable_format(name))
    return VideoInfo(
        path=path, width=frame.width, height=frame.height, frames=1, fps=Fraction(1), time_base=Fraction(1),
        start_pts=0, duration_s=0.0, codec="dpx", pix_fmt=name, bit_depth=layout.depth if layout else 8,
        color=ColorTags(range=2), is_still=True,
    )  # fmt: skip
