"""A plan run on a prior without a source: every frame from noise, or from what is given."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vrestore.executor import Executor, Reduce, weighted_mean
from vrestore.noise import noise
from vrestore.noise_sources import NoiseSource
from vrestore.plan import Plan, Step
from vrestore.prior import Conditioning, Prior
from vrestore.sampling import Ladder, advance, interpolate
from vrestore.shapes import Latent
from vrestore.store import RamStore

Moves = Callable[[Ladder, int, Latent, Latent, int, int], Latent]
"""(ladder, frame, z, x0, level, to) -> z at level ``to``."""


@dataclass(frozen=True)
class Sampler:
    """How predictions move latents. ``freedom`` and noise as in `vrestore.sampling.advance`.

    Args:
        seed: of the noise that is drawn on the way.
        freedom: share of the noise that a stochastic sampler of the ladder's kind would draw.
        renew: level from which on, upwards, a step goes to fresh noise of its level instead of along the trajectory:
            the early stochastic part of FlowLong (2026). None: never. Predictions are fused before it, and a frame has
            one noise, so windows agree.
    """

    seed: int = 0
    freedom: float = 0.0
    renew: int | None = None

    def __call__(self, ladder: Ladder, frame: int, z: Latent, x0: Latent, level: int, to: int) -> Latent:
        """The latent at level ``to``."""
        drawn = partial(_drawn, self.seed, frame, z)
        if self.renew is not None and 0 < to < level and level >= self.renew:
            return interpolate(ladder, x0, drawn(to).to(z), to)
        return advance(ladder, z, x0, level, to, drawn, freedom=self.freedom)


def synthesis(
    plan: Plan,
    prior: Prior,
    start: NoiseSource,
    conditioning: Callable[[int], Conditioning],
    *,
    moves: Moves | None = None,
    reduce: Reduce = weighted_mean,
    batch: int = 1,
) -> Executor:
    """An executor that makes a sequence; its `Executor.run` yields (frame, clean latent), in order, as they are final.

    Args:
        plan: of the latent frames.
        prior: whose ladder has ``plan.levels`` levels.
        start: latent of a frame at the noisiest level; of a given one, its clean latent.
        conditioning: of a latent frame, what the prior's facts name.
        moves: the solver; left out: deterministic.
        reduce: of the groups of a plan.
        batch: calls of the prior made together.
    """
    ladder = prior.ladder(plan.levels)
    solver = Sampler() if moves is None else moves
    names = prior.facts.conditionings

    def predict(steps: Sequence[Step], latents: Sequence[Tensor]) -> Sequence[Tensor]:
        rows = [[conditioning(int(n)) for n in step.frames] for step in steps]
        gathered = {
            name: torch.stack([torch.stack([frame[name] for frame in row]) for row in rows]).to(prior.device)
            for name in names
        }
        times = torch.tensor([[ladder.time[level] for level in step.level] for step in steps])
        return list(prior.predict(torch.stack(list(latents)), times, gathered, steps[0].attend))

    return Executor(
        plan, predict, start, partial(solver, ladder), store=RamStore(prior.device), reduce=reduce, batch=batch
    )


def made(executor: Executor) -> Iterator[Latent]:
    """The latents of a run alone, in order."""
    return (latent for _, latent in executor.run())


def _drawn(seed: int, frame: int, like: Latent, level: int) -> Latent:
    channels, height, width = like.shape
    return noise(seed, frame, level, (channels, height, width))
