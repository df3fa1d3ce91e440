"""Training of the embedded autoencoder that the priors for editing and depth share: a stock `AutoencoderDC`.

A picture and its latents, nothing else: no degraded frame helps the decoder, because an edit leaves its source. Half of
the pictures are changed in colour, inverted or gray, for edits and maps of depth are pictures too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderDC
from torch import Tensor

from vrestore.weights.recipe.arrays import opened
from vrestore.weights.recipe.batch import LATENT, crop_window, flat, unit
from vrestore.weights.recipe.drawn import Tensors
from vrestore.weights.recipe.fit import Drawing, Moment
from vrestore.weights.recipe.judge import load_sequences

PICTURES, CROP = 12, 128
"""Usual crops of a step, and their side."""
CHANNELS = 16
LATENT_NOISE = 0.1
"""Deviation of the noise that the decoder must bear, of latents held near unit size: what a sampler leaves."""
SIZE_WEIGHT = 2e-3
"""Of the latents' mean square in the loss."""


def network() -> AutoencoderDC:
    """The untrained autoencoder: latents of 16 channels at an eighth of the size, 2 M parameters."""
    return AutoencoderDC(
        latent_channels=CHANNELS,
        encoder_block_out_channels=(32, 32, 64, 128),
        decoder_block_out_channels=(32, 32, 64, 128),
        encoder_layers_per_block=(0, 1, 1, 2),
        decoder_layers_per_block=(0, 1, 3, 3),
        encoder_qkv_multiscales=((), (), (), ()),
        decoder_qkv_multiscales=((), (), (), ()),
    )


def recoloured(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """A picture (3, h, w) in [0, 1], in half of the cases with other colours, inverted, gray or of another contrast."""
    if rng.random() < 0.5:
        return picture
    if rng.random() < 0.4:
        picture = picture.mean(0, keepdim=True).expand(3, -1, -1)
    if rng.random() < 0.3:
        picture = 1 - picture
    if rng.random() < 0.5:
        mixed = torch.from_numpy(np.eye(3) + 0.4 * rng.standard_normal((3, 3))).float()
        picture = torch.einsum("ij,jhw->ihw", mixed / mixed.sum(1, keepdim=True).clamp(min=0.5), picture).clamp(0, 1)
    gain = torch.from_numpy(rng.uniform(0.5, 1.3, (3, 1, 1))).float()
    return (picture ** float(rng.uniform(0.5, 2)) * gain).clamp(0, 1)


@dataclass(frozen=True)
class Pictures(Tensors):
    """Crops (n, 3, h, w) in [-1, 1], and noise for their latents."""

    crops: Tensor
    noise: Tensor


class Rebuilding(Drawing[AutoencoderDC, Pictures]):
    """The losses: error of the rebuilt picture and of its gradients, and the latents' size."""

    def __init__(self, pool: Path, batch: int = PICTURES, crop: int = CROP) -> None:
        self._pictures = opened(pool)["sharp"]
        self._batch, self._crop = batch or PICTURES, crop

    def draw(self, rng: np.random.Generator, moment: Moment) -> Pictures:
        """Crops that hold something, half of them in other colours."""
        made = list[Tensor]()
        while len(made) < self._batch:
            clip, frame = int(rng.integers(len(self._pictures))), int(rng.integers(self._pictures.shape[1]))
            window = crop_window(self._pictures, rng, self._crop)
            crop = self._pictures[clip, frame][:, *window]
            if not flat(crop) or rng.random() < 0.2:
                made.append(recoloured(unit(crop), rng))
        crops = torch.stack(made).mul(2).sub(1).contiguous(memory_format=torch.channels_last)
        shape = (self._batch, CHANNELS, self._crop // LATENT, self._crop // LATENT)
        return Pictures(crops, torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)))

    def losses(self, model: AutoencoderDC, batch: Pictures, moment: Moment) -> Mapping[str, Tensor]:
        """Of one step."""
        latents = model.encode(batch.crops).latent.float()
        error = model.decode(latents + LATENT_NOISE * batch.noise).sample.float() - batch.crops
        slopes = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        return {
            "rebuilt": error.abs().mean(),
            "slopes": 0.5 * slopes,
            "size": SIZE_WEIGHT * latents.square().mean(),
        }


def rebuilt_db(model: AutoencoderDC, pictures: Tensor) -> float:
    """Mean PSNR in dB of pictures (n, 3, h, w) in [0, 1], sides multiples of 8, through the autoencoder."""
    pictures = pictures.to(next(model.parameters()).device)
    with torch.inference_mode():
        found = model.decode(model.encode(pictures * 2 - 1).latent).sample / 2 + 0.5
    error = (found.clamp(0, 1) - pictures).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


def latent_size(model: AutoencoderDC, pictures: Tensor) -> float:
    """Root mean square of the latents of pictures in [0, 1]."""
    pictures = pictures.to(next(model.parameters()).device)
    with torch.inference_mode():
        return float(model.encode(pictures * 2 - 1).latent.square().mean().sqrt())


def judged_on(sequences: Path) -> Tensor:
    """The first frame of every folder of real frames, cropped to the middle: (n, 3, height, width)."""
    return torch.stack([clip[0] for clip in load_sequences(sequences, 1).values()])


def export(model: AutoencoderDC, folder: Path, pictures: Tensor) -> None:
    """Write the autoencoder in fp16, its scaling factor measured on ``pictures``."""
    model.register_to_config(scaling_factor=round(1 / latent_size(model, pictures), 4))
    model.to(torch.float16).save_pretrained(folder)
