"""Heads that make one map of values for each frame, out of the whole shot: an optional part of the contract."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from vrestore.clock import Clock
from vrestore.plan import SnippetsPlan, Tile
from vrestore.prior import Prior
from vrestore.priors import PriorSource
from vrestore.task import Task
from vrestore.video import DecodedFrame, Formats, VideoInfo
from vrestore.video.output import AnyEncoding
from vrestore.walk import Walk


@runtime_checkable
class Maps(Task, Protocol):
    """A head whose output are maps of values, of the source's size, made of snippets of a shot.

    `Task.degraded` and `Task.finish` are not asked.
    """

    def checked(self, prior: PriorSource) -> None:
        """PriorError if it is no prior for this head."""
        ...

    def seen_size(self, prior: PriorSource, height: int, width: int) -> tuple[int, int]:
        """(height, width) at which the prior sees frames of that size."""
        ...

    def held_bytes(self, prior: PriorSource, height: int, width: int) -> int:
        """Memory of what is held of a shot beside latents."""
        ...

    def plan(self, frames: int, steps: int, tiles: tuple[Tile, ...] | None, together: int) -> SnippetsPlan:
        """The plan of a shot; ``together``: snippets that may go through the prior at once."""
        ...

    def encoding(
        self, info: VideoInfo, output: Path, size: tuple[int, int], span: tuple[int, int], formats: Formats
    ) -> AnyEncoding:
        """How the output is encoded. ConfigError for what cannot be."""
        ...

    def walk(
        self,
        prior: Prior,
        plan: SnippetsPlan,
        frames: Iterator[DecodedFrame],
        clock: Clock,
        *,
        size: tuple[int, int],
        encoding: AnyEncoding | None,
        begin: int,
    ) -> Walk:
        """What makes the maps of a shot. ``frames``: all of it, of ``size``; ``begin``: the first that is wanted."""
        ...
