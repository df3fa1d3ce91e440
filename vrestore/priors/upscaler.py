"""The x4 upscaler: a UNet that sees the source frame, with a little noise, beside the latents.

For folders in the layout of ``stabilityai/stable-diffusion-x4-upscaler``, diffusers' ``StableDiffusionUpscalePipeline``
(Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022). One window agrees with that
pipeline on small random networks; the published weights themselves were not run with this code.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from vrestore.errors import ConfigError
from vrestore.prior import Conditioning, PriorFacts
from vrestore.prior_options import PriorOptions
from vrestore.priors.folder import read_json
from vrestore.priors.schedule import Schedule, read_schedule
from vrestore.priors.stable import Parts, StablePrior
from vrestore.shapes import Latents

SCALING = 0.08333
"""Scale of the autoencoder's latents, whatever its settings say: those of the published folder leave it out."""
NOISE_LEVEL = 20
MOST_NOISE = 350
"""Most noise that the source may get, where the folder does not say."""


class UpscalerPrior(StablePrior):
    """Enlarges every frame by itself, four times."""

    options: ClassVar[frozenset[str]] = StablePrior.options | {"noise_level"}
    guidance: ClassVar[float] = 9.0
    beside: ClassVar[int] = 3
    licence: ClassVar[str] = "CreativeML Open RAIL++-M (stabilityai/stable-diffusion-x4-upscaler)"

    def __init__(self, facts: PriorFacts, parts: Parts, options: PriorOptions, device: torch.device) -> None:
        parts = replace(parts, vae=replace(parts.vae, scale=SCALING))
        super().__init__(facts, parts, options, device)
        self._level = NOISE_LEVEL if options.noise_level is None else options.noise_level

    @classmethod
    def facts_of(cls, folder: Path, options: PriorOptions) -> PriorFacts:
        """As its base; ConfigError for more noise than the folder allows."""
        most = int(read_json(folder / "model_index.json").get("max_noise_level", MOST_NOISE))
        if options.noise_level is not None and options.noise_level > most:
            raise ConfigError(f"noise_level is {options.noise_level}; the prior in {folder} takes 0 to {most}")
        read_schedule(folder / "low_res_scheduler")
        return super().facts_of(folder, options)

    @classmethod
    def own_facts(cls, factor: int) -> dict[str, Any]:
        """What the folder's settings do not say."""
        return {
            "name": "x4-upscaler",
            "window": 1,
            "per_frame_levels": True,
            "conditionings": frozenset({"source", "noise"}),
            "scale": factor,
            "usual_steps": 50,
            # Measured in float32 on a CPU, with random weights of the shape that is known of the published networks:
            # the UNet 64,000 at 48x48 latents, less at larger sizes; decoding 67,000 at 96x96.
            "call_bytes": 64_000,
            "frame_bytes": 68_000,
        }

    @classmethod
    def _low(cls, folder: Path) -> Schedule | None:
        return read_schedule(folder / "low_res_scheduler")

    def _input(self, z: Latents, conditioning: Conditioning) -> Tensor:
        source, noise = conditioning["source"].float() * 2 - 1, conditioning["noise"][:, :3].float()
        low = self._parts.low
        return torch.cat([z, source if low is None else low.noised(source, noise, self._level)], dim=1)

    def _labels(self, count: int) -> Tensor | None:
        return torch.full((count,), self._level, device=self.device)
