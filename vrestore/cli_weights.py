"""``vrestore weights list|pull|verify|path``."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vrestore.cli import Session


def weights_command() -> click.Group:
    """The group of commands."""
    from vrestore.cli import session_options

    commands = [
        click.Command("list", callback=_list, params=session_options(), help="What there is, and what is here."),
        click.Command(
            "pull",
            callback=_pull,
            params=[click.Argument(["names"], nargs=-1, required=True), *session_options()],
            help="Fetch public weights, check them and say where they lie.",
        ),
        click.Command(
            "verify",
            callback=_verify,
            params=[click.Argument(["names"], nargs=-1), *session_options()],
            help="Check that every file is what it should be: of NAMES, or of all that are here.",
        ),
        click.Command(
            "path",
            callback=_path,
            params=[click.Argument(["name"]), *session_options()],
            help="Where some weights lie.",
        ),
    ]
    return click.Group(
        "weights", {str(one.name): one for one in commands}, help="List, fetch and check weights.", no_args_is_help=True
    )


@click.pass_obj
def _list(session: "Session", /) -> None:
    from vrestore.cli import aligned, show
    from vrestore.weights.registry import listed

    found = listed()
    rows = [("name", "state", "MB", "licence", "for")]
    rows += [(one.name, one.state, f"{one.megabytes:.0f}", one.licence, one.serves) for one in found]
    show(session, {"weights": [vars(one) for one in found]}, aligned(rows))


@click.pass_obj
def _pull(session: "Session", /, names: tuple[str, ...]) -> None:
    from vrestore.cli import show
    from vrestore.weights.registry import pull

    found = {name: str(pull(name)) for name in names}
    show(session, found, [f"{name}  {place}" for name, place in found.items()])


@click.pass_obj
def _verify(session: "Session", /, names: tuple[str, ...]) -> int:
    from vrestore.cli import FAILURE, show
    from vrestore.weights.registry import listed, verify

    chosen = names or tuple(one.name for one in listed() if one.state != "missing")
    found = {name: verify(name) for name in chosen}
    lines = [f"{name}  {file}  {wrong}" for name, files in found.items() for file, wrong in files.items()]
    show(session, found, lines or [f"{name}  as it should be" for name in chosen])
    return FAILURE if lines else 0


@click.pass_obj
def _path(session: "Session", /, name: str) -> None:
    from vrestore.cli import show
    from vrestore.weights.registry import path_of

    place = str(path_of(name))
    show(session, {"path": place}, [place])
