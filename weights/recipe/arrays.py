"""Folders of arrays that are made entry by entry and go on where they were cut off: `pool.json`, a file for each."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vrestore.errors import ConfigError

Arrays = Mapping[str, np.ndarray]
Facts = dict[str, Any]
"""What a folder holds: ``shapes``, of every array its shape and type, and whatever else makes it what it is."""

REPORT = 50
"""Entries after which a folder counts as longer: one that was cut off goes on from there."""
FACTS = "pool.json"


def facts_of(folder: Path) -> Facts:
    """What was written of a folder; ConfigError where there is nothing."""
    if not (folder / FACTS).is_file():
        raise ConfigError(f"no pool in {folder}; make one first")
    found: Facts = json.loads((folder / FACTS).read_text())
    return found


def diet_of(folder: Path, known: Collection[str]) -> str:
    """What a pool was made for; ConfigError if that is none of ``known``."""
    diet = str(facts_of(folder).get("diet"))
    if diet not in known:
        raise ConfigError(f"{folder} holds a pool for {diet}; give one for {' or '.join(known)}")
    return diet


def opened(folder: Path, mode: Literal["r", "r+"] = "r") -> Arrays:
    """Map the arrays in ``folder``: the entries that are made, or all where they are to be written."""
    facts = facts_of(folder)
    done = facts.get("done") if mode == "r" else None
    return {
        name: np.memmap(folder / f"{name}.bin", kind, mode, shape=tuple(shape))[:done]
        for name, (shape, kind) in facts["shapes"].items()
    }


def grow(folder: Path, facts: Facts, make: Callable[[range], Iterable[int]], say: Callable[[str], None]) -> None:
    """Make the entries that are missing. ``make`` yields the place of each, in order, when it is written.

    ConfigError if the folder holds something else.
    """
    (count,) = {shape[0] for shape, _ in facts["shapes"].values()}
    for index in make(range(_begun(folder, facts), count)):
        if (index + 1) % REPORT == 0 or index + 1 == count:
            (folder / FACTS).write_text(json.dumps(facts | {"done": index + 1}))
            say(f"made {index + 1} of {count}")


def _begun(folder: Path, facts: Facts) -> int:
    """How many entries are there; the files, empty, where there are none."""
    if (folder / FACTS).exists():
        found = facts_of(folder)
        if {name: found.get(name) for name in facts} != facts:
            raise ConfigError(f"{folder} holds another pool; use another folder")
        return int(found.get("done", 0))
    folder.mkdir(parents=True, exist_ok=True)
    for name, (shape, kind) in facts["shapes"].items():
        with (folder / f"{name}.bin").open("wb") as file:
            file.truncate(int(np.prod(shape)) * np.dtype(kind).itemsize)
    (folder / FACTS).write_text(json.dumps(facts | {"done": 0}))
    return 0
