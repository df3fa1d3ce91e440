"""Depth by image diffusion: Marigold and RollingDepth, whose UNet sees a picture's latents beside those of its depth.

For the layouts of diffusers' ``MarigoldDepthPipeline`` and of RollingDepth: Ke et al., "Repurposing Diffusion-Based
Image Generators for Monocular Depth Estimation", CVPR 2024; Ke et al., "Video Depth without Video Models", CVPR 2025.
Frames of a snippet attend to one another. One frame agrees with that pipeline on small random networks; published
weights were not run with this code.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from vrestore.errors import PriorError
from vrestore.parallax import Complete
from vrestore.prior import Conditioning, PriorFacts
from vrestore.prior_options import PriorOptions
from vrestore.priors.autoencoder import autoencoder_shape
from vrestore.priors.completion import completion_in
from vrestore.priors.folder import licence_of, part_folder, read_json
from vrestore.priors.joint_attention import joined
from vrestore.priors.schedule import read_schedule
from vrestore.priors.stable import AUTOENCODER_TILE, Parts, StablePrior
from vrestore.shapes import Frames, Latents, Times, Windows

EMPTY = 2
"""Tokens of an empty text that is not padded: its beginning and its end."""
RESOLUTION = 768
"""Longer side in pixels of what the network sees, where the folder does not say."""


class MarigoldPrior(StablePrior):
    """Clean latents of depth from noise, in one or several steps. Decoded, depth is the same in all three channels."""

    options: ClassVar[frozenset[str]] = frozenset()
    guidance: ClassVar[float] = 1.0
    licence: ClassVar[str] = (
        "that of the folder: Marigold v1-0 Apache-2.0, v1-1 Open RAIL++-M, RollingDepth v1-0 a RAIL with blanks in its "
        "text"
    )

    def __init__(self, facts: PriorFacts, parts: Parts, options: PriorOptions, device: torch.device) -> None:
        super().__init__(facts, parts, options, device)
        self._folder = parts.folder
        self._joint = joined(parts.unet)
        self._prompts = [prompt[:, :EMPTY] for prompt in self._prompts]

    @classmethod
    def facts_of(cls, folder: Path, options: PriorOptions) -> PriorFacts:
        """From the settings in a folder, without its weights. PriorError for a part that is missing."""
        channels, factor = autoencoder_shape(part_folder(folder, "vae"))
        unet = read_json(part_folder(folder, "unet") / "config.json")
        if unet.get("in_channels") != 2 * channels:
            raise PriorError(
                f"the UNet in {folder} takes {unet.get('in_channels')} channels, not {2 * channels}: a picture and its "
                "depth, as Marigold's; name another prior"
            )
        index = read_json(folder / "model_index.json")
        small = max(unet["block_out_channels"]) < 256
        return PriorFacts(
            name="depth" if small else "marigold",
            licence=licence_of(folder, cls.licence),
            window=3,
            per_frame_levels=True,
            latent_channels=channels,
            spatial_factor=factor,
            temporal_factor=1,
            size_multiple=factor * 2 ** (len(unet["block_out_channels"]) - 1),
            conditionings=frozenset({"degraded_latents"}),
            # as of the UNet of SD 1.5 (see control_tile.py), which has as many channels
            call_bytes=12_000 if small else 93_000,
            frame_bytes=40_000 if small else 272_000,
            frame_tile=AUTOENCODER_TILE // factor,
            usual_steps=int(index.get("default_denoising_steps") or 1),
            most_steps=read_schedule(part_folder(folder, "scheduler")).most_steps(),
        )

    @classmethod
    def resolution_of(cls, folder: Path) -> int:
        """Longer side in pixels of what the network sees, as the folder says."""
        return int(read_json(folder / "model_index.json").get("default_processing_resolution") or RESOLUTION)

    @classmethod
    def nearer_is_larger(cls, folder: Path) -> bool:
        """Whether the answer is inverse depth (up to a scale and a shift); otherwise it is depth, which grows away."""
        index = read_json(folder / "model_index.json")
        return index.get("prediction_type", "depth") == "disparity" or str(index["_class_name"]).startswith("Rolling")

    @cached_property
    def complete(self) -> Complete | None:
        """Makes the best of a map and of the motion around its frame; None goes by rules. PriorError as for a part."""
        return completion_in(self._folder)

    def decode(self, latents: Latents, conditioning: Conditioning) -> Frames:
        """Maps (n, 3, H, W) in [0, 1], clamped; their channels are alike."""
        with torch.inference_mode():
            mean = self._rgb(latents).mean(1, keepdim=True).clamp(-1, 1)
            return (mean / 2 + 0.5).expand(-1, 3, -1, -1).contiguous()

    def predict(self, latents: Windows, times: Times, conditioning: Conditioning, attend: object = None) -> Windows:
        """Clean latents of depth; frames of a window attend to one another. ``attend`` must be None."""
        self._joint.frames = latents.shape[1]
        return super().predict(latents, times, conditioning, attend)

    def _input(self, z: Latents, conditioning: Conditioning) -> Tensor:
        """The picture first, then what becomes depth."""
        return torch.cat([conditioning["degraded_latents"].to(z), z], dim=1)

    @classmethod
    def own_facts(cls, factor: int) -> dict[str, Any]:
        """They do not depend on a factor alone: see `facts_of`."""
        raise NotImplementedError
