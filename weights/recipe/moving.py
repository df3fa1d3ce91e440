"""Training of the edit prior's motion modules: frames of a clip in one look, so that each helps the others.

What has learned looks stays as it is; the adapter between its layers learns from short clips (Guo et al.,
"AnimateDiff", ICLR 2024, section 4.2).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC, DDIMScheduler, MotionAdapter, UNetMotionModel
from einops import rearrange
from torch import Tensor, nn
from transformers import CLIPTokenizer

from vrestore.weights.recipe.editing import KINDS, LATENT, SCHEDULE, SIZE, UNTOLD, Editor, encoded, noised, structure
from vrestore.weights.recipe.editing import drawn_look as drawn
from vrestore.weights.recipe.looks import COLOURS, LOOKS, rendered
from vrestore.weights.recipe.pool import open_pool
from vrestore.weights.recipe.words import TOKENS, phrase

CLIPS = 2
MOST_FRAMES = 32


def adapter() -> MotionAdapter:
    """The untrained motion modules of `Editor`; they start as the identity."""
    return MotionAdapter(
        block_out_channels=(64, 96),
        motion_layers_per_block=1,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=4,
        motion_norm_num_groups=16,
        motion_max_seq_length=MOST_FRAMES,
        use_motion_mid_block=True,
    )


def build_clips(folder: Path, pool: Path, vae: AutoencoderDC, count: int, seed: int) -> None:
    """``count`` clips of a pool in a look each: sources, latents of the truth, numbers of look and colour."""
    pictures = open_pool(pool)["sharp"]
    frames = pictures.shape[1]
    folder.mkdir(parents=True, exist_ok=True)
    sources = np.lib.format.open_memmap(folder / "sources.npy", "w+", np.uint8, (count, frames, SIZE, SIZE, 3))
    latents = np.lib.format.open_memmap(folder / "latents.npy", "w+", np.float16, (count, frames, *LATENT))
    asked = np.lib.format.open_memmap(folder / "asked.npy", "w+", np.int8, (count, 2))
    names, colours = [None, *LOOKS], [None, *COLOURS]
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        clip = pictures[int(rng.integers(len(pictures)))]
        y, x = rng.integers(clip.shape[-1] - SIZE + 1, size=2)
        sources[i] = clip[..., y : y + SIZE, x : x + SIZE].transpose(0, 2, 3, 1)
        look, colour = drawn(rng)
        asked[i], own = (names.index(look), colours.index(colour)), int(rng.integers(1 << 30))
        shown = [rendered(f.astype(np.float32) / 255, look, colour, own, t) for t, f in enumerate(sources[i])]
        latents[i] = encoded(vae, np.stack(shown)).numpy()


class Mover(nn.Module):
    """A trained `Editor` that is held, with motion modules that learn."""

    def __init__(self, editor: Editor) -> None:
        super().__init__()
        self.editor = editor.requires_grad_(False)
        self.unet = UNetMotionModel.from_unet2d(editor.unet, adapter())
        self.unet.freeze_unet2d_params()

    def forward(self, latents: Tensor, times: Tensor, tokens: Tensor, maps: Tensor) -> Tensor:
        """The v-prediction (clips, time, 16, h, w). ``times`` (clips,), ``maps`` (clips, time, 3, 8 h, 8 w)."""
        frames = latents.shape[1]
        each = times.repeat_interleave(frames)
        with torch.no_grad():
            told = self.editor.text(tokens)[0].repeat_interleave(frames, 0)
            down, middle = self.editor.controlnet(
                latents.flatten(0, 1), each, told, maps.flatten(0, 1), return_dict=False
            )
        found: Tensor = self.unet(
            rearrange(latents, "b t c h w -> b c t h w"),
            times,
            told,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return rearrange(found, "b c t h w -> b t c h w")


class Animating:
    """The loss: error of the v-prediction of all frames of a clip, at one time."""

    def __init__(self, folder: Path, tokenizer: CLIPTokenizer) -> None:
        self._arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("sources", "latents", "asked")]
        self._tokenizer = tokenizer
        self._products = DDIMScheduler(**SCHEDULE).alphas_cumprod

    def __call__(self, model: Mover, rng: np.random.Generator, step: int) -> Mapping[str, Tensor]:
        """Of one step."""
        sources, latents, asked = self._arrays
        rows = rng.integers(len(sources), size=CLIPS)
        names, colours = [None, *LOOKS], [None, *COLOURS]
        told = ["" if rng.random() < UNTOLD else phrase(rng, names[asked[i][0]], colours[asked[i][1]]) for i in rows]
        maps = []
        for i in rows:
            kind, own = rng.choice(list(KINDS), p=list(KINDS.values())), int(rng.integers(1 << 30))
            maps.append(np.stack([structure(kind, frame, np.random.default_rng(own)) for frame in sources[i]]))
        clean = torch.from_numpy(np.stack([latents[i] for i in rows])).float()
        times = torch.from_numpy(rng.integers(1000, size=CLIPS))
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        frames = clean.shape[1]
        flat = noised(clean.flatten(0, 1), noise.flatten(0, 1), times.repeat_interleave(frames), self._products)
        place, wanted = (part.unflatten(0, (CLIPS, frames)) for part in flat)
        shown = torch.from_numpy(np.stack(maps)).permute(0, 1, 4, 2, 3).float().div(255)
        ids = self._tokenizer(told, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
        return {"v": F.mse_loss(model(place, times, ids.input_ids, shown).float(), wanted)}


def export(model: Mover, folder: Path) -> None:
    """Write ``folder/motion_adapter`` in fp16."""
    learned = {k: v for k, v in model.unet.state_dict().items() if "motion_modules" in k}
    made = adapter()
    made.load_state_dict(learned)
    made.to(torch.float16).save_pretrained(folder / "motion_adapter")
