"""A clip in parts: runs of whole shots, restored by whoever is free, and joined to one output.

A shot is the smallest part: windows never cross its ends and noise belongs to absolute frames, so a part has the bits
that it has in a run of the whole. What is known of a clip lies in ``parts/<clip>``: ``shots.json``, and a folder for
each part with its job folder, whose segments are joined.
"""

import json
import os
import platform
import shutil
from pathlib import Path, PurePath
from typing import Any

from vrestore.batch.order import Order
from vrestore.batch.units import Unit
from vrestore.errors import OutputError, VRestoreError
from vrestore.record import write_json
from vrestore.report import RunResult

SHORTEST = 48
"""Frames of a part, at least: shorter shots go together with the next, as a worker takes a while to begin."""

Shots = tuple[tuple[int, int], ...]
"""Half-open ranges of frames."""


def find_parts(order: Order, unit: Unit, key: str) -> None:
    """Look for a clip's shots and write down the parts that they make."""
    from vrestore.engine import shots_of

    shots = shots_of(order.task(), Path(order.source, unit.source), order.options())
    place = _place(order, unit)
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / "shots.json", {"key": key, "parts": grouped(shots)})


def grouped(shots: Shots) -> list[Shots]:
    """Neighbouring shots together, until a part has `SHORTEST` frames; what is left at the end joins the last part."""
    parts: list[Shots] = []
    part: Shots = ()
    for shot in shots:
        part = (*part, shot)
        if shot[1] - part[0][0] >= SHORTEST:
            parts.append(part)
            part = ()
    if part:
        parts = [*parts[:-1], (*(parts[-1] if parts else ()), *part)]
    return parts


def parts_of(order: Order, unit: Unit, key: str) -> list[Shots]:
    """The parts of a clip, none if they are not known for this key."""
    found = _read(_place(order, unit) / "shots.json")
    if found.get("key") != key:
        return []
    return [tuple((start, stop) for start, stop in part) for part in found["parts"]]


def restore_part(order: Order, unit: Unit, folder: Path, key: str, options: dict[str, Any]) -> RunResult:
    """Restore the shots of a part; what is made stays in a job folder in ``folder``."""
    from vrestore.engine import run

    parts = parts_of(order, unit, key)
    if unit.part >= len(parts):
        raise VRestoreError(f"the parts of {unit.source} are gone; run the same command again")
    shots = parts[unit.part]
    more = {"start": str(shots[0][0]), "end": str(shots[-1][1]), "shots": shots, "join": False}
    more["first_shot"] = 1 + sum(len(part) for part in parts[: unit.part])
    made = folder / _output(unit)
    return run(order.task(), Path(order.source, unit.source), made, order.options({**options, **more}))


def keep_part(order: Order, unit: Unit, folder: Path, key: str) -> None:
    """Give the work folder of a finished part its place for the join. OutputError if that cannot be."""
    place = _kept_place(order, unit)
    write_json(folder / "part.json", {"key": key, "host": platform.node(), "pid": os.getpid()})
    try:
        shutil.rmtree(place, ignore_errors=True)  # of another key
        folder.rename(place)
    except OSError as error:
        raise OutputError(f"{place} cannot be made: {error.strerror}") from error


def part_is_kept(order: Order, unit: Unit, key: str) -> bool:
    """Whether the part is there, as it was made for this key."""
    return bool(_read(_kept_place(order, unit) / "part.json").get("key") == key)


def join_clip(order: Order, unit: Unit, made: Path, key: str) -> tuple[RunResult, list[dict[str, Any]]]:
    """Make the output ``made`` of all parts; the result, and who made which part.

    Raises:
        VRestoreError: a part is missing, or cannot be read.
    """
    from vrestore.engine import join_parts

    parts = parts_of(order, unit, key)
    steps = [Unit(unit.source, unit.target, "part", number) for number in range(len(parts))]
    missing = [step.part for step in steps if not part_is_kept(order, step, key)]
    if missing or not parts:
        raise VRestoreError(f"parts of {unit.source} are gone; run the same command again")
    places = [_kept_place(order, step) for step in steps]
    shots = tuple(shot for part in parts for shot in part)
    options = order.options({"shots": shots})
    outputs = [place / _output(unit) for place in places]
    result = join_parts(order.task(), Path(order.source, unit.source), made, outputs, options)
    workers = [
        {"shots": part, **{name: _read(place / "part.json").get(name) for name in ("host", "pid")}}
        for part, place in zip(parts, places, strict=True)
    ]
    return result, workers


def forget_parts(order: Order, unit: Unit) -> None:
    """Remove what was kept for a join: the clip is done."""
    shutil.rmtree(_place(order, unit), ignore_errors=True)


def _place(order: Order, unit: Unit) -> Path:
    return order.state / "parts" / unit.clip.slug


def _kept_place(order: Order, unit: Unit) -> Path:
    return _place(order, unit) / f"{unit.part:05d}"


def _output(unit: Unit) -> str:
    return f"output{PurePath(unit.target).suffix}"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
