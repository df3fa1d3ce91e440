"""``vrestore batch HEAD IN_DIR OUT_DIR``: the options of the head's own command, and those of a batch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vrestore.cli_options import Action, options_of

if TYPE_CHECKING:
    from vrestore.cli import Session


class BatchCommands(click.Group):
    """A batch command for every head."""

    def __init__(self, name: str, heads: Mapping[str, Callable[[], click.Command]], tasks: Mapping[str, str]) -> None:
        super().__init__(name, help="Do every clip of a folder; several of these may share one, also over a network.")
        self._heads, self._tasks = heads, tasks

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The heads in their order."""
        return list(self._heads)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Generate it from the head's own command."""
        return _batch_command(cmd_name, self._heads[cmd_name](), self._tasks) if cmd_name in self._heads else None


def _batch_command(name: str, single: click.Command, tasks: Mapping[str, str]) -> click.Command:
    from vrestore.batch.config import BatchConfig
    from vrestore.cli import session_options
    from vrestore.cli_preset import Command, asked_for
    from vrestore.settings import settings_of

    own = options_of(BatchConfig)
    of_head = [option for option in single.params if isinstance(option, click.Option) and _is_setting(option)]
    for table, options in (("BATCH", own), (name, of_head)):
        for option in options:
            option.envvar = [f"VRESTORE_{table}_{option.name}".upper()]

    @click.pass_obj
    def command(session: "Session", /, in_dir: Path, out_dir: Path, dry_run: bool, **values: Any) -> int:
        mine = settings_of(BatchConfig)
        config = BatchConfig(**{key: value for key, value in values.items() if key in mine})
        settings = {key: value for key, value in values.items() if key not in mine and key in asked_for()}
        return _run(session, tasks[name], in_dir, out_dir, config, settings, dry_run)

    folder: click.ParamType[Any] = click.Path(path_type=Path)
    parameters: list[click.Parameter] = [
        click.Argument(["in_dir"], type=folder),
        click.Argument(["out_dir"], type=folder),
        *own,
        *of_head,
        Action(["--dry-run"], is_flag=True, help="Show what would be done; write nothing."),
        *session_options(),
    ]
    text = f"{single.help} Of every clip in a folder; what is done is skipped, what fails does not stop the others."
    return Command(name, f"batch {name}", tasks, callback=command, params=parameters, help=text)


def _is_setting(option: click.Option) -> bool:
    return option.expose_value and not isinstance(option, Action)


def _run(
    session: "Session",
    head: str,
    in_dir: Path,
    out_dir: Path,
    config: Any,
    settings: Mapping[str, Any],
    dry_run: bool,
) -> int:
    from vrestore.batch import run_batch
    from vrestore.cli import show
    from vrestore.cli_progress import shown

    session.advice = "What is done stays done; the same command goes on where it stopped."
    with shown(quiet=session.quiet, debug=session.debug, unit="clips") as report:

        def progress(done: int, total: int) -> None:
            session.check()
            report(done, total, "batch")

        result = run_batch(head, in_dir, out_dir, config, settings=settings, progress=progress, dry_run=dry_run)
    show(session, result.as_dict(), result.lines())
    return result.exit_code
