"""The files of a run: its output, and those that a head wants beside it, written together piece by piece."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from vrestore.checkpoint import JobFolder
from vrestore.errors import ConfigError, OutputError
from vrestore.report import RunOptions
from vrestore.video import VideoInfo, output_beside
from vrestore.video.mux import Trim
from vrestore.video.output import (
    AnyEncoding,
    FrameWriter,
    check_output,
    choose_output,
    join,
    open_at_once,
    open_segment,
    output_bytes,
)
from vrestore.video.y4m import is_pipe
from vrestore.walk import Restored


@dataclass(frozen=True)
class Output:
    """A file of a run."""

    name: str
    """Empty: the output itself."""
    path: Path
    size: tuple[int, int]
    """(height, width)."""
    encoding: AnyEncoding

    def segment(self, main: Path) -> Path:
        """Where a piece of it lies, by that of the output."""
        return main.parent / self.name / main.name


def choose_extras(
    wanted: Mapping[str, tuple[int, int]], info: VideoInfo, output: Path, span: tuple[int, int], options: RunOptions
) -> tuple[Output, ...]:
    """The files beside an output, encoded like it, without alpha; checked like it.

    Raises:
        ConfigError, OutputError: one cannot be written.
    """
    if wanted and is_pipe(output):
        raise ConfigError(f"the output is stdout, and beside it there is no place for {', '.join(wanted)}; name a file")
    formats = replace(options.formats, alpha=False)
    found = []
    for name, size in wanted.items():
        path = output_beside(output, name)
        same = replace(info, height=size[0], width=size[1])  # pixels keep their shape, whatever the picture's is
        encoding = choose_output(same, path, size, span, formats)
        check_output(info, path, span, formats, overwrite=options.overwrite)
        found.append(Output(name, path, size, encoding))
    return tuple(found)


def are_there(extras: Sequence[Output]) -> bool:
    """Whether all have been written."""
    return all(output_bytes(extra.path) > 0 for extra in extras)


class Writers:
    """Writers of one piece of every file, the output first; a context manager that gives up at an error.

    None of the files has its name before `close`.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        self.frames = 0
        self._outputs = outputs
        self._writers: list[FrameWriter] = []

    @classmethod
    def segment(cls, outputs: Sequence[Output], path: Path, info: VideoInfo, first: int) -> "Writers":
        """A segment whose first frame is the output's frame ``first``; ``path`` as `JobFolder.segment` names it."""
        found = cls(outputs)
        for one in outputs:
            try:
                one.segment(path).parent.mkdir(exist_ok=True)
            except OSError as error:
                raise OutputError(f"cannot write in {path.parent}: {error.strerror}; free some space") from error
            found._writers.append(open_segment(one.segment(path), one.size, one.encoding, info, first))
        return found

    @classmethod
    def at_once(cls, outputs: Sequence[Output], info: VideoInfo) -> "Writers":
        """Files without segments: stills, a pipe."""
        found = cls(outputs)
        for one in outputs:
            found._writers.append(open_at_once(one.path, one.size, one.encoding, info))
        return found

    def write(self, made: Restored) -> None:
        """Takes a frame, with the pictures beside it."""
        for one, writer in zip(self._outputs, self._writers, strict=True):
            if one.name:
                writer.write(made.pictures[one.name].numpy(), made.pts)
            else:
                writer.write(made.frame.numpy(), made.pts, made.beside)
        self.frames += 1

    def close(self) -> list[Path]:
        """Ends well, the output's piece last; the files of a segment, the output's first."""
        for writer in reversed(self._writers):
            writer.close()
        return [path for path in (getattr(writer, "path", None) for writer in self._writers) if path is not None]

    def abort(self) -> None:
        """Gives up; nothing half-done is left."""
        for writer in self._writers:
            writer.abort()


def join_all(outputs: Sequence[Output], folders: Sequence[JobFolder], info: VideoInfo, **trim: Unpack[Trim]) -> None:
    """Every file from its segments in some job folders, the output last."""
    segments = [segment for folder in folders for segment in folder.segments()]
    for one in reversed(outputs):
        join([one.segment(segment) for segment in segments], info, one.path, one.encoding, **trim)
