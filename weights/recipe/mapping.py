"""The first part of the edit prior's training: the ControlNet's look at a map learns to tell the picture's latents.

Trained by noise prediction alone, the few layers between a map and the UNet take thousands of steps to say anything;
asked for the latents of the picture that the map was made of, they do so in a few hundred.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC, ControlNetModel
from torch import Tensor, nn

from vrestore.weights.recipe.drawn import Tensors
from vrestore.weights.recipe.editing import KINDS, PICTURES, latents_of, structure
from vrestore.weights.recipe.fit import Drawing, Moment


class Reader(nn.Module):
    """A ControlNet's layers below its own first one, and a readout that is thrown away afterwards."""

    def __init__(self, controlnet: ControlNetModel) -> None:
        super().__init__()
        self.look = controlnet.controlnet_cond_embedding
        self.tell = nn.Conv2d(self.look.conv_out.out_channels, 16, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """Latents (n, 16, h, w) of maps (n, 3, 8 h, 8 w) in [0, 1]."""
        told: Tensor = self.tell(self.look(maps))
        return told


@dataclass(frozen=True)
class Mapped(Tensors):
    """Pictures and their maps, (n, h, w, 3) uint8 both."""

    pictures: Tensor
    maps: Tensor


class Telling(Drawing[Reader, Mapped]):
    """The loss: error of the latents of the picture behind a map. ``vae``: on the network's device."""

    def __init__(self, examples: Path, vae: AutoencoderDC, batch: int = PICTURES) -> None:
        self._sources = np.load(examples / "sources.npy", mmap_mode="r")
        self._vae, self._batch = vae, batch or PICTURES

    def draw(self, rng: np.random.Generator, moment: Moment) -> Mapped:
        """Sources of examples, each with a map of any kind."""
        sources = [self._sources[i] for i in rng.integers(len(self._sources), size=self._batch)]
        kinds = rng.choice(list(KINDS), self._batch, p=list(KINDS.values()))
        maps = np.stack([structure(kind, source, rng) for kind, source in zip(kinds, sources, strict=True)])
        return Mapped(torch.from_numpy(np.stack(sources)), torch.from_numpy(maps))

    def losses(self, model: Reader, batch: Mapped, moment: Moment) -> Mapping[str, Tensor]:
        """Of one step."""
        wanted = latents_of(self._vae, batch.pictures.float() / 255)
        shown = batch.maps.permute(0, 3, 1, 2).float().div(255)
        found = model(shown.contiguous(memory_format=torch.channels_last))
        return {"told": F.mse_loss(found.float(), wanted.clone())}
