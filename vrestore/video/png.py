"""What a PNG file says beside its pixels, in chunks after its header (PNG, third edition, W3C 2025, section 11.3)."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

from vrestore.video.info import ColorTags

_HEADER = 33
"""Bytes of the signature and the first chunk."""
_COLOUR, _FULL_RGB = b"cICP", b"\0\1"
_UNSPECIFIED = 2


def with_chunks(png: bytes, chunks: Mapping[bytes, bytes]) -> bytes:
    """The file with more chunks, by their type, before its pixels."""
    made = [struct.pack(">I", len(body)) + kind + body for kind, body in chunks.items()]
    made = [chunk + struct.pack(">I", zlib.crc32(chunk[4:])) for chunk in made]
    return b"".join([png[:_HEADER], *made, png[_HEADER:]])


def colour_chunks(color: ColorTags) -> dict[bytes, bytes]:
    """The chunk for primaries and transfer, where both are known.

    The shape of pixels has one, too, but FFmpeg and the standard mean opposite things by it, so it is not used.
    """
    if _UNSPECIFIED in (color.primaries, color.transfer):
        return {}
    return {_COLOUR: bytes((color.primaries, color.transfer, *_FULL_RGB))}


def read_colour(path: Path) -> ColorTags:
    """What `colour_chunks` wrote, or another program; nothing where it is not said."""
    with path.open("rb") as file:
        file.seek(_HEADER)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in (b"IDAT", b"IEND"):
                break
            if kind == _COLOUR and length == 4:
                primaries, transfer, *rest = file.read(4).ljust(4, b"\0")
                return ColorTags(primaries, transfer, range=2) if bytes(rest) == _FULL_RGB else ColorTags(range=2)
            file.seek(length + 4, 1)
    return ColorTags(range=2)
