"""The resolved settings of a run, as a preset to print, and as the record that is written beside its output."""

import json
import logging
import math
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import vrestore
from vrestore.checkpoint import record_beside
from vrestore.errors import OutputError
from vrestore.preset import Given, Tables
from vrestore.settings import plain, settings_of
from vrestore.video.files import replacing

log = logging.getLogger(__name__)

RECORDED_VERSIONS = ("torch", "diffusers", "av", "numpy")


def as_toml(tables: Tables, given: Mapping[str, Given]) -> str:
    """A preset with every value, its origin as a comment. What is not set stands as a comment, as TOML has no null."""
    lines = []
    for table, types in tables.items():
        lines += [f"[{table}]"]
        for name in settings_of(*types):
            if name in given:
                value, origin = given[name].value, " ".join(given[name].origin.split())
                unset = value is None
                lines.append(f"# {name} is not set  # {origin}" if unset else f"{name} = {_toml(value)}  # {origin}")
        lines.append("")
    return "\n".join(lines).rstrip()


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, (bool, int)):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def record(command: str, tables: Tables, given: Mapping[str, Given], result: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was told and what it found, for the JSON beside its output; a preset for `read_preset`."""
    named = {t: [n for n in settings_of(*types) if n in given] for t, types in tables.items()}
    return {
        "command": command,
        "versions": versions(),
        "settings": {t: {n: plain(given[n].value) for n in names} for t, names in named.items()},
        "origins": {t: {n: given[n].origin for n in names} for t, names in named.items()},
        "result": dict(result),
    }


def versions() -> dict[str, str]:
    """Of vrestore, Python and the libraries that a result may depend on."""
    found = {"vrestore": vrestore.__version__, "python": platform.python_version()}
    for name in RECORDED_VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def save_record(output: Path, what: Mapping[str, Any]) -> None:
    """Write the record of a finished output beside it; if that cannot be, say so: the output itself is complete."""
    try:
        write_json(record_beside(output), what)
    except OutputError as error:
        log.warning("the output is complete, but its record is not written: %s", error)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file, complete or not at all. OutputError if it cannot be written."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(finite(data), indent=2, default=str) + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """JSON knows no nan and no infinity: they become null."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
