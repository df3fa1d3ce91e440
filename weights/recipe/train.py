"""Training of the embedded restoration prior, end to end through the decoder.

Three losses: the frame restored in one step (most of the weight: this is the faithful answer), the frame autoencoded,
and the clean latent on random places of the bridge, with a time per clip or per frame. Warm-up, constant rate, linear
decay. The state of step n is a function of the pool, the seed and n: a killed run resumes where it was.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vrestore.errors import ConfigError
from vrestore.priors.embedded_nets import BridgeVideoDenoiser, GuidedAutoencoder, align
from vrestore.weights.recipe.batch import Batch
from vrestore.weights.recipe.diets import DIETS
from vrestore.weights.recipe.pool import batch_at, open_pool, pool_diet

REPORT_EVERY, JUDGE_EVERY, SAVE_EVERY_S = 100, 1000, 240
GRADIENT_BOUND = 0.3


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that shapes the weights, beside the pool."""

    steps: int = 8000
    decay: int = 2500
    """Steps of linear decay at the end."""
    rate: float = 6e-4
    warmup: int = 100
    opening: int = 400
    """Steps at the start in which the decoder reads the degraded latents themselves: it learns what latents are good
    for before the denoiser's first guesses could teach it to ignore them."""
    crop: int = 128
    clean: float = 0.45
    """Share of clips with the clean bicubic reduction; the others have the full chain."""
    clean_at_end: float = 0.25
    """The same during the decay: the full chain takes longer to learn."""
    one_step: float = 0.7
    """Share of batches at the degraded end of the bridge."""
    restored_weight: float = 1.0
    rebuilt_weight: float = 0.5
    latent_weight: float = 0.05
    ema: float = 0.998
    seed: int = 0

    def decaying(self, step: int) -> bool:
        """Whether a step lies in the decay at the end."""
        return step >= self.steps - self.decay

    def clean_share(self, step: int) -> float:
        """Share of clips with the clean reduction at a step."""
        return self.clean_at_end if self.decaying(step) else self.clean


class Restorer(nn.Module):
    """Both networks as one module, for one optimiser and one average; by default new, of the default sizes."""

    def __init__(self, vae: GuidedAutoencoder | None = None, unet: BridgeVideoDenoiser | None = None) -> None:
        super().__init__()
        self.vae = GuidedAutoencoder() if vae is None else vae
        self.unet = BridgeVideoDenoiser() if unet is None else unet


def learning_rate(step: int, config: TrainConfig) -> float:
    """Warm-up, plateau, linear decay to a hundredth."""
    left = (config.steps - step) / config.decay
    return config.rate * min(1.0, (step + 1) / config.warmup) * max(0.01, min(1.0, left))


def bridge_times(shape: tuple[int, int], one_step: float, generator: torch.Generator) -> Tensor:
    """Times (batch, time): all one with probability ``one_step``, else uniform per clip or per frame."""
    kind = float(torch.rand((), generator=generator))
    if kind < one_step:
        return torch.ones(shape)
    if kind < (1 + one_step) / 2:
        return torch.rand((shape[0], 1), generator=generator).expand(shape).clone()
    return torch.rand(shape, generator=generator)


def deviation(error: Tensor, decaying: bool) -> Tensor:
    """Mean absolute error of clips (b, t, 3, h, w); during the decay about the logarithm of their root mean square.

    The first learns faster; the second is what PSNR asks for, clip by clip, so it has the end of the training.
    """
    if not decaying:
        return error.abs().mean()
    size = error.square().mean((1, 2, 3, 4)).sqrt()
    return 0.06 * torch.log1p(size / 0.01).mean()  # as steep as the first at an ordinary error, 0.05


def losses(
    model: Restorer, batch: Batch, config: TrainConfig, generator: torch.Generator, step: int
) -> dict[str, Tensor]:
    """The three losses of one batch, as they are at a step. Keys count for nothing: they are given."""
    opening, (clips, frames) = step < config.opening, batch.sharp.shape[:2]
    wanted = [i for i in range(frames) if i not in batch.keys]
    start = model.vae.encode(batch.degraded.flatten(0, 1)).detach()  # else it learns to tell them apart no more
    clean = start.clone().unflatten(0, (clips, frames))
    clean[:, wanted] = model.vae.encode(batch.sharp[:, wanted].flatten(0, 1)).unflatten(0, (clips, len(wanted)))
    clean = clean.flatten(0, 1)
    times = bridge_times((clips, frames), config.one_step, generator).to(batch.sharp.device)
    times[:, list(batch.keys)] = 0
    t = times.flatten()[:, None, None, None]
    noise = torch.randn(start.shape, generator=generator).to(start.device)
    sigma = model.unet.config.bridge_noise
    place = ((1 - t) * clean + t * start + sigma * (t * (1 - t)).sqrt() * noise).detach()  # Brownian bridge
    found, clean, place = (z.unflatten(0, (clips, frames)) for z in (start, clean, place))
    if not opening:
        found = model.unet(place, times, found, batch.degraded, batch.motion)
    beside = batch.aligned
    if beside is None:
        beside = align(batch.degraded, batch.motion).unflatten(0, (clips, frames))
    sharp, degraded, beside, found, clean = (
        part[:, wanted].flatten(0, 1) for part in (batch.sharp, batch.degraded, beside, found, clean)
    )
    some = slice(0, len(sharp), 1 if opening else 3)
    restored = model.vae.decode(found, degraded, beside).float()
    rebuilt = model.vae.decode(clean[some], degraded[some], beside[some]).float()
    return {
        "restored": deviation((restored - sharp).unflatten(0, (clips, len(wanted))), config.decaying(step)),
        "rebuilt": (rebuilt - sharp[some]).abs().mean(),
        "latent": (found - clean.detach()).float().square().mean(),
    }


