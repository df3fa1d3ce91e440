"""The contract of a head: a frozen configuration, and what it makes of frames before and after the prior."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor

from vrestore.errors import ConfigError
from vrestore.luma import psnr_y
from vrestore.plan import Plan, WindowsPlan
from vrestore.prior import Conditioning, Prior, PriorFacts
from vrestore.shapes import AnyFrame, Frame, Latent, OutputFrame, WorkedFrame
from vrestore.timeline import Retiming
from vrestore.video import VideoInfo

MOST_STEPS = 1000
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Settings that every head has; the command line is made from the fields and their help."""

    steps: Annotated[
        int | None,
        "Sampling steps; left out: what the prior is made for, one for the embedded. There one is the most faithful.",
    ] = None
    fidelity: Annotated[
        float,
        "0 to 1. Below 0.5 the sampler draws detail (with more than one step), at 0.5 it gives the likeliest picture, "
        "towards 1 the output, degraded again, must be the input.",
    ] = 0.5
    seed: Annotated[int, "Seed of the noise. The embedded prior draws some only below fidelity 0.5."] = 0
    window: Annotated[int, "Frames that the prior sees together."] = 16
    overlap: Annotated[int, "Frames that neighbouring windows share."] = 4
    tile: Annotated[
        int | None, "Side of the square parts that the picture is cut into, in output pixels; none: chosen by size."
    ] = None
    propagation: Annotated[
        float, "0 to 1: how much predictions are carried from frame to frame along the motion; off at 0."
    ] = 0.0
    motion_guidance: Annotated[
        float, "0 to 1: how much neighbouring predictions are drawn together along the motion; off at 0."
    ] = 0.0
    prior: Annotated[str, "Name of the prior, or a folder in diffusers' layout."] = "restoration"
    device: Annotated[str, "auto, cpu, cuda, cuda:0, mps ..."] = "auto"
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], "Precision of the prior; auto: the fastest one here."
    ] = "auto"

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        if self.steps is not None and not 1 <= self.steps <= MOST_STEPS:
            raise ConfigError(f"steps is {self.steps}; give 1 to {MOST_STEPS}")
        if not 0 <= self.fidelity <= 1:
            raise ConfigError(f"fidelity is {self.fidelity}; give a number from 0 to 1")
        for name in ("propagation", "motion_guidance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a number from 0 (off) to 1")
        if not 0 <= self.seed < 1 << 64:
            raise ConfigError(f"seed is {self.seed}; give 0 to {(1 << 64) - 1}")
        if self.window < 1:
            raise ConfigError(f"window is {self.window}; give 1 or more frames")
        if not 0 <= self.overlap < self.window:
            raise ConfigError(f"overlap is {self.overlap}; give 0 to {self.window - 1}, less than the window")
        if self.tile is not None and self.tile < 128:
            raise ConfigError(f"tile is {self.tile}; give 128 or more output pixels, or leave it out")
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype is {self.dtype!r}; give one of {', '.join(DTYPES)}")


@runtime_checkable
class Task(Protocol):
    """A restoring head: what the prior sees of a source frame, and what becomes of the prior's answer.

    ``name`` is the command, ``summary`` its line of help. Frames are RGB in [0, 1], (3, height, width).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    config_type: ClassVar[type[TaskConfig]]

    @property
    def config(self) -> TaskConfig:
        """The settings, frozen."""
        ...

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the output for a source of that size; ConfigError if it cannot be."""
        ...

    def degraded(self, source: Frame) -> WorkedFrame:
        """The source frame at output size, or that of `Supersamples`: what the prior starts from and is conditioned
        on."""
        ...

    def finish(self, restored: WorkedFrame, source: Frame, *, exact: bool) -> OutputFrame:
        """The output frame: colour held to the source, and as consistent with it as ``fidelity`` asks.

        ``exact``: the source's samples are free of a codec's errors, so they may be believed.
        """
        ...

    def consistency_db(self, output: OutputFrame, source: Frame) -> float:
        """PSNR-Y in dB between the output degraded again and the source, both rounded to 8 bits; at most 100."""
        ...


class OwnSize:
    """Base of heads whose output has the size of their source; what they do otherwise, they say themselves."""

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The source's own."""
        return height, width

    def degraded(self, source: Frame) -> OutputFrame:
        """The source as it is."""
        return source

    def finish(self, restored: OutputFrame, source: Frame, *, exact: bool) -> OutputFrame:
        """What the prior has made, within [0, 1]."""
        return restored.clamp(0, 1)

    def consistency_db(self, output: OutputFrame, source: Frame) -> float:
        """PSNR-Y in dB against the source: how much was changed."""
        return psnr_y(output, source)


@runtime_checkable
class Retimes(Task, Protocol):
    """A head whose output has other times than its source: the optional part of the contract.

    Source frames then pass untouched where their time is asked, and the prior, which must know how (`between`), makes
    what lies between two. `Task.finish` and `Task.consistency_db` get what flow makes of the two as ``source``.
    """

    def retiming(self) -> Retiming:
        """Which output times are wanted."""
        ...


