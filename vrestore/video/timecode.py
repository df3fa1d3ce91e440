"""SMPTE 12M timecodes: "01:00:00:05", and with ";" before the frames those that drop numbers to keep to the clock."""

import re
from fractions import Fraction

_RATES = (24, 25, 30, 48, 50, 60, 100, 120)
"""Frames per second that a timecode can count."""


def counting_rate(fps: Fraction) -> Fraction | None:
    """The rate at which timecodes of such a video count: its own if there are timecodes of it, else the nearest within
    a tenth (a variable rate has an odd mean), else ``None``."""
    if round(fps) in _RATES:
        return fps
    near = min(_RATES, key=lambda rate: abs(rate - fps))
    return Fraction(near) if abs(near - fps) <= Fraction(near, 10) else None


def advanced(timecode: str, frames: int, fps: Fraction) -> str:
    """The timecode ``frames`` later; what is no timecode stays what it is."""
    parts = re.fullmatch(r"(\d\d):(\d\d):(\d\d)([:;.,])(\d\d\d?)", timecode.strip())
    rate = counting_rate(fps)
    if parts is None or rate is None:
        return timecode
    nominal = round(rate)
    hours, minutes, seconds, count = (int(parts[i]) for i in (1, 2, 3, 5))
    # of every minute but each tenth, the first numbers are left out
    left_out = 0 if parts[4] == ":" else nominal // 15
    minutes += 60 * hours
    number = (60 * minutes + seconds) * nominal + count - left_out * (minutes - minutes // 10)
    in_ten, in_one = 600 * nominal - 9 * left_out, 60 * nominal - left_out
    number = (number + frames) % (144 * in_ten)
    tens, rest = divmod(number, in_ten)
    number += left_out * (9 * tens + max(0, rest - left_out) // in_one)
    seconds, count = divmod(number, nominal)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{parts[4]}{count:02}"
