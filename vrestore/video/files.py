"""Files that appear under their name only when they are complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from vrestore.errors import OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the folder of ``path``, which gets the name ``path`` when the block ends well.

    Whatever is raised inside, nothing is left behind; what the system refuses becomes OutputError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist; create it first")
    try:
        temporary.touch()
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # a power cut must not leave the name without the content
        temporary.replace(path)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale(path: Path) -> None:
    """Remove what processes left that were killed while they wrote ``path``."""
    start, end = f".{path.name}.", ".part"
    for left in path.parent.iterdir():
        pid = left.name[len(start) : -len(end)]
        ours = left.name.startswith(start) and left.name.endswith(end) and pid.isdecimal()
        if ours and not psutil.pid_exists(int(pid)):
            left.unlink(missing_ok=True)
