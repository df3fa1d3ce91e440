"""The rows of the conformance table: a function for each property, which finds a cell or fails."""

import struct
from fractions import Fraction
from typing import Any

import numpy as np
import sources
from columns import Column
from facts import Track

EXACT, ROUNDED, YES, EQUAL, WARNED, NONE = "exact", "to 1 ms", "yes", "equal", "warned", "n/a"
REFUSED = "refused"
KEY = f"""\
*{EXACT}*: times, and packets where there are any, are the input's; *{ROUNDED}*: but for the rounding of a container
that holds no more; *{EQUAL}*: every sample is the input's; *{YES}*: it is there, with its value; *{WARNED}*: the
output cannot hold it, and a warning names it; *{REFUSED}*: a clear line before the start, because the output would
mean something else; *{NONE}*: there is nothing to keep. The ramp has all codes of the full range; for ProRes, which
holds the limited range only, those from 4 to 1019."""
BENCH = Any
"""`table.Bench`: ``run(column, kind, **span)`` gives an input, the output made of it, and what was warned of."""


def _same_times(before: list[Fraction], after: list[Fraction], resolution: Fraction = Fraction(0)) -> str:
    assert len(before) == len(after)
    worst = max(abs(a - b) for a, b in zip(before, after, strict=True))
    if worst <= resolution:
        return EXACT
    assert worst <= Fraction(1, 2000), f"times are off by {float(worst):.6f} s"
    return ROUNDED


def _same_packets(before: Track, after: Track, shift: Fraction = Fraction(0)) -> str:
    assert [data for _, data in before.packets] == [data for _, data in after.packets]
    return _same_times([time - shift for time, _ in before.packets], [time for time, _ in after.packets],
                       Fraction(1, 96000))  # fmt: skip


def _alike(luma: np.ndarray, green: np.ndarray) -> str:
    """A picture of a gray wave has its place and its shape, whatever its levels mean."""
    assert luma.shape == green.shape
    assert np.corrcoef(luma.ravel(), green.ravel())[0, 1] > 0.99
    return YES


# ---------------------------------------------------------------- the properties: one function each


def frames(bench: BENCH, column: Column) -> str:
    """Frame count, size, samples"""
    run = bench.run(column, "film")
    before, after = run.before, run.after
    assert after.codec == column.codec
    assert len(before.planes) == len(after.planes) == sources.FRAMES
    pairs = [
        (a, b) for old, new in zip(before.planes, after.planes, strict=True) for a, b in zip(old, new, strict=True)
    ]
    if column.pictures:
        assert after.format == column.decoded
    if column.lossless:
        assert all(np.array_equal(a, b) for a, b in pairs)
        return EQUAL
    assert max(np.abs(a - b).mean() for a, b in pairs) < 2 * 2 ** (column.depth - 8)
    return YES


def variable_rate(bench: BENCH, column: Column) -> str:
    """Variable rate, late first frame"""
    run = bench.run(column, "camera")
    assert run.before.times[0] > Fraction(1, 5)
    if column.pictures:
        return run.warned("the times of frames")
    return _same_times(run.before.times, run.after.times)


def sound(bench: BENCH, column: Column) -> str:
    """Sound, two tracks"""
    run = bench.run(column, "film")
    assert len(run.before.sounds) == 2
    if column.pictures:
        return run.warned("audio stream 1", "audio stream 2")
    assert len(run.after.sounds) == 2
    cells = [_same_packets(a, b) for a, b in zip(run.before.sounds, run.after.sounds, strict=True)]
    return ROUNDED if ROUNDED in cells else EXACT


def language(bench: BENCH, column: Column) -> str:
    """Languages of the tracks"""
    run = bench.run(column, "film")
    if column.pictures:
        return run.warned("audio stream 1 (aac, fra)", "audio stream 2 (aac, deu)", "subtitle stream 3 (subrip, spa)")
    found = [track.tags.get("language") for track in run.after.sounds]
    assert found in (["fra", "deu"], ["fra", "ger"])  # ISO 639-2 has two codes for some
    return YES


