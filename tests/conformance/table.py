"""What an output keeps, by container and codec: every cell is found by decoding outputs of the engine again.

``python tests/conformance/table.py > tests/conformance/README.md`` writes the page; the test beside this file holds the
committed one against what the cells show. A new codec is a line of `COLUMNS`.
"""

import logging
import struct
import sys
import tempfile
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
import sources  # noqa: E402

EXACT, ROUNDED, YES, EQUAL, WARNED, NONE = "exact", "to 1 ms", "yes", "equal", "warned", "n/a"
KEY = f"""\
*{EXACT}*: times, and packets where there are any, are the input's; *{ROUNDED}*: but for the rounding of a container
that holds no more; *{EQUAL}*: every sample is the input's; *{YES}*: it is there, with its value; *{WARNED}*: the
container cannot hold it, and a warning names it; *{NONE}*: there is nothing to keep."""


@dataclass(frozen=True)
class Column:
    """A codec in a container, and what the inputs for it are like."""

    name: str
    suffix: str
    codec: str
    """libav's name of what must come out."""
    depth: int = 8
    lossless: bool = False
    sound: str = "aac"
    text: str = "subrip"
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    """Fields of Formats that choose the codec, where the input and the suffix do not."""


COLUMNS = (
    Column("H.264 mp4", ".mp4", "h264"),
    Column("H.264 mov", ".mov", "h264"),
    Column("H.264 mkv", ".mkv", "h264"),
    Column("HEVC 10 mp4", ".mp4", "hevc", depth=10),
    Column("HEVC 10 mov", ".mov", "hevc", depth=10),
    Column("HEVC 10 mkv", ".mkv", "hevc", depth=10),
    Column("VP9 webm", ".webm", "vp9", sound="libopus", text="webvtt"),
    Column("AV1 10 webm", ".webm", "av1", depth=10, sound="libopus", text="webvtt"),
    Column("AV1 10 mp4", ".mp4", "av1", depth=10, settings={"codec": "av1"}),
    Column("FFV1 10 mkv", ".mkv", "ffv1", depth=10, lossless=True),
)


class Run:
    """An input, the output that the engine makes of it, and what it warned of."""

    def __init__(self, folder: Path, column: Column, kind: str, span: dict[str, str]) -> None:
        suffix = ".mkv" if kind != "camera" or column.lossless or column.sound != "aac" else ".mov"
        name = f"{kind}_{column.name.replace(' ', '_')}"
        self.column, self.source = column, folder / f"{name}{suffix}"
        self.output = folder / f"{name}_{'_'.join(span.values())}out{column.suffix}"
        if not self.source.exists():
            getattr(sources, kind)(self.source, column)
        self.warnings = self._run(span)

    def _run(self, span: dict[str, str]) -> str:
        import vrestore.priors
        from vrestore import engine
        from vrestore.report import RunOptions
        from vrestore.video.formats import Formats

        if "identity_head" not in sys.modules:
            sys.path.insert(0, str(HERE.parent / "identity"))
        import identity_head

        vrestore.priors.FAMILIES["IdentityPrior"] = "identity_head"
        records: list[str] = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("vrestore").addHandler(handler)
        try:
            head = identity_head.Identity(identity_head.IdentityConfig(window=8, overlap=2))
            engine.run(head, self.source, self.output, RunOptions(**span, formats=Formats(**self.column.settings)))
        finally:
            logging.getLogger("vrestore").removeHandler(handler)
        return "\n".join(records)

    def facts(self, path: Path) -> "Facts":
        return Facts(path)

    @cached_property
    def before(self) -> "Facts":
        return Facts(self.source)

    @cached_property
    def after(self) -> "Facts":
        return Facts(self.output)

    def warned(self, word: str) -> str:
        """The cell of something that is not there: it must have been named."""
        assert word in self.warnings, f"{self.output.name} lacks {word}, and nothing was said of it: {self.warnings!r}"
        return WARNED


class Track(NamedTuple):
    """What is known of a stream that is not the video."""

    type: str
    packets: list[tuple[Fraction, bytes]]
    tags: dict[str, str]
    disposition: int


