"""A sequence from noise through a prior: latents as its plan has them, and their frames as soon as they are final."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial

import torch
from torch import Tensor

from vrestore.calls import Calls
from vrestore.clock import Clock
from vrestore.executor import Executor, State
from vrestore.making import NoiseName
from vrestore.noise_sources import Independent, NoiseSource, Progressive, Rescheduled, Shape, Shared
from vrestore.padding import pad_to, padded_size, unpad
from vrestore.plan import Plan
from vrestore.prior import Conditioning, Generative, Streams
from vrestore.prompts import Mixture, Timeline
from vrestore.shapes import Frame, Frames, Latent, OutputFrame
from vrestore.store import RamStore
from vrestore.synthesis import Sampler
from vrestore.walk import Restored

MIXTURES = 64
"""Mixtures of prompts that are remembered: frames that have one share it."""
PLACES = 4096
"""Latents whose mixture is remembered."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """What is to be made, as a walk needs to know it."""

    plan: Plan
    size: tuple[int, int]
    """(height, width)."""
    fps: Fraction
    seed: int
    noise: tuple[NoiseName, float]
    """What the frames start from, and the share of what they have in common."""
    prompts: Timeline | None
    start: tuple[Frame, ...] = ()
    """Frames that are given, from the first latent on: a whole number of latents."""
    end: Frame | None = None
    """The last frame, where it is given."""
    hidden: int = 0
    """Frames at the start that are not shown."""
    picture: Frame | None = None
    """What is set in motion."""
    batch: int = 1


class MakingWalk:
    """See `vrestore.walk.Walk`: what takes a sequence through a prior."""

    def __init__(self, score: Score, prior: Generative, clock: Clock) -> None:
        self._score, self._prior, self._clock = score, prior, clock
        self._factor = prior.facts.temporal_factor
        texts = ("",) if score.prompts is None else score.prompts.texts
        with clock.stage("encode"):
            picture = None if score.picture is None else self._padded(score.picture)
            self._told = dict(zip(texts, prior.told(texts, picture, score.seed), strict=True))
            self._given = self._encoded()
        self._mixed = lru_cache(MIXTURES)(self._mix)
        self._conditioning = lru_cache(PLACES)(self._condition)
        self._decode = decoder_of(prior)
        ladder, height_width = prior.ladder(score.plan.levels), padded_size(score.size, prior.facts.size_multiple)
        height, width = (side // prior.facts.spatial_factor for side in height_width)
        self._noise = noise_of(score, (prior.facts.latent_channels, height, width))
        calls = Calls(prior, ladder, self._conditioning, clock)
        solve = partial(Sampler(score.seed), ladder)
        self.executor = Executor(
            score.plan, calls.predict, self._start, solve, store=RamStore(prior.device), batch=score.batch
        )
        calls.executor = self.executor

    def ticks(self) -> Iterator[Iterator[Restored]]:
        """Groups of finished frames, each made from its latent as it is asked for."""
        for finished in self.executor.ticks():
            yield (frame for place, latent in finished for frame in self._shown(place, latent))

    def state(self) -> State:
        """Everything that the rest needs, unless the latents `Streams`. Take it between ticks."""
        return self.executor.state()

    def restore(self, state: State) -> None:
        """Go to a state that a walk of the same sequence has reached. ResumeError if it is of another."""
        self.executor.restore(state)

    def first_frame(self, place: int) -> int:
        """The first frame of a latent, counted from the first that is shown."""
        return (1 + self._factor * (place - 1) if place else 0) - self._score.hidden

    def _shown(self, place: int, latent: Latent) -> Iterator[Restored]:
        with self._clock.stage("reconstruct"):
            frames = self._decode(latent)
        for number, made in enumerate(frames, self.first_frame(place)):
            if number >= 0:
                frame = unpad(made.float().cpu().clamp(0, 1), self._score.size)
                yield Restored(frame, frame, number)

    def _encoded(self) -> Mapping[int, Latent]:
        """Latents that are given, by their places."""
        score, found = self._score, dict[int, Latent]()
        if score.start:
            frames = torch.stack([self._padded(frame) for frame in score.start])
            found |= dict(enumerate(self._prior.encode(frames)))
        if score.end is not None:
            found[score.plan.frames - 1] = self._prior.encode(self._padded(score.end)[None])[0]
        return found

    def _start(self, place: int) -> Latent:
        return self._given[place] if place in self._given else self._noise(place)

    def _condition(self, place: int) -> Conditioning:
        if self._score.prompts is None:
            (told,) = self._told.values()
            return told
        return self._mixed(self._score.prompts.at(max(0, self.first_frame(place)) / self._score.fps))

    def _mix(self, mixture: Mixture) -> Conditioning:
        """What the prior is told of a mixture of prompts: the weighted mean of what it is told of each."""
        (text, weight), *others = mixture
        mixed: dict[str, Tensor] = dict(self._told[text])
        if others:
            mixed = {name: weight * value for name, value in mixed.items()}
        for text, weight in others:
            mixed = {name: value + weight * self._told[text][name] for name, value in mixed.items()}
        return mixed

    def _padded(self, frame: Frame) -> OutputFrame:
        return pad_to(frame, self._prior.facts.size_multiple).to(self._prior.device)


def decoder_of(prior: Generative) -> Callable[[Latent], Frames]:
    """What makes frames of latents in order."""
    if isinstance(prior, Streams):
        return prior.decoder()
    return lambda latent: prior.decode(latent[None], {})


def noise_of(score: Score, shape: Shape) -> NoiseSource:
    """What the frames start from, (channels, h, w) each."""
    name, share = score.noise
    own = Independent(score.seed, shape, score.plan.levels)
    if name == "independent":
        return own
    if name == "rescheduled":
        group = max(1, score.plan.window // 4)
        return Rescheduled(own, score.seed, score.plan.window // group * group, group)
    return Shared(own, score.seed, shape, share) if name == "shared" else Progressive(score.seed, shape, share)
