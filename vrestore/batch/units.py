"""The clips of a tree, the names of their outputs, and the places that a batch may write to."""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Literal

from vrestore.batch.config import BatchConfig
from vrestore.errors import ConfigError, MissingInputError, OutputError
from vrestore.video import STILL_SUFFIXES, VIDEO_FORMATS

log = logging.getLogger(__name__)

STATE = ".vrestore"
"""Folder in OUT_DIR for leases, work under way, records and failures."""
_OTHER_SUFFIXES = """
.264 .265 .3g2 .3gp .apng .asf .avi .dv .f4v .flv .gif .gxf .h264 .h265 .hevc .ivf .m1v .m2t .m2ts .m2v .mpeg .mpg .mts
.mxf .nut .obu .ogm .ogv .rm .rmvb .ts .vob .wmv .y4m
"""
MEDIA_SUFFIXES = frozenset((*VIDEO_FORMATS, *STILL_SUFFIXES, *_OTHER_SUFFIXES.split()))
"""What counts as a clip; a damaged one is a failure, anything else is no concern of the batch."""


@dataclass(frozen=True)
class Unit:
    """A clip: its path below IN_DIR and that of its output below OUT_DIR, both with ``/``; or a step of one.

    Where units are shots, a clip is done in steps: ``shots`` finds its parts, each ``part`` is restored, and ``join``
    makes the output of them.
    """

    source: str
    target: str
    step: Literal["clip", "shots", "part", "join"] = "clip"
    part: int = 0

    @property
    def clip(self) -> "Unit":
        """The clip as a whole."""
        return Unit(self.source, self.target)

    @property
    def slug(self) -> str:
        """A file name for it: readable, and different for every output. A join has that of its clip."""
        digest = sha256(self.target.encode(errors="surrogateescape")).hexdigest()
        step = {"shots": "shots.", "part": f"part{self.part:05d}."}.get(self.step, "")
        return f"{step}{PurePath(self.target).name[:40]}.{digest[:16]}"


@dataclass(frozen=True)
class Found:
    """What a tree holds: clips in order, those whose outputs would have one name, and what is ignored, by its kind."""

    units: tuple[Unit, ...]
    clashes: tuple[tuple[Unit, str], ...]
    """A clip and why it is not worked on."""
    ignored: dict[str, int]


def check_folders(source: Path, target: Path) -> None:
    """Refuse folders of which one would be written into by reading the other.

    Raises:
        MissingInputError: there is no IN_DIR.
        ConfigError: IN_DIR is no folder, or lies in OUT_DIR.
        OutputError: OUT_DIR is a file, or its state folder a link.
    """
    if not source.exists():
        raise MissingInputError(f"{source} does not exist; give a folder of videos")
    if not source.is_dir():
        raise ConfigError(f"{source} is no folder; for one clip use the command without batch")
    if not os.access(source, os.R_OK | os.X_OK):
        raise ConfigError(f"{source} cannot be read; give a folder that you may read")
    if source.resolve().is_relative_to(target.resolve()):
        raise ConfigError(f"{source} lies in the output folder {target}; name another output folder")
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is no folder; name another output folder")
    if (target / STATE).is_symlink():
        raise OutputError(f"{target / STATE} is a link, so state would be written elsewhere; remove it")


def find_units(source: Path, target: Path, config: BatchConfig) -> Found:
    """The clips below ``source``. Links to files are read, links to folders are not followed; nothing in ``target``
    and nothing hidden is taken."""
    ignored: Counter[str] = Counter()
    units = []
    for path in _files(source, target.resolve(), config.recursive, ignored):
        relative = path.relative_to(source).as_posix()
        if not fnmatchcase(relative if "/" in config.pattern else path.name, config.pattern):
            ignored["other names"] += 1
        elif path.suffix.lower() not in MEDIA_SUFFIXES:
            ignored[path.suffix.lower() or "no suffix"] += 1
        else:
            units.append(Unit(relative, output_name(relative, config.suffix)))
    return _apart(sorted(units, key=lambda unit: unit.source), ignored)


def _files(folder: Path, outside: Path, recursive: bool, ignored: Counter[str]) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        log.warning("the folder %s cannot be read: %s", folder, error.strerror)
        ignored["unreadable folders"] += 1
        return
    for entry in entries:
        try:
            kind = _kind(entry, outside)
        except (OSError, RuntimeError):  # a link to itself
            kind = "broken links"
        if kind == "file":
            yield Path(entry.path)
        elif kind != "folder":
            ignored[kind] += 1
        elif recursive:
            yield from _files(Path(entry.path), outside, recursive, ignored)


def _kind(entry: "os.DirEntry[str]", outside: Path) -> str:
    """``file``, ``folder``, or why it is ignored."""
    if entry.name.startswith("."):
        return "hidden"
    if Path(entry.path).resolve().is_relative_to(outside):
        return "outputs"
    if entry.is_dir(follow_symlinks=False):
        return "job folders" if entry.name.endswith(".vrestore") else "folder"
    if entry.is_dir():
        return "links to folders"
    if entry.is_file():
        return "file"
    return "broken links" if entry.is_symlink() else "neither files nor folders"


def output_name(source: str, suffix: str | None) -> str:
    """``a.mov`` stays ``a.mov``; where the suffix changes it is added, ``a.avi.mkv``, so that the name depends on
    nothing else in the folder."""
    own = PurePath(source).suffix.lower()
    if suffix is None:
        suffix = own if own in (*VIDEO_FORMATS, *STILL_SUFFIXES) else ".mkv"
    return source if own == suffix.lower() else source + suffix


def _apart(units: list[Unit], ignored: Counter[str]) -> Found:
    """Outputs that a file system without case, or with another form of accents, would take for one are left out."""

    def name(unit: Unit) -> str:
        return unicodedata.normalize("NFC", unit.target).casefold()

    groups: dict[str, list[Unit]] = {}
    for unit in units:
        groups.setdefault(name(unit), []).append(unit)
    clashes = []
    for group in groups.values():
        for unit in group if len(group) > 1 else ():
            others = ", ".join(other.source for other in group if other is not unit)
            clashes.append((unit, f"its output {unit.target} would take the name of that of {others}; rename one"))
    clear = tuple(unit for unit in units if len(groups[name(unit)]) == 1)
    return Found(clear, tuple(clashes), dict(sorted(ignored.items())))


def make_place(root: Path, target: str) -> Path:
    """Make the folders of an output below ``root`` and return its path.

    Raises:
        OutputError: a link on the way leads out of ``root``, a file stands in the way, or it cannot be made.
    """
    place, inside = root, root.resolve()
    *folders, name = PurePath(target).parts
    if PurePath(target).is_absolute() or ".." in (*folders, name):
        raise OutputError(f"{target} leads out of {root}")
    for folder in folders:
        place = place / folder
        if place.is_symlink() and not place.resolve().is_relative_to(inside):
            raise OutputError(f"{place} is a link that leads out of {root}; remove it")
        try:
            place.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {place} cannot be made: {error.strerror}") from error
    if (place / name).is_dir():
        raise OutputError(f"{place / name} is a folder; it stands where the output goes")
    return place / name
