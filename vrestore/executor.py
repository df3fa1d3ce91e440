"""Run a plan on a prior: gather, predict, fuse, move, hand out, release."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from vrestore.errors import ConfigError, PriorError, ResumeError
from vrestore.plan import Ledger, Move, Plan, Step, is_call, validate
from vrestore.shapes import Latent
from vrestore.store import RamStore, Store

Predict = Callable[[Sequence[Step], Sequence[Tensor]], Sequence[Tensor]]
"""Predictions of the clean latents, (W, C, h', w') each, for independent steps and their latents, all of one shape and
with one directive to the prior's attention."""
Start = Callable[[int], Tensor]
"""Latent (C, h, w) of a frame at the level at which the plan starts it."""
Solver = Callable[[int, Tensor, Tensor, int, int], Tensor]
"""(frame, z, x0, level, to) -> z at level ``to``."""
Guide = Callable[[int, Tensor, int], Tensor]
"""(frame, x0, level) -> x0."""
MOST_LEVELS = 1 << 16
"""Levels are below this."""
Sums = Mapping[int, Mapping[str, Tensor]]
"""Frame -> group -> its predictions, weighted and added up. All groups together have the shares one."""
Reduce = Callable[[Sums], Mapping[int, Tensor]]
"""The fused prediction of each frame that a tick completes."""


@dataclass(frozen=True)
class State:
    """A run between two ticks: what goes on from here gives the same bits."""

    tensors: dict[str, Tensor]
    """Latents and partial sums, float32, on the CPU."""
    meta: dict[str, Any]
    """JSON values."""


def weighted_mean(sums: Sums) -> dict[int, Tensor]:
    """The weighted mean of all predictions of a frame. Their shares add up to one, so it is their weighted sum."""
    fused = {}
    for frame, groups in sums.items():
        total, *others = (groups[name] for name in sorted(groups))
        for other in others:
            total = total + other
        fused[frame] = total
    return fused


