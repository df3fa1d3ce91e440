"""The command line: one command per head, generated from its config, ``batch`` and ``compare``. It contains no logic.

Exit codes: 0 done; 1 failure; 2 usage (also a setting out of range, a missing input); 3 some clips of a batch failed;
130 Ctrl-C; 143 terminated. Results go to stdout (``--json`` for machines), progress and messages to stderr; a traceback
appears only with ``--debug``. Every option can be set by an environment variable, ``VRESTORE_SR_SCALE=2`` for
``vrestore sr --scale 2``, and in a preset (`vrestore.preset`).
"""

import ast
import json
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import click

from vrestore import __version__
from vrestore.cli_options import Action, options_of
from vrestore.errors import VRestoreError
from vrestore.tasks import MAKERS, TASKS

FAILURE = 1
PIPE = "-"
_OUTPUT_HELP = (
    "Output: a video, picture or sequence (out.%04d.png); -: Y4M on stdout.  [default: INPUT's name with _{}]"
)
OTHERS = {"batch": "vrestore.batch", "compare": "vrestore.comparison", "weights": "vrestore.weights.registry"}
"""Commands that are no heads, and the modules that say what they do."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Session:
    """What one call of the program was told, apart from the job. ``piped``: stdout is for the output alone."""

    json: bool = False
    quiet: bool = False
    debug: bool = False
    advice: str = ""
    """How to go on after an interruption."""
    piped: bool = False
    stopped_by: int | None = None

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: unwind, so that nothing half-done is left. A second signal ends the process at once."""
        self.stopped_by = number
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    def check(self) -> None:
        """Stop if a signal came while code ran that swallows exceptions (a destructor, a callback from C)."""
        if self.stopped_by is not None:
            raise KeyboardInterrupt


def main(args: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    session = Session()
    try:
        with _signals(session):
            result = commands.main(args, prog_name="vrestore", standalone_mode=False, obj=session)
    except click.ClickException as error:  # wrong usage: click shows the usage line too
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"Interrupted. {session.advice}".strip(), err=True)
        return 128 + (session.stopped_by or signal.SIGINT)
    except VRestoreError as error:
        return _fail(session, str(error), error.exit_code)
    except Exception as error:
        hint = "" if session.debug else " (--debug shows where)"
        return _fail(session, f"{type(error).__name__}: {error}{hint}", FAILURE)
    return result if isinstance(result, int) else 0


def _fail(session: Session, message: str, code: int) -> int:
    if session.debug:
        traceback.print_exc()
    click.echo(f"Error: {message}", err=True)
    return code


@contextmanager
def _signals(session: Session) -> Iterator[None]:
    """Our handlers, also where the caller had SIGINT ignored (a shell's background job): a kill -INT must work."""
    before = {number: signal.signal(number, session.stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Commands(click.Group):
    """Commands that are imported only when they are called, so that ``vrestore --help`` is immediate."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The heads in their order, then what is done with all of them."""
        return [*TASKS, *MAKERS, *OTHERS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import what the command needs and generate it."""
        if cmd_name == "compare":
            return _compare_command()
        if cmd_name == "weights":
            from vrestore.cli_weights import weights_command

            return weights_command()
        if cmd_name == "batch":
            from vrestore.cli_batch import BatchCommands

            return BatchCommands(cmd_name, {name: partial(_head_command, name, TASKS[name]) for name in TASKS}, TASKS)
        if cmd_name in MAKERS:
            from vrestore.cli_make import making_command

            return making_command(cmd_name, _head(MAKERS[cmd_name]), TASKS)
        return _head_command(cmd_name, TASKS[cmd_name]) if cmd_name in TASKS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Name and first line of the module's docstring, read without importing it."""
        modules = {name: entry.partition(":")[0] for name, entry in {**TASKS, **MAKERS}.items()} | OTHERS
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_line(module)) for name, module in modules.items()])


def _first_line(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "VRESTORE"},
    epilog="vrestore COMMAND --help shows the options of a command.",
)
@click.version_option(__version__, prog_name="vrestore")
def commands() -> None:
    """Restore and edit video of any length with video diffusion priors."""


