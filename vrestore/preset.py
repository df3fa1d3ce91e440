"""Presets: settings from files, in layers, with the origin of every value.

A preset is TOML with a table per command, ``[sr]`` or ``[batch]``, and ``[common]`` for settings that several have.
The record beside an output is JSON and holds the same tables under ``settings``. Later layers win: defaults, presets
in their order, the project's ``vrestore.toml``, the environment, flags. Paths in a preset are relative to the working
folder, as on the command line.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from vrestore.errors import ConfigError, MissingInputError
from vrestore.report import MakeOptions, RunOptions
from vrestore.settings import Setting, assemble, settings_of
from vrestore.tasks import MAKERS, TASKS

COMMON = "common"
PROJECT = "vrestore.toml"
LARGEST_BYTES = 1 << 24

Tables = Mapping[str, Sequence[type]]
"""The configs behind every table that a command reads: ``{"sr": (SuperResolutionConfig, RunOptions)}``."""
Head = TypeVar("Head")


@dataclass(frozen=True)
class Given:
    """A value and where it is from: a file, ``VRESTORE_SR_SCALE``, a flag or ``default``."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Preset:
    """A file's tables; their names are known, their keys not checked yet."""

    path: Path
    tables: Mapping[str, Mapping[str, Any]]


def tables_of(command: str, tasks: Mapping[str, str] = TASKS) -> Tables:
    """What a command reads: ``sr``, ``compare``, ``batch sr``. Imports the head."""
    first, _, head = command.partition(" ")
    if head:
        return {**tables_of(head, tasks), **tables_of(first, tasks)}
    if first in tasks:
        module, _, name = tasks[first].partition(":")
        return {first: (getattr(import_module(module), name).config_type, RunOptions)}
    if first in MAKERS:
        module, _, name = MAKERS[first].partition(":")
        return {first: (getattr(import_module(module), name).config_type, MakeOptions)}
    module, _, name = _OTHERS[first].partition(":")
    return {first: (getattr(import_module(module), name),)}


_OTHERS = {"compare": "vrestore.comparison:CompareConfig", "batch": "vrestore.batch.config:BatchConfig"}


def read_preset(path: Path | str, tasks: Mapping[str, str] = TASKS) -> Preset:
    """A preset (TOML), or the record of a run (``.json``).

    Raises:
        MissingInputError: there is no such file.
        ConfigError: it cannot be read, or holds a table that no command has.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"{path} does not exist; give a preset (TOML), or the record of a run (JSON)")
    data = _parsed(path)
    known = [COMMON, *tasks, *_OTHERS, *MAKERS]
    for name, table in data.items():
        if isinstance(table, Mapping) and name in known:
            continue
        if isinstance(table, Mapping):
            raise ConfigError(f"{path}: no command is called [{name}]{_meant(name, known)}; tables: {', '.join(known)}")
        raise ConfigError(f"{path}: {name} stands in no table; put it under [{COMMON}] or a command's, such as [sr]")
    return Preset(path, data)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_BYTES:
            raise ConfigError(f"{path} is no preset; give a TOML file, or the record of a run (JSON)")
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() != ".json":
            return tomllib.loads(text)
        data = json.loads(text)
        if not isinstance(data, dict) or not isinstance(data.get("settings"), dict):
            raise ConfigError(f"{path} is not the record of a run: it holds no settings")
        return dict(data["settings"])
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:  # also of the decoding to text
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise ConfigError(f"{path} is not valid {kind}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def find_project(start: Path | None = None) -> Path | None:
    """The nearest ``vrestore.toml`` from ``start`` (the working folder) upwards, up to the home folder or the root."""
    start = (start or Path.cwd()).resolve()
    home = Path.home().resolve()
    for folder in (start, *start.parents):
        if (folder / PROJECT).is_file():
            return folder / PROJECT
        if folder == home:
            break
    return None


def layered(presets: Iterable[Preset], tables: Tables, tasks: Mapping[str, str] = TASKS) -> dict[str, Given]:
    """The values that presets give a command, the later ones winning; within a file its own table over ``[common]``.

    Raises:
        ConfigError: a setting that is not known, or a value of a wrong kind: the file, the key, what is allowed.
    """
    given: dict[str, Given] = {}
    for preset in presets:
        for table, types in [(COMMON, sum(map(tuple, tables.values()), ())), *tables.items()]:
            known = settings_of(*types)
            for key, value in preset.tables.get(table, {}).items():
                setting = known.get(key.replace("-", "_"))
                where = f"{preset.path}: [{table}] {key}"
                if setting is not None:
                    given[setting.name] = Given(_checked(setting, value, where), str(preset.path))
                elif table != COMMON or not _known_elsewhere(key, tasks):
                    raise ConfigError(f"{where} is no setting{_meant(key, known)}; settings: {', '.join(known)}")
    return given


def _checked(setting: Setting, value: Any, where: str) -> Any:
    try:
        return setting.check(value)
    except ValueError as error:
        raise ConfigError(f"{where} {error}") from error


def _known_elsewhere(key: str, tasks: Mapping[str, str]) -> bool:
    """Whether some other command has it: only then may it stand in ``[common]``."""
    every = (types for name in (*tasks, *_OTHERS, *MAKERS) for types in tables_of(name, tasks).values())
    return any(key.replace("-", "_") in settings_of(*types) for types in every)


def _meant(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name.replace("-", "_"), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def check_ranges(tables: Tables, given: Mapping[str, Given]) -> None:
    """Make every config, so that a value out of its range is found, and named with the file that it is from."""
    for types in tables.values():
        for config_type in types:
            names = [name for name in settings_of(config_type) if name in given]
            try:
                assemble(config_type, {name: given[name].value for name in names})
            except ConfigError as error:
                raise ConfigError(f"{_blame(config_type, names, given)}{error}") from error


def _blame(config_type: type, names: Sequence[str], given: Mapping[str, Given]) -> str:
    """The origin of the one value without which the config can be made; nothing for a flag."""
    known = settings_of(config_type)
    for name in names:
        if known[name].default is MISSING or given[name].origin in ("default", "flag"):
            continue
        try:
            assemble(config_type, {other: given[other].value for other in names if other != name})
        except ConfigError:
            continue
        return f"{given[name].origin}: "
    return ""


def from_preset(path: Path | str, head: type[Head], **settings: Any) -> tuple[Head, Any]:
    """A head as a preset sets it up, and the options of its run; ``settings`` by name win over the file's.

    The options are `RunOptions`, of a head without a source `MakeOptions`.

    Raises:
        MissingInputError, ConfigError: as `read_preset` and `layered` have it, or a value out of its range.
    """
    name, config_type = head.name, head.config_type  # type: ignore[attr-defined]
    kind: type = MakeOptions if name in MAKERS else RunOptions
    tables = {name: (config_type, kind)}
    known = settings_of(config_type, kind)
    given = layered([read_preset(path, {name: "", **TASKS})], tables)
    for key, value in settings.items():
        if key not in known:
            raise ConfigError(f"{key} is no setting{_meant(key, known)}; settings: {', '.join(known)}")
        given[key] = Given(_checked(known[key], value, key), "flag")
    check_ranges(tables, given)
    values = {key: one.value for key, one in given.items()}
    return head(assemble(config_type, values)), assemble(kind, values)  # type: ignore[call-arg]
