"""Deblurring by the exposure alone: no network, what the motion and the shutter say is undone, or what frame blending
mixed."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import tee
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from vrestore.errors import PriorError
from vrestore.prior import Conditioning, PriorFacts
from vrestore.prior_options import PriorOptions
from vrestore.priors.networkless import CALL_BYTES, FACTOR, NetworklessPrior
from vrestore.shapes import Frame, Frames, Latents
from vrestore.unblending import GROUP, reach, unblended
from vrestore.zero_shot import REACH, SHORT, ZeroShot, deblurred

ROUNDS = 1
"""Turns of smoothing and data: a second gains a tenth of a decibel and costs as much as the first."""
TOGETHER = 4
"""Frames that are inverted together: their flow is found once."""


class ExposurePrior(NetworklessPrior):
    """Frames that explain the blurred ones through their exposure (see `vrestore.zero_shot`), or the blended ones as
    means of neighbours (`vrestore.unblending`).

    Everything happens to frames as they are conditioned; latents are empty.
    """

    options: ClassVar[frozenset[str]] = frozenset({"shutter", "least_blur", "blended"})
    facts: PriorFacts = PriorFacts(
        name="exposure",
        licence="Apache-2.0",
        window=1,
        per_frame_levels=True,
        latent_channels=1,
        spatial_factor=FACTOR,
        temporal_factor=1,
        size_multiple=FACTOR,
        conditionings=frozenset({"degraded_latents"}),
        call_bytes=CALL_BYTES,
        frame_bytes=152_000,  # measured: 2,370 bytes a pixel, most of them the moved places of 31 instants
        reach=REACH,
        most_steps=1,
    )

    def __init__(self, options: PriorOptions, device: torch.device) -> None:
        super().__init__(device)
        self._blended = options.blended or 1
        short = SHORT if options.least_blur is None else options.least_blur
        self._how = ZeroShot((options.shutter or 0.0) / 360, rounds=ROUNDS, window=TOGETHER, short=short)

    @classmethod
    def facts_of(cls, folder: Path | None, options: PriorOptions) -> PriorFacts:
        """Frames that were blended are worked out in groups."""
        if (options.blended or 1) == 1:
            return cls.facts
        return replace(cls.facts, reach=reach(options.blended or 1), group=GROUP)

    @classmethod
    def weights_of(cls, folder: Path | None, options: PriorOptions) -> list[Path]:
        """There are none."""
        return []

    @classmethod
    def from_pretrained(
        cls, folder: Path | None, device: torch.device, dtype: torch.dtype, *, options: PriorOptions
    ) -> "ExposurePrior":
        """There is nothing to load. PriorError without a shutter, unless frames were blended."""
        if options.shutter is None and (options.blended or 1) == 1:
            raise PriorError("the prior exposure needs to know the shutter; give --shutter in degrees, from 0 to 360")
        prior = cls(options, device)
        prior.facts = cls.facts_of(folder, options)
        return prior

    def conditions(self, frames: Iterable[Frame]) -> Iterator[dict[str, Tensor]]:
        """Of each frame ``degraded``, itself, and ``restored``; reads ahead as far as one is inverted together."""
        ours, theirs = tee(frame.to(self.device) for frame in frames)
        found: Iterator[Frame] = theirs
        if self._blended > 1:
            found = unblended(theirs, self._blended)
        elif self._how.shutter:
            found = deblurred(theirs, self._how)
        for frame, restored in zip(ours, found, strict=True):
            yield {"degraded": frame, "degraded_latents": self.encode(frame[None])[0], "restored": restored}

    def decode(self, latents: Latents, conditioning: Conditioning) -> Frames:
        """What has been found already."""
        return conditioning["restored"].float()
