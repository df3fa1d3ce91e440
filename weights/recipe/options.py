"""Options that the recipe's commands share, made of the settings of a training."""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import wraps
from pathlib import Path
from typing import Any, get_type_hints

import click

from vrestore.errors import VRestoreError
from vrestore.settings import unwrap
from vrestore.weights.recipe.fit import FitConfig

Command = Callable[..., None]

FOLDER = click.Path(path_type=Path)
THERE = click.Path(exists=True, path_type=Path)
jobs = click.option(
    "--jobs",
    default=2,
    show_default=True,
    type=click.IntRange(0),
    help="Processes that render; the bits do not depend on it. 0: in this one.",
)
device = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
seed = click.option("--seed", default=0, show_default=True, help="Of everything random.")


class Commands(click.Group):
    """A group whose commands say in a line what was wrong with what they were given."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except VRestoreError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)


def training(usual: FitConfig) -> Callable[[Command], Command]:
    """Gives a command the options of a training, with ``usual`` as defaults, and a ``config`` in their place."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def configured(**given: object) -> None:
            own: dict[str, Any] = {name: given.pop(name) for name in names}
            command(config=replace(usual, **own), **given)

        names, decorated = [], configured
        for field in reversed(fields(usual)):
            text = _help(type(usual), field.name)
            if text:
                names.append(field.name)
                value = getattr(usual, field.name)
                name = f"--{field.name}/--no-{field.name}" if isinstance(value, bool) else f"--{field.name}"
                decorated = click.option(name, default=value, show_default=True, help=text)(decorated)
        return decorated

    return decorate


def _help(config_type: type, name: str) -> str:
    """Of a setting: its own, or that of the class whose default it replaces."""
    bases = (get_type_hints(base, include_extras=True) for base in config_type.__mro__)
    return next((text for hints in bases if (text := unwrap(hints.get(name))[1])), "")