def titles(bench: BENCH, column: Column) -> str:
    """Titles of the tracks"""
    run = bench.run(column, "film")
    if column.pictures:
        return run.warned("audio stream 1", "audio stream 2")
    # libav reads what MP4 has by another name
    found = [track.tags.get("title", track.tags.get("name")) for track in run.after.sounds]
    return YES if found == ["Stereo", "Kommentar"] else run.warned("title Kommentar of audio stream 2")


def disposition(bench: BENCH, column: Column) -> str:
    """Dispositions (default, comment)"""
    run = bench.run(column, "film")
    if column.pictures:
        return run.warned("audio stream 1", "audio stream 2")
    if [track.disposition for track in run.after.sounds] == [track.disposition for track in run.before.sounds]:
        return YES
    return run.warned("disposition comment of audio stream 2")


def subtitles(bench: BENCH, column: Column) -> str:
    """Subtitles (SubRip; WebVTT for webm)"""
    run = bench.run(column, "film")
    if column.pictures or not run.after.texts:
        return run.warned("subtitle stream 3")
    assert run.after.texts[0].tags["language"] == "spa"
    return _same_packets(run.before.texts[0], run.after.texts[0])


def timed_text(bench: BENCH, column: Column) -> str:
    """Subtitles of QuickTime (tx3g)"""
    run = bench.run(column, "camera")
    if not run.before.texts:
        return NONE
    if column.pictures or not run.after.texts:
        return run.warned("subtitle stream 2")
    lines = [[(t, d) for t, d in facts.texts[0].packets if len(d) > 2] for facts in (run.before, run.after)]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 2
    return EXACT


def chapters(bench: BENCH, column: Column) -> str:
    """Chapters"""
    run = bench.run(column, "film")
    assert len(run.before.chapters) == 2
    if column.pictures:
        return run.warned("chapters")
    assert run.after.chapters == run.before.chapters
    return EXACT


def tags(bench: BENCH, column: Column) -> str:
    """Tags of the file, also free ones, beside a cover"""
    run = bench.run(column, "film")
    if column.pictures:
        return run.warned("tag title", "tag REEL")
    assert run.after.tags["title"] == "a film"
    return YES if run.after.tags.get("reel", "").upper() == "A003" else run.warned("tag REEL")


def cover(bench: BENCH, column: Column) -> str:
    """Cover picture"""
    run = bench.run(column, "film")
    assert len(run.before.covers) == 1
    if column.pictures or not run.after.covers:
        return run.warned("cover stream")
    assert run.after.cover == run.before.cover != b""
    return EQUAL


def files(bench: BENCH, column: Column) -> str:
    """Attached files (fonts)"""
    run = bench.run(column, "film")
    if column.pictures:
        return run.warned("attachment stream 4")
    return EQUAL if run.after.files == {"font.ttf": b"letters"} else run.warned("attachment stream")


def timecode(bench: BENCH, column: Column) -> str:
    """Timecode"""
    run = bench.run(column, "camera")
    assert run.before.video_tags["timecode"] == sources.TIMECODE
    if column.pictures:
        return run.warned(f"timecode {sources.TIMECODE}")
    if run.after.video_tags.get("timecode") != sources.TIMECODE:
        return run.warned("timecode")
    assert run.after.timecode_track or column.suffix not in (".mp4", ".mov")
    return YES


def rotation(bench: BENCH, column: Column) -> str:
    """Rotation: the picture stands upright"""
    run = bench.run(column, "camera")
    assert run.before.rotation % 360 == 90
    upright = np.rot90(run.before.planes[3][0])
    if column.pictures:
        return _alike(upright, run.after.planes[3][1])
    assert run.after.rotation == 0
    assert np.abs(upright - run.after.planes[3][0]).mean() < 2 * 2 ** (column.depth - 8)
    return YES


