"""Which part of a video is meant: positions as people give them, as frames."""

from fractions import Fraction

from vrestore.errors import ConfigError
from vrestore.video import VideoInfo, open_reader


def frame_span(info: VideoInfo, start: str | None, end: str | None) -> tuple[int, int]:
    """Frames from ``start`` up to ``end`` (exclusive), each a frame number or a time; ConfigError if that is empty."""
    first = 0 if start is None else _position(info, start)
    last = info.frames if end is None else min(_position(info, end), info.frames)
    if not 0 <= first < last:
        raise ConfigError(f"frames {first} to {last} of {info.frames} hold nothing; give a start before the end")
    return first, last


def _position(info: VideoInfo, text: str) -> int:
    """ "120" is a frame; "5.2s", "5.2", "01:05.2" and "00:01:05.2" are times from the first frame on."""
    if text.isdecimal():
        return int(text)
    try:
        seconds = Fraction(0)
        for part in text.removesuffix("s").split(":"):
            seconds = seconds * 60 + Fraction(part)
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"position {text!r} is neither a frame (120) nor a time (5.2s, 00:01:05.2)") from error
    if not info.vfr:
        return int(-(-seconds * info.fps // 1))  # the first frame at or after that time
    with open_reader(info, pace="fast") as reader:
        due = info.start_pts + seconds / info.time_base
        return next((frame.index for frame in reader.frames() if frame.pts >= due), info.frames)
