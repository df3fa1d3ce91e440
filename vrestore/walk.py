"""One shot through the prior: source frames in, restored frames out, in order, as soon as they are final."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Protocol, runtime_checkable

import torch

from vrestore.calls import Calls
from vrestore.clock import Clock
from vrestore.degradation import Resize
from vrestore.entries import Entry, directed, restored, retimed
from vrestore.errors import ConfigError
from vrestore.executor import Executor, State
from vrestore.guidance import restoration
from vrestore.inversion import INVERTED, Inversion
from vrestore.noise import noise
from vrestore.padding import pad_to, unpad
from vrestore.plan import ConsistentPlan, CrossedPlan, Plan, WindowsPlan
from vrestore.prior import Conditioning, Prior
from vrestore.priors.guided import unguided
from vrestore.priors.interpolation import BetweenPrior
from vrestore.sampling import advance, interpolate, start
from vrestore.shapes import AnyFrame, Frame, Latent, OutputFrame, WorkedFrame
from vrestore.store import RamStore, Store
from vrestore.task import Direction, Inverts, Scene, Task
from vrestore.timeline import Slot
from vrestore.video import Beside, DecodedFrame


@dataclass(frozen=True)
class Restored:
    """An output frame with its time, and the source frame behind it (or what flow makes of two)."""

    frame: OutputFrame
    source: Frame
    pts: int
    beside: Beside | None = None
    """Of the output frame's size."""
    pictures: Mapping[str, AnyFrame] = field(default_factory=dict)
    """Of the files beside the output, by their names."""


@runtime_checkable
class Place(Protocol):
    """Where a walk stands."""

    store: Store
    batch: int
    """Calls of the prior made together."""

    @property
    def handed_out(self) -> int:
        """Positions of the shot that are done."""
        ...


@runtime_checkable
class Walk(Protocol):
    """What takes one shot through the prior."""

    @property
    def executor(self) -> Place:
        """Where it stands."""
        ...

    def ticks(self) -> Iterator[Iterator[Restored]]:
        """Groups of finished frames; see `ShotWalk.ticks`."""
        ...

    def state(self) -> State:
        """Everything that the rest of the shot needs. Take it between ticks."""
        ...

    def restore(self, state: State) -> None:
        """Go to a state that a walk of the same shot has reached. ResumeError if it is of another."""
        ...


