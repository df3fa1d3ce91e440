"""The command of a head without a source: ``vrestore NAME -o OUTPUT ...``."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vrestore.cli_options import Action, options_of

if TYPE_CHECKING:
    from vrestore.cli import Session


def making_command(name: str, head: Any, tasks: Mapping[str, str]) -> click.Command:
    """Generated from the head's config, like the commands of all others."""
    from vrestore.cli import job_options
    from vrestore.cli_preset import Command
    from vrestore.video.formats import Formats

    @click.pass_obj
    def command(session: "Session", /, **values: Any) -> None:
        _run(session, head, **values)

    parameters: list[click.Parameter] = [
        Action(
            ["-o", "--output"],
            type=click.Path(path_type=Path),
            required=True,
            help="Output: a video, picture or sequence (out.%04d.png); -: Y4M on stdout.",
        ),
        *options_of(head.config_type),
        *(option for option in options_of(Formats) if option.name not in head.config_type.__dataclass_fields__),
        *job_options(),
    ]
    return Command(name, name, tasks, callback=command, params=parameters, help=head.summary)


def _run(
    session: "Session",
    head: Any,
    *,
    output: Path,
    resume: bool,
    overwrite: bool,
    record: bool,
    dry_run: bool,
    **settings: Any,
) -> None:
    session.advice = "The same command with --resume goes on where it stopped."
    from vrestore.cli import PIPE, aligned, flat, show
    from vrestore.cli_preset import write_record
    from vrestore.cli_progress import shown
    from vrestore.maker import make, plan_making
    from vrestore.report import MakeOptions, Progress
    from vrestore.video.formats import Formats

    formats = Formats(**{field.name: settings[field.name] for field in fields(Formats)})
    task = head(head.config_type(**{field.name: settings[field.name] for field in fields(head.config_type)}))
    session.piped = str(output) == PIPE
    with shown(quiet=session.quiet, debug=session.debug) as report:

        def progress(now: Progress) -> None:
            session.check()
            report(now.done, now.total, now.stage)

        def told(plan: Any) -> None:
            if not session.quiet:
                click.echo("\n".join(plan.lines()), err=True)

        options = MakeOptions(resume=resume, overwrite=overwrite, progress=progress, told=told, formats=formats)
        if dry_run:
            plan = plan_making(task, output, options)
            done, lines = plan.as_dict(), plan.lines()
        else:
            done = make(task, output, options).as_dict()
            if record:
                write_record(output, done)
            lines = aligned(flat({name: value for name, value in done.items() if name != "job"}))
    show(session, done, lines)
