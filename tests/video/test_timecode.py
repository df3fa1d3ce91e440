from fractions import Fraction

import pytest

from vrestore.video.timecode import advanced, counting_rate

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("start", "frames", "fps", "end"),
    [
        ("01:00:00:05", 0, 25, "01:00:00:05"),
        ("01:00:00:05", 20, 25, "01:00:01:00"),
        ("23:59:59:24", 1, 25, "00:00:00:00"),
        ("00:00:59:29", 1, NTSC, "00:01:00:00"),
        ("00:00:59;29", 1, NTSC, "00:01:00;02"),
        ("00:09:59;29", 1, NTSC, "00:10:00;00"),
        ("00:00:00;00", 107892, NTSC, "01:00:00;00"),
        ("01:00:00;00", 17982, NTSC, "01:10:00;00"),
        ("00:00:59;59", 1, Fraction(60000, 1001), "00:01:00;04"),
        ("23:59:59;29", 1, NTSC, "00:00:00;00"),
        ("10:00:00:00", 48, Fraction(24000, 1001), "10:00:02:00"),
        ("no timecode", 5, 25, "no timecode"),
    ],
)
def test_counting(start, frames, fps, end):
    assert advanced(start, frames, Fraction(fps)) == end


def test_every_dropped_number_is_left_out_once():
    """Around every minute of eleven: no number twice, none of those that drop-frame counting leaves out."""
    frames = [17982 * minute // 10 + i for minute in range(1, 12) for i in range(-9, 9)]
    codes = [advanced("00:00:00;00", i, NTSC) for i in frames]
    assert codes == sorted(set(codes))
    assert not {f"00:{m:02}:00;{f:02}" for m in range(1, 12) if m != 10 for f in (0, 1)} & set(codes)
    for i in range(0, len(frames) - 30, 11):
        assert advanced(codes[i], frames[i + 30] - frames[i], NTSC) == codes[i + 30]


@pytest.mark.parametrize(
    ("fps", "rate"), [(25, 25), (NTSC, NTSC), (Fraction(285, 10), 30), (Fraction(17), None), (Fraction(23), 24)]
)
def test_rates(fps, rate):
    assert counting_rate(Fraction(fps)) == rate