class ShotWalk:
    """Runs the plan of one shot. Everything that depends on the shot's length streams.

    ``frames`` are the shot's decoded frames from position ``first`` on (counted within the shot); those before
    ``begin`` are only neighbours to look at. ``slots``: what the positions hold, from ``first`` on, where they are not
    the frames themselves. ``shot_start`` is the shot's first position in the whole video: noise belongs to absolute
    ones. ``exact``: the source is lossless. ``edit``: of a head that edits; ``frames`` are then all of the shot.
    ``again``: the frames from ``begin`` on once more; if they are given, none is held from when it has been encoded.
    """

    def __init__(
        self,
        task: Task,
        prior: Prior,
        plan: Plan,
        frames: Iterator[DecodedFrame],
        clock: Clock,
        *,
        shot_start: int,
        exact: bool,
        first: int = 0,
        begin: int = 0,
        slots: Iterator[Slot] | None = None,
        edit: tuple[Direction, Scene] | None = None,
        again: Iterator[DecodedFrame] | None = None,
    ) -> None:
        self._task, self._prior, self._clock = task, prior, clock
        self._shot_start, self._exact = shot_start, exact
        self._ladder = prior.ladder(plan.levels)
        self._entries: dict[int, Entry] = {}
        self._next, self._begin = first, begin
        if slots is not None and isinstance(prior, BetweenPrior):
            self._stream = retimed(slots, frames, prior, self._padded)
        else:
            seed, place = task.config.seed, shot_start + first
            self._stream = restored(frames, prior, self._padded, clock, seed=seed, first=place)
        self._direction: Direction | None = None
        self._again: Iterator[DecodedFrame] | None = None
        if edit is not None:
            self._direction, scene = edit
            self._again = again
            self._stream = directed(self._stream, self._direction, scene, shot_start + first)
        fidelity = task.config.fidelity
        self._freedom = max(0.0, 1 - 2 * fidelity)
        self._pull = max(0.0, 2 * fidelity - 1)
        self._anchor: int | None = getattr(plan, "anchor", None)  # all windows look at it, to the end of the shot
        calls = Calls(prior, self._ladder, self._conditioning, clock)
        self.executor = Executor(plan, calls.predict, self._start, self._solve, store=RamStore(prior.device))
        calls.executor = self.executor
        self._inversion: Inversion | None = None
        if self._direction is not None and self._direction.guesses:
            self._inversion = self._inverting(plan, self._direction)

    def ticks(self) -> Iterator[Iterator[Restored]]:
        """Groups of finished frames, to be used up in turn; between two groups the executor's state may be saved.

        Pictures are made one by one as they are asked for: a group may be as long as a window.
        """
        for finished in self.executor.ticks():
            made = (self._reconstruct(position, latent) for position, latent in finished)
            yield (one for one in made if one is not None)

    def state(self) -> State:
        """Everything that the rest of the shot needs. Take it between ticks."""
        state = self.executor.state()
        if self._inversion is None:
            return state
        inverted = self._inversion.state()
        return State(state.tensors | inverted.tensors, state.meta | inverted.meta)

    def restore(self, state: State) -> None:
        """Go to a state that a walk of the same shot has reached. ResumeError if it is of another."""
        own = {name: value for name, value in state.tensors.items() if name.partition(".")[0] not in INVERTED}
        self.executor.restore(State(own, state.meta))
        if self._inversion is not None:
            self._inversion.restore(state)

    def _inverting(self, plan: Plan, direction: Direction) -> Inversion:
        """What the shot starts from, where that is made of the source. ConfigError for a prior that cannot."""
        prior = unguided(self._prior)
        if not isinstance(prior, Inverts) or not isinstance(plan, (WindowsPlan, CrossedPlan, ConsistentPlan)):
            raise ConfigError(f"the prior {self._prior.facts.name} cannot be inverted; leave inversion at none")
        calls = Calls(prior.inverting(), self._ladder, self._conditioning, self._clock)
        found = Inversion(
            plan,
            calls.predict,
            lambda position: self._conditioning(position)["degraded_latents"].float(),
            self._ladder,
            guesses=direction.guesses,
            store=RamStore(self._prior.device),
            trail=RamStore(self._prior.device, half=True) if direction.takes_source else None,
        )
        calls.executor = found.executor
        return found

    def _conditioning(self, position: int) -> Conditioning:
        return self._entry(position).conditioning

    def _entry(self, position: int) -> Entry:
        while position >= self._next:
            with self._clock.stage("encode"):
                entry = next(self._stream)
            if self._next >= self._begin - 1 or self._next == self._anchor:
                self._entries[self._next] = entry if self._again is None else self._without_pictures(entry)
            self._next += 1
        return self._entries[position]

    def _without_pictures(self, entry: Entry) -> Entry:
        """An entry without what is read again, and without what nothing asks for."""
        unused = {"degraded"} - self._prior.facts.conditionings
        kept = {name: value for name, value in entry.conditioning.items() if name not in unused}
        return replace(entry, source=entry.source.new_zeros(3, 0, 0), beside=None, conditioning=kept)

    def _start(self, position: int) -> Latent:
        degraded = self._conditioning(position)["degraded_latents"]
        if self._inversion is not None:
            return self._inversion.start(position)
        return start(self._ladder, degraded, partial(self._noise, position, degraded))

    def _noise(self, position: int, like: Latent, level: int) -> Latent:
        same = self._direction is not None and self._direction.one_noise
        return noise(self._task.config.seed, 0 if same else self._shot_start + position, level, _shape(like))

    def _solve(self, position: int, z: Latent, x0: Latent, level: int, to: int) -> Latent:
        if self._pull and to > 0:  # the last step is left free: the projection of `finish` has the last word
            degraded = self._entry(position).conditioning["degraded_latents"]
            x0 = restoration(x0, degraded, self._ladder.time[to] / self._ladder.time[-1], weight=self._pull)
        moved = advance(self._ladder, z, x0, level, to, partial(self._noise, position, z), freedom=self._freedom)
        if self._direction is None:
            return moved
        entry, share = self._entry(position), to / self._ladder.levels
        return self._direction.fused(moved, partial(self._of_source, position, to), entry.conditioning, share)

    def _of_source(self, position: int, level: int) -> Latent:
        """The source's latent at a level: as it was inverted, or between the clean one and the noise with which the
        frame's run begins."""
        if self._inversion is not None:
            return self._inversion.at(position, level)
        clean = self._conditioning(position)["degraded_latents"]
        end = clean if self._ladder.kind == "bridge" else self._noise(position, clean, self._ladder.levels).to(clean)
        return interpolate(self._ladder, clean, end, level)

    def _reconstruct(self, position: int, latent: Latent) -> Restored | None:
        entry, before = self._entries[position], self._entries.get(position - 1)
        if position - 1 != self._anchor:
            self._entries.pop(position - 1, None)
        if self._inversion is not None:
            self._inversion.release(position)
        pts = entry.pts
        if pts is None:
            return None
        if self._again is not None:
            decoded = next(self._again)
            entry = replace(entry, source=torch.from_numpy(decoded.rgb), beside=decoded.beside)
        if entry.passes:
            return Restored(entry.source, entry.source, pts, entry.beside)
        after = self._entry(position + 1) if position + 1 < self.executor.plan.frames else None
        with self._clock.stage("prepare"):
            degraded = self._task.degraded(entry.source)
            picture = pad_to(degraded, self._prior.facts.size_multiple)
        with self._clock.stage("reconstruct"):
            here = entry.conditioning | {"degraded": picture.to(latent.device)}
            sides = (None if side is None else side.conditioning for side in (before, after))
            here |= self._prior.surroundings(next(sides), here, next(sides))
            found = self._prior.decode(latent[None], {name: value[None] for name, value in here.items()})[0]
        size = self._task.output_size(*entry.source.shape[-2:])
        with self._clock.stage("finish"):
            found = unpad(found.cpu(), (degraded.shape[-2], degraded.shape[-1]))
            frame = self._task.finish(found, entry.source, exact=self._exact)
            around = resized(entry.beside, size)
            pictures: Mapping[str, AnyFrame] = {}
            if self._direction is not None:
                frame = self._direction.finished(frame, entry.source, entry.conditioning)
                pictures = self._direction.beside(frame, entry.source, entry.conditioning)
        return Restored(frame, entry.source, pts, around, pictures)

    def _padded(self, source: Frame) -> WorkedFrame:
        """The degraded frame, of a size that the prior takes."""
        return pad_to(self._task.degraded(source), self._prior.facts.size_multiple)


def resized(beside: Beside | None, size: tuple[int, int]) -> Beside | None:
    """Brought to an output size, bicubically like the picture, without what a cubic overshoots by."""
    if beside is None or (beside.alpha is None and beside.outside is None):
        return None
    alpha, outside = beside.alpha, beside.outside
    if alpha is not None and alpha.shape != size:
        alpha = _resize((alpha.shape[0], alpha.shape[1]), size).apply(torch.from_numpy(alpha)).clamp(0, 1).numpy()
    if outside is not None and outside.shape[1:] != size:
        resize, planes = _resize((outside.shape[1], outside.shape[2]), size), torch.from_numpy(outside)
        over, under = (resize.apply((sign * planes).clamp(min=0)).clamp(min=0) for sign in (1, -1))
        outside = (over - under).numpy()
    return Beside(alpha, outside)


@lru_cache(maxsize=4)
def _resize(size: tuple[int, int], to: tuple[int, int]) -> Resize:
    return Resize(size, to)


def _shape(latent: Latent) -> tuple[int, int, int]:
    channels, height, width = latent.shape
    return channels, height, width