def aspect(bench: BENCH, column: Column) -> str:
    """Shape of the pixels (turned too)"""
    run = bench.run(column, "camera")
    assert run.before.aspect == Fraction(3, 4)
    if run.after.aspect == Fraction(3, 4):
        return YES
    return run.warned("the shape of their pixels, 3/4" if column.pictures else "pixels that are not square")


def colour(bench: BENCH, column: Column) -> str:
    """Primaries, transfer, matrix, range"""
    run = bench.run(column, "camera")
    assert run.before.color == [9, 14, 9, 1]
    if column.suffix == ".exr":  # linear by definition; the primaries are those of BT.2020
        found = run.after.data.index(b"chromaticities\0chromaticities\0") + 34
        expected = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290)
        assert np.allclose(struct.unpack_from("<8f", run.after.data, found), expected)
        return YES
    if column.pictures:  # the rest is that of all pictures: R'G'B', full range
        assert run.after.color == [9, 14]
        return YES
    assert run.after.color == run.before.color
    return YES


def chroma(bench: BENCH, column: Column) -> str:
    """Chroma location"""
    run = bench.run(column, "camera")
    assert run.before.chroma == 3
    if column.pictures or "444" in column.film_format:
        return NONE
    # 4:2:2 has every line: only the place within a line counts, on the left of both
    assert run.after.chroma in ((3,) if "420" in column.film_format else (1, 3))
    return YES


def hdr(bench: BENCH, column: Column) -> str:
    """HDR10: mastering display, light level"""
    if column.depth < 10:
        return NONE
    run = bench.run(column, "graded")
    if column.suffix == ".exr":
        assert "the transfer curve 16" in run.refusal
        return REFUSED
    if column.pictures:
        assert run.after.color == [9, 16]
        return run.warned("mastering display", "content light level")
    old, new = run.before.hdr, run.after.hdr
    assert struct.unpack("=2I", new["CONTENT_LIGHT_LEVEL"]) == sources.LIGHT
    values = []
    for raw in (old["MASTERING_DISPLAY_METADATA"], new["MASTERING_DISPLAY_METADATA"]):
        *numbers, primaries, luminance = struct.unpack("=22i", raw)
        assert primaries == luminance == 1
        values.append(np.array(numbers[::2]) / np.array(numbers[1::2]))
    np.testing.assert_allclose(values[0], values[1], rtol=1e-3, atol=2e-5)
    record = (b"mdcv", b"clli") if column.suffix in (".mp4", ".mov") else (b"\x55\xd1\x88", b"\x55\xbc\x82")
    data = run.output.read_bytes()
    assert all(mark in data for mark in record)  # the container has it too
    return YES


def deep(bench: BENCH, column: Column) -> str:
    """Codes of a 10-bit ramp that are left: more than 900 of 1024"""
    if column.depth < 10:
        return NONE
    run = bench.run(column, "scale" if column.pictures else "graded")
    assert len(np.unique(run.before.planes[0][0])) > 1000
    assert len(np.unique(run.after.planes[0][0])) > 900
    return YES


def part(bench: BENCH, column: Column) -> str:
    """A part: frames, sound and timecode from its start on"""
    begin, end = sources.PART
    run = bench.run(column, "camera", start=str(begin), end=str(end))
    first, stop = run.before.times[begin], run.before.times[end]
    if column.pictures:
        assert len(run.after.planes) == end - begin
        _alike(np.rot90(run.before.planes[begin][0]), run.after.planes[0][1])
        return run.warned("audio stream 1", "timecode")
    assert run.after.video_tags["timecode"] == sources.TIMECODE_OF_PART
    sound = run.before.sounds[0]
    kept = sound._replace(packets=[(t, d) for t, d in sound.packets if first <= t < stop])
    cells = [_same_times([t - first for t in run.before.times[begin:end]], run.after.times),
             _same_packets(kept, run.after.sounds[0], first)]  # fmt: skip
    return ROUNDED if ROUNDED in cells else EXACT


ROWS = (frames, variable_rate, part, sound, language, titles, disposition, subtitles, timed_text, chapters, tags, cover,
        files, timecode, rotation, aspect, colour, chroma, hdr, deep)  # fmt: skip
