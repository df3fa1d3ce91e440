"""Interpolation: more frames, another rate or slow motion, by pictures between the frames.

Frames of the source pass untouched where their time is asked. Between them lies what optical flow makes of both
neighbours, and what the prior makes of that where flow is in doubt; never anything across a cut.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from vrestore.engine import run, stream
from vrestore.errors import ConfigError
from vrestore.report import RunOptions, RunResult
from vrestore.shapes import Frame
from vrestore.task import OwnSize, TaskConfig
from vrestore.timeline import Retiming
from vrestore.video.formats import rate_of

MOST = 64
"""Largest factor."""


@dataclass(frozen=True, kw_only=True)
class InterpolationConfig(TaskConfig):
    """Settings of ``vrestore interpolate``."""

    factor: Annotated[
        int | None, "How many times as many frames. 2 where neither this nor --fps nor --slowmo is given."
    ] = None
    fps: Annotated[
        str | None,
        "Output frames per second instead of a factor: 60, 23.976, 24000/1001; more or fewer than the input's, whose "
        "rate may vary. The rate of an image sequence is given by --input-fps.",
    ] = None
    slowmo: Annotated[
        float | None, "How many times slower, at the rate of the input or of --fps; sound is stretched, its pitch kept."
    ] = None
    duplicates: Annotated[
        Literal["recognise", "keep"],
        "Frames that only repeat the one before them: recognise lets motion run between distinct frames, keep takes "
        "them as they are.",
    ] = "recognise"
    prior: Annotated[
        str, "Name of a prior for pictures between frames (flow: optical flow alone), or a folder in diffusers' layout."
    ] = "interpolation"

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        super().__post_init__()
        if self.factor is not None and not 2 <= self.factor <= MOST:
            raise ConfigError(f"factor is {self.factor}; give 2 to {MOST}, or --fps for another rate")
        if self.slowmo is not None and not 1 < self.slowmo <= MOST:
            raise ConfigError(f"slowmo is {self.slowmo}; give more than 1, at most {MOST}")
        if self.factor is not None and (self.fps is not None or self.slowmo is not None):
            raise ConfigError(f"factor {self.factor} is given beside fps or slowmo; leave one of them out")
        if self.duplicates not in ("recognise", "keep"):
            raise ConfigError(f"duplicates is {self.duplicates!r}; give recognise or keep")
        if self.fps is not None:
            rate_of(self.fps)


class Interpolation(OwnSize):
    """The head behind ``vrestore interpolate``."""

    name: ClassVar[str] = "interpolate"
    summary: ClassVar[str] = "Make more frames, another frame rate, or slow motion."
    config_type: ClassVar[type[TaskConfig]] = InterpolationConfig
    config: InterpolationConfig

    def __init__(self, config: InterpolationConfig | None = None, **settings: object) -> None:
        """From a config, its fields by name, or both: the fields then change the config."""
        self.config = replace(config or InterpolationConfig(), **settings)  # type: ignore[arg-type]

    def retiming(self) -> Retiming:
        """Which output times are wanted."""
        config = self.config
        factor = config.factor or (2 if config.fps is None and config.slowmo is None else None)
        return Retiming(
            factor=factor,
            rate=None if config.fps is None else rate_of(config.fps),
            slow=Fraction(config.slowmo or 1).limit_denominator(1000),
            repeats=config.duplicates == "recognise",
        )

    def stream(self, input: Path | str, options: RunOptions | None = None) -> Iterator[Frame]:
        """Output frames (3, height, width) in [0, 1], in order, each as soon as it is final."""
        for restored in stream(self, input, options):
            yield restored.frame


def interpolate(
    input: Path | str,
    output: Path | str,
    config: InterpolationConfig | None = None,
    *,
    options: RunOptions | None = None,
    **settings: object,
) -> RunResult:
    """Write ``input`` to ``output`` with other times, by a config or its fields by name (``factor=2``, ``fps="60"``).

    ``options``: the part that is taken, how files are written, resuming, and a callback that hears of progress.

    Raises:
        VRestoreError: see `vrestore.errors`.
    """
    return run(Interpolation(config, **settings), input, output, options)
