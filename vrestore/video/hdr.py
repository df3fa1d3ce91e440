"""Static HDR metadata (HDR10): read from decoded frames, given to encoders, and to containers.

Encoders write it into the stream (an SEI message, an OBU). PyAV gives no access to a container's own record of it, but
hands on what a template stream has; so `marked_template` makes a file of some hundred bytes in memory, a Matroska
header (RFC 9559, section 5.1.4.1.28), that has it.
"""

import io
import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from vrestore.video.info import HdrMetadata, MasteringDisplay

_LOST = {
    "A53_CC": "closed captions inside the pictures",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
}
_CODEC_IDS = {
    "av1": "V_AV1",
    "ffv1": "V_FFV1",
    "h264": "V_MPEG4/ISO/AVC",
    "hevc": "V_MPEGH/ISO/HEVC",
    "prores": "V_PRORES",
    "vp9": "V_VP9",
}
# ChromaSitingHorz and ChromaSitingVert by H.273's chroma location plus one: 1 collocated, 2 half
_SITING = {1: (1, 2), 2: (2, 2), 3: (1, 1), 4: (2, 1)}


def hdr_metadata(frame: VideoFrame) -> HdrMetadata | None:
    """What a decoded frame says, be it from the stream or from the container."""
    side_data: Any = frame.side_data  # a mapping that iterates over its values
    found = {data.type: bytes(data) for data in side_data}
    mastering = None
    if raw := found.get(Type.MASTERING_DISPLAY_METADATA):
        # AVMasteringDisplayMetadata: x and y of R, G, B and white, least and most luminance, two flags
        *numbers, has_primaries, has_luminance = struct.unpack("=22i", raw[:88])
        values = [Fraction(a, b) if b else Fraction(0) for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
        mastering = MasteringDisplay(
            tuple(values[:8]) if has_primaries else (), tuple(values[8:]) if has_luminance else ()
        )
    light = None
    if raw := found.get(Type.CONTENT_LIGHT_LEVEL):
        brightest, mean = struct.unpack("=2I", raw[:8])
        light = (brightest, mean) if brightest or mean else None  # x265 writes zeros for "unknown"
    return HdrMetadata(mastering, light) if mastering or light else None


def lost_metadata(frame: VideoFrame) -> list[str]:
    """What a decoded frame carries beside its picture that no output can have: words for a warning."""
    side_data: Any = frame.side_data
    kinds = {data.type.name for data in side_data}
    return [words for kind, words in _LOST.items() if kind in kinds]


def with_hdr(options: Mapping[str, str], codec: str, hdr: HdrMetadata | None) -> dict[str, str]:
    """The options of a libav encoder, with the metadata where it has a place for it."""
    key = {"libx264": "x264-params", "libx265": "x265-params", "libsvtav1": "svtav1-params"}.get(codec)
    if hdr is None or key is None:
        return dict(options)
    parts = [options[key]] if options.get(key) else []
    display, whole = hdr.mastering, codec != "libsvtav1"
    if display and display.chromaticities and display.luminance:
        # x264 and x265 count chromaticities in 0.00002, luminances in 0.0001; SVT-AV1 takes decimals
        unit, nit = (50000, 10000) if whole else (1, 1)
        red, green, blue, white = (
            f"({_number(x * unit, whole)},{_number(y * unit, whole)})"
            for x, y in zip(display.chromaticities[::2], display.chromaticities[1::2], strict=True)
        )
        least, most = (_number(value * nit, whole) for value in display.luminance)
        name = "master-display" if codec == "libx265" else "mastering-display"
        parts.append(f"{name}=G{green}B{blue}R{red}WP{white}L({most},{least})")
    if hdr.light:
        name = {"libx264": "cll", "libx265": "max-cll", "libsvtav1": "content-light"}[codec]
        parts.append(f"{name}={hdr.light[0]},{hdr.light[1]}")
    return {**options, key: ":".join(parts)}


def _number(value: Fraction, whole: bool) -> str:
    return str(round(value)) if whole else f"{float(value):.6f}"


def marked_template(context: VideoCodecContext, hdr: HdrMetadata | None, chroma_location: int) -> InputContainer | None:
    """A container whose only stream is like the coded one and has the metadata; ``None`` for other codecs.

    What a stream needs beside is taken from ``context``, which must have its extradata.
    """
    codec = _CODEC_IDS.get(context.codec.canonical_name)
    if codec is None:
        return None
    colour = b""
    if chroma_location in _SITING:
        across, down = _SITING[chroma_location]
        colour += _unsigned(0x55B7, across) + _unsigned(0x55B8, down)
    if hdr and hdr.light:
        colour += _unsigned(0x55BC, hdr.light[0]) + _unsigned(0x55BD, hdr.light[1])
    if hdr and hdr.mastering:
        display = hdr.mastering
        values = [*(display.chromaticities or [None] * 8), *reversed(display.luminance)]
        floats = [_element(0x55D1 + i, struct.pack(">d", v)) for i, v in enumerate(values) if v is not None]
        colour += _element(0x55D0, b"".join(floats))
    picture = _unsigned(0xB0, context.width) + _unsigned(0xBA, context.height) + _element(0x55B0, colour)
    private = _element(0x63A2, context.extradata) if context.extradata else b""
    track = b"".join(_unsigned(name, 1) for name in (0xD7, 0x73C5, 0x83))  # number, identity, "video"
    track += _element(0x86, codec.encode()) + private + _element(0xE0, picture)
    segment = _element(0x1549A966, _unsigned(0x2AD7B1, 1_000_000)) + _element(0x1654AE6B, _element(0xAE, track))
    segment += _element(0x1F43B675, _unsigned(0xE7, 0) + _element(0xA3, b"\x81\0\0\x80" + bytes(8)))
    head = _element(0x1A45DFA3, _element(0x4282, b"matroska") + _unsigned(0x4287, 4) + _unsigned(0x4285, 2))
    template: InputContainer = av.open(io.BytesIO(head + _element(0x18538067, segment)), "r", format="matroska")
    return template


def _element(name: int, payload: bytes) -> bytes:
    """An EBML element (RFC 8794); its size takes eight bytes."""
    size = (1 << 56 | len(payload)).to_bytes(8, "big")
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + size + payload


def _unsigned(name: int, value: int) -> bytes:
    return _element(name, value.to_bytes(8, "big"))
