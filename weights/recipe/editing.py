"""Training of the embedded edit prior: named looks rendered from structure, in the layout of SD 1.5 with a ControlNet.

A picture, a phrase that asks for a look, and a map of the picture's structure; the look of the picture is the truth
(`looks.py`). Text encoder, UNet and ControlNet learn together from nothing, in the latents of the shared autoencoder.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from vrestore.weights.recipe.footage import decoded
from vrestore.weights.recipe.looks import COLOURS, LOOKS, rendered
from vrestore.weights.recipe.words import TOKENS, WIDTH, phrase, text_encoder

SIZE, CLIPS = 192, 16
"""Side of the training pictures, and how many a step sees."""
LATENT = (16, SIZE // 8, SIZE // 8)
UNCHANGED, TINTED = 0.14, 0.3
"""Share of examples that keep the picture as it is, and of those that have a colour word."""
UNTOLD, UNLED = 0.1, 0.12
"""Share of examples without words, and without a map of the structure: for guidance, and for runs without a control."""
KINDS = {"tile": 0.4, "canny": 0.2, "softedge": 0.2, "lineart": 0.2}
"""Share of every kind of map."""
USUAL = {"guidance_scale": 4.5, "strength": 0.75}
"""What `vrestore edit` takes where nothing else is asked: more of either loses the structure, less the look."""
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


def drawn_times(rng: np.random.Generator) -> Tensor:
    """Training timesteps (CLIPS,): half of them anywhere, half near the noise, where everything is up to the map."""
    anywhere, noisy = rng.integers(1000, size=CLIPS), rng.integers(750, 1000, size=CLIPS)
    return torch.from_numpy(np.where(rng.random(CLIPS) < 0.5, anywhere, noisy))


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
        lines = cv2.Canny(gray, low, low * rng.uniform(1.8, 2.5))
    elif kind == "softedge":
        soft = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), rng.uniform(0.8, 1.6))
        strength = np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1))
        lines = (strength / max(np.quantile(strength, rng.uniform(0.9, 0.99)), 8.0) * 255).clip(0, 255)
    else:
        plain = gray.astype(np.float32)
        dark = cv2.GaussianBlur(plain, (0, 0), rng.uniform(4, 8)) - cv2.GaussianBlur(plain, (0, 0), 0.6)
        lines = (dark.clip(0) / max(np.quantile(dark, 0.98), 6.0) * 255).clip(0, 255)
    return np.repeat(lines.astype(np.uint8)[..., None], 3, axis=2)


def cropped(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A square of SIZE from a picture (h, w, 3) uint8 at a random size, perhaps mirrored."""
    short = min(picture.shape[:2])
    scale = rng.uniform(1.0, max(1.0, min(2.2, short / SIZE))) * SIZE / short
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    y, x = (int(rng.integers(max(n - SIZE, 0) + 1)) for n in picture.shape[:2])
    crop = picture[y : y + SIZE, x : x + SIZE]
    if crop.shape[:2] != (SIZE, SIZE):
        crop = cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def load_pictures(data: Path) -> list[np.ndarray]:
    """The photographs of ``data/stills`` and some frames of ``data/clips``, (h, w, 3) uint8, short sides up to 480."""
    paths = sorted(p for p in (data / "stills").iterdir() if p.suffix in {".jpg", ".png"})
    whole = [cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB) for p in paths]
    for clip in sorted((data / "clips").glob("*.mp4")):
        whole += decoded(clip)[::12]
    made = []
    for picture in whole:
        scale = 480 / min(picture.shape[:2])
        less = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
        made.append(less)
    return made


def drawn_look(rng: np.random.Generator) -> tuple[str | None, str | None]:
    """A look and a colour word, either of which may be none."""
    if rng.random() < UNCHANGED:
        return None, None
    colour = str(rng.choice(list(COLOURS))) if rng.random() < TINTED else None
    look = None if colour is not None and rng.random() < 0.3 else str(rng.choice(list(LOOKS)))
    return look, colour


def shared_autoencoder() -> AutoencoderDC:
    """The embedded autoencoder, ready to encode."""
    folder = Path(str(files("vrestore.weights").joinpath("autoencoder")))
    vae = AutoencoderDC.from_pretrained(folder, local_files_only=True, torch_dtype=torch.float32)
    return vae.to(memory_format=torch.channels_last).eval()


