"""Training of the embedded generation prior: clips of named scenes from noise, in the layout of AnimateDiff.

Every frame has a noise level of its own (Liu et al., "Redefining Temporal Modeling in Video Diffusion: The Vectorized
Timestep Approach", 2024; Chen et al., "Diffusion Forcing", NeurIPS 2024): all alike, rising along the clip, or clean
here and there, so that one network serves windows, diagonals, chunks and what lies between keyframes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC, DDIMScheduler, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from einops import rearrange, repeat
from torch import Tensor, nn
from transformers import CLIPTokenizer

from vrestore.priors.animated import FrameTimes
from vrestore.weights.recipe.drawn import Tensors
from vrestore.weights.recipe.editing import SCHEDULE as EDITING
from vrestore.weights.recipe.editing import encoded, noised
from vrestore.weights.recipe.fit import Drawing, Moment
from vrestore.weights.recipe.machine import kept, made
from vrestore.weights.recipe.scenes import HUES, SCENES, SIDE, SKIES, Asked
from vrestore.weights.recipe.words import Ids, text_encoder
from vrestore.weights.recipe.written import TOLD, write_folder

FRAMES, CLIPS = 16, 4
"""Of a training clip; clips of a step."""
LATENT = (16, SIDE // 8, SIDE // 8)
FPS = 8
STRIDES = {1: 0.55, 2: 0.15, 4: 0.1, 8: 0.1, 16: 0.1}
"""Shares of clips by the frames from one to the next: keyframes lie far apart."""
STILLS = 1000
"""Steps at the start that see a frame of each of many clips: what a scene looks like is learned before how it moves.
After them so does every second one, lest the words be forgotten: a step has few clips."""
UNTOLD, LEVEL, RISING = 0.1, 0.4, 0.3
"""Share of clips without words; of clips at one level, and of those whose levels rise; others are clean in places."""
WIDTH, TOKENS, LONGEST = 48, 16, 32
"""Of the text encoder; positions of frames."""
CHANNELS, GROUPS = (40, 56), 8
SCHEDULE: dict[str, Any] = EDITING | {"rescale_betas_zero_snr": True}
"""With an end that is noise alone: what a scene's colours are on the whole is drawn from there."""
USUAL = {"guidance_scale": 3.0}
WORDS: Mapping[str, tuple[str, ...]] = {
    "hills": ("hills", "a ride past hills", "mountains"),
    "waves": ("waves", "a boat on the sea", "the sea with a boat"),
    "stars": ("stars", "a planet among stars", "space"),
    "balls": ("balls", "balls that bounce", "bouncing balls"),
    "city": ("city", "a city", "a row of houses"),
    "snow": ("snow", "snow falls on trees", "trees in snow"),
    "fish": ("fish", "fish in an aquarium", "fish that swim"),
}
"""Ways to ask for each scene."""
TIMES: Mapping[str, tuple[str, ...]] = {
    "day": ("by day", "in the day", ""),
    "sunset": ("at sunset", "in the evening"),
    "night": ("at night", "by night"),
}


def vocabulary() -> tuple[str, ...]:
    """Every whole word, sorted."""
    told = [*HUES, *(way for ways in (*WORDS.values(), *TIMES.values()) for way in ways), "a video of", "with"]
    return tuple(sorted({word for phrase in told for word in phrase.split()}))


def phrase(rng: np.random.Generator, scene: str, hue: str, time: str) -> str:
    """A way to ask for a scene: "red waves at night", "a video of a green city by day", "fish in blue"."""
    what, when = str(rng.choice(WORDS[scene])), str(rng.choice(TIMES[time]))
    article = next((word for word in ("a ", "the ") if what.startswith(word)), "")
    said = f"{article}{hue} {what.removeprefix(article)}" if rng.random() < 0.7 else f"{what} in {hue}"
    return f"{'a video of ' if rng.random() < 0.3 else ''}{said} {when}".strip()


