"""Command-line options from a frozen config dataclass: name, type, default and help have one source.

A field ``scale: Annotated[int, "how much larger"] = 4`` becomes ``--scale INTEGER  how much larger  [default: 4]``.
``Literal`` becomes a choice, ``bool`` a pair of switches, ``X | None`` an X that may be left out, ``tuple[X, ...]`` a
comma-separated list.
"""

from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from vrestore.settings import default_of, unwrap

_SCALARS: "dict[type, click.ParamType[Any]]" = {
    int: click.INT,
    float: click.FLOAT,
    str: click.STRING,
    Path: click.Path(path_type=Path),
}


class Action(click.Option):
    """What one call does, or where to: no setting, so no preset holds it."""


class CommaSeparated(click.ParamType):  # type: ignore[type-arg]  # generic only in newer releases of click
    """A list like ``8,16`` of one scalar type."""

    name = "list"

    def __init__(self, item: "click.ParamType[Any]") -> None:
        self.item = item

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """A string split at commas; a default is a tuple already."""
        if not isinstance(value, str):
            return tuple(value)
        return tuple(self.item.convert(part.strip(), param, ctx) for part in value.split(",") if part.strip())

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"{self.item.name.upper()},..."


def options_of(config_type: type) -> list[click.Parameter]:
    """One option per field, in the order of the fields (those of base classes first)."""
    hints = get_type_hints(config_type, include_extras=True)
    return [_option(field, hints[field.name]) for field in fields(config_type)]


def _option(field: Field[Any], hint: Any) -> click.Option:
    plain, text = unwrap(hint)
    flag = field.name.replace("_", "-")
    default = default_of(field)
    declarations = [field.name, f"--{flag}/--no-{flag}" if plain is bool else f"--{flag}"]
    kind: dict[str, Any] = {} if plain is bool else {"type": _type(plain, field.name)}
    if default is MISSING:
        return click.Option(declarations, required=True, help=text, **kind)
    shown = default not in (None, ())
    return click.Option(declarations, default=default, show_default=shown, help=text, **kind)


def _type(plain: Any, name: str) -> "click.ParamType[Any]":
    if get_origin(plain) is Literal:
        return click.Choice(get_args(plain), case_sensitive=False)  # hands back the value itself, not its text
    if get_origin(plain) is tuple and get_args(plain)[1:] == (...,):
        return CommaSeparated(_type(get_args(plain)[0], name))
    if plain in _SCALARS:
        return _SCALARS[plain]
    raise TypeError(
        f"The config field {name} has the type {plain}, of which no option can be made. "
        "Allowed are int, float, str, bool, Path, Literal, tuple[X, ...] and X | None."
    )
