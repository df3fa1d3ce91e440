"""Training of the embedded edit prior: named looks rendered from structure, in the layout of SD 1.5 with a ControlNet.

A picture, a phrase that asks for a look, and a map of the picture's structure; the look of the picture is the truth
(`looks.py`). Text encoder, UNet and ControlNet learn together from nothing, in the latents of the shared autoencoder.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from vrestore.edges import canny_edges
from vrestore.errors import ConfigError
from vrestore.weights.recipe.drawn import Tensors
from vrestore.weights.recipe.fit import Drawing, Moment, Network
from vrestore.weights.recipe.looks import COLOURS, LOOKS
from vrestore.weights.recipe.machine import precise
from vrestore.weights.recipe.words import TOKENS, WIDTH, Ids, phrase, text_encoder
from vrestore.weights.recipe.written import TOLD, write_folder

SIZE, PICTURES = 192, 16
"""Side of the training pictures, and how many a step usually sees."""
LATENT = (16, SIZE // 8, SIZE // 8)
UNTOLD, UNLED = 0.1, 0.12
"""Share of examples without words, and without a map of the structure: for guidance, and for runs without a control."""
KINDS = {"tile": 0.4, "canny": 0.2, "softedge": 0.2, "lineart": 0.2}
"""Share of every kind of map."""
USUAL = {"guidance_scale": 3.0, "strength": 0.9}
"""What `vrestore edit` takes where nothing else is asked: less of either loses the look, more guidance mottles it."""
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "timestep_spacing": "trailing",
    "steps_offset": 1,
}


class Editor(nn.Module):
    """Text encoder, UNet and ControlNet as one module, for one optimiser and one average."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.text = text_encoder(words)
        self.unet = UNet2DConditionModel(
            sample_size=32,
            in_channels=16,
            out_channels=16,
            block_out_channels=(64, 96),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=16,
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
        )
        self.controlnet = awake(
            ControlNetModel.from_unet(self.unet, conditioning_embedding_out_channels=(16, 32, 64, 192))
        )

    def forward(self, latents: Tensor, times: Tensor, tokens: Tensor, maps: Tensor, led: Tensor) -> Tensor:
        """The v-prediction (n, 16, h, w). ``maps`` (n, 3, 8 h, 8 w); ``led`` (n,): whether an example has one."""
        told = self.text(tokens)[0]
        down, middle = self.controlnet(latents, times, told, maps, return_dict=False)
        share = led[:, None, None, None]
        found: Tensor = self.unet(
            latents,
            times,
            told,
            down_block_additional_residuals=[share * part for part in down],
            mid_block_additional_residual=share * middle,
            return_dict=False,
        )[0]
        return found


def awake(controlnet: ControlNetModel) -> ControlNetModel:
    """With random numbers for the zeros that a ControlNet starts with.

    Those keep a trained UNet undisturbed. Here both learn together, and behind two layers of zeros the UNet had learned
    to do without the map before the first of it came through. The map's own layers have no norm: a gain keeps their
    activations out of the linear part of SiLU.
    """
    embedding = controlnet.controlnet_cond_embedding
    with torch.no_grad():
        for layer in (embedding.conv_in, *embedding.blocks, embedding.conv_out):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            layer.weight.mul_(1.3)
        for layer in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
            nn.init.xavier_uniform_(layer.weight)
    return controlnet


