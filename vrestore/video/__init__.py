"""Video in, video out: exact frames, times and colours. No models, no torch."""

from vrestore.video.choose import choose_encoding, output_beside
from vrestore.video.encode import VIDEO_FORMATS, Encoding, SegmentWriter
from vrestore.video.files import remove_stale
from vrestore.video.formats import Formats
from vrestore.video.info import Beside, ColorTags, DecodedFrame, FrameReader, Keep, Rgb, VideoInfo
from vrestore.video.mux import mux
from vrestore.video.probe import probe
from vrestore.video.read import open_reader
from vrestore.video.shots import Shot, detect_shots
from vrestore.video.stills import STILL_SUFFIXES, write_still

__all__ = [
    "STILL_SUFFIXES",
    "VIDEO_FORMATS",
    "Beside",
    "ColorTags",
    "DecodedFrame",
    "Encoding",
    "Formats",
    "FrameReader",
    "Keep",
    "Rgb",
    "SegmentWriter",
    "Shot",
    "VideoInfo",
    "choose_encoding",
    "detect_shots",
    "mux",
    "open_reader",
    "output_beside",
    "probe",
    "remove_stale",
    "write_still",
]
