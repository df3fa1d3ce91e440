"""What the fields of a configuration may hold, read from their annotations: one source for options, presets, records.

A field ``scale: Annotated[Literal[2, 4], "how much larger"] = 4`` is a setting of the name ``scale`` that allows 2 and
4. The kinds are int, float, str, bool, Path, Literal, ``tuple[X, ...]`` of them and ``X | None``.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

ONCE = "once"
"""Key in a field's metadata: said anew for every call, so no preset holds it."""
ALIAS, WHOLE = "alias", "whole"
"""Keys for the command line: another name of the option; commas are part of a list's values."""

_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}


@dataclass(frozen=True)
class Setting:
    """A field: its scalar type or its choices, whether it is a list of them, and whether it may be left unset."""

    name: str
    kind: type | None
    choices: tuple[Any, ...]
    many: bool
    optional: bool
    default: Any
    """`dataclasses.MISSING` if it must be given."""
    help: str

    def check(self, value: Any) -> Any:
        """``value``, as TOML or JSON has it, as the field's type. ValueError says what is allowed."""
        if value is None and self.optional:
            return None
        if not self.many:
            return self._one(value)
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"is {value!r}; give {self.allowed()}")
        return tuple(self._one(item) for item in value)

    def allowed(self) -> str:
        """The allowed values in words."""
        one = " or ".join(map(str, self.choices)) if self.choices else _NAMES.get(self.kind or NoneType, "nothing")
        return f"a list [...], each {one}" if self.many else one

    def _one(self, value: Any) -> Any:
        for choice in self.choices:
            same = type(value) is type(choice) and value == choice
            if same or (isinstance(value, str) and isinstance(choice, str) and value.lower() == choice.lower()):
                return choice
        if not self.choices and isinstance(value, self._accepted()) and (self.kind is bool) == isinstance(value, bool):
            try:
                return value if self.kind in (None, bool, int, str) else self.kind(value)
            except OverflowError:
                pass
        raise ValueError(f"is {value!r}; give {self.allowed()}")

    def _accepted(self) -> tuple[type, ...]:
        if self.kind is float:
            return (int, float)
        return (str, Path) if self.kind is Path else (self.kind or NoneType,)


def settings_of(*types: type) -> dict[str, Setting]:
    """The settings of some dataclasses by name, in order; those of a field that is a dataclass itself stand among them.

    A field of no such kind (a callback) is none.
    """
    found: dict[str, Setting] = {}
    for each in types:
        hints = get_type_hints(each, include_extras=True)
        for field in fields(each):
            if is_dataclass(hints[field.name]):
                found |= settings_of(hints[field.name])
            elif not field.metadata.get(ONCE) and (made := _setting(field, hints[field.name])):
                found[made.name] = made
    return found


def assemble(config_type: type, values: Mapping[str, Any]) -> Any:
    """A config from checked values by name; other names are left out. ConfigError for one out of its range."""
    hints = get_type_hints(config_type)
    nested = {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}
    own = {name: values[name] for name in settings_of(config_type) if name in values and name in hints}
    return config_type(**own, **{name: assemble(hint, values) for name, hint in nested.items()})


def values_of(config: Any) -> dict[str, Any]:
    """The settings of a config by name, as they are."""
    known = settings_of(type(config))
    found: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        found |= values_of(value) if is_dataclass(value) else {field.name: value} if field.name in known else {}
    return found


def plain(value: Any) -> Any:
    """A setting's value as JSON has it."""
    if isinstance(value, Path):
        return str(value)
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def build(config_type: type, values: Mapping[str, Any]) -> Any:
    """A config from plain values by name; other names are left out. ValueError for a wrong type, ConfigError for one
    out of its range."""
    known = settings_of(config_type)
    return assemble(config_type, {name: known[name].check(value) for name, value in values.items() if name in known})


def unwrap(hint: Any) -> tuple[Any, str]:
    """The type without ``Annotated`` and ``None``, and the help text."""
    text = ""
    if get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
        text = next((note for note in notes if isinstance(note, str)), "")
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not NoneType]
        hint = kinds[0] if len(kinds) == 1 else hint
    return hint, text


def default_of(field: "Field[Any]") -> Any:
    """A field's default, `dataclasses.MISSING` if it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _setting(field: "Field[Any]", hint: Any) -> Setting | None:
    bare, text = unwrap(hint)
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    optional = NoneType in get_args(inner)
    many = get_origin(bare) is tuple and get_args(bare)[1:] == (...,)
    item = get_args(bare)[0] if many else bare
    choices = get_args(item) if get_origin(item) is Literal else ()
    if not choices and item not in _NAMES:
        return None
    return Setting(field.name, None if choices else item, choices, many, optional, default_of(field), text)