def session_options() -> list[click.Parameter]:
    """``--json``, ``--quiet``, ``--debug``."""
    texts = {
        "json": "Print the result as JSON.",
        "quiet": "No progress, no summary.",
        "debug": "Show the traceback of an error.",
    }

    def tell(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        setattr(ctx.obj, str(param.name), value)

    return [
        click.Option([f"--{name}"], is_flag=True, help=text, expose_value=False, is_eager=True, callback=tell)
        for name, text in texts.items()
    ]


def job_options() -> list[click.Parameter]:
    """What every command that writes one output takes: how its job runs, and those of the session."""
    return [
        Action(["--resume"], is_flag=True, help="Go on with a job that was interrupted."),
        click.Option(
            ["--overwrite/--no-overwrite"], default=True, show_default=True, help="Replace an existing output."
        ),
        Action(["--record/--no-record"], default=True, help="Write settings and results to OUTPUT.vrestore.json."),
        Action(["--dry-run"], is_flag=True, help="Show what would be done, and its cost."),
        *session_options(),
    ]


def _path() -> "click.ParamType[Any]":
    return click.Path(path_type=Path)


def _head(entry: str) -> Any:
    """The class of a head, imported."""
    module, _, attribute = entry.partition(":")
    return getattr(import_module(module), attribute)


def _head_command(name: str, entry: str) -> click.Command:
    """``vrestore NAME INPUT [-o OUTPUT] ...`` for a head."""
    from vrestore.cli_preset import Command
    from vrestore.video.formats import Formats

    head = _head(entry)

    @click.pass_obj
    def command(session: Session, /, **values: Any) -> None:
        _run_head(session, head, **values)

    parameters: list[click.Parameter] = [
        click.Argument(["input"], type=_path()),
        Action(["-o", "--output"], type=_path(), help=_OUTPUT_HELP.format(name)),
        *options_of(head.config_type),
        *(option for option in options_of(Formats) if option.name not in head.config_type.__dataclass_fields__),
        click.Option(["--start"], metavar="POSITION", help="First frame: a number (120) or a time (00:00:05.2, 5.2s)."),
        click.Option(["--end"], metavar="POSITION", help="Frame to stop before, in the same form."),
        click.Option(
            ["--deinterlace/--no-deinterlace"],
            default=None,
            help="Make whole pictures of interlaced frames, or keep them; without a word they are refused.",
        ),
        *job_options(),
    ]
    return Command(name, name, TASKS, callback=command, params=parameters, help=head.summary)


def _run_head(
    session: Session,
    head: Any,
    *,
    input: Path,
    output: Path | None,
    start: str | None,
    end: str | None,
    deinterlace: bool | None,
    resume: bool,
    overwrite: bool,
    record: bool,
    dry_run: bool,
    **settings: Any,
) -> None:
    session.advice = "The same command with --resume goes on where it stopped."
    from vrestore.cli_preset import asked_for, write_record
    from vrestore.cli_progress import shown
    from vrestore.engine import plan_job, run
    from vrestore.report import Progress, RunOptions
    from vrestore.video import Formats, output_beside

    formats = Formats(**{field.name: settings[field.name] for field in fields(Formats)})
    task = head(head.config_type(**{field.name: settings[field.name] for field in fields(head.config_type)}))
    output = output or output_beside(input, head.name)
    session.piped = str(output) == PIPE
    with shown(quiet=session.quiet, debug=session.debug) as report:

        def progress(now: Progress) -> None:
            session.check()
            report(now.done, now.total, now.stage)

        options = RunOptions(
            start=start,
            end=end,
            deinterlace=deinterlace,
            resume=resume,
            overwrite=overwrite,
            held=asked_for(),
            progress=progress,
            formats=formats,
        )
        if dry_run:
            plan = plan_job(task, input, output, options)
            done, lines = plan.as_dict(), plan.lines()
        else:
            done = run(task, input, output, options).as_dict()
            if record:
                write_record(output, done)
            lines = aligned(flat({name: value for name, value in done.items() if name != "job"}))
    show(session, done, lines)


def _compare_command() -> click.Command:
    from vrestore.cli_preset import Command
    from vrestore.comparison import CompareConfig

    @click.pass_obj
    def command(session: Session, /, **values: Any) -> None:
        _run_compare(session, **values)

    parameters: list[click.Parameter] = [
        click.Argument(["a"], type=_path()),
        click.Argument(["b"], type=_path()),
        *options_of(CompareConfig),
        *session_options(),
    ]
    text = "Measure video (or still) B against A, or both against the truth given by --ref."
    return Command("compare", "compare", TASKS, callback=command, params=parameters, help=text)


def _run_compare(session: Session, *, a: Path, b: Path, **settings: Any) -> None:
    from vrestore.cli_progress import shown
    from vrestore.comparison import CompareConfig, compare

    with shown(quiet=session.quiet, debug=session.debug) as report:

        def progress(done: int, total: int) -> None:
            session.check()
            report(done, total, "compare")

        result = compare(a, b, CompareConfig(**settings), progress=progress)
    show(session, result.as_dict(), aligned(result.rows()))


def show(session: Session, values: Mapping[str, Any], lines: Sequence[str]) -> None:
    """A result on stdout, for machines or for people."""
    from vrestore.record import finite

    if session.json:
        click.echo(json.dumps(finite(values), indent=2, default=str), err=session.piped)
    elif not session.quiet:
        click.echo("\n".join(lines), err=session.piped)


def flat(values: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows of a result for people: nested names joined, floats to four figures, what is unknown left out."""
    rows: list[tuple[str, ...]] = []
    for key, value in values.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping):
            rows += [(f"{name} {inner}", text) for inner, text in flat(value)]
        elif value is not None:
            rows.append((name, f"{value:.4g}" if isinstance(value, float) else str(value)))
    return rows


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


if __name__ == "__main__":
    sys.exit(main())
