"""``--preset`` and ``--print-config`` of every command, over the layers of `vrestore.preset`.

The files' values become click's defaults for the call (its ``default_map``), so the environment and flags win by
click's own rules, and click knows of every value where it is from.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from vrestore.cli_options import Action
from vrestore.preset import Given, Tables, check_ranges, find_project, layered, read_preset, tables_of
from vrestore.record import as_toml, record, save_record
from vrestore.settings import settings_of

_GIVEN, _PRINT = "vrestore.given", "vrestore.print_config"


class Command(click.Command):
    """A command with settings: reads presets, checks every range, prints the resolved configuration."""

    def __init__(self, name: str, command: str, tasks: Mapping[str, str], **rest: Any) -> None:
        super().__init__(name, **rest)
        self._command, self._tasks = command, tasks
        self.params += [
            Action(
                ["--preset"],
                type=click.Path(path_type=Path),
                multiple=True,
                is_eager=True,
                expose_value=False,
                callback=self._read,
                help="Settings from a TOML file, or from the JSON beside an output; more than one: the later wins.",
            ),
            Action(
                ["--print-config"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=self._print,
                help="Show every setting and where it is from, as TOML that --preset takes; run nothing.",
            ),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Check what was resolved, then print it or run the command."""
        tables, given = self.tables(), resolved(ctx)
        check_ranges(tables, given)
        if ctx.meta.get(_PRINT):
            return click.echo(as_toml(tables, given))
        return super().invoke(ctx)

    def tables(self) -> Tables:
        """The tables that this command reads."""
        return tables_of(self._command, self._tasks)

    def _read(self, ctx: click.Context, param: click.Parameter, paths: tuple[Path, ...]) -> None:
        project = find_project()
        files = [*paths, *([project] if project else [])]
        given = layered([read_preset(path, self._tasks) for path in files], self.tables(), self._tasks)
        ctx.meta[_GIVEN] = given
        ctx.default_map = {name: one.value for name, one in given.items()}

    def _print(self, ctx: click.Context, param: click.Parameter, value: bool) -> None:
        ctx.meta[_PRINT] = value
        for other in self.params:
            if value and isinstance(other, (click.Argument, Action)):
                other.required = False


def resolved(ctx: click.Context) -> dict[str, Given]:
    """Every setting of a call by name, with its origin."""
    command = ctx.command
    if not isinstance(command, Command):
        return {}
    known = settings_of(*(each for types in command.tables().values() for each in types))
    return {p.name: _given(ctx, p) for p in command.params if p.name in known and p.name in ctx.params}


def asked_for() -> frozenset[str]:
    """Names of the settings of the current call that somebody has set: by a flag, the environment or a preset."""
    return frozenset(n for n, one in resolved(click.get_current_context()).items() if one.origin != "default")


def write_record(output: Path, result: Mapping[str, Any]) -> None:
    """Settings, origins, versions and results of the current call beside its output, if that is no pipe."""
    ctx = click.get_current_context()
    sequence = any(mark in output.name for mark in "%#")
    if (sequence or output.exists()) and isinstance(ctx.command, Command):
        save_record(output, record(str(ctx.command.name), ctx.command.tables(), resolved(ctx), result))


def _given(ctx: click.Context, param: click.Parameter) -> Given:
    name = str(param.name)
    files: Mapping[str, Given] = ctx.meta.get(_GIVEN, {})
    origins: dict[ParameterSource | None, Callable[[], str]] = {
        ParameterSource.COMMANDLINE: lambda: "flag",
        ParameterSource.ENVIRONMENT: lambda: _variable(ctx, param),
        ParameterSource.DEFAULT_MAP: lambda: files[name].origin,
    }
    return Given(ctx.params[name], origins.get(ctx.get_parameter_source(name), lambda: "default")())


def _variable(ctx: click.Context, param: click.Parameter) -> str:
    if isinstance(param.envvar, (list, tuple)):
        return next((name for name in param.envvar if os.environ.get(name)), "environment")
    return str(param.envvar or f"{ctx.auto_envvar_prefix}_{str(param.name).upper()}")
