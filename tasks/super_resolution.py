"""Super-resolution: enlarge a video, two or four times or to a size, and restore what it lost.

The prior sees every frame enlarged bicubically to the output's size and predicts the sharp one. Afterwards the colour
is held to the source, and the `fidelity` dial decides how closely the output, reduced again, must match the input.
At scale 1 it cleans up: the prior sees the frame twice as large, and its answer is reduced again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch.nn.functional as F

from vrestore.degradation import Resize
from vrestore.denoising import PIXEL_BYTES, REACH, denoised
from vrestore.detail import with_detail
from vrestore.engine import run, stream
from vrestore.errors import ConfigError
from vrestore.guidance import Operator, project
from vrestore.luma import psnr_y
from vrestore.prior_options import PriorOptions
from vrestore.reduction import Reduction
from vrestore.report import RunOptions, RunResult
from vrestore.shapes import Frame, OutputFrame, WorkedFrame
from vrestore.task import TaskConfig

PROJECTIONS = 12
"""Iterations of the projection at fidelity 1: each leaves about half of the inconsistency."""
EXACT_PROJECTIONS = 2
"""Iterations that a lossless source always gets, under the reduction that was measured: they gain a tenth of a decibel
on clean material. On compressed material they would copy the codec's errors and lose as much."""
SHARP, SOFT = 0.28, 0.36
"""Softness (`Reduction.softness`) of what the embedded prior restores, up to which a source counts as reduced
bicubically, and from which on by a Gaussian. On 14 clips that were, three frames each, it is .25 and .38, with
deviations of .07: what is soft by itself looks like what was made soft."""
COLOUR_REACH = 8
"""Source pixels over which colour is averaged when it is held to the source."""
COLOUR_TOLERANCE = 1 / 255
"""What a compressed source's averaged colour may itself be wrong by: only more than this is held to it."""
MOST_DENOISED = 2
"""On footage with noise of eight levels gains fall from 1 on: more is for what is noisier."""
CLEANED_AT = 2
"""Times the source's size at which the prior sees what is to be cleaned up: it was trained to enlarge."""
MOST_PIXELS = 16384
"""Longest side of an output."""


@dataclass(frozen=True, kw_only=True)
class SuperResolutionConfig(PriorOptions, TaskConfig):
    """Settings of ``vrestore sr``."""

    scale: Annotated[Literal[1, 2, 4], "How many times larger; 1 cleans up noisy or compressed footage."] = 4
    size: Annotated[str | None, "Output size as WIDTHxHEIGHT instead of a scale; no side smaller than the input's."] = (
        None
    )
    detail: Annotated[
        float | None,
        "0 to 1: how much of the fine detail that natural pictures have, and the likeliest one lacks, is given back. "
        "Left out: none for one step of the embedded prior, and more with every --steps, less above --fidelity 0.5.",
    ] = None
    denoise: Annotated[
        float | None,
        "0 to 2: how strongly noise is averaged away first, along the motion of neighbouring frames; 1 fits the noise "
        "that is measured. Left out: 1 at scale 1, else 0.",
    ] = None

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        super().__post_init__()
        if self.denoise is not None and not 0 <= self.denoise <= MOST_DENOISED:
            raise ConfigError(f"denoise is {self.denoise}; give a number from 0 to {MOST_DENOISED}")
        if self.detail is not None and not 0 <= self.detail <= 1:
            raise ConfigError(f"detail is {self.detail}; give a number from 0 to 1")
        if self.scale not in (1, 2, 4):
            raise ConfigError(f"scale is {self.scale}; give 1, 2 or 4, or a size")
        if self.size is not None:
            self.pixels()

    @property
    def embedded(self) -> bool:
        """Whether the prior is the one that things were measured with."""
        return self.prior == TaskConfig.prior

    @property
    def raised(self) -> float:
        """The detail that is given back: as asked, or what the steps of the embedded prior ask for."""
        if self.detail is not None:
            return self.detail
        if self.steps is None or not self.embedded:  # others draw detail by themselves
            return 0.0
        return (1 - 1 / self.steps) * min(1.0, 2 - 2 * self.fidelity)

    @property
    def averaged(self) -> float:
        """How strongly noise is averaged away before the prior sees a frame."""
        if self.denoise is not None:
            return self.denoise
        return 1.0 if self.scale == 1 and self.size is None else 0.0

    def pixels(self) -> tuple[int, int] | None:
        """The asked (height, width), if a size was asked for."""
        if self.size is None:
            return None
        parts = self.size.lower().split("x")
        if len(parts) != 2 or not all(p.isdecimal() and int(p) > 0 for p in parts):
            raise ConfigError(f"size is {self.size!r}; give WIDTHxHEIGHT in pixels, such as 1920x1080")
        return int(parts[1]), int(parts[0])


