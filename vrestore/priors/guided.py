"""Any prior as a video prior: guidance along the motion, applied to what it predicts in every call.

The frames of a call are guided among themselves, before the predictions of windows are fused. So fusing, resuming,
batches and the order of calls work as they do without; and what a frame hears of ends with its window or tile.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, tee

import torch
import torch.nn.functional as F
from torch import Tensor

from vrestore.errors import PriorError
from vrestore.flow import Between, dense_fine, luma8
from vrestore.prior import Conditioning, Prior
from vrestore.priors.interpolation import BetweenPrior
from vrestore.priors.motion import FINE, FLOW_FACTOR, Grid, coarse, flow_picture, motions
from vrestore.propagation import Motions, motion_guidance, propagate
from vrestore.sampling import Ladder
from vrestore.shapes import Frame, Frames, Latents, Times, Windows

MOTION = "motion_to_neighbours"
"""The conditioning that guidance goes by, (6, h, w) as `vrestore.priors.motion` gives it: no prior's own, whose motion
may have another form."""


def guided(prior: Prior, *, propagation: float = 0.0, guidance: float = 0.0) -> Prior:
    """The prior with guidance, each in [0, 1]; the very prior where both are 0.

    Raises:
        ConfigError: a strength outside its range.
        PriorError: latent frames of the prior hold more than one frame, so motion between them means nothing.
    """
    if propagation == guidance == 0:
        return prior
    if isinstance(prior, BetweenPrior):
        return GuidedBetweenPrior(prior, propagation, guidance)
    return GuidedPrior(prior, propagation, guidance)


def unguided(prior: Prior) -> Prior:
    """The prior itself, whether it is guided or not."""
    return prior._prior if isinstance(prior, GuidedPrior) else prior


class GuidedPrior:
    """A prior whose predictions agree along the motion of the degraded frames.

    Motion is the prior's own conditioning ``motion`` where that has the form of `MOTION`; else it is found here. The
    engine cuts and stacks it like any other. The frames of a call must follow one another. One that is clean already
    (time 0 of a bridge or a flow; elsewhere time 0 may be a noisy step) stands for itself: others are guided by it, and
    it is not moved.
    """

    def __init__(self, prior: Prior, propagation: float, guidance: float) -> None:
        if prior.facts.temporal_factor != 1:
            raise PriorError(
                f"the prior {prior.facts.name} holds {prior.facts.temporal_factor} frames in a latent, which have no "
                "motion to guide along; leave propagation and motion_guidance at 0"
            )
        self._prior, self._propagation, self._guidance = prior, propagation, guidance
        self.facts = replace(  # also frames of an image prior now hear of one another
            prior.facts, conditionings=prior.facts.conditionings | {MOTION}, window=max(2, prior.facts.window)
        )
        self.device = prior.device
        self._clean_at_zero = prior.ladder(1).kind != "ddim"

    def ladder(self, steps: int) -> Ladder:
        """The prior's."""
        return self._prior.ladder(steps)

    def encode(self, frames: Frames) -> Latents:
        """As the prior does."""
        return self._prior.encode(frames)

    def decode(self, latents: Latents, conditioning: Conditioning) -> Frames:
        """As the prior does."""
        return self._prior.decode(latents, conditioning)

    def surroundings(
        self, before: Conditioning | None, here: Conditioning, after: Conditioning | None
    ) -> dict[str, Tensor]:
        """The prior's."""
        return self._prior.surroundings(before, here, after)

    def conditions(self, frames: Iterable[Frame]) -> Iterator[dict[str, Tensor]]:
        """The prior's, and `MOTION`."""
        ours, theirs = tee(frames)
        entries = self._prior.conditions(ours)
        first = next(entries, None)
        if first is None:
            return
        entries = chain([first], entries)
        if _fits(first):
            del theirs  # it would keep all frames
            yield from (entry | {MOTION: _at_latents(entry)} for entry in entries)
            return
        for entry, motion in zip(entries, self._motions(theirs), strict=True):
            yield entry | {MOTION: motion.to(self.device)}

    def predict(self, latents: Windows, times: Times, conditioning: Conditioning, attend: object = None) -> Windows:
        """The prior's prediction, guided."""
        motion = conditioning[MOTION]
        given = {name: value for name, value in conditioning.items() if name != MOTION}
        predicted = self._prior.predict(latents, times, given, attend)
        clean = ((times == 0) & self._clean_at_zero).to(predicted.device)[:, :, None, None, None]
        known = torch.where(clean, latents.to(predicted), predicted)
        motion = torch.where(clean, 0.0, motion.to(predicted))  # nothing is visible from there
        with torch.no_grad():
            found = torch.stack([self._guide(x0, field) for x0, field in zip(known, motion, strict=True)])
        return torch.where(clean, known, found)

    def _guide(self, x0: Latents, motion: Motions) -> Latents:
        x0 = propagate(x0, motion, strength=self._propagation)
        return motion_guidance(x0, motion, strength=self._guidance)

    def _motions(self, frames: Iterable[Frame]) -> Iterator[Tensor]:
        factor = self.facts.spatial_factor
        if factor % FLOW_FACTOR:
            return motions((luma8(frame) for frame in frames), Grid(factor, find=dense_fine))
        return motions((flow_picture(frame) for frame in frames), Grid(factor // FLOW_FACTOR, find=dense_fine))


class GuidedBetweenPrior(GuidedPrior):
    """The same of a prior for pictures between two frames, which are clean and guide what lies between them."""

    _prior: BetweenPrior

    def between(self, made: Between) -> dict[str, Tensor]:
        """The prior's, and `MOTION`: that to both frames."""
        factor = self.facts.spatial_factor
        fields = [made.to_left / factor, made.seen_left, made.to_right / factor, made.seen_right]
        motion = F.avg_pool2d(torch.cat(fields, dim=1), factor)[0].to(self.device)
        return self._prior.between(made) | {MOTION: motion}


def _fits(entry: Conditioning) -> bool:
    """Whether a prior's own motion has the form of `MOTION`, or a finer one."""
    own, (h, w) = entry.get("motion"), entry["degraded_latents"].shape[-2:]
    return own is not None and own.shape in {(6, fine * h, fine * w) for fine in (1, FINE)}


def _at_latents(entry: Conditioning) -> Tensor:
    h, w = entry["degraded_latents"].shape[-2:]
    return coarse(entry["motion"][None], (h, w))[0]
