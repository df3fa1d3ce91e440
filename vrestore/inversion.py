"""Inversion: from the latents of a shot to those from which sampling, if nothing is edited, leads back to them.

A step of the sampling is undone by looking for the latent at which it began: a guess is put to the prior, whose answer
gives the next guess. One guess is DDIM inversion as it is commonly done (Mokady et al., "Null-text Inversion", CVPR
2023), which misses by the error of the solver; some more find the place (Pan et al., "Accelerated Iterative Diffusion
Inversion", ICCV 2023; Garibi et al., "ReNoise", ECCV 2024). Windows are fused for each guess as in the sampling, so its
own fixed point is found, whatever the windows.

Guesses are steps of one plan with rising levels, so the wavefront holds: few frames are read ahead, memory is constant,
and frames come out in order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vrestore.errors import PlanError, ResumeError
from vrestore.executor import MOST_LEVELS, Executor, Predict, State
from vrestore.plan import Consistent, Plan, Step
from vrestore.plan.inversion import Sampling, climbing
from vrestore.sampling import Ladder, advance, undone
from vrestore.shapes import Latent
from vrestore.store import Store

INVERTED = frozenset({"inversion", "inverted", "trail"})
"""What the names of an inversion's tensors begin with, where those of a whole run are saved together."""
GUESSES = 6
"""Guesses at a latent where the exact inversion is asked for and nothing else is said."""