class SuperResolution:
    """The head behind ``vrestore sr``."""

    name: ClassVar[str] = "sr"
    summary: ClassVar[str] = "Enlarge a video or a still and restore its detail, or clean it up at its own size."
    config_type: ClassVar[type[TaskConfig]] = SuperResolutionConfig
    config: SuperResolutionConfig

    def __init__(self, config: SuperResolutionConfig | None = None, **settings: object) -> None:
        """From a config, its fields by name, or both: the fields then change the config."""
        self.config = replace(config or SuperResolutionConfig(), **settings)  # type: ignore[arg-type]

    def stream(self, input: Path | str, options: RunOptions | None = None) -> Iterator[Frame]:
        """Restored frames (3, height, width) in [0, 1], in order, each as soon as it is final."""
        for restored in stream(self, input, options):
            yield restored.frame

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the output; ConfigError if it would be smaller than the source, or too large."""
        size = self.config.pixels() or (height * self.config.scale, width * self.config.scale)
        if size[0] < height or size[1] < width:
            raise ConfigError(
                f"size {size[1]}x{size[0]} is smaller than the input's {width}x{height}; give a larger one"
            )
        if max(size) > MOST_PIXELS:
            raise ConfigError(f"the output would be {size[1]}x{size[0]}; at most {MOST_PIXELS} pixels a side work")
        return size

    def worked_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) at which the prior sees a source: the output's, or twice that where nothing is enlarged."""
        if self._keeps(height, width):
            return CLEANED_AT * height, CLEANED_AT * width
        return self.output_size(height, width)

    @property
    def looks(self) -> int:
        """Neighbours that noise is averaged over."""
        return REACH if self.config.averaged else 0

    def prepared_bytes(self, height: int, width: int) -> int:
        """Of neighbours and the motion between them."""
        return PIXEL_BYTES * height * width if self.config.averaged else 0

    def prepared(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Frames with less noise."""
        return denoised(frames, self.config.averaged)

    def degraded(self, source: Frame) -> WorkedFrame:
        """The source enlarged bicubically."""
        height, width = source.shape[-2:]
        return _resize((height, width), self.worked_size(height, width)).apply(source)

    def finish(self, restored: WorkedFrame, source: Frame, *, exact: bool) -> OutputFrame:
        """Detail given back; colour held to the source; projected onto what reduces to it, above fidelity 0.5 or where
        it is exact and nothing was to be cleaned up; reduced to the output's size."""
        cleaned = self._keeps(source.shape[-2], source.shape[-1])
        exact = exact and not cleaned and not self.config.averaged
        small, large = _sizes(source, restored)
        reduction, up = _reduction(large, small), _resize(small, large)
        down = reduction.sharp
        believed = exact and self.config.fidelity >= 0.5
        reduced = _reducing(reduction, restored, source) if believed and self.config.embedded else down.apply
        restored = with_detail(restored, self.config.raised)
        drift = _smooth(source - down.apply(restored), large)
        if not exact:
            drift = drift - drift.clamp(-COLOUR_TOLERANCE, COLOUR_TOLERANCE)
        frame = (restored + drift).clamp(0, 1)
        if believed:
            frame = project(frame, source, reduced, up.apply, iterations=EXACT_PROJECTIONS)
        iterations = round(PROJECTIONS * max(0.0, 2 * self.config.fidelity - 1))
        frame = project(frame, source, down.apply, up.apply, iterations=iterations)
        return (down.apply(frame) if cleaned else frame).clamp(0, 1)

    def _keeps(self, height: int, width: int) -> bool:
        """Whether nothing is enlarged, so that the source is cleaned up."""
        return self.output_size(height, width) == (height, width)

    def consistency_db(self, output: OutputFrame, source: Frame) -> float:
        """PSNR-Y in dB of the output reduced again, bicubically, against the source."""
        small, large = _sizes(source, output)
        return psnr_y(_reduction(large, small).sharp.apply(output), source)


def super_resolve(
    input: Path | str,
    output: Path | str,
    config: SuperResolutionConfig | None = None,
    *,
    options: RunOptions | None = None,
    **settings: object,
) -> RunResult:
    """Enlarge and restore ``input`` to ``output``, with a config or its fields by name (``scale=4``).

    ``options``: the part that is restored, how files are written, resuming, and a callback that hears of progress.

    Raises:
        VRestoreError: see `vrestore.errors`.
    """
    return run(SuperResolution(config, **settings), input, output, options)


@lru_cache(maxsize=8)
def _resize(size: tuple[int, int], to: tuple[int, int]) -> Resize:
    return Resize(size, to)


@lru_cache(maxsize=8)
def _reduction(size: tuple[int, int], to: tuple[int, int]) -> Reduction:
    return Reduction(size, to)


def _reducing(reduction: Reduction, restored: OutputFrame, source: Frame) -> Operator:
    """As the source was reduced, as far as what was restored of it tells."""
    softness = (reduction.softness(restored, source) - SHARP) / (SOFT - SHARP)
    return partial(reduction.apply, softness=min(max(softness, 0.0), 1.0))


def _sizes(source: Frame, output: OutputFrame) -> tuple[tuple[int, int], tuple[int, int]]:
    return (source.shape[-2], source.shape[-1]), (output.shape[-2], output.shape[-1])


def _smooth(difference: Frame, size: tuple[int, int]) -> OutputFrame:
    """The slowly varying part of a difference at source size, at output size."""
    height, width = difference.shape[-2:]
    coarse = (max(1, height // COLOUR_REACH), max(1, width // COLOUR_REACH))
    averaged = F.adaptive_avg_pool2d(difference[None], coarse)
    return F.interpolate(averaged, size, mode="bilinear", align_corners=False)[0]
