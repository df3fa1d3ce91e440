"""Autoencoders of the Stable Diffusion family behind one face: diffusers' AutoencoderKL and AutoencoderDC.

Which of them a folder holds stands in its ``config.json``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC, AutoencoderKL
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from vrestore.errors import PriorError
from vrestore.priors.folder import load_network, read_json
from vrestore.shapes import Frames, Latents

BLOCKS = {"AutoencoderKL": "block_out_channels", "AutoencoderDC": "encoder_block_out_channels"}
"""Which setting has an entry for every halving of the picture but one, by class."""
CHANNELS = {"AutoencoderKL": 4, "AutoencoderDC": 32}
"""Latent channels where the settings do not say."""
KINDS: dict[str, type[ModelMixin]] = {"AutoencoderKL": AutoencoderKL, "AutoencoderDC": AutoencoderDC}


@dataclass(frozen=True)
class Autoencoder:
    """Pictures in [-1, 1] to latents of about unit size and back, one by one: a batch would only need more memory."""

    network: Any
    factor: int
    """Pixels along one side of a latent pixel."""
    scale: float
    """What the network's own latents are multiplied by."""
    shift: float = 0.0
    """What is taken from them first."""

    def encode(self, pictures: Frames) -> Latents:
        """The likeliest latents of pictures (n, 3, H, W), sides multiples of the factor."""
        return torch.cat([(self._latent(picture[None]) - self.shift) * self.scale for picture in pictures])

    def decode(self, latents: Latents) -> Frames:
        """Pictures, not clamped."""
        found = [self.network.decode(z[None] / self.scale + self.shift, return_dict=False)[0] for z in latents]
        return torch.cat(found)

    def tile(self, side: int) -> None:
        """Cut pictures whose sides are longer than ``side`` pixels into tiles that overlap by a quarter."""
        if isinstance(self.network, AutoencoderDC):
            stride = side - side // 4
            self.network.enable_tiling(side, side, stride, stride)
            return
        self.network.enable_tiling()
        self.network.tile_sample_min_size = side
        self.network.tile_latent_min_size = side // self.factor

    def _latent(self, picture: Frames) -> Tensor:
        found: Any = self.network.encode(picture, return_dict=False)[0]
        latent: Tensor = found if isinstance(self.network, AutoencoderDC) else found.mode()
        return latent


def autoencoder_shape(folder: Path) -> tuple[int, int]:
    """Latent channels, and pixels along one side of a latent pixel, of the autoencoder in a folder.

    Raises:
        PriorError: no settings there, or those of another class.
    """
    config = read_json(folder / "config.json")
    kind = str(config.get("_class_name", "AutoencoderKL"))
    if kind not in BLOCKS:
        raise PriorError(f"{folder} holds a {kind}, which is not supported; supported are {', '.join(BLOCKS)}")
    blocks = config.get(BLOCKS[kind])
    if not isinstance(blocks, list) or not blocks:
        raise PriorError(f"{folder / 'config.json'} does not name {BLOCKS[kind]}; copy or download it again")
    return int(config.get("latent_channels", CHANNELS[kind])), int(2 ** (len(blocks) - 1))


def load_autoencoder(folder: Path) -> Autoencoder:
    """The autoencoder in a folder, in float32.

    In float16 those of this family overflow, and in bfloat16 a picture has fewer levels than it may have. PriorError if
    weights are missing or do not fit.
    """
    _, factor = autoencoder_shape(folder)
    kind = str(read_json(folder / "config.json").get("_class_name", "AutoencoderKL"))
    return wrapped(load_network(KINDS[kind], folder, torch.float32), factor)


def wrapped(network: ModelMixin, factor: int) -> Autoencoder:
    """A network that is loaded already, with what its own settings say of its latents."""
    settings = network.config
    return Autoencoder(network, factor, float(settings.scaling_factor), float(settings.get("shift_factor") or 0.0))