@runtime_checkable
class Measures(Task, Protocol):
    """A head that looks at its input before it starts: another optional part of the contract."""

    def measured(self, windows: Iterable[Iterable[Frame]]) -> "Measures":
        """The head with what it found in a few windows of a dozen neighbouring frames each.

        It is asked once for a job; the windows are read as they are taken, so a head that needs none costs nothing.
        """
        ...


@runtime_checkable
class Prepares(Task, Protocol):
    """A head that changes its frames before anything else sees them: another optional part of the contract."""

    @property
    def looks(self) -> int:
        """Frames to either side that a frame is prepared with."""
        ...

    def prepared_bytes(self, height: int, width: int) -> int:
        """Memory that preparing takes, for a source of that size."""
        ...

    def prepared(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Neighbouring frames of a shot, prepared: as many, in order."""
        ...


@runtime_checkable
class Supersamples(Task, Protocol):
    """A head whose prior works at another size than the output's: another optional part of the contract.

    `Task.degraded` is of that size, and so is what `Task.finish` gets.
    """

    def worked_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) at which the prior sees a source of that size."""
        ...


def seen_size(task: Task, height: int, width: int) -> tuple[int, int]:
    """(height, width) at which the prior sees a source of that size: the output's, unless the head says otherwise."""
    return task.worked_size(height, width) if isinstance(task, Supersamples) else task.output_size(height, width)


@dataclass(frozen=True, eq=False)
class Seen:
    """A source frame on its way to the prior, with what the prior itself makes of it."""

    index: int
    """Position in the whole video."""
    pts: int
    source: Frame
    conditioning: Conditioning


@dataclass(frozen=True)
class Scene:
    """A shot that is to be edited: its number, from 1 on, the first of its positions that is still to be made, and how
    many there are."""

    number: int
    begin: int = 0
    frames: int = 0


@runtime_checkable
class Inverts(Prior, Protocol):
    """A prior that can be led back from a source to what it would start from."""

    def inverting(self) -> Prior:
        """The same networks, without guidance, told what the source shows."""
        ...


@runtime_checkable
class Direction(Protocol):
    """What an editing head wants of the frames of a run, once the prior is loaded."""

    @property
    def guesses(self) -> int:
        """Of the inversion that gives the start: calls of the prior for each window and level; 0: the start is noise,
        or the source with noise."""
        ...

    @property
    def one_noise(self) -> bool:
        """Whether all frames have the same noise, in every shot, at every level."""
        ...

    @property
    def takes_source(self) -> bool:
        """Whether `fused` may ask for the source on its way."""
        ...

    def conditions(self, scene: Scene, frames: Iterator[Seen]) -> Iterator[dict[str, Tensor]]:
        """Of every frame of a shot, from its first one on and in order: conditioning beside, or in place of, the
        prior's own. Held until the frame is made; what is held in 8 bits reaches the prior in [0, 1].

        Those before ``scene.begin`` are only looked at; for them anything may be given.
        """
        ...

    def fused(self, z: Latent, source: Callable[[], Latent], conditioning: Conditioning, share: float) -> Latent:
        """A latent that has reached a level of the ladder, with what it takes of the source's at that level.

        ``share``: how much of the ladder is still to be walked, in [0, 1).
        """
        ...

    def finished(self, edit: OutputFrame, source: Frame, conditioning: Conditioning) -> OutputFrame:
        """The output frame, from what `Task.finish` gave."""
        ...

    def beside(self, edit: OutputFrame, source: Frame, conditioning: Conditioning) -> Mapping[str, AnyFrame]:
        """A picture for each of the files beside the output, by the names of `Edits.beside`."""
        ...


@runtime_checkable
class Edits(Task, Protocol):
    """A head that says frame by frame what shall become of it: an optional part of the contract."""

    def checked(self, info: VideoInfo, facts: PriorFacts) -> None:
        """VRestoreError for what cannot be done with such an input and prior; asked before anything is computed."""
        ...

    def files(self) -> tuple[Path, ...]:
        """Files that the result depends on, beside the input: a job goes on only with the same ones."""
        ...

    def beside(self, height: int, width: int, facts: PriorFacts) -> Mapping[str, tuple[int, int]]:
        """Files wanted beside the output: their names, and the (height, width) of their pictures."""
        ...

    def held_bytes(self, height: int, width: int, facts: PriorFacts) -> int:
        """Memory of what `Direction.conditions` gives of a frame."""
        ...

    def plan(self, windows: WindowsPlan, facts: PriorFacts) -> Plan:
        """The windows of a shot, with what their frames attend to beyond them."""
        ...

    def crosses(self) -> bool:
        """Whether frames of a window attend to others even where the prior knows single pictures only."""
        ...

    def passes(self) -> int:
        """How many times the ladder is walked: 2 with an inversion."""
        ...

    def direct(self, prior: Prior, info: VideoInfo, levels: int) -> Direction:
        """What is wanted, now that the prior is loaded. ``levels``: steps of the ladder."""
        ...