class Facts:
    """Everything of a file that the table asks for, read with libav alone."""

    def __init__(self, path: Path) -> None:
        with av.open(str(path)) as container:
            self.tags = {name.lower(): text for name, text in container.metadata.items()}
            self.chapters = [
                (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"].get("title"))
                for c in container.chapters()
            ]
            self.files = {s.name: s.data for s in container.streams if s.type == "attachment"}
            self.covers = [s.index for s in container.streams.video if int(s.disposition) & 1024]
            stream = container.streams.video[0]
            self.video_tags = {name.lower(): text for name, text in stream.metadata.items()}
            self.codec = stream.codec_context.codec.canonical_name
            self.timecode_track = any("timecode" in s.metadata for s in container.streams if s.type == "data")
            tracks: dict[int, Track] = {
                s.index: Track(s.type, [], dict(s.metadata), int(s.disposition))
                for s in container.streams
                if s.type in ("audio", "subtitle")
            }
            self.cover = b""
            for packet in container.demux([s for s in container.streams if s.index != stream.index and s.type != "data"
                                           and s.type != "attachment"]):  # fmt: skip
                if packet.size and packet.stream.index in tracks:
                    tracks[packet.stream.index].packets.append((packet.pts * packet.time_base, bytes(packet)))
                elif packet.size:
                    self.cover = bytes(packet)
        self.sounds = [track for track in tracks.values() if track.type == "audio"]
        self.texts = [track for track in tracks.values() if track.type == "subtitle"]
        self._decode(path)

    def _decode(self, path: Path) -> None:
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
            first = frames[0]
            self.times = [frame.pts * frame.time_base for frame in frames]
            deep = first.format.components[0].bits > 8
            self.planes = [[_samples(plane, deep) for plane in frame.planes] for frame in frames]
            self.rotation = first.rotation
            self.color = [int(v) for v in (first.color_primaries, first.color_trc, first.colorspace, first.color_range)]
            self.hdr = {d.type.name: bytes(d) for d in first.side_data}
        from vrestore.video import probe

        # PyAV has no name for these two: they come by the way that the reader of the engine knows
        info = probe(path)
        self.chroma, self.aspect = info.color.chroma_location, info.sample_aspect


def _samples(plane: Any, deep: bool) -> np.ndarray:
    return (
        np.frombuffer(bytes(plane), np.uint16 if deep else np.uint8)
        .reshape(plane.height, -1)[:, : plane.width]
        .astype(int)
    )


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


# ---------------------------------------------------------------- the properties: one function each


def frames(bench: "Bench", column: Column) -> str:
    """Frame count, size, samples"""
    run = bench.run(column, "film")
    before, after = run.before, run.after
    assert after.codec == column.codec
    assert len(before.planes) == len(after.planes) == sources.FRAMES
    pairs = [
        (a, b) for old, new in zip(before.planes, after.planes, strict=True) for a, b in zip(old, new, strict=True)
    ]
    if column.lossless:
        assert all(np.array_equal(a, b) for a, b in pairs)
        return EQUAL
    assert max(np.abs(a - b).mean() for a, b in pairs) < 2 * 2 ** (column.depth - 8)
    return YES


def variable_rate(bench: "Bench", column: Column) -> str:
    """Variable rate, late first frame"""
    run = bench.run(column, "camera")
    assert run.before.times[0] > Fraction(1, 5)
    return _same_times(run.before.times, run.after.times)


def sound(bench: "Bench", column: Column) -> str:
    """Sound, two tracks"""
    run = bench.run(column, "film")
    assert len(run.before.sounds) == len(run.after.sounds) == 2
    cells = [_same_packets(a, b) for a, b in zip(run.before.sounds, run.after.sounds, strict=True)]
    return ROUNDED if ROUNDED in cells else EXACT


def language(bench: "Bench", column: Column) -> str:
    """Languages of the tracks"""
    found = [track.tags.get("language") for track in bench.run(column, "film").after.sounds]
    assert found in (["fra", "deu"], ["fra", "ger"])  # ISO 639-2 has two codes for some
    return YES


def titles(bench: "Bench", column: Column) -> str:
    """Titles of the tracks"""
    run = bench.run(column, "film")
    # libav reads what MP4 has by another name
    found = [track.tags.get("title", track.tags.get("name")) for track in run.after.sounds]
    return YES if found == ["Stereo", "Kommentar"] else run.warned("title Kommentar of audio stream 2")


def disposition(bench: "Bench", column: Column) -> str:
    """Dispositions (default, comment)"""
    run = bench.run(column, "film")
    if [track.disposition for track in run.after.sounds] == [track.disposition for track in run.before.sounds]:
        return YES
    return run.warned("disposition comment of audio stream 2")


def subtitles(bench: "Bench", column: Column) -> str:
    """Subtitles (SubRip; WebVTT for webm)"""
    run = bench.run(column, "film")
    if not run.after.texts:
        return run.warned("subtitle stream 3")
    assert run.after.texts[0].tags["language"] == "spa"
    return _same_packets(run.before.texts[0], run.after.texts[0])


def timed_text(bench: "Bench", column: Column) -> str:
    """Subtitles of QuickTime (tx3g)"""
    run = bench.run(column, "camera")
    if not run.before.texts:
        return NONE
    if not run.after.texts:
        return run.warned("subtitle stream 2")
    lines = [[(t, d) for t, d in facts.texts[0].packets if len(d) > 2] for facts in (run.before, run.after)]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 2
    return EXACT


def chapters(bench: "Bench", column: Column) -> str:
    """Chapters"""
    run = bench.run(column, "film")
    assert len(run.before.chapters) == 2
    assert run.after.chapters == run.before.chapters
    return EXACT


def tags(bench: "Bench", column: Column) -> str:
    """Tags of the file, also free ones, beside a cover"""
    run = bench.run(column, "film")
    assert run.after.tags["title"] == "a film"
    return YES if run.after.tags.get("reel", "").upper() == "A003" else run.warned("tag REEL")


def cover(bench: "Bench", column: Column) -> str:
    """Cover picture"""
    run = bench.run(column, "film")
    assert len(run.before.covers) == 1
    if not run.after.covers:
        return run.warned("cover stream")
    assert run.after.cover == run.before.cover != b""
    return EQUAL


def files(bench: "Bench", column: Column) -> str:
    """Attached files (fonts)"""
    run = bench.run(column, "film")
    return EQUAL if run.after.files == {"font.ttf": b"letters"} else run.warned("attachment stream")


def timecode(bench: "Bench", column: Column) -> str:
    """Timecode"""
    run = bench.run(column, "camera")
    assert run.before.video_tags["timecode"] == sources.TIMECODE
    if run.after.video_tags.get("timecode") != sources.TIMECODE:
        return run.warned("timecode")
    assert run.after.timecode_track or column.suffix not in (".mp4", ".mov")
    return YES


def rotation(bench: "Bench", column: Column) -> str:
    """Rotation: the picture stands upright"""
    run = bench.run(column, "camera")
    assert (run.before.rotation % 360, run.after.rotation) == (90, 0)
    upright = np.rot90(run.before.planes[3][0])
    assert np.abs(upright - run.after.planes[3][0]).mean() < 2 * 2 ** (column.depth - 8)
    return YES


def aspect(bench: "Bench", column: Column) -> str:
    """Shape of the pixels (turned too)"""
    run = bench.run(column, "camera")
    assert run.before.aspect == Fraction(3, 4)
    return YES if run.after.aspect == Fraction(3, 4) else run.warned("pixels that are not square")


def colour(bench: "Bench", column: Column) -> str:
    """Primaries, transfer, matrix, range"""
    run = bench.run(column, "camera")
    assert run.after.color == run.before.color == [9, 14, 9, 1]
    return YES


def chroma(bench: "Bench", column: Column) -> str:
    """Chroma location"""
    run = bench.run(column, "camera")
    assert run.after.chroma == run.before.chroma == 3
    return YES


def hdr(bench: "Bench", column: Column) -> str:
    """HDR10: mastering display, light level"""
    if column.depth < 10:
        return NONE
    run = bench.run(column, "graded")
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


def deep(bench: "Bench", column: Column) -> str:
    """Codes of a 10-bit ramp that are left: more than 900 of 1024"""
    if column.depth < 10:
        return NONE
    run = bench.run(column, "graded")
    assert len(np.unique(run.before.planes[0][0])) > 1000
    assert len(np.unique(run.after.planes[0][0])) > 900
    return YES


def part(bench: "Bench", column: Column) -> str:
    """A part: frames, sound and timecode from its start on"""
    begin, end = sources.PART
    run = bench.run(column, "camera", start=str(begin), end=str(end))
    first, stop = run.before.times[begin], run.before.times[end]
    assert run.after.video_tags["timecode"] == sources.TIMECODE_OF_PART
    sound = run.before.sounds[0]
    kept = sound._replace(packets=[(t, d) for t, d in sound.packets if first <= t < stop])
    cells = [_same_times([t - first for t in run.before.times[begin:end]], run.after.times),
             _same_packets(kept, run.after.sounds[0], first)]  # fmt: skip
    return ROUNDED if ROUNDED in cells else EXACT


ROWS = (frames, variable_rate, part, sound, language, titles, disposition, subtitles, timed_text, chapters, tags, cover,
        files, timecode, rotation, aspect, colour, chroma, hdr, deep)  # fmt: skip


class Bench:
    """Runs what the cells ask for, each thing once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._runs = folder, dict[tuple[Any, ...], Run]()

    def run(self, column: Column, kind: str, **span: str) -> Run:
        key = (column.name, kind, *span.items())
        if key not in self._runs:
            self._runs[key] = Run(self._folder, column, kind, span)
        return self._runs[key]


def committed() -> dict[tuple[str, str], str]:
    """The cells of README.md by row and column."""
    lines = [line for line in (HERE / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {(row[0], name): cell for row in rows for name, cell in zip(head[1:], row[1:], strict=True)}


def written(bench: Bench) -> str:
    """The whole page."""
    names = [column.name for column in COLUMNS]
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for row in ROWS:
        lines.append(f"| {row.__doc__} | {' | '.join(row(bench, column) for column in COLUMNS)} |")
    table = "\n".join(lines)
    return f"""\
# What an output keeps

Found by running the engine with a head that changes nothing, and decoding what it wrote again. A test compares every
cell; `python tests/conformance/table.py > tests/conformance/README.md` writes the page anew.

{table}

{KEY}
"""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        page = written(Bench(Path(name)))
    sys.stdout.write(page)
