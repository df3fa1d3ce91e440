"""Refinement of the maps of a shot: registered, they are noised half way and walked down again, all snippets together.

The optional last part of RollingDepth (Ke et al., "Video Depth without Video Models", CVPR 2025, section 3.4): it sees
registered depth beside the picture, so a prior that was trained to go on from depth half done sharpens what averaging
has softened. Snippets of one dilation at every level, which falls, and predictions of a frame are averaged.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vrestore.executor import Executor
from vrestore.plan import RefinementPlan, Step
from vrestore.prior import Prior
from vrestore.registration import Map
from vrestore.sampling import Ladder, advance, interpolate
from vrestore.shapes import Latent

SHARE = 2
"""The whole ladder has so many times the levels that are walked: a refinement starts half way down."""

Predict = Callable[[Sequence[Step], Sequence[Tensor], Ladder], Sequence[Tensor]]
"""Predictions of steps, whose positions are frames, on a ladder."""


@dataclass(frozen=True)
class Refining:
    """How maps are refined.

    ``low``, ``high``: of the shot, which become 0 and 1. ``nearer``: whether the prior's answers grow towards the
    camera.
    """

    prior: Prior
    plan: RefinementPlan
    predict: Predict
    noise: Callable[[Latent, int], Latent]
    low: float
    high: float
    nearer: bool = True

    def maps(self, registered: Callable[[int], Map], batch: int) -> Iterator[Map]:
        """Every frame's map in [0, 1] (of a prior whose answers grow away: in [-1, 0]), of the registered ones."""
        ladder = self.prior.ladder(SHARE * self.plan.levels)

        def start(frame: int) -> Latent:
            clean = self._encoded(registered(frame))
            return interpolate(ladder, clean, self.noise(clean, ladder.levels).to(clean), self.plan.levels)

        def predict(steps: Sequence[Step], latents: Sequence[Tensor]) -> Sequence[Tensor]:
            return self.predict(steps, latents, ladder)

        def solve(frame: int, z: Latent, x0: Latent, level: int, to: int) -> Latent:
            return advance(ladder, z, x0, level, to, lambda at: self.noise(z, at))

        run = Executor(self.plan, predict, start, solve, batch=batch)
        for _, latent in run.run():
            answer = self.prior.decode(latent[None], {})[0, 0].float().cpu().numpy()
            yield answer if self.nearer else -answer

    def _encoded(self, found: Map) -> Latent:
        unit = np.clip((found - self.low) / max(self.high - self.low, 1e-6), 0, 1).astype(np.float32)
        picture = torch.from_numpy(unit if self.nearer else 1 - unit)
        return self.prior.encode(picture.expand(1, 3, -1, -1).to(self.prior.device))[0]