class Inversion:
    """The latents at every level of a shot's frames, made as they are asked for, in order.

    Args:
        sampling: the plan of the sampling; the inversion has its windows, tiles and attention.
        predict: as of an `Executor`: the prior without guidance, told what the source shows. The steps name levels of
            the sampling.
        clean: a frame's own latent, (C, h, w).
        ladder: of the sampling; not of a consistency model.
        guesses: calls of the prior for each window and level. 1: plain DDIM inversion.
        store: where latents under way are held; memory if not given.
        trail: where the latents of all levels are held until `release`, best in half precision; None: only those of the
            noisiest one are given out, by `start`.
        batch: calls of the prior made together.
    """

    def __init__(
        self,
        sampling: Sampling,
        predict: Predict,
        clean: Callable[[int], Latent],
        ladder: Ladder,
        *,
        guesses: int = 1,
        store: Store | None = None,
        trail: Store | None = None,
        batch: int = 1,
    ) -> None:
        if ladder.levels != sampling.levels:
            raise PlanError(f"The plan has {sampling.levels} levels and the ladder {ladder.levels}; they must agree.")
        self._asked, self._clean, self._ladder = predict, clean, ladder
        self._guesses, self._trail = guesses, trail
        self._waiting: dict[int, Tensor] = {}
        self._passed: dict[int, set[int]] = {}  # levels on the trail
        self._place = torch.device("cpu")
        self._ticks: Iterator[list[tuple[int, Tensor]]] | None = None
        self.executor = Executor(
            climbing(sampling, guesses), self._predict, self._begin, self._climb, store=store, batch=batch
        )
        self.residual = 0.0
        """How far the last guess was from the one before, at worst, over the size of the latent (both RMS). With two
        guesses or more it says how well inversion has converged; with one it is 0."""

    def start(self, frame: int) -> Latent:
        """The latent of a frame at the noisiest level, once: it is not held any longer. Frames are asked in order."""
        while frame not in self._waiting:
            if frame < self.executor.handed_out:
                raise PlanError(f"The start of frame {frame} has been given out already.")
            self._tick()
        return self._waiting.pop(frame)

    def at(self, frame: int, level: int) -> Latent:
        """The latent of a frame at a level, from when its start is there until it is released.

        Raises:
            PlanError: no trail is held, or not of this frame.
        """
        if self._trail is None:
            raise PlanError("The inversion holds no trail; give it a store for one.")
        return self._clean(frame) if level == 0 else self._trail.get(frame * MOST_LEVELS + level)

    def release(self, frame: int) -> None:
        """Forget a frame's latents on its way."""
        for level in self._passed.pop(frame, ()):
            if self._trail is not None:
                self._trail.release(frame * MOST_LEVELS + level)

    def state(self) -> State:
        """Everything that the rest of the run needs, as `Executor.state`."""
        state = self.executor.state()
        tensors = {f"inversion.{name}": value for name, value in state.tensors.items()}
        tensors |= {f"inverted.{frame}": value.cpu() for frame, value in self._waiting.items()}
        if self._trail is not None:
            places = [(frame, level) for frame, levels in self._passed.items() for level in levels]
            tensors |= {f"trail.{n}.{level}": _short(self._trail.get(n * MOST_LEVELS + level)) for n, level in places}
        return State(tensors, {"inversion": state.meta, "guesses": self._guesses, "residual": self.residual})

    def restore(self, state: State) -> None:
        """Go to a state that an inversion of the same shot has reached; tensors of others are passed over.

        Raises:
            ResumeError: the state is of another plan, or damaged.
        """
        meta = state.meta
        if meta.get("guesses") != self._guesses or "inversion" not in meta:
            raise ResumeError(f"The saved inversion took {meta.get('guesses')} guesses, this one {self._guesses}.")
        own = {name.partition(".")[2]: value for name, value in state.tensors.items() if name.startswith("inversion.")}
        self.executor.restore(State(own, meta["inversion"]))
        self._ticks, self.residual = None, meta["residual"]
        self._waiting, self._passed = {}, {}
        if self._trail is not None:
            self._trail.clear()
        for name, value in state.tensors.items():
            kind, *place = name.split(".")
            if kind == "inverted":
                self._waiting[int(place[0])] = value.to(self._place)
            elif kind == "trail" and self._trail is not None:
                self._hold(int(place[0]), int(place[1]), value)

    def _tick(self) -> None:
        self._ticks = self.executor.ticks() if self._ticks is None else self._ticks
        try:
            finished = next(self._ticks)
        except BaseException:  # the executor is as before, its iterator is not
            self._ticks = None
            raise
        self._waiting |= {frame: self._guess(latent) for frame, latent in finished}

    def _begin(self, frame: int) -> Tensor:
        clean = self._clean(frame)
        self._place = clean.device
        return clean if self._guesses == 1 else torch.cat([clean, clean])

    def _guess(self, latent: Tensor) -> Tensor:
        """Of what is held of a frame: the latent at the last level that it has reached, and the guess at the next."""
        return latent if self._guesses == 1 else latent[len(latent) // 2 :]

    def _predict(self, steps: Sequence[Step], latents: Sequence[Tensor]) -> Sequence[Tensor]:
        """The prior is told that a guess is at the level that is guessed at."""
        told = [self._told(step) for step in steps]
        if self._guesses == 1:
            return self._asked(told, latents)
        found = self._asked(told, [latent[:, latent.shape[1] // 2 :] for latent in latents])
        return [torch.cat([clean, clean], 1) for clean in found]

    def _told(self, step: Step) -> Step:
        attend = step.attend
        if isinstance(attend, Consistent):
            attend = replace(attend, level=attend.level // self._guesses + 1)
        return replace(step, level=step.level // self._guesses + 1, attend=attend)

    def _climb(self, frame: int, z: Tensor, x0: Tensor, level: int, to: int) -> Tensor:
        below = level // self._guesses
        before = z if self._guesses == 1 else z[: len(z) // 2]
        found = undone(self._ladder, before, self._guess(z), self._guess(x0), below, below + 1)
        if to % self._guesses:
            return torch.cat([before, found])
        self._hold(frame, below + 1, found)
        if self._guesses == 1:
            return found
        self.residual = max(self.residual, _relative(self._guess(z), found))
        return torch.cat([found, found])

    def _hold(self, frame: int, level: int, latent: Tensor) -> None:
        if self._trail is not None:
            self._trail.put(frame * MOST_LEVELS + level, latent)
            self._passed.setdefault(frame, set()).add(level)


def round_trip(
    inversion: Inversion, sampling: Plan, predict: Predict, clean: Callable[[int], Latent], ladder: Ladder
) -> Iterator[tuple[int, Latent, float]]:
    """Sample back without an edit: each frame, its latent, and by how much that misses its own (RMS, relative).

    Arguments as of the `Inversion`, whose starts are used up. Prior calls as many as the plan of the sampling has.
    """

    def solver(frame: int, z: Latent, x0: Latent, level: int, to: int) -> Latent:
        return advance(ladder, z, x0, level, to, _nothing)

    for frame, latent in Executor(sampling, predict, inversion.start, solver).run():
        inversion.release(frame)
        yield frame, latent, _relative(latent, clean(frame).to(latent))


def _nothing(level: int) -> Latent:
    raise PlanError(f"A deterministic step asks for noise at level {level}.")


def _relative(found: Tensor, true: Tensor) -> float:
    return float((found - true).square().mean().sqrt() / true.square().mean().sqrt().clamp(min=1e-12))


def _short(latent: Tensor) -> Tensor:
    """In half precision where that loses nothing."""
    half = latent.cpu().half()
    return half if torch.equal(half.float(), latent.cpu()) else latent.cpu()
