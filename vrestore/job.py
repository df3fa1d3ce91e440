"""A run before it starts: what is known of it, and what it becomes where memory runs out."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vrestore.checkpoint import fingerprint
from vrestore.errors import NotEnoughMemoryError
from vrestore.extras import Output
from vrestore.mapping import Maps
from vrestore.memory import MemoryPlan, Needs, is_out_of_memory, smaller
from vrestore.plan import KeyframesPlan, Plan, Tile, WindowsPlan
from vrestore.prior import PriorFacts
from vrestore.priors import PriorSource
from vrestore.retime import Part, retimed_info
from vrestore.task import Edits, Task
from vrestore.timeline import Slot, Timeline
from vrestore.video import Keep, Shot, VideoInfo
from vrestore.video.output import AnyEncoding
from vrestore.video.planes import has_alpha
from vrestore.video.sequence import sequence_files

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What is known of a run before the prior is loaded."""

    task: Task
    info: VideoInfo
    output: Path
    size: tuple[int, int]
    """(height, width) of the output."""
    span: tuple[int, int]
    """Frames of the input, half-open."""
    parts: tuple[Part, ...]
    """The shots as they are walked; those of which nothing is shown have no length."""
    encoding: AnyEncoding | None
    """None where nothing is written."""
    needs: Needs
    memory: MemoryPlan
    prior: PriorSource
    device: torch.device
    dtype: torch.dtype
    extras: tuple[Output, ...] = ()
    """Files beside the output."""
    first_shot: int = 1
    """Number of the first shot, for a head that speaks of shots."""
    timeline: Timeline | None = None
    """Of a head that makes other times than its source has."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Settings that the head has found in its input."""

    @property
    def facts(self) -> PriorFacts:
        """The prior's."""
        return self.prior.facts

    @property
    def shots(self) -> tuple[Shot, ...]:
        """Frames of the input."""
        return tuple(part.shot for part in self.parts)

    @property
    def frames(self) -> int:
        """Frames of the output."""
        return sum(part.shown for part in self.parts)

    @property
    def target(self) -> VideoInfo:
        """Facts of the output's times, the input's where they are not its own."""
        if self.timeline is None:
            return self.info
        return retimed_info(self.info, self.timeline, self.timeline.vfr)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """All files, the output first; none where nothing is written."""
        if self.encoding is None:
            return ()
        return (Output("", self.output, self.size, self.encoding), *self.extras)

    @cached_property
    def tiles(self) -> tuple[Tile, ...] | None:
        """Tiles in latent pixels; None: the whole picture."""
        return self.needs.tiles(self.memory)

    def plan(self, frames: int, keys: np.ndarray | None = None) -> Plan:
        """The plan of a shot of so many positions, of which some may be keys."""
        if keys is not None:
            return KeyframesPlan(frames, keys, self.needs.steps, self.tiles)
        if isinstance(self.task, Maps):
            return self.task.plan(frames, self.needs.steps, self.tiles, self.memory.batch)
        windows = WindowsPlan(frames, self.memory.window, self.memory.overlap, self.needs.steps, self.tiles)
        return self.task.plan(windows, self.facts) if isinstance(self.task, Edits) else windows

    def plans(self) -> Iterator[Plan]:
        """Those of all parts that have a length."""
        return (self.plan(part.length, part.keys) for part in self.parts if part.length)

    def slots(self, part: Part, first: int = 0) -> Iterator[Slot] | None:
        """What the positions of a part hold, from one on; None: its frames."""
        if self.timeline is None:
            return None
        return islice(self.timeline.slots(part.shot.start, part.shot.stop), first, None)

    def asked(self) -> dict[str, Any]:
        """What a checkpoint belongs to: the input's content, the weights, every setting, and the geometry they give."""
        return {
            "input": _fingerprint(self.info),
            "weights": [fingerprint(path) for path in self.prior.weights()],
            "files": [fingerprint(path) for path in self.task.files()] if isinstance(self.task, Edits) else [],
            "task": self.task.name,
            **{name: value for name, value in asdict(self.task.config).items() if name != "download"},
            "device": str(self.device),
            "dtype": str(self.dtype),
            "frames": list(self.span),
            "fps": str(self.info.fps),
            "deinterlace": self.info.deinterlace,
            "size": list(self.size),
            "encoding": asdict(self.encoding) if self.encoding else None,
        }

    def keep(self) -> Keep:
        """What the reader gives beside the picture: what the output holds."""
        if self.encoding is None:
            return Keep()
        light = self.info.linear and self.encoding.codec != "exr"  # highlights of a scene are no superwhite
        return Keep(has_alpha(self.encoding.pix_fmt), "none" if light else self.encoding.outside)


def shrunk(job: Job, error: Exception) -> Job:
    """The job with a smaller plan, after an error.

    Raises:
        NotEnoughMemoryError: no smaller plan is left.
        the error itself: it says nothing of memory.
    """
    if not is_out_of_memory(error) or isinstance(error, NotEnoughMemoryError):
        raise error
    memory = smaller(job.memory, job.needs)
    if memory is None:
        raise NotEnoughMemoryError(
            f"memory ran out ({str(error).splitlines()[0] if str(error) else type(error).__name__}), also with the "
            f"smallest tiles; end other programs, or start anew with a --window smaller than {job.memory.window}"
        ) from error
    found = replace(job, memory=memory)
    what = f"{len(found.tiles or (None,))} tiles, calls one by one"
    log.warning("memory ran out: going on with %s, from the last checkpoint", what)
    return found


def _fingerprint(info: VideoInfo) -> str:
    """The input's; of a sequence, that of all its pictures."""
    prints = [fingerprint(path) for path in sequence_files(info)]
    return prints[0] if len(prints) == 1 else hashlib.sha256("".join(prints).encode()).hexdigest()