class Executor:
    """Runs a plan on a prior, in the memory of ``plan.live_bound`` latents.

    Predictions are fused, never updated latents: averaging stochastic latents shrinks their deviation. They are added
    up in the order of the plan, so batches, order of the plan, store and resume do not change a bit of the result. All
    arithmetic of the executor is float32, on the device where the store keeps the latents; ``predict`` moves what it
    needs. A tick that raises (out of memory, say) leaves the executor as it was before the tick, so the caller may
    lower ``batch`` and go on with :meth:`ticks`.

    Args:
        plan: validated here, before anything is asked of the prior.
        predict: called with at most ``batch`` consecutive steps of a tick, all of one shape and one directive.
        start: asked once for each frame, when it is first needed.
        solver: moves a frame; the caller binds ladder and noise.
        store: where latents are held, emptied first; memory if not given.
        reduce: fuses the groups of the frames that a tick completes.
        guide: applied to the fused prediction.
        batch: calls of the prior made together, at least 1. May be changed between ticks.

    Raises:
        PlanError: the plan breaks an invariant.
        ConfigError: ``batch`` below 1.
    """

    def __init__(
        self,
        plan: Plan,
        predict: Predict,
        start: Start,
        solver: Solver,
        *,
        store: Store | None = None,
        reduce: Reduce = weighted_mean,
        guide: Guide | None = None,
        batch: int = 1,
    ) -> None:
        if batch < 1:
            raise ConfigError(f"A batch of {batch} calls predicts nothing; use at least 1.")
        validate(plan)
        self.plan = plan
        self.batch = batch
        self.store: Store = RamStore() if store is None else store
        self._predict, self._start, self._solver = predict, start, solver
        self._reduce, self._guide = reduce, guide
        self.store.clear()
        self._ledger = Ledger(plan)
        self._sums: dict[int, dict[str, Tensor]] = {}

    @property
    def tick(self) -> int:
        """Ticks done."""
        return self._ledger.tick

    @property
    def handed_out(self) -> int:
        """Frames handed out: all below this one."""
        return self._ledger.handed_out

    def run(self) -> Iterator[tuple[int, Latent]]:
        """Finished frames and their latents, in frame order, each as soon as it is final."""
        for finished in self.ticks():
            yield from finished

    def ticks(self) -> Iterator[list[tuple[int, Latent]]]:
        """Go on from the current tick; after each, the frames that it made final, in frame order.

        Between two ticks :meth:`state` may be taken.
        """
        for steps in islice(self.plan.ticks(), self.tick, None):
            yield self._run_tick(steps)

    @torch.no_grad()
    def _run_tick(self, steps: tuple[Step, ...]) -> list[tuple[int, Tensor]]:
        ledger = self._ledger.copy()
        outcome = ledger.advance(steps)
        sums = self._accumulate(steps)
        moved = self._move(outcome.moves, sums)
        # Nothing has been changed up to here but frames started; from here on nothing calls the prior or the caller.
        before, self._ledger = self._ledger, ledger
        self._sums.update(sums)
        for at in outcome.faded:
            self.store.release(_left(*at))
        for move in outcome.moves:
            del self._sums[move.frame]
            if (move.frame, move.level) in ledger.left and (move.frame, move.level) not in before.left:
                self.store.put(_left(move.frame, move.level), self.store.get(move.frame))
            self.store.put(move.frame, moved[move.frame])
        finished = [(n, self.store.get(n)) for n in outcome.finished]
        for n in outcome.released:
            self.store.release(n)
        return finished

    def _accumulate(self, steps: tuple[Step, ...]) -> dict[int, dict[str, Tensor]]:
        """The sums of all frames that the steps contribute to: copies, brought up to date."""
        sums: dict[int, dict[str, Tensor]] = {}
        calls = tuple(step for step in steps if is_call(step, self.plan))
        for n in (n for step in steps if step not in calls for n in step.frames.tolist()):
            self._latent(n)
        for group in _batches(calls, self.batch):
            latents = [self._gather(step) for step in group]
            predictions = self._predict(group, latents)
            if len(predictions) != len(group):
                raise PriorError(f"The prior gave {len(predictions)} predictions for {len(group)} calls.")
            for step, latent, prediction in zip(group, latents, predictions, strict=True):
                if prediction.shape != latent.shape:
                    raise PriorError(
                        f"The prior gave a prediction of shape {tuple(prediction.shape)} for latents of shape "
                        f"{tuple(latent.shape)}; they must agree."
                    )
                self._add(step, prediction.to(latent.device, torch.float32), sums)
        return sums

    def _gather(self, step: Step) -> Tensor:
        """Latents of a step, (W, C, h', w')."""
        places = zip(step.frames.tolist(), step.level.tolist(), strict=True)
        return torch.stack([_crop(self._latent(n, level), step) for n, level in places])

    def _latent(self, frame: int, level: int | None = None) -> Tensor:
        """At the level where it is, or at one that it has left."""
        if level is not None and self._ledger.lingers(frame, level):
            return self.store.get(_left(frame, level))
        if frame not in self.store:
            self.store.put(frame, self._start(frame))
        return self.store.get(frame)

    def _add(self, step: Step, prediction: Tensor, sums: dict[int, dict[str, Tensor]]) -> None:
        """Add a step's weighted predictions to the sums of its frames."""
        ramp = None
        if step.tile is not None:
            ramp = torch.outer(
                torch.tensor(step.tile.weight_y, dtype=torch.float64),
                torch.tensor(step.tile.weight_x, dtype=torch.float64),
            ).to(prediction)
        for i, (n, weight) in enumerate(zip(step.frames.tolist(), step.weight.tolist(), strict=True)):
            if weight == 0:
                continue
            if n not in sums:
                sums[n] = {name: total.clone() for name, total in self._sums.get(n, {}).items()}
            if step.group not in sums[n]:
                sums[n][step.group] = torch.zeros_like(self.store.get(n))
            part = weight * prediction[i]
            _crop(sums[n][step.group], step).add_(part if ramp is None else ramp * part)

    def _move(self, moves: tuple[Move, ...], sums: dict[int, dict[str, Tensor]]) -> dict[int, Tensor]:
        """Latents of the frames that change their level."""
        if not moves:
            return {}
        fused = self._reduce({move.frame: sums[move.frame] for move in moves})
        moved = {}
        for n, level, to in ((move.frame, move.level, move.to) for move in moves):
            x0 = fused[n] if self._guide is None else self._guide(n, fused[n], level)
            if not bool(torch.isfinite(x0).all()):
                raise PriorError(
                    f"The prediction of frame {n} at level {level} is not finite. If the prior runs in float16, use "
                    "bfloat16 or float32."
                )
            moved[n] = self._solver(n, self.store.get(n), x0, level, to)
        return moved

    def state(self) -> State:
        """Everything that the rest of the run needs. Take it between ticks."""
        ledger = self._ledger
        tensors = {f"latent.{n}": self.store.get(n).cpu() for n in ledger.level}
        tensors |= {f"left.{n}.{level}": self.store.get(_left(n, level)).cpu() for n, level in ledger.left}
        for n, groups in self._sums.items():
            tensors |= {f"sum.{n}.{name}": total.cpu() for name, total in groups.items()}
        return State(tensors, {"plan": self._facts(), "ledger": ledger.state()})

    def restore(self, state: State) -> None:
        """Go back, or forward, to a state that a run of the same plan has reached.

        Raises:
            ResumeError: the state is of another plan, or damaged; the executor is as before.
        """
        if state.meta.get("plan") != self._facts():
            raise ResumeError(
                f"The saved state is of a plan with {state.meta.get('plan')}, this run has {self._facts()}. Use the "
                "same settings, or start anew."
            )
        try:
            ledger = Ledger.from_state(self.plan, state.meta["ledger"])
        except (KeyError, TypeError, ValueError) as error:
            raise ResumeError(f"The saved state is damaged ({error!r}). Start anew.") from error
        sums: dict[int, dict[str, Tensor]] = {}
        latents: dict[int, Tensor] = {}
        for name, tensor in state.tensors.items():
            kind, frame, *group = name.split(".", 2)
            if kind == "latent":
                latents[int(frame)] = tensor
            elif kind == "left":
                latents[_left(int(frame), int(group[0]))] = tensor
            else:
                sums.setdefault(int(frame), {})[group[0]] = tensor
        held = {*ledger.level, *(_left(*at) for at in ledger.left)}
        if latents.keys() != held or sums.keys() != ledger.partial.keys():
            raise ResumeError("The saved state is incomplete: latents or sums are missing. Start anew.")
        self.store.clear()
        for n, latent in latents.items():
            self.store.put(n, latent)
        # Where the store keeps latents, the sums are kept as well.
        self._sums = {
            n: {name: total.to(self.store.get(n).device, copy=True) for name, total in groups.items()}
            for n, groups in sums.items()
        }
        self._ledger = ledger

    def _facts(self) -> dict[str, Any]:
        """What a saved state depends on. Not the tiles: between two ticks every sum is one of whole pictures."""
        plan = self.plan
        return {
            "frames": plan.frames,
            "levels": plan.levels,
            "window": plan.window,
            "live_bound": plan.live_bound,
        }


def _left(frame: int, level: int) -> int:
    """Where a store holds the latent of a frame at a level that it has left: at numbers that no frame has."""
    return -1 - (frame * MOST_LEVELS + level)


def _kind(step: Step) -> tuple[Any, ...]:
    """Steps that may be one call agree in this: shape, and what they tell the prior's attention."""
    tile = step.tile
    size = () if tile is None else (len(tile.weight_y), len(tile.weight_x))
    return (len(step.frames), *size, step.attend)


def _batches(steps: tuple[Step, ...], batch: int) -> Iterator[tuple[Step, ...]]:
    """Runs of at most ``batch`` consecutive steps of one kind; in order, so that sums are added up in order."""
    group: list[Step] = []
    for step in steps:
        if group and (len(group) == batch or _kind(step) != _kind(group[0])):
            yield tuple(group)
            group = []
        group.append(step)
    if group:
        yield tuple(group)


def _crop(latent: Tensor, step: Step) -> Tensor:
    """The part (C, h', w') of a latent (C, h, w) that a step sees: a view."""
    tile = step.tile
    if tile is None:
        return latent
    return latent[:, tile.y : tile.y + len(tile.weight_y), tile.x : tile.x + len(tile.weight_x)]