class Generator(nn.Module):
    """Text encoder and UNet with motion modules as one module, for one optimiser and one average."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.text = text_encoder(words, WIDTH, TOKENS)
        plain = UNet2DConditionModel(
            sample_size=SIDE // 8,
            in_channels=16,
            out_channels=16,
            block_out_channels=CHANNELS,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=GROUPS,
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
        )
        self.unet = UNetMotionModel.from_unet2d(plain, _motion())
        self.times = FrameTimes(self.unet)

    def forward(self, latents: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        """The v-prediction (clips, time, 16, h, w) of latents at ``times`` (clips, time)."""
        frames = latents.shape[1]
        told = repeat(self.text(tokens)[0], "b k d -> (b t) k d", t=frames)
        with self.times.at(times.flatten().float()):
            clip = rearrange(latents, "b t c h w -> b c t h w")
            found: Tensor = self.unet(clip, times[0, 0], told, return_dict=False)[0]
        return rearrange(found, "b c t h w -> b t c h w")


def _motion() -> MotionAdapter:
    return MotionAdapter(
        block_out_channels=CHANNELS,
        motion_layers_per_block=1,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=4,
        motion_norm_num_groups=GROUPS,
        motion_max_seq_length=LONGEST,
        use_motion_mid_block=True,
    )


def drawn_times(rng: np.random.Generator) -> np.ndarray:
    """Training timesteps of the frames of a clip, (FRAMES,); 0 where a frame is given."""
    kind, time = rng.random(), int(rng.integers(1, 1000))
    if kind < LEVEL:
        return np.full(FRAMES, time)
    if kind < LEVEL + RISING:
        chunk, given = int(rng.choice([1, 2, 4, 8])), int(rng.integers(0, 9))
        rise, start = rng.uniform(20, 1000), rng.uniform(-300, 1000)
        times = start + rise * ((np.arange(FRAMES) - given) // chunk)
        return np.where(np.arange(FRAMES) < given, 0, times.clip(0, 999)).astype(np.int64)
    times = np.full(FRAMES, time)
    every, first = int(rng.integers(2, FRAMES)), int(rng.integers(0, 4))
    times[first::every] = 0
    if rng.random() < 0.5:
        times[0] = 0
    if rng.random() < 0.5:
        times[-1] = 0
    return times


_seeds: list[int] = []


def _prepare(seed: int) -> None:
    _seeds[:] = [seed]


def _make(index: int) -> tuple[list[int], np.ndarray]:
    """Numbers of scene, colour and time of day, and the frames."""
    rng = np.random.default_rng([*_seeds, index])
    numbers = [int(rng.integers(len(names))) for names in (SCENES, HUES, SKIES)]
    scene, hue, time = (list(names)[n] for names, n in zip((SCENES, HUES, SKIES), numbers, strict=True))
    step, begin = int(rng.choice(list(STRIDES), p=list(STRIDES.values()))) / FPS, rng.uniform(0, 30)
    at = SCENES[scene](rng, Asked(HUES[hue], time))
    return numbers, np.stack([at(begin + step * n) for n in range(FRAMES)]).clip(0, 1)


def build_clips(folder: Path, vae: AutoencoderDC, rows: Sequence[int], count: int, seed: int, jobs: int = 0) -> None:
    """The examples ``rows`` of ``count``: latents, and numbers of scene, colour and time of day.

    ``jobs``: processes that render; 0 renders in this one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    latents = kept(folder / "latents.npy", np.dtype(np.float16), (count, FRAMES, *LATENT))
    asked = kept(folder / "asked.npy", np.dtype(np.int8), (count, 3))
    for i, (numbers, clip) in zip(rows, made(_make, rows, jobs, _prepare, seed), strict=True):
        asked[i], latents[i] = numbers, encoded(vae, clip).numpy()


@dataclass(frozen=True)
class Lesson(Tensors):
    """Latents (clips, time, 16, h, w) at ``times`` (clips, time), the v that is wanted of them, tokens (clips, k)."""

    place: Tensor
    wanted: Tensor
    times: Tensor
    tokens: Tensor


class Showing(Drawing[Generator, Lesson]):
    """The loss: error of the v-prediction of the frames that are not given."""

    def __init__(self, folder: Path, tokenizer: CLIPTokenizer, batch: int = 0) -> None:
        self._batch, self._ids = batch or CLIPS, Ids(tokenizer, TOKENS)
        self._latents, self._asked = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("latents", "asked"))
        self._products = DDIMScheduler(**SCHEDULE).alphas_cumprod

    def draw(self, rng: np.random.Generator, moment: Moment) -> Lesson:
        """Any examples, each frame at its level: at first, and in every second step, a frame of each."""
        still = moment.step < STILLS or moment.step % 2 == 1
        rows = rng.integers(len(self._latents), size=self._batch * FRAMES if still else self._batch)
        told = ["" if rng.random() < UNTOLD else self._phrase(rng, i) for i in rows]
        if still:
            clips = [self._latents[i, int(rng.integers(FRAMES))][None] for i in rows]
            times = torch.from_numpy(rng.integers(1, 1000, (len(rows), 1)))
        else:
            clips = [self._latents[i] for i in rows]
            times = torch.from_numpy(np.stack([drawn_times(rng) for _ in rows]))
        clean = torch.from_numpy(np.stack(clips)).float()
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        flat = noised(clean.flatten(0, 1), noise.flatten(0, 1), times.flatten(), self._products)
        place, wanted = (part.unflatten(0, clean.shape[:2]) for part in flat)
        return Lesson(place, wanted, times, self._ids(told))

    def losses(self, model: Generator, batch: Lesson, moment: Moment) -> Mapping[str, Tensor]:
        """Of one step."""
        found = model(batch.place, batch.times, batch.tokens).float()
        asked = (batch.times > 0).float()[..., None, None, None]
        share = asked.mean().clamp(min=0.05)
        return {"v": F.mse_loss(found * asked, batch.wanted * asked) / share}

    def _phrase(self, rng: np.random.Generator, row: np.integer[Any]) -> str:
        scene, hue, time = (list(names)[n] for names, n in zip((SCENES, HUES, SKIES), self._asked[row], strict=True))
        return phrase(rng, scene, hue, time)


def export(model: Generator, folder: Path) -> None:
    """Write the networks in fp16 beside the tokenizer that is there already, the schedule and the index."""
    parts: dict[str, Any] = {"unet": model.unet, "text_encoder": model.text, "scheduler": DDIMScheduler(**SCHEDULE)}
    write_folder(folder, "AnimateDiffPipeline", parts, TOLD | {"_usual": USUAL})
