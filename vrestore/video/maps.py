"""Maps of one value for each pixel (depth) as files of data: 16-bit pictures, OpenEXR, NumPy archives, FFV1 in gray.

A `MapEncoding` stands where pictures have theirs; it takes the first channel of a frame. What its values mean is
written into every file: a text chunk in .png, an attribute in .exr, ``meta`` in .npz, the comment of a video.
"""

import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.lib import format as npy

from vrestore.errors import ConfigError, OutputError
from vrestore.video.encode import Encoding
from vrestore.video.files import replacing
from vrestore.video.info import Beside, Rgb
from vrestore.video.pictures import PictureEncoding
from vrestore.video.png import with_chunks

KINDS = (".png", ".tif", ".tiff", ".exr", ".npz")
"""Suffixes of files of data; a video is one in FFV1."""
GRAY = "gray16le"
_BLOCK = 16
"""Lines that OpenEXR's ZIP packs together."""


@dataclass(frozen=True)
class MapEncoding(PictureEncoding):
    """How maps are encoded."""

    note: str = ""
    """What the values mean: JSON."""
    channels: tuple[str, ...] = ("Z",)
    """Of .exr."""
    size: tuple[int, int] = (0, 0)
    """(height, width)."""

    def encoded(self, rgb: Rgb, beside: Beside | None) -> bytes:
        """A file of one map: its first channel."""
        values = np.ascontiguousarray(rgb[0], np.float32)
        if self.codec == "exr":
            return exr_bytes(dict.fromkeys(self.channels, values), {"comments": self.note})
        if self.codec == "npz":
            return values.astype("<f4").tobytes()
        return _gray16(values, self.codec, self.note)


@dataclass(frozen=True)
class NotedEncoding(Encoding):
    """That of a video whose values mean something."""

    note: str = ""


def is_gray(encoding: Encoding | PictureEncoding) -> bool:
    """Whether it takes values, not colours."""
    return isinstance(encoding, MapEncoding) or encoding.pix_fmt == GRAY


def noted(encoding: Encoding, note: Mapping[str, object], *, gray: bool) -> NotedEncoding:
    """The encoding with a note in the file's comment; ``gray``: one plane of 16 bits, which must be FFV1's."""
    known = {name: getattr(encoding, name) for name in Encoding.__dataclass_fields__}
    if not gray:
        return NotedEncoding(**known, note=json.dumps(note))
    if encoding.codec != "ffv1":
        raise ConfigError(
            f"gray values of 16 bits are written by FFV1 alone, not {encoding.codec}; give --codec ffv1 and an .mkv, "
            "or a .png, .exr or .npz output"
        )
    return NotedEncoding(**known | {"pix_fmt": GRAY, "dither": False}, note=json.dumps(note))


def choose_maps(
    output: Path, note: Mapping[str, object], first_number: int | None, channels: str, size: tuple[int, int]
) -> MapEncoding:
    """How maps are written to pictures or an archive. ConfigError for a kind that holds no data."""
    suffix = output.suffix.lower()
    if suffix not in KINDS:
        raise ConfigError(f"{output.name} holds no data of 16 bits; name one of {', '.join(KINDS)}, or an .mkv in FFV1")
    named = ("R", "G", "B") if channels == "RGB" else (channels,)
    return MapEncoding(suffix[1:], "gray16le", 0, first_number, note=json.dumps(note), channels=named, size=size)


def _gray16(values: np.ndarray, codec: str, note: str) -> bytes:
    codes = np.clip(values * np.float32(65535) + np.float32(0.5), 0, 65535).astype(np.uint16)
    done, data = cv2.imencode(f".{codec}", codes)
    if not done:
        raise OutputError(f"a map of {codes.shape[1]}x{codes.shape[0]} cannot be written as .{codec}")
    found = data.tobytes()
    comment = b"Comment\0" + note.encode("latin-1", "replace")
    return with_chunks(found, {b"tEXt": comment}) if codec == "png" and note else found


def exr_bytes(planes: Mapping[str, np.ndarray], attributes: Mapping[str, str]) -> bytes:
    """An OpenEXR file (scan lines, ZIP) of 32-bit float planes (height, width), by the names of their channels.

    Attributes are strings. The layout is that of "OpenEXR File Layout"; libav writes no channel but R, G, B and A.
    """
    names = sorted(planes)
    height, width = planes[names[0]].shape
    channels = b"".join(name.encode() + b"\0" + struct.pack("<iiii", 2, 0, 1, 1) for name in names) + b"\0"
    window = struct.pack("<iiii", 0, 0, width - 1, height - 1)
    values = {
        "channels": ("chlist", channels), "compression": ("compression", b"\x03"), "dataWindow": ("box2i", window),
        "displayWindow": ("box2i", window), "lineOrder": ("lineOrder", b"\0"),
        "pixelAspectRatio": ("float", struct.pack("<f", 1)), "screenWindowCenter": ("v2f", struct.pack("<ff", 0, 0)),
        "screenWindowWidth": ("float", struct.pack("<f", 1)),
        **{name: ("string", text.encode()) for name, text in attributes.items()},
    }  # fmt: skip
    head = struct.pack("<II", 20000630, 2)
    for name, (kind, value) in values.items():
        head += name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<I", len(value)) + value
    head += b"\0"
    blocks = []
    for top in range(0, height, _BLOCK):
        lines = [
            planes[name][row].astype("<f4").tobytes() for row in range(top, min(top + _BLOCK, height)) for name in names
        ]
        packed = _zipped(b"".join(lines))
        blocks.append(struct.pack("<iI", top, len(packed)) + packed)
    starts = np.cumsum([len(head) + 8 * len(blocks), *(len(block) for block in blocks[:-1])])
    return head + starts.astype("<u8").tobytes() + b"".join(blocks)


def _zipped(data: bytes) -> bytes:
    """As OpenEXR's ZIP: bytes at even places before those at odd ones, then differences, then deflate."""
    raw = np.frombuffer(data, np.uint8)
    apart = np.concatenate([raw[::2], raw[1::2]]).astype(np.int16)
    apart[1:] = np.diff(apart) + 128
    packed = zlib.compress((apart & 255).astype(np.uint8).tobytes(), 4)
    return packed if len(packed) < len(data) else data


def pack(segments: Sequence[Path], output: Path, encoding: MapEncoding) -> None:
    """The archive of all segments: ``depth`` (time, height, width) float32 and ``meta``, a JSON text.

    The maps are copied one by one. OutputError if one is missing or the file cannot be written.
    """
    names = [segment.with_name(name) for segment in segments for name in json.loads(segment.read_text())]
    try:
        with (
            replacing(output) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as kept,
        ):
            with kept.open("depth.npy", "w", force_zip64=True) as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": (len(names), *encoding.size)}
                npy.write_array_header_2_0(file, header)
                for name in names:
                    file.write(name.read_bytes())
            with kept.open("meta.npy", "w") as file:
                npy.write_array(file, np.array(encoding.note))
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror or error}") from error
