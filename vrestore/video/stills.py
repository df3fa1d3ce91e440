"""Still pictures: facts, reading and writing. Pillow checks the file, OpenCV keeps 16 bits."""

import warnings
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from vrestore.errors import ConfigError, OutputError, UnreadableMediaError, UnsupportedMediaError
from vrestore.video.files import replacing
from vrestore.video.info import ColorTags, Rgb, VideoInfo

STILL_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
_DEEP_SUFFIXES = (".png", ".tif", ".tiff")
_OPTIONS = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95], ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95]}
_QUARTER_TURNS = (5, 6, 7, 8)
"""Values of Exif's orientation that swap width and height."""


def is_still_name(path: Path) -> bool:
    """Whether the name ends like that of a still picture."""
    return path.suffix.lower() in STILL_SUFFIXES


def probe_still(path: Path) -> VideoInfo:
    """Facts of a picture: a video of one frame at one frame per second.

    Raises:
        UnreadableMediaError: not a picture, or damaged.
        UnsupportedMediaError: an animation, or too large.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:  # damage ends in an error anyway
            if getattr(image, "n_frames", 1) > 1 and image.format != "TIFF":
                raise UnsupportedMediaError(f"{path} is an animation; convert it to a video first")
            image.load()
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) in _QUARTER_TURNS
            name = (image.format or "image").lower()
    except Image.DecompressionBombError as error:
        raise UnsupportedMediaError(f"{path} is too large a picture; split it into parts first") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UnreadableMediaError(f"{path} is not a readable picture: {str(error).splitlines()[0]}") from error
    depth = _pixels(path).dtype.itemsize * 8
    return VideoInfo(
        path=path, width=height if turned else width, height=width if turned else height, frames=1, fps=Fraction(1),
        time_base=Fraction(1), start_pts=0, duration_s=0.0, codec=name, pix_fmt="rgb24" if depth == 8 else "rgb48le",
        bit_depth=depth, color=ColorTags(range=2), is_still=True,
    )  # fmt: skip


def read_still(path: Path) -> Rgb:
    """The picture, upright, in [0, 1]; gray is repeated, transparency dropped."""
    pixels = _pixels(path)
    top = float(np.iinfo(pixels.dtype).max)
    return np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1)) / np.float32(top)


def write_still(path: Path | str, rgb: Rgb, *, bit_depth: int = 8) -> None:
    """Writes a picture (png, jpg, tif, webp, bmp by its name); it appears only when it is complete.

    Args:
        rgb: (3, height, width) in [0, 1]; what lies outside is clipped.
        bit_depth: 8, or 16 for png and tif; other kinds hold 8 bits and get 8.

    Raises:
        ConfigError: the name ends like no kind of picture.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in STILL_SUFFIXES:
        raise ConfigError(f"{path.name} does not end like a picture; end it with one of {', '.join(STILL_SUFFIXES)}")
    if bit_depth not in (8, 16):
        raise ConfigError(f"bit depth {bit_depth} of a picture is not 8 or 16")
    deep = bit_depth == 16 and suffix in _DEEP_SUFFIXES
    codes = np.clip(rgb, 0, 1) * np.float32(65535 if deep else 255) + np.float32(0.5)
    pixels = np.ascontiguousarray(codes.astype(np.uint16 if deep else np.uint8).transpose(1, 2, 0)[..., ::-1])
    done, data = cv2.imencode(suffix, pixels, _OPTIONS.get(suffix, []))
    if not done:
        raise OutputError(f"{path} cannot be encoded as {suffix[1:]}: {rgb.shape[2]}x{rgb.shape[1]} may be too large")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _pixels(path: Path) -> np.ndarray:
    """(height, width, 3) blue first, uint8 or uint16, turned as Exif says."""
    data = np.fromfile(path, np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if pixels is None:
        raise UnreadableMediaError(f"{path} is not a readable picture")
    if pixels.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise UnsupportedMediaError(f"{path} holds {pixels.dtype} samples; save it with 8 or 16 bits first")
    return np.asarray(pixels)
