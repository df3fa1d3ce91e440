"""Command-line options from a frozen config dataclass: name, type, default and help have one source.

A field ``scale: Annotated[int, "how much larger"] = 4`` becomes ``--scale INTEGER  how much larger  [default: 4]``.
``Literal`` becomes a choice, ``bool`` a pair of switches, ``X | None`` an X that may be left out, ``tuple[X, ...]`` an
option that may be given more than once, or once with a comma-separated list. A field's metadata may hold `ALIAS`,
another name of the option, and `WHOLE`: commas are part of the value.
"""

from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from vrestore.settings import ALIAS, WHOLE, default_of, unwrap

_SCALARS: "dict[type, click.ParamType[Any]]" = {
    int: click.INT,
    float: click.FLOAT,
    str: click.STRING,
    Path: click.Path(path_type=Path),
}


class Action(click.Option):
    """What one call does, or where to: no setting, so no preset holds it."""


class Several(click.Option):
    """A list of one scalar type: each time that the option is given, one of them or several with commas between."""

    def __init__(self, declarations: Sequence[str], item: "click.ParamType[Any]", *, whole: bool, **rest: Any) -> None:
        metavar = item.name.upper() if whole else f"{item.name.upper()},..."
        super().__init__(declarations, type=click.STRING, multiple=True, metavar=metavar, **rest)
        self._item, self._whole = item, whole

    def type_cast_value(self, ctx: click.Context, value: Any) -> tuple[Any, ...] | None:
        """The values of all times together; a default or a preset's list is one already."""
        if value is None:
            return None
        given: list[Any] = []
        for one in [value] if isinstance(value, str) else value:
            cut = isinstance(one, str) and not self._whole
            given += [part.strip() for part in one.split(",") if part.strip()] if cut else [one]
        return tuple(self._item(one, self, ctx) for one in given)

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """As one value."""
        found = self.resolve_envvar_value(ctx)
        return None if found is None else [found]


def options_of(config_type: type) -> list[click.Parameter]:
    """One option per field, in the order of the fields (those of base classes first)."""
    hints = get_type_hints(config_type, include_extras=True)
    return [_option(field, hints[field.name]) for field in fields(config_type)]


def _option(field: Field[Any], hint: Any) -> click.Option:
    plain, text = unwrap(hint)
    default = default_of(field)
    declarations = [field.name, *(_flag(name, plain) for name in (field.name, field.metadata.get(ALIAS)) if name)]
    rest: dict[str, Any] = {"required": True} if default is MISSING else {"default": default}
    rest |= {"help": text, "show_default": default not in (MISSING, None, ())}
    if get_origin(plain) is tuple and get_args(plain)[1:] == (...,):
        item = _type(get_args(plain)[0], field.name)
        return Several(declarations, item, whole=bool(field.metadata.get(WHOLE)), **rest)
    if plain is not bool:
        rest["type"] = _type(plain, field.name)
    return click.Option(declarations, **rest)


def _flag(name: str, plain: Any) -> str:
    flag = name.replace("_", "-")
    return f"--{flag}/--no-{flag}" if plain is bool else f"--{flag}"


def _type(plain: Any, name: str) -> "click.ParamType[Any]":
    if get_origin(plain) is Literal:
        return click.Choice(get_args(plain), case_sensitive=False)  # hands back the value itself, not its text
    if plain in _SCALARS:
        return _SCALARS[plain]
    raise TypeError(
        f"The config field {name} has the type {plain}, of which no option can be made. "
        "Allowed are int, float, str, bool, Path, Literal, tuple[X, ...] and X | None."
    )