def encoded(vae: AutoencoderDC, pictures: np.ndarray) -> Tensor:
    """Pictures (n, h, w, 3) in [0, 1] to latents of about unit size."""
    frames = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        latents: Tensor = vae.encode(frames * 2 - 1).latent.float()
        return latents * float(vae.config.scaling_factor)


def build_examples(folder: Path, pictures: Sequence[np.ndarray], vae: AutoencoderDC, count: int, seed: int) -> None:
    """``count`` examples of pictures (h, w, 3) uint8: source, latents of the truth, numbers of look and colour."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = np.lib.format.open_memmap(folder / "sources.npy", "w+", np.uint8, (count, SIZE, SIZE, 3))
    latents = np.lib.format.open_memmap(folder / "latents.npy", "w+", np.float16, (count, *LATENT))
    asked = np.lib.format.open_memmap(folder / "asked.npy", "w+", np.int8, (count, 2))
    names, colours = [None, *LOOKS], [None, *COLOURS]
    for first in range(0, count, CLIPS):
        truths = []
        for i in range(first, min(first + CLIPS, count)):
            rng = np.random.default_rng([seed, i])
            sources[i] = cropped(pictures[int(rng.integers(len(pictures)))], rng)
            look, colour = drawn_look(rng)
            asked[i] = names.index(look), colours.index(colour)
            truths.append(rendered(sources[i].astype(np.float32) / 255, look, colour, int(rng.integers(1 << 30))))
        latents[first : first + len(truths)] = encoded(vae, np.stack(truths)).numpy()


def noised(clean: Tensor, noise: Tensor, times: Tensor, products: Tensor) -> tuple[Tensor, Tensor]:
    """Latents at ``times`` and the v that leads back (Salimans and Ho, 2022, appendix D)."""
    product = products[times][:, None, None, None]
    alpha, sigma = product.sqrt(), (1 - product).sqrt()
    return alpha * clean + sigma * noise, alpha * noise - sigma * clean


class Rendering:
    """The loss: error of the v-prediction, at any time."""

    def __init__(self, folder: Path, tokenizer: CLIPTokenizer) -> None:
        self._arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("sources", "latents", "asked")]
        self._tokenizer = tokenizer
        self._products = DDIMScheduler(**SCHEDULE).alphas_cumprod

    def tokens(self, phrases: Sequence[str]) -> Tensor:
        """Ids (n, TOKENS) of phrases."""
        ids: Tensor = self._tokenizer(
            list(phrases), padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
        ).input_ids
        return ids

    def __call__(self, model: Editor, rng: np.random.Generator, step: int) -> Mapping[str, Tensor]:
        """Of one step."""
        sources, latents, asked = self._arrays
        rows = rng.integers(len(sources), size=CLIPS)
        names, colours = [None, *LOOKS], [None, *COLOURS]
        told = ["" if rng.random() < UNTOLD else phrase(rng, names[asked[i][0]], colours[asked[i][1]]) for i in rows]
        kinds = rng.choice(list(KINDS), CLIPS, p=list(KINDS.values()))
        maps = np.stack([structure(kind, sources[i], rng) for kind, i in zip(kinds, rows, strict=True)])
        clean = torch.from_numpy(np.stack([latents[i] for i in rows])).float()
        times = drawn_times(rng)
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        place, wanted = noised(clean, noise, times, self._products)
        led = torch.from_numpy((rng.random(CLIPS) >= UNLED).astype(np.float32))
        shown = torch.from_numpy(maps).permute(0, 3, 1, 2).float().div(255)
        layout = torch.channels_last
        found = model(
            place.contiguous(memory_format=layout),
            times,
            self.tokens(told),
            shown.contiguous(memory_format=layout),
            led,
        )
        return {"v": F.mse_loss(found.float(), wanted)}


def export(model: Editor, folder: Path) -> None:
    """Write the networks in fp16 beside the tokenizer that is there already, the schedule and the index."""
    for network, name in ((model.unet, "unet"), (model.controlnet, "controlnet"), (model.text, "text_encoder")):
        network.to(torch.float16).save_pretrained(folder / name)
    DDIMScheduler(**SCHEDULE).save_pretrained(folder / "scheduler")
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "controlnet": ["diffusers", "ControlNetModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "vae": ["diffusers", "AutoencoderDC"],
    }
    shared = {"_shared": {"vae": "../autoencoder"}, "_licence": "Apache-2.0", "_usual": USUAL}
    index = {"_class_name": "StableDiffusionControlNetPipeline", **parts, **shared}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
