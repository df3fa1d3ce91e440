"""Deblurring: remove the blur of moving cameras and things, and leave alone what is sharp.

The prior sees the source at its own size, with its neighbours, and answers with the sharp frame. How much of its answer
is taken is decided place by place, by how much sharper it is: where it finds no blur, the source passes untouched. By
default the answer is that of the exposure itself, whose shutter is measured before the start; so is how many frames
were blended into each.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vrestore.blending import estimate_blending, sampled
from vrestore.engine import run, stream
from vrestore.errors import ConfigError
from vrestore.prior_options import PriorOptions
from vrestore.priors import prior_of
from vrestore.report import RunOptions, RunResult
from vrestore.shapes import Frame, OutputFrame
from vrestore.shutter import CLOSED, estimate_shutter
from vrestore.task import OwnSize, TaskConfig

log = logging.getLogger(__name__)

SHARP_DEGREES = 45.0
"""Measured shutter up to which footage counts as sharp: the shortest that is measured at all."""
UNSURE_BLUR = 3.5
"""Pixels of blur below which less and less of it is undone where the measured shutter is not certain: a rendered one of
90 degrees and a pixel was taken for 180, and lost 5 dB."""
SHARPER = (1.03, 1.12)
"""Gain in gradients below which a place counts as sharp already, and above which as blurred."""
REACH = 12
"""Pixels to either side over which gradients are compared."""
LOOKED_AT = 5
"""Neighbouring frames by which the shutter is measured."""
FLOOR = 2 / 255
"""Gradient, in code values, that no place counts as less than: noise is no detail."""
AROUND = 7
"""Pixels to either side within which the source must show what the answer shows: blur mixes brightnesses, it makes
none, so no edge may overshoot. On rendered exposures of 180 degrees that is worth 1.5 dB on the mean, on six real clips
.17, and .28 on the worst of them."""
COARSE = 64
"""Pixels over which colour is averaged when it is held to the source: no blur that can be undone reaches farther."""


@dataclass(frozen=True, kw_only=True)
class DeblurringConfig(PriorOptions, TaskConfig):
    """Settings of ``vrestore deblur``."""

    prior: Annotated[
        str,
        "Name of the prior (exposure: what motion and shutter say is undone, without a network), or a folder in "
        "diffusers' layout.",
    ] = "exposure"
    amount: Annotated[float, "How much of the blur is taken away, from 0 to 1."] = 1.0
    protect: Annotated[bool, "Let pass untouched what is found to be sharp."] = True

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        super().__post_init__()
        if not 0 <= self.amount <= 1:
            raise ConfigError(f"amount is {self.amount}; give a number from 0 to 1")


class Deblurring(OwnSize):
    """The head behind ``vrestore deblur``."""

    name: ClassVar[str] = "deblur"
    summary: ClassVar[str] = "Remove the blur of moving cameras and things, and leave alone what is sharp."
    config_type: ClassVar[type[TaskConfig]] = DeblurringConfig
    config: DeblurringConfig

    def __init__(self, config: DeblurringConfig | None = None, **settings: object) -> None:
        """From a config, its fields by name, or both: the fields then change the config."""
        self.config = replace(config or DeblurringConfig(), **settings)  # type: ignore[arg-type]

    def stream(self, input: Path | str, options: RunOptions | None = None) -> Iterator[Frame]:
        """Restored frames (3, height, width) in [0, 1], in order, each as soon as it is final."""
        for restored in stream(self, input, options):
            yield restored.frame

    def measured(self, windows: Iterable[Iterable[Frame]]) -> "Deblurring":
        """With the frames that were blended into each and the shutter that explain the windows best, where the prior
        needs them and neither was given."""
        given = self.config.shutter is not None or (self.config.blended or 1) > 1
        if "shutter" not in prior_of(self.config).takes or given:
            return self
        shutters, clips = [CLOSED], []
        for window in windows:
            frames = iter(window)
            first = list(islice(frames, LOOKED_AT))
            clips.append(np.stack([sampled(frame) for frame in chain(first, frames)]))
            shutters.append(estimate_shutter(torch.stack(first)))
        blended = self.config.blended or estimate_blending(clips)
        if blended > 1:
            log.info("frame blending: every frame is the mean of %d, measured", blended)
            return Deblurring(self.config, blended=blended)
        found = max(shutters)
        if 360 * found.share <= SHARP_DEGREES:
            found = CLOSED
        log.info("shutter: %g degrees, measured%s", 360 * found.share, "" if found.sure else ", not certain")
        least_blur = UNSURE_BLUR if self.config.least_blur is None and not found.sure else self.config.least_blur
        return Deblurring(self.config, shutter=360 * found.share, least_blur=least_blur)

    def finish(self, restored: OutputFrame, source: Frame, *, exact: bool) -> OutputFrame:
        """The prior's answer where it is sharper than the source, with the source's colours; elsewhere the source.

        Where frames were blended it is the whole answer: what moves may show far from where it was, and nothing there.
        """
        change = restored - source
        if (self.config.blended or 1) == 1:
            change = within(restored, source) - source
            change = change - _coarse(change)
            if self.config.protect:
                change = change * blurred(source, source + change)
        pull = max(0.0, 2 * self.config.fidelity - 1)
        return (source + self.config.amount * (1 - pull) * change).clamp(0, 1)

    def consistency_db(self, output: OutputFrame, source: Frame) -> float:
        """PSNR in dB of what no blur of a few pixels takes away: both reduced to a quarter, compared."""
        small = [F.adaptive_avg_pool2d(f[None], _reduced(source, 4)) for f in (output, source)]
        error = (small[0] - small[1]).square().mean()
        return float(-10 * torch.log10(error.clamp(min=1e-10)))


def deblur(
    input: Path | str,
    output: Path | str,
    config: DeblurringConfig | None = None,
    *,
    options: RunOptions | None = None,
    **settings: object,
) -> RunResult:
    """Remove motion blur from ``input`` to ``output``, with a config or its fields by name (``amount=0.5``).

    Raises:
        VRestoreError: see `vrestore.errors`.
    """
    return run(Deblurring(config, **settings), input, output, options)


def blurred(source: Frame, restored: Frame) -> Tensor:
    """Where a source is blurred, (1, height, width) in [0, 1], told by how much a restoration of it gains in gradients.

    0 where it gains nothing worth it: sharp places, flat ones, and those that the prior could not help.
    """
    before, after = (_gradients(f) for f in (source, restored))
    gain = after / before
    low, high = SHARPER
    return ((gain - low) / (high - low)).clamp(0, 1)


def within(restored: Frame, source: Frame) -> Frame:
    """A restored frame with no value beyond those that its source has nearby."""
    size = 2 * AROUND + 1
    most, least = (F.max_pool2d(x[None], size, stride=1, padding=AROUND)[0] for x in (source, -source))
    return restored.clamp(-least, most)


def _gradients(frame: Frame) -> Tensor:
    """Root mean square of the gradients around every pixel, (1, height, width)."""
    luma = frame.mean(0, keepdim=True)[None]
    padded = F.pad(luma, [0, 1, 0, 1], mode="replicate")
    energy = (padded[..., :-1, 1:] - luma).square() + (padded[..., 1:, :-1] - luma).square()
    size = 2 * REACH + 1
    for _ in range(2):  # twice a box is smooth enough not to show
        energy = F.avg_pool2d(energy, size, stride=1, padding=REACH, count_include_pad=False)
    return (energy + FLOOR**2).sqrt()[0]


def _reduced(frame: Frame, factor: int) -> tuple[int, int]:
    return max(1, frame.shape[-2] // factor), max(1, frame.shape[-1] // factor)


def _coarse(change: Frame) -> Frame:
    """The slowly varying part."""
    averaged = F.adaptive_avg_pool2d(change[None], _reduced(change, COARSE))
    return F.interpolate(averaged, change.shape[-2:], mode="bilinear", align_corners=False)[0]
