"""Training of the embedded restoration prior, end to end through the decoder.

Three losses: the frame restored in one step (most of the weight: this is the faithful answer), the frame autoencoded,
and the clean latent on random places of the bridge, with a time per clip or per frame.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vrestore.errors import ConfigError
from vrestore.priors.embedded import EmbeddedPrior
from vrestore.priors.embedded_nets import BridgeVideoDenoiser, GuidedAutoencoder, ResBlock, align
from vrestore.priors.recurrent import RecurrentGuide
from vrestore.weights.recipe.arrays import diet_of, opened
from vrestore.weights.recipe.batch import LATENT, Batch
from vrestore.weights.recipe.diets import DIETS
from vrestore.weights.recipe.drawn import Tensors
from vrestore.weights.recipe.fit import Drawing, Fit, FitConfig, Moment

Deep = TypeVar("Deep", GuidedAutoencoder, RecurrentGuide)

MULTIPLE = EmbeddedPrior.facts.size_multiple
"""Of the sides that the networks can see."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(FitConfig):
    """Everything that shapes the weights, beside the pool."""

    FREE: ClassVar[frozenset[str]] = FitConfig.FREE | {"clean", "clean_at_end"}

    steps: int = 8000
    decay: int = 2500
    rate: float = 6e-4
    bound: float = 0.3
    judge_every: int = 1000
    opening: int = 400
    """Steps at the start in which the decoder reads the degraded latents themselves: it learns what latents are good
    for before the denoiser's first guesses could teach it to ignore them."""
    crop: Annotated[int, "Pixels along the sides of what is seen of a clip: a multiple of 16."] = 128
    clean: Annotated[float, "Share of clips with the clean bicubic reduction; the others have the full chain."] = 0.45
    clean_at_end: Annotated[float, "The same during the decay: the full chain takes longer to learn."] = 0.25
    guided: Annotated[bool, "Go on with the decoder alone, and with what tells it of all frames of long windows."] = (
        False
    )
    shared: Annotated[
        bool, "Go on with the decoder alone; the denoiser of --start is restoration's, and not exported."
    ] = False
    decoder_blocks: Annotated[int, "With --guided: residual blocks of the decoder; 0: as many as it has."] = 0
    guide_depth: Annotated[int, "With --guided: residual blocks of the guide, each way; 0: as many as it has."] = 0
    one_step: float = 0.7
    """Share of batches at the degraded end of the bridge."""
    restored_weight: float = 1.0
    rebuilt_weight: float = 0.5
    latent_weight: float = 0.05

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        super().__post_init__()
        if self.crop < MULTIPLE or self.crop % MULTIPLE:
            raise ConfigError(f"crop is {self.crop}; give a multiple of {MULTIPLE}")


class Restorer(nn.Module):
    """The networks as one module, for one optimiser and one average; by default new, of the default sizes.

    ``guide``: of a decoder that hears of more than both neighbours.
    """

    def __init__(
        self,
        vae: GuidedAutoencoder | None = None,
        unet: BridgeVideoDenoiser | None = None,
        guide: RecurrentGuide | None = None,
    ) -> None:
        super().__init__()
        self.vae = GuidedAutoencoder() if vae is None else vae
        self.unet = BridgeVideoDenoiser() if unet is None else unet
        self.guide = guide


def guided(model: Restorer, decoder_blocks: int = 0, guide_depth: int = 0) -> Restorer:
    """The model with a `RecurrentGuide`, of which only that and the decoder go on learning.

    Where it has none it gets a new one, in place of the blocks through which its decoder looks at the degraded frame.
    ``decoder_blocks``, ``guide_depth``: residual blocks of the decoder and of the guide, 0 for as many as there are;
    those that are added change nothing until they have learned.
    """
    if model.guide is None:
        old = model.vae
        model.vae = GuidedAutoencoder(**{**_sizes(old), "guide_blocks": 0})
        model.vae.load_state_dict({name: w for name, w in old.state_dict().items() if not name.startswith("guide.2.")})
        model.guide = RecurrentGuide(channels=int(old.config.width))
    if decoder_blocks:
        model.vae = deeper(model.vae, decoder_blocks=decoder_blocks)
    if guide_depth:
        model.guide = deeper(model.guide, depth=guide_depth)
    return decoding(model)


def deeper(network: Deep, **depths: int) -> Deep:
    """The network with more residual blocks, by name of the setting; the new ones pass on what they get.

    Raises ConfigError where there would be fewer.
    """
    sizes = _sizes(network)
    for name, depth in depths.items():
        if depth < sizes[name]:
            raise ConfigError(f"{name} is {depth}; give {sizes[name]}, what the weights have, or more")
    there = dict(network.named_modules())
    grown: Deep = type(network)(**{**sizes, **depths})
    grown.load_state_dict(network.state_dict(), strict=False)
    for name, block in grown.named_modules():
        if isinstance(block, ResBlock) and name not in there:
            nn.init.zeros_(block.conv_out.weight)
    return grown


