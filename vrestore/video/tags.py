"""What decoded frames say of their samples: colours, chroma location, pixel shape; and what an output lost of it."""

import logging
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import av.logging
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from vrestore.errors import UnreadableMediaError, UnsupportedMediaError
from vrestore.video.colour import CHROMA_SITES
from vrestore.video.hdr import hdr_metadata
from vrestore.video.info import CHROMA_LOCATIONS, ColorTags, HdrMetadata
from vrestore.video.planes import PixelLayout, pixel_layout, readable_format
from vrestore.video.source import open_container, video_stream

log = logging.getLogger(__name__)

_UNKNOWN = {"primaries": (2,), "transfer": (2,), "matrix": (0, 2), "range": (0,), "chroma_location": (0,)}
"""Codes of each tag that say nothing, or nothing about the colours."""


def unseen(frame: VideoFrame) -> tuple[int, Fraction]:
    """AVChromaLocation and pixel shape of a frame, 0 where they are not stated.

    PyAV shows them nowhere, but in what FFmpeg's ``showinfo`` logs of a frame.
    """
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1))
    graph.link_nodes(source, graph.add("showinfo", "checksum=0"), graph.add("buffersink")).configure()
    before = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        with av.logging.Capture() as lines:
            graph.push(frame)
            graph.pull()
    finally:
        av.logging.set_level(before)
    found = re.search(r" cl:(\w+) sar:(\d+)/(\d+) ", "".join(text for _, _, text in lines))
    if found is None or found[1] not in CHROMA_LOCATIONS:
        return 0, Fraction(0)
    aspect = Fraction(int(found[2]), int(found[3])) if int(found[3]) else Fraction(0)
    return CHROMA_LOCATIONS.index(found[1]), aspect


def color_tags(context: VideoCodecContext, frame: VideoFrame, full: bool, chroma: int) -> ColorTags:
    """The tags of the decoded frame, or the container's where the frame has none.

    A chroma location that is not stated is the one that the codec's standard assumes.
    """
    matrix = int(frame.colorspace)
    matrix = int(context.colorspace) if matrix == 2 else matrix
    primaries = int(frame.color_primaries)
    transfer = int(frame.color_trc)
    range_ = int(frame.color_range) or int(context.color_range)
    centered = full or context.name in ("mjpeg", "mpeg1video")
    location = 0 if frame.format.is_rgb else chroma or (2 if centered else 3 if matrix == 9 else 1)
    return ColorTags(
        int(context.color_primaries) if primaries == 2 else primaries,
        int(context.color_trc) if transfer == 2 else transfer,
        matrix,
        2 if full else range_,
        location,
    )


def lost_tags(written: Path, color: ColorTags, hdr: HdrMetadata | None) -> list[str]:
    """Words for every tag of ``color``, and all of ``hdr``, that the first frame of a written video does not give.

    Nothing where that frame cannot be decoded here: what is written is not worse for it.
    """
    try:
        return _lost(written, color, hdr)
    except (UnreadableMediaError, UnsupportedMediaError) as error:
        log.warning("what the output says of its colours is not checked: %s", error)
        return []


def _lost(written: Path, color: ColorTags, hdr: HdrMetadata | None) -> list[str]:
    with open_container(written) as container:
        stream = video_stream(container, written)
        frame = next(container.decode(stream), None)
        if frame is None:
            raise UnreadableMediaError(f"{written} gives no frame")
        layout = pixel_layout(readable_format(frame.format.name)) or PixelLayout("yuv", 8)
        found = color_tags(stream.codec_context, frame, layout.full, unseen(frame)[0])
        kept = hdr_metadata(frame)
    if _sited_alike(color.chroma_location, found.chroma_location, layout.factors):
        found = replace(found, chroma_location=color.chroma_location)
    lost = [
        f"{name.replace('_', ' ')} {getattr(color, name)} (H.273)"
        for name, nothing in _UNKNOWN.items()
        if getattr(color, name) not in (*nothing, getattr(found, name))
    ]
    if hdr and hdr.mastering and not (kept and kept.mastering):
        lost.append("mastering display")
    if hdr and hdr.light and not (kept and kept.light):
        lost.append("content light level")
    return lost


def _sited_alike(one: int, other: int, factors: tuple[int, int]) -> bool:
    """Whether two chroma locations mean the same in every direction in which chroma is subsampled."""
    sites = zip(CHROMA_SITES.get(one, ()), CHROMA_SITES.get(other, ()), factors, strict=False)
    return one != 0 != other and all(a == b for a, b, factor in sites if factor > 1)