def structure(kind: str, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A map (h, w, 3) uint8 of a picture (h, w, 3) uint8, as ControlNets see them: bright lines on black; tile is the
    picture itself, often blurred."""
    if kind == "tile":
        factor = float(rng.choice([1, 1, 2, 3, 4]))
        side = (round(picture.shape[1] / factor), round(picture.shape[0] / factor))
        small = cv2.resize(picture, side, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC))
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if kind == "canny":
        low = rng.uniform(50, 120)
        lines = canny_edges(gray, low, low * rng.uniform(1.8, 2.5))
    elif kind == "softedge":
        soft = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), rng.uniform(0.8, 1.6))
        strength = np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1))
        lines = (strength / max(np.quantile(strength, rng.uniform(0.9, 0.99)), 8.0) * 255).clip(0, 255)
    else:
        plain = gray.astype(np.float32)
        dark = cv2.GaussianBlur(plain, (0, 0), rng.uniform(4, 8)) - cv2.GaussianBlur(plain, (0, 0), 0.6)
        lines = (dark.clip(0) / max(np.quantile(dark, 0.98), 6.0) * 255).clip(0, 255)
    return np.repeat(lines.astype(np.uint8)[..., None], 3, axis=2)


def shared_autoencoder(device: torch.device | str = "cpu") -> AutoencoderDC:
    """The embedded autoencoder, ready to encode."""
    folder = Path(str(files("vrestore.weights").joinpath("autoencoder")))
    vae = AutoencoderDC.from_pretrained(folder, local_files_only=True, torch_dtype=torch.float32)
    return vae.to(device).to(memory_format=torch.channels_last).eval()


def latents_of(vae: AutoencoderDC, pictures: Tensor) -> Tensor:
    """Pictures (n, h, w, 3) in [0, 1], where the autoencoder is, to latents of about unit size."""
    frames = pictures.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), precise(frames.device):
        latents: Tensor = vae.encode(frames * 2 - 1).latent.float()
        return latents * float(vae.config.scaling_factor)


def encoded(vae: AutoencoderDC, pictures: np.ndarray) -> Tensor:
    """The same of an array; the latents are on the CPU."""
    return latents_of(vae, torch.from_numpy(pictures).to(vae.device)).cpu()


def noised(clean: Tensor, noise: Tensor, times: Tensor, products: Tensor) -> tuple[Tensor, Tensor]:
    """Latents (n, ...) at ``times`` (n,) and the v that leads back (Salimans and Ho, 2022, appendix D)."""
    product = products[times].view(-1, *[1] * (clean.dim() - 1))
    alpha, sigma = product.sqrt(), (1 - product).sqrt()
    return alpha * clean + sigma * noise, alpha * noise - sigma * clean


@dataclass(frozen=True)
class Lesson(Tensors):
    """Latents (n, ..., 16, h, w) at ``times`` (n,) and the v that is wanted of them; tokens (n, k).

    ``maps`` (n, ..., 8 h, 8 w, 3) uint8; ``led`` (n,): whether an example has one.
    """

    place: Tensor
    wanted: Tensor
    times: Tensor
    tokens: Tensor
    maps: Tensor
    led: Tensor

    def shown(self) -> Tensor:
        """The maps as a network takes them: (n, ..., 3, 8 h, 8 w) in [0, 1]."""
        return self.maps.movedim(-1, -3).float().div(255)


class Looking(Drawing[Network, Lesson]):
    """Draws examples with what is said of them and maps of their structure; ``batch``: how many."""

    def __init__(self, folder: Path, tokenizer: CLIPTokenizer, batch: int) -> None:
        self._arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("sources", "latents", "asked")]
        self._ids, self._batch = Ids(tokenizer, TOKENS), batch
        self._products = DDIMScheduler(**SCHEDULE).alphas_cumprod

    @abstractmethod
    def maps(self, rng: np.random.Generator, sources: Sequence[np.ndarray]) -> np.ndarray:
        """Of the drawn sources."""

    @abstractmethod
    def times(self, rng: np.random.Generator) -> Tensor:
        """Training timesteps (batch,)."""

    @abstractmethod
    def led(self, rng: np.random.Generator) -> np.ndarray:
        """Which examples have a map (batch,)."""

    def part(self, rng: np.random.Generator) -> slice:
        """What is seen of an example along its first axis: all of it."""
        return slice(None)

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
        """Gaussian, of latents (batch, ...): new everywhere."""
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))

    def draw(self, rng: np.random.Generator, moment: Moment) -> Lesson:
        """Any examples, at times of the noise."""
        sources, latents, asked = self._arrays
        rows, part = rng.integers(len(sources), size=self._batch), self.part(rng)
        names, colours = [None, *LOOKS], [None, *COLOURS]
        told = ["" if rng.random() < UNTOLD else phrase(rng, names[asked[i][0]], colours[asked[i][1]]) for i in rows]
        maps = torch.from_numpy(self.maps(rng, [sources[i][part] for i in rows]))
        clean = torch.from_numpy(np.stack([latents[i][part] for i in rows])).float()
        times = self.times(rng)
        place, wanted = noised(clean, self.noise(rng, tuple(clean.shape)), times, self._products)
        led = torch.from_numpy(self.led(rng).astype(np.float32))
        return Lesson(place, wanted, times, self._ids(told), maps, led)


class Rendering(Looking[Editor]):
    """The loss: error of the v-prediction, at any time."""

    def __init__(self, folder: Path, tokenizer: CLIPTokenizer, batch: int = PICTURES) -> None:
        super().__init__(folder, tokenizer, batch or PICTURES)

    def maps(self, rng: np.random.Generator, sources: Sequence[np.ndarray]) -> np.ndarray:
        """Each of its own kind."""
        kinds = rng.choice(list(KINDS), len(sources), p=list(KINDS.values()))
        return np.stack([structure(kind, source, rng) for kind, source in zip(kinds, sources, strict=True)])

    def times(self, rng: np.random.Generator) -> Tensor:
        """Half of them anywhere, half near the noise, where everything is up to the map."""
        anywhere, noisy = rng.integers(1000, size=self._batch), rng.integers(750, 1000, size=self._batch)
        return torch.from_numpy(np.where(rng.random(self._batch) < 0.5, anywhere, noisy))

    def led(self, rng: np.random.Generator) -> np.ndarray:
        """Most of them."""
        return np.asarray(rng.random(self._batch) >= UNLED)

    def losses(self, model: Editor, batch: Lesson, moment: Moment) -> Mapping[str, Tensor]:
        """Of one step."""
        place, shown = (z.contiguous(memory_format=torch.channels_last) for z in (batch.place, batch.shown()))
        found = model(place, batch.times, batch.tokens, shown, batch.led)
        return {"v": F.mse_loss(found.float(), batch.wanted)}


def load(folder: Path, words: Mapping[str, int] | None = None) -> Editor:
    """What `export` wrote, in float32. ConfigError if its tokens are not those of ``words``, where these are given."""
    tokens = json.loads((folder / "tokenizer" / "vocab.json").read_text())
    if words is not None and tokens != words:
        raise ConfigError(f"{folder} has other words than the recipe has now; train without it, or on its own recipe")
    model = Editor(len(tokens))
    kept: dict[str, Any] = {"local_files_only": True, "torch_dtype": torch.float32}
    model.text = CLIPTextModel.from_pretrained(folder / "text_encoder", **kept)
    model.unet = UNet2DConditionModel.from_pretrained(folder / "unet", **kept)
    model.controlnet = ControlNetModel.from_pretrained(folder / "controlnet", **kept)
    return model


def export(model: Editor, folder: Path) -> None:
    """Write the networks in fp16 beside the tokenizer that is there already, the schedule and the index."""
    parts: dict[str, Any] = {"unet": model.unet, "controlnet": model.controlnet, "text_encoder": model.text}
    parts["scheduler"] = DDIMScheduler(**SCHEDULE)
    write_folder(folder, "StableDiffusionControlNetPipeline", parts, TOLD | {"_usual": USUAL})
