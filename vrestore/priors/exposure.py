"""Deblurring by the exposure alone: no network, what the motion and the shutter say is undone."""

from collections.abc import Iterable, Iterator
from itertools import tee
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from vrestore.errors import PriorError
from vrestore.prior import Conditioning, PriorFacts
from vrestore.prior_options import PriorOptions
from vrestore.sampling import Ladder, bridge_ladder
from vrestore.shapes import Frame, Frames, Latents, Times, Windows
from vrestore.zero_shot import REACH, ZeroShot, deblurred

FACTOR = 8
ROUNDS = 1
"""Turns of smoothing and data: a second gains a tenth of a decibel and costs as much as the first."""
TOGETHER = 4
"""Frames that are inverted together: their flow is found once."""


class ExposurePrior:
    """Frames that explain the blurred ones through their exposure (see `vrestore.zero_shot`).

    Everything happens to frames as they are conditioned; latents are empty.
    """

    options: ClassVar[frozenset[str]] = frozenset({"shutter"})
    facts: ClassVar[PriorFacts] = PriorFacts(
        name="exposure",
        licence="Apache-2.0",
        window=1,
        per_frame_levels=True,
        latent_channels=1,
        spatial_factor=FACTOR,
        temporal_factor=1,
        size_multiple=FACTOR,
        conditionings=frozenset({"degraded_latents"}),
        call_bytes=64,
        frame_bytes=140_000,  # measured: 2,100 bytes a pixel, most of them the moved places of 31 instants
        reach=REACH,
        most_steps=1,
    )

    def __init__(self, shutter: float, device: torch.device) -> None:
        self.device = device
        self._how = ZeroShot(shutter / 360, rounds=ROUNDS, window=TOGETHER)

    @classmethod
    def facts_of(cls, folder: Path | None, options: PriorOptions) -> PriorFacts:
        """The same for all options."""
        return cls.facts

    @classmethod
    def weights_of(cls, folder: Path | None, options: PriorOptions) -> list[Path]:
        """There are none."""
        return []

    @classmethod
    def from_pretrained(
        cls, folder: Path | None, device: torch.device, dtype: torch.dtype, *, options: PriorOptions
    ) -> "ExposurePrior":
        """There is nothing to load. PriorError without a shutter."""
        if options.shutter is None:
            raise PriorError("the prior exposure needs to know the shutter; give --shutter in degrees, from 0 to 360")
        return cls(options.shutter, device)

    def ladder(self, steps: int) -> Ladder:
        """A straight line, along which nothing moves."""
        return bridge_ladder(steps)

    def encode(self, frames: Frames) -> Latents:
        """Nothing: latents of zeros."""
        height, width = frames.shape[-2:]
        return torch.zeros(len(frames), 1, height // FACTOR, width // FACTOR, device=self.device)

    def conditions(self, frames: Iterable[Frame]) -> Iterator[dict[str, Tensor]]:
        """Of each frame ``degraded``, itself, and ``restored``; reads ahead as far as one is inverted together."""
        ours, theirs = tee(frame.to(self.device) for frame in frames)
        found = deblurred(theirs, self._how) if self._how.shutter else theirs
        for frame, restored in zip(ours, found, strict=True):
            yield {"degraded": frame, "degraded_latents": self.encode(frame[None])[0], "restored": restored}

    def surroundings(
        self, before: Conditioning | None, here: Conditioning, after: Conditioning | None
    ) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def decode(self, latents: Latents, conditioning: Conditioning) -> Frames:
        """What has been found already."""
        return conditioning["restored"].float()

    def predict(self, latents: Windows, times: Times, conditioning: Conditioning, attend: object = None) -> Windows:
        """The latents as they are."""
        return latents
