"""The training loop of every network of the recipe: losses by step, an average, a state that resumes.

The state of step n is a function of the data, the settings and n: a killed run resumes where it was. Only a run that
ends by the clock is not: where its decay begins depends on how fast the machine is.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vrestore.errors import ConfigError
from vrestore.weights.recipe.drawn import Ahead, Tensors
from vrestore.weights.recipe.machine import drawing_threads, precise
from vrestore.weights.recipe.muon import Optimiser

Network = TypeVar("Network", bound=nn.Module)
Trained = TypeVar("Trained", bound=nn.Module, contravariant=True)
Batch = TypeVar("Batch")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """What shapes the weights, beside the data and the losses."""

    FREE: ClassVar[frozenset[str]] = frozenset(
        {"steps", "decay", "minutes", "save_every_s", "report_every", "judge_every"}
    )
    """Settings that may change when a run goes on: above all where it ends."""

    steps: Annotated[int, "Steps of the optimiser; with --minutes only what --decay is a part of."] = 3000
    decay: Annotated[int, "Steps of linear decay of the rate at the end."] = 1000
    minutes: Annotated[float, "End after so many minutes instead, the decay within them; 0: after --steps."] = 0.0
    batch: Annotated[int, "Pictures, clips or windows of a step; 0: as many as are usual for what is trained."] = 0
    rate: Annotated[float, "Highest learning rate."] = 8e-4
    warmup: int = 100
    ema: float = 0.998
    bound: float = 0.5
    """Of the gradient's norm."""
    muon: Annotated[bool, "Muon for what multiplies; else AdamW moves everything."] = False
    seed: Annotated[int, "Of everything random."] = 0
    save_every_s: float = 240.0
    report_every: int = 100
    judge_every: int = 500

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        for name, least in (("steps", 1), ("decay", 0), ("minutes", 0), ("batch", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; give {least} or more")

    def reached(self, step: int, seconds: float) -> float:
        """How many of ``steps`` count as done, when so many were made in so much time."""
        return seconds / (60 * self.minutes) * self.steps if self.minutes else float(step)


@dataclass(frozen=True)
class Moment:
    """Where a run is: its step, and whether it is in the decay at the end."""

    step: int
    decaying: bool = False


@runtime_checkable
class Losses(Protocol[Trained]):
    """What a network is trained on."""

    def __call__(self, model: Trained, rng: np.random.Generator, step: int) -> Mapping[str, Tensor]:
        """The weighted losses of one step, to be added up. All chance comes from ``rng``."""
        ...


class Drawing(ABC, Generic[Network, Batch]):
    """Losses whose batches can be drawn before the network is ready for them, by another thread."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, moment: Moment) -> Batch:
        """What a step sees, on the CPU: a `Tensors` is brought to the network's device. All chance comes from ``rng``;
        nothing that another step reads is changed."""

    @abstractmethod
    def losses(self, model: Network, batch: Batch, moment: Moment) -> Mapping[str, Tensor]:
        """The weighted losses of a step, to be added up."""

    def __call__(self, model: Network, rng: np.random.Generator, step: int) -> Mapping[str, Tensor]:
        """Both at once, before the decay."""
        batch, weight = self.draw(rng, Moment(step)), next(model.parameters(), None)
        if weight is not None and isinstance(batch, Tensors):
            batch = cast(Batch, batch.to(weight.device))
        return self.losses(model, batch, Moment(step))


class _AtOnce(Drawing[Network, np.random.Generator]):
    """Losses that draw for themselves: what is drawn ahead is where their chance comes from."""

    def __init__(self, losses: Losses[Network]) -> None:
        self._losses = losses

    def draw(self, rng: np.random.Generator, moment: Moment) -> np.random.Generator:
        """The generator itself."""
        return rng

    def losses(self, model: Network, batch: np.random.Generator, moment: Moment) -> Mapping[str, Tensor]:
        """Of one step."""
        return self._losses(model, batch, moment.step)


def learning_rate(step: int, config: FitConfig, reached: float | None = None) -> float:
    """Warm-up, plateau, linear decay to a hundredth. ``reached``: how many steps count as done, if not ``step``."""
    left = (config.steps - (step if reached is None else reached)) / max(config.decay, 1)
    return config.rate * min(1.0, (step + 1) / config.warmup) * max(0.01, min(1.0, left))


class Fit(Generic[Network]):
    """A network, its optimiser, its average, its step count and its time, kept in ``folder/state.pt``.

    ``clock``: seconds from any instant on.
    """

    def __init__(
        self,
        model: Network,
        losses: Losses[Network] | Drawing[Network, Any],
        folder: Path,
        config: FitConfig,
        device: torch.device | str = "cpu",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.device, self.config, self.step = torch.device(device), config, 0
        self.model = _placed(model, self.device)
        self._losses: Drawing[Network, Any] = losses if isinstance(losses, Drawing) else _AtOnce(losses)
        self._state, self._clock, self._before = folder / "state.pt", clock, 0.0
        self._learned: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self._optimiser = Optimiser(model, config.rate, muon=config.muon, fused=self.device.type == "cuda")
        self._average = [p.detach().clone() for p in self._learned]
        folder.mkdir(parents=True, exist_ok=True)
        if self._state.exists():
            self._resume()
        self._began = clock()

    @property
    def seconds(self) -> float:
        """Time that the run has taken so far, that before it was resumed included."""
        return self._before + self._clock() - self._began

    @property
    def finished(self) -> bool:
        """Whether its steps or its minutes are over."""
        return self.config.reached(self.step, self.seconds) >= self.config.steps

    def drawn(self, step: int) -> tuple[Moment, Any]:
        """What a step sees, ready to be brought to the device."""
        late = self.config.reached(step, self.seconds) >= self.config.steps - self.config.decay
        moment = Moment(step, late)
        batch = self._losses.draw(np.random.default_rng([self.config.seed, step]), moment)
        return moment, batch.pinned() if self.device.type == "cuda" and isinstance(batch, Tensors) else batch

    def learn(self, moment: Moment, batch: object) -> dict[str, Tensor]:
        """One step of the optimiser on what was drawn for it; the losses before it."""
        config = self.config
        batch = batch.to(self.device) if isinstance(batch, Tensors) else batch
        rate = learning_rate(self.step, config, config.reached(self.step, self.seconds))
        with precise(self.device), _attention(self.device):
            parts = self._losses.losses(self.model, batch, moment)
        self._optimiser.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        nn.utils.clip_grad_norm_(self._learned, config.bound)
        self._optimiser.step(rate)
        self.step += 1
        keep = min(config.ema, 1 - 10 / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self._average, self._learned, 1 - keep)
        return {name: loss.detach() for name, loss in parts.items()}

    def advance(self) -> dict[str, float]:
        """The next step, drawn and learned; the losses before it."""
        return {name: float(loss) for name, loss in self.learn(*self.drawn(self.step)).items()}

    def averaged(self) -> Network:
        """A copy that holds the averaged weights, ready to run."""
        copy = deepcopy(self.model)
        learned = [p for p in copy.parameters() if p.requires_grad]
        with torch.no_grad():
            for own, mean in zip(learned, self._average, strict=True):
                own.copy_(mean)
        return copy.eval()

    def save(self) -> None:
        """Write the state; it has its name only when complete."""
        part = self._state.with_suffix(".part")
        networks = {"model": self.model.state_dict(), "average": self._average}
        run = {"step": self.step, "seconds": self.seconds, "config": asdict(self.config)}
        torch.save(networks | run | {"optimiser": self._optimiser.state_dict()}, part)
        part.replace(self._state)

    def _resume(self) -> None:
        saved = torch.load(self._state, map_location=self.device, weights_only=True)
        now = asdict(self.config)
        changed = [k for k in now.keys() - self.config.FREE if saved["config"].get(k, now[k]) != now[k]]
        if changed:
            was = ", ".join(f"{k} {saved['config'][k]}" for k in sorted(changed))
            raise ConfigError(f"{self._state} was trained with {was}; use another folder, or the same settings")
        if not isinstance(saved["average"], list):
            raise ConfigError(f"{self._state} was written by an earlier version of the recipe; use another folder")
        self.model.load_state_dict(saved["model"])
        self._optimiser.load_state_dict(saved["optimiser"])
        self._average, self.step = saved["average"], saved["step"]
        self._before = saved.get("seconds", 0.0)


def _attention(device: torch.device) -> AbstractContextManager[None]:
    """On a CPU plain products: its flash kernel takes several times as long to go back through short sequences."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _placed(model: Network, device: torch.device) -> Network:
    """The model on a device; on a GPU in the memory layout that its convolutions are fastest in."""
    model.to(device)
    if device.type == "cuda":
        for weight in model.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return model


def fit(run: Fit[Network], say: Callable[[str], None], judge: Callable[[Network], str] | None = None) -> Network:
    """Run to the end; the averaged network comes back. ``judge`` describes it now and then."""
    config, sums, last, saved_at = run.config, dict[str, Tensor](), run.finished, run.seconds
    with Ahead(run.drawn, run.step, drawing_threads(run.device)) as ahead:
        while not last:
            for name, loss in run.learn(*ahead.take()).items():
                sums[name] = sums.get(name, torch.zeros(())) + loss / config.report_every
            last = run.finished
            if run.step % config.report_every == 0:
                means = " ".join(f"{name} {float(mean):.4f}" for name, mean in sums.items())
                say(f"step {run.step} {run.seconds:.0f}s {means}")
                sums = {}
            if last or run.seconds - saved_at > config.save_every_s:
                run.save()
                saved_at = run.seconds
            if judge is not None and (last or run.step % config.judge_every == 0):
                say(f"step {run.step} {judge(run.averaged())}")
    return run.averaged()
