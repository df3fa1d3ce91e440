"""Stable Diffusion with a ControlNet that sees the degraded frame, such as SD 1.5 with ControlNet tile.

For the layouts of diffusers' ``StableDiffusionPipeline`` (with a ControlNet from another folder) and
``StableDiffusionControlNet(Img2Img)Pipeline``; Zhang, Rao and Agrawala, "Adding Conditional Control to Text-to-Image
Diffusion Models", ICCV 2023. Agrees with those pipelines on small random networks; published weights were not run with
this code.
"""

from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import ControlNetModel

from vrestore.errors import PriorError
from vrestore.prior import Conditioning, PriorFacts
from vrestore.prior_options import PriorOptions
from vrestore.priors.folder import NETWORK, load_network, read_json, weights_of
from vrestore.priors.hub import named_folder
from vrestore.priors.stable import StablePrior
from vrestore.shapes import Latents


class ControlTilePrior(StablePrior):
    """Redraws every frame by itself, from noise (strength 1) or from the degraded frame and noise."""

    options: ClassVar[frozenset[str]] = StablePrior.options | {"controlnet", "control_scale"}
    usual_strength: ClassVar[float] = 0.5
    licence: ClassVar[str] = "CreativeML Open RAIL-M (Stable Diffusion 1.5 and its ControlNets)"

    @classmethod
    def facts_of(cls, folder: Path, options: PriorOptions) -> PriorFacts:
        """As its base; PriorError for a ControlNet that is missing or needs what is not supported."""
        config = read_json(control_folder(folder, options) / "config.json")
        if config.get("_class_name") != "ControlNetModel" or config.get("global_pool_conditions"):
            raise PriorError(
                f"{control_folder(folder, options)} holds a {config.get('_class_name')} that is no ControlNet for "
                "pictures; name one such as lllyasviel/control_v11f1e_sd15_tile"
            )
        return super().facts_of(folder, options)

    @classmethod
    def own_facts(cls, factor: int) -> dict[str, Any]:
        """What the folder's settings do not say."""
        return {
            "name": "controlnet-tile",
            "window": 1,
            "per_frame_levels": True,
            "conditionings": frozenset({"degraded"}),
            "usual_steps": 20,
            # Measured in float32 on a CPU, with random weights of SD 1.5's shape: the UNet 93,000 at 48x48 latents, and
            # half for the ControlNet, not measured; decoding 334,000 at 32x32, much of it fixed, so four times what the
            # x4 upscaler takes for a quarter of the pixels.
            "call_bytes": 140_000,
            "frame_bytes": 272_000,
        }

    @classmethod
    def weights_of(cls, folder: Path, options: PriorOptions) -> list[Path]:
        """As its base, and the ControlNet's."""
        return [*super().weights_of(folder, options), *weights_of(control_folder(folder, options), NETWORK)]

    @classmethod
    def _controlnet(cls, folder: Path, options: PriorOptions, dtype: torch.dtype) -> ControlNetModel | None:
        return load_network(ControlNetModel, control_folder(folder, options), dtype)

    def _clean(
        self, z: Latents, times: torch.Tensor, conditioning: Conditioning, control: torch.Tensor | None = None
    ) -> Latents:
        return super()._clean(z, times, conditioning, conditioning["degraded"])


def control_folder(folder: Path, options: PriorOptions) -> Path:
    """The ControlNet's folder: the one that was asked for, or the one inside a pipeline's folder."""
    name = options.controlnet
    if name is not None:
        return named_folder(name, download=options.download)
    if not (folder / "controlnet").is_dir():
        raise PriorError(
            f"{folder} is a Stable Diffusion without a ControlNet, which would not keep to the video; name one with "
            "--controlnet FOLDER, such as a copy of lllyasviel/control_v11f1e_sd15_tile"
        )
    return folder / "controlnet"
