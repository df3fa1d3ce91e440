"""Image sequences: numbered pictures named by a pattern, ``shot.%04d.exr`` or ``shot.####.exr``."""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from vrestore.errors import MissingInputError, UnreadableMediaError
from vrestore.video.formats import DEFAULT_FPS
from vrestore.video.info import VideoInfo
from vrestore.video.source import check_file
from vrestore.video.stills import is_still_name, probe_still

_NUMBER = re.compile(r"%0?(\d*)d|(#+)")


@dataclass(frozen=True)
class Pattern:
    """The names of a sequence's files."""

    folder: Path
    before: str
    digits: int
    """Least digits of a number, filled up with zeros."""
    after: str

    @classmethod
    def of(cls, path: Path) -> "Pattern | None":
        """What ``path`` stands for; ``None`` if it is the name of one file (that only looks like a pattern)."""
        places = list(_NUMBER.finditer(path.name))
        if len(places) != 1 or not is_still_name(path) or path.exists():
            return None
        place = places[0]
        digits = len(place[2]) if place[2] else int(place[1] or 1)
        return cls(path.parent, path.name[: place.start()], digits, path.name[place.end() :])

    def file(self, number: int) -> Path:
        """The picture of a number."""
        return self.folder / f"{self.before}{number:0{self.digits}d}{self.after}"

    def numbers(self) -> list[int]:
        """Numbers of the pictures that are there, in order."""
        shape = re.compile(re.escape(self.before) + r"(\d+)" + re.escape(self.after))
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        found = sorted({int(match[1]) for name in names if (match := shape.fullmatch(name))})
        return [number for number in found if self.file(number).name in set(names)]


def probe_sequence(path: Path, fps: Fraction | None = None) -> VideoInfo:
    """Facts of an image sequence: a video at ``fps`` frames per second whose frame 0 has the lowest number.

    Raises:
        MissingInputError: no file fits the pattern.
        UnreadableMediaError: a number is missing, or the first picture cannot be read.
        UnsupportedMediaError: see `probe_still`.
    """
    pattern = Pattern.of(path)
    numbers = pattern.numbers() if pattern else []
    if pattern is None or not numbers:
        raise MissingInputError(f"no picture is named like {path}; give a pattern such as shot.%04d.png")
    first, last = numbers[0], numbers[-1]
    missing = sorted(set(range(first, last + 1)).difference(numbers))
    if missing:
        raise UnreadableMediaError(
            f"{path} has a gap: frame {missing[0]} ({pattern.file(missing[0]).name}) is missing"
            f"{f', {len(missing)} in all,' if len(missing) > 1 else ''} between {first} and {last}; "
            "render or copy it, or give each unbroken part its own name"
        )
    for number in numbers:
        check_file(pattern.file(number))
    rate = fps or DEFAULT_FPS
    info = probe_still(pattern.file(first), moving=True)
    return replace(
        info, path=path, frames=len(numbers), fps=rate, time_base=1 / rate, duration_s=float(len(numbers) / rate),
        is_still=False, numbers=(first, last),
    )  # fmt: skip


def sequence_files(info: VideoInfo) -> list[Path]:
    """The pictures of a sequence, in order; of anything else its one file."""
    pattern = Pattern.of(info.path)
    if pattern is None or info.numbers is None:
        return [info.path]
    return [pattern.file(number) for number in range(info.numbers[0], info.numbers[1] + 1)]
