"""The training loop of the networks that have no diet of clips: losses by step, an average, a state that resumes.

The state of step n is a function of the data, the seed and n: a killed run resumes where it was.
"""

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vrestore.errors import ConfigError

GRADIENT_BOUND = 0.5

Network = TypeVar("Network", bound=nn.Module)
Trained = TypeVar("Trained", bound=nn.Module, contravariant=True)


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """What shapes the weights, beside the data and the losses."""

    steps: int = 3000
    decay: int = 1000
    """Steps of linear decay at the end."""
    rate: float = 8e-4
    warmup: int = 100
    ema: float = 0.998
    seed: int = 0
    save_every_s: float = 240.0
    report_every: int = 100
    judge_every: int = 500


@runtime_checkable
class Losses(Protocol[Trained]):
    """What a network is trained on."""

    def __call__(self, model: Trained, rng: np.random.Generator, step: int) -> Mapping[str, Tensor]:
        """The weighted losses of one step, to be added up. All chance comes from ``rng``."""
        ...


def learning_rate(step: int, config: FitConfig) -> float:
    """Warm-up, plateau, linear decay to a hundredth."""
    left = (config.steps - step) / max(config.decay, 1)
    return config.rate * min(1.0, (step + 1) / config.warmup) * max(0.01, min(1.0, left))


class Fit(Generic[Network]):
    """A network, its optimiser, its average and its step count, kept in ``folder/state.pt``."""

    def __init__(self, model: Network, losses: Losses[Network], folder: Path, config: FitConfig) -> None:
        self.model, self.config, self.step = model, config, 0
        self._losses, self._state = losses, folder / "state.pt"
        self._learned = [p for p in model.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(self._learned, lr=config.rate, betas=(0.9, 0.98), weight_decay=1e-3)
        self._average = [p.detach().clone() for p in self._learned]
        folder.mkdir(parents=True, exist_ok=True)
        if self._state.exists():
            self._resume()

    def advance(self) -> dict[str, float]:
        """One step of the optimiser; the losses before it."""
        rng = np.random.default_rng([self.config.seed, self.step])
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.config)
        # the flash kernel of CPUs takes several times as long as plain products to go back through short sequences
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            parts = self._losses(self.model, rng, self.step)
        self._optimiser.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        nn.utils.clip_grad_norm_(self._learned, GRADIENT_BOUND)
        self._optimiser.step()
        self.step += 1
        keep = min(self.config.ema, 1 - 10 / (self.step + 10))
        with torch.no_grad():
            for mean, now in zip(self._average, self._learned, strict=True):
                mean.lerp_(now, 1 - keep)
        return {name: float(loss.detach()) for name, loss in parts.items()}

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
        kept = {"optimiser": self._optimiser.state_dict(), "step": self.step, "config": asdict(self.config)}
        torch.save(networks | kept, part)
        part.replace(self._state)

    def _resume(self) -> None:
        saved = torch.load(self._state, weights_only=True)
        if saved["config"]["seed"] != self.config.seed:
            raise ConfigError(f"{self._state} was trained with seed {saved['config']['seed']}; use another folder")
        self.model.load_state_dict(saved["model"])
        self._optimiser.load_state_dict(saved["optimiser"])
        self._average, self.step = saved["average"], saved["step"]


def fit(run: Fit[Network], say: Callable[[str], None], judge: Callable[[Network], str] | None = None) -> Network:
    """Run to the last step; the averaged network comes back. ``judge`` describes it now and then."""
    config, sums = run.config, dict[str, float]()
    began = saved_at = time.monotonic()
    while run.step < config.steps:
        for name, loss in run.advance().items():
            sums[name] = sums.get(name, 0.0) + loss / config.report_every
        last = run.step == config.steps
        if run.step % config.report_every == 0:
            means = " ".join(f"{name} {mean:.4f}" for name, mean in sums.items())
            say(f"step {run.step} {time.monotonic() - began:.0f}s {means}")
            sums = {}
        if last or time.monotonic() - saved_at > config.save_every_s:
            run.save()
            saved_at = time.monotonic()
        if judge is not None and (last or run.step % config.judge_every == 0):
            say(f"step {run.step} {judge(run.averaged())}")
    return run.averaged()