def _sizes(network: GuidedAutoencoder | RecurrentGuide) -> dict[str, Any]:
    """What a network was made with."""
    return {name: value for name, value in network.config.items() if not name.startswith("_")}


def decoding(model: Restorer) -> Restorer:
    """The model, of which encoder and denoiser stay as they are."""
    for network in (model.unet, model.vae.encoder):
        network.requires_grad_(False)
    return model


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


@dataclass(frozen=True)
class Lesson(Tensors):
    """A batch, its times on the bridge (b, t) and the noise there (b, t, channels, h / 8, w / 8)."""

    batch: Batch
    times: Tensor
    noise: Tensor


def lesson(batch: Batch, channels: int, one_step: float, generator: torch.Generator) -> Lesson:
    """Of a batch on the CPU. Keys stay where they are: they are given."""
    clips, frames = batch.sharp.shape[:2]
    height, width = (n // LATENT for n in batch.sharp.shape[-2:])
    times = bridge_times((clips, frames), one_step, generator)
    times[:, list(batch.keys)] = 0
    noise = torch.randn((clips * frames, channels, height, width), generator=generator)
    return Lesson(batch, times, noise.unflatten(0, (clips, frames)))


def losses(model: Restorer, task: Lesson, opening: bool, decaying: bool) -> dict[str, Tensor]:
    """The three losses of one batch. Keys count for nothing."""
    batch, (clips, frames) = task.batch, task.times.shape
    wanted = [i for i in range(frames) if i not in batch.keys]
    start = model.vae.encode(batch.degraded.flatten(0, 1)).detach()  # else it learns to tell them apart no more
    clean = start.clone().unflatten(0, (clips, frames))
    clean[:, wanted] = model.vae.encode(batch.sharp[:, wanted].flatten(0, 1)).unflatten(0, (clips, len(wanted)))
    clean = clean.flatten(0, 1)
    t = task.times.flatten()[:, None, None, None]
    sigma = model.unet.config.bridge_noise
    noise = task.noise.flatten(0, 1)
    place = ((1 - t) * clean + t * start + sigma * (t * (1 - t)).sqrt() * noise).detach()  # Brownian bridge
    found, clean, place = (z.unflatten(0, (clips, frames)) for z in (start, clean, place))
    if not opening:
        found = model.unet(place, task.times, found, batch.degraded, batch.motion)
    beside = batch.aligned
    if beside is None:
        beside = align(batch.degraded, batch.motion).unflatten(0, (clips, frames))
    recalled = None if model.guide is None else model.guide(batch.degraded, batch.motion)[:, wanted].flatten(0, 1)
    sharp, degraded, beside, found, clean = (
        part[:, wanted].flatten(0, 1) for part in (batch.sharp, batch.degraded, beside, found, clean)
    )
    some = slice(0, len(sharp), 1 if opening else 3)
    restored = model.vae.decode(found, degraded, beside, recalled).float()
    heard = None if recalled is None else recalled[some]
    rebuilt = model.vae.decode(clean[some], degraded[some], beside[some], heard).float()
    return {
        "restored": deviation((restored - sharp).unflatten(0, (clips, len(wanted))), decaying),
        "rebuilt": (rebuilt - sharp[some]).abs().mean(),
        "latent": (found - clean.detach()).float().square().mean(),
    }


class Restoring(Drawing[Restorer, Lesson]):
    """The losses on a pool, weighted; ``channels``: of the latents."""

    def __init__(self, pool: Path, config: TrainConfig, channels: int) -> None:
        self._pool, self._diet = opened(pool), DIETS[diet_of(pool, DIETS)]
        side = self._pool["sharp"].shape[-1]
        if config.crop > side:
            raise ConfigError(f"crop is {config.crop}, but clips of {pool} are {side} pixels wide; give that or less")
        self._config, self._channels = config, channels

    def draw(self, rng: np.random.Generator, moment: Moment) -> Lesson:
        """Crops of the pool, at places of the bridge."""
        config = self._config
        clean = config.clean_at_end if moment.decaying else config.clean
        batch = self._diet.draw(self._pool, rng, config.crop, clean, config.batch or self._diet.batch, config.guided)
        seed = int(np.random.SeedSequence([config.seed, moment.step]).generate_state(1)[0])
        return lesson(batch, self._channels, config.one_step, torch.Generator().manual_seed(seed))

    def losses(self, model: Restorer, batch: Lesson, moment: Moment) -> Mapping[str, Tensor]:
        """Of one step."""
        found = losses(model, batch, moment.step < self._config.opening, moment.decaying)
        return {name: getattr(self._config, f"{name}_weight") * loss for name, loss in found.items()}


def restoring(
    pool: Path, folder: Path, config: TrainConfig, device: torch.device | str, build: Callable[[], Restorer] = Restorer
) -> Fit[Restorer]:
    """A run in ``folder`` on a pool. ``build`` makes the untrained networks, under the seed of the run."""
    torch.manual_seed(config.seed)
    model = build()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Fit(model, Restoring(pool, config, int(model.vae.config.latent_channels)), folder, config, device)