class Trainer:
    """Networks, optimiser, average and step count of one run, kept in ``folder/state.pt``.

    ``build`` makes the untrained networks, under the seed of the run.
    """

    def __init__(
        self, pool: Path, folder: Path, config: TrainConfig, device: str, build: Callable[[], Restorer] = Restorer
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device, self.step = config, torch.device(device), 0
        self.model = placed(build(), self.device)
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self._optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.rate, betas=(0.9, 0.98), weight_decay=1e-3
        )
        self._state = folder / "state.pt"
        folder.mkdir(parents=True, exist_ok=True)
        if self._state.exists():
            self._resume()
        self._pool, self._diet = open_pool(pool), DIETS[pool_diet(pool)]

    def advance(self) -> dict[str, float]:
        """One step of the optimiser; the losses before it."""
        config, clean = self.config, self.config.clean_share(self.step)
        batch = batch_at(self._pool, self._diet, config.seed, self.step, config.crop, clean).to(self.device)
        seed = int(np.random.SeedSequence([config.seed, self.step]).generate_state(1)[0])
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self.step, config)
        with torch.autocast(self.device.type, torch.bfloat16):
            parts = losses(self.model, batch, config, torch.Generator().manual_seed(seed), self.step)
        total = torch.stack([getattr(config, f"{name}_weight") * loss for name, loss in parts.items()]).sum()
        self._optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_BOUND)
        self._optimiser.step()
        self.step += 1
        keep = min(config.ema, 1 - 10 / (self.step + 10))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value, 1 - keep)
        return {name: float(loss.detach()) for name, loss in parts.items()}

    def save(self) -> None:
        """Write the state; it has its name only when complete."""
        saved = {"model": self.model.state_dict(), "optimiser": self._optimiser.state_dict(), "average": self.average}
        part = self._state.with_suffix(".part")
        torch.save(saved | {"step": self.step, "config": asdict(self.config)}, part)
        part.replace(self._state)

    def averaged(self) -> Restorer:
        """A model that holds the averaged weights, ready to run."""
        model = deepcopy(self.model)
        model.load_state_dict(self.average)
        return model.eval()

    def _resume(self) -> None:
        saved = torch.load(self._state, map_location=self.device, weights_only=True)
        free = {"steps", "decay", "clean", "clean_at_end"}  # where a run ends, and its diet, may be decided as it goes
        changed = [k for k, v in asdict(self.config).items() if k not in free and saved["config"][k] != v]
        if changed:
            raise ConfigError(f"{self._state} was trained with another {', '.join(changed)}; use another folder")
        self.model.load_state_dict(saved["model"])
        self._optimiser.load_state_dict(saved["optimiser"])
        self.average, self.step = saved["average"], saved["step"]


def placed(model: Restorer, device: torch.device) -> Restorer:
    """The model on a device, in the memory layout that convolutions like."""
    model.to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def train(trainer: Trainer, say: Callable[[str], None], judge: Callable[[Restorer], str]) -> Restorer:
    """Run the trainer to its last step; the averaged weights come back. ``judge`` describes them now and then."""
    sums: dict[str, float] = {}
    began = saved_at = time.monotonic()
    while trainer.step < trainer.config.steps:
        for name, loss in trainer.advance().items():
            sums[name] = sums.get(name, 0.0) + loss / REPORT_EVERY
        last = trainer.step == trainer.config.steps
        if trainer.step % REPORT_EVERY == 0:
            means = " ".join(f"{name} {mean:.4f}" for name, mean in sums.items())
            say(f"step {trainer.step} {time.monotonic() - began:.0f}s {means}")
            sums = {}
        if last or time.monotonic() - saved_at > SAVE_EVERY_S:
            trainer.save()
            saved_at = time.monotonic()
        if last or trainer.step % JUDGE_EVERY == 0:
            say(f"step {trainer.step} {judge(trainer.averaged())}")
    return trainer.averaged()
