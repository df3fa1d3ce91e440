"""Training of the embedded depth prior: Marigold's layout over the latents of the shared autoencoder, in one step.

The UNet sees the latents of a picture beside those of a map of inverse depth, noised to the end of the schedule, and
answers with the clean map (as Garcia et al., "Fine-Tuning Image-Conditional Diffusion Models is Easier than You Think",
WACV 2025, train Marigold for one step). Its answer is judged in latents and, by the linear map that reads depth off
latents best, in pixels up to a scale and a shift. In a part of the steps frames of a clip are snippets, which attend to
one another.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from vrestore.priors.joint_attention import joined
from vrestore.weights.recipe.depth_examples import CHANNELS, CLIP_SCALE, Examples, Mirror, Readout, reduced
from vrestore.weights.recipe.drawn import Tensors
from vrestore.weights.recipe.editing import noised
from vrestore.weights.recipe.fit import Drawing, Moment
from vrestore.weights.recipe.written import TOLD, write_folder

SNIPPETS, FRAMES = 4, 3
"""Usual snippets of a step and their frames; as many single frames where a step has none."""
IN_SNIPPETS, AT_THE_END = 0.5, 0.95
"""Share of steps in snippets, and of steps at the noisiest time, where one step starts."""
WIDTH = 32
FAR = 0.01
"""One over metres: what is farther is sky, of which the measure asks nothing."""
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "sample",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "timestep_spacing": "trailing",
    "steps_offset": 1,
}
SEEN = {
    "prediction_type": "disparity",
    "scale_invariant": True,
    "shift_invariant": True,
    "default_denoising_steps": 1,
    "default_processing_resolution": 288,
}
"""What the index says of how pictures are seen and maps meant."""
TOKENS = ("<|startoftext|>", "<|endoftext|>")


def text_encoder() -> CLIPTextModel:
    """The untrained text encoder, which knows the beginning and the end of a text that is always empty."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(TOKENS),
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


class QuickNorm(nn.GroupNorm):
    """Computed in 32 bits, which on processors is faster than in bf16 by more than the copies cost."""

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.GroupNorm`."""
        return F.group_norm(input.float(), self.num_groups, self.weight, self.bias, self.eps).to(input.dtype)


class DepthNetwork(nn.Module):
    """UNet and text encoder as one module, for one optimiser and one average."""

    def __init__(self, sides: tuple[int, ...] = (48, 64, 128)) -> None:
        super().__init__()
        self.text = text_encoder()
        plain = len(sides) - 1
        self.unet = UNet2DConditionModel(
            sample_size=32,
            in_channels=2 * CHANNELS,
            out_channels=CHANNELS,
            block_out_channels=sides,
            layers_per_block=1,
            down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * plain,
            norm_num_groups=16,
            cross_attention_dim=WIDTH,
            attention_head_dim=max(1, sides[-1] // 32),  # which diffusers takes for the number of heads
        )
        for module in self.unet.modules():
            if type(module) is nn.GroupNorm:
                module.__class__ = QuickNorm
        self.joint = joined(self.unet)
        with torch.no_grad():  # noise says nothing: else every layer has to unlearn it first
            self.unet.conv_in.weight[:, CHANNELS:] = 0

    def forward(self, picture: Tensor, place: Tensor, times: Tensor, frames: int = 1) -> Tensor:
        """The clean latents of depth (n, 16, h, w); ``frames``: of a snippet, of which n is a multiple."""
        self.joint.frames = frames
        told = self.text(torch.tensor([[0, 1]], device=picture.device))[0].expand(len(picture), -1, -1)
        found: Tensor = self.unet(torch.cat([picture, place], 1), times, told, return_dict=False)[0]
        return found


@dataclass(frozen=True)
class Lesson(Tensors):
    """Latents of pictures, of their maps and of those at ``times``; maps, and one over depth.

    ``together``: frames of a snippet.
    """

    picture: Tensor
    clean: Tensor
    place: Tensor
    times: Tensor
    target: Tensor
    near: Tensor
    together: int


class Seeing(Drawing[DepthNetwork, Lesson]):
    """The losses: of the latents, of the depth read off them and its slopes, and what it is measured by."""

    def __init__(self, examples: Examples, snippets: int = SNIPPETS) -> None:
        self.examples, self._snippets = examples, snippets
        self.readout, self.mirror = Readout(examples), Mirror(examples)
        self._products = DDIMScheduler(**SCHEDULE).alphas_cumprod

    def draw(self, rng: np.random.Generator, moment: Moment) -> Lesson:
        """Snippets or single frames, most of them at the noisiest time."""
        joint = rng.random() < IN_SNIPPETS
        both, target, near = self._drawn(rng, joint)
        picture, clean = both[:, 0], both[:, 1]
        groups = self._snippets if joint else len(clean)
        each = len(clean) // groups
        noise = torch.from_numpy(rng.standard_normal((groups, *clean.shape[1:]), dtype=np.float32))
        noise = noise.repeat_interleave(each, 0)  # the same on every frame of a snippet
        time = 999 if rng.random() < AT_THE_END else int(rng.integers(20, 999))
        times = torch.full((len(clean),), time)
        # a run starts from noise alone; the schedule's last time would tell a little of the answer
        place = noise if time == 999 else noised(clean, noise, times, self._products)[0]
        picture = picture + 0.05 * torch.from_numpy(rng.standard_normal(picture.shape, dtype=np.float32))
        return Lesson(picture, clean, place, times, target, near, each)

    def losses(self, model: DepthNetwork, batch: Lesson, moment: Moment) -> Mapping[str, Tensor]:
        """Of one step."""
        picture, place = (z.contiguous(memory_format=torch.channels_last) for z in (batch.picture, batch.place))
        found = model(picture, place, batch.times, batch.together)
        with torch.autocast(found.device.type, enabled=False):
            return self._losses(found.float(), batch)

    def _losses(self, found: Tensor, batch: Lesson) -> dict[str, Tensor]:
        clean, target = batch.clean, batch.target
        depth = self.readout.to(found.device)(found)
        slopes = [
            (reduced(depth, k).diff(dim=d) - reduced(target, k).diff(dim=d)).abs().mean()
            for k in (1, 4)
            for d in (-1, -2)
        ]
        return {
            "latent": 0.5 * F.smooth_l1_loss(found, clean),
            "depth": 0.3 * (depth - target).abs().mean(),
            "relative": relative(*(z.unflatten(0, (-1, batch.together)) for z in (depth, batch.near))),
            "slopes": torch.stack(slopes).sum(),
        }

    def _drawn(self, rng: np.random.Generator, joint: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (n, 2, 16, h, w), maps (n, 4 h, 4 w) and one over depth."""
        count = len(self.examples)
        rows = rng.integers(count, size=self._snippets * (1 if joint else FRAMES)).tolist()
        if joint:  # one scale for all frames
            rows = [min(row - row % CLIP_SCALE + row % 2, count - 1) for row in rows]
        parts, maps = [], []
        for clip in rows:
            frames = self.examples.frames
            which = np.arange(frames) if joint else rng.integers(frames, size=1)
            parts.append(self.examples.latents(clip)[which])
            maps.append(self.examples.maps(clip)[:, which])
        both, (target, near) = torch.cat(parts), torch.cat(maps, 1)
        turned = torch.from_numpy(rng.random(len(rows)) < 0.5).repeat_interleave(len(both) // len(rows))
        both[turned] = self.mirror(both[turned]).float()
        target[turned], near[turned] = target[turned].flip(-1), near[turned].flip(-1)
        return both, target, near


def relative(found: Tensor, near: Tensor) -> Tensor:
    """Errors as parts of what is true, as AbsRel has them, of maps (groups, t, h, w) after one scale and shift for each
    group. Parts of the mean of what is true and found, so that what is fitted at or below zero has a slope, too.
    """
    y, valid = near.flatten(1), (near.flatten(1) > FAR).float()
    like = fitted(found.flatten(1), y, valid)
    unit = (like.detach().clamp(min=FAR) + y).clamp(min=2 * FAR) / 2
    return ((valid * (like - y).abs() / unit).clamp(max=4).sum(1) / valid.sum(1).clamp(min=1)).mean()


def fitted(x: Tensor, y: Tensor, valid: Tensor) -> Tensor:
    """Values (n, k) after one scale, not below zero, and shift for each row: those by which they fit ``y`` best."""
    count = valid.sum(1, keepdim=True).clamp(min=1)
    mean_x, mean_y = ((valid * v).sum(1, keepdim=True) / count for v in (x, y))
    apart = valid * (x - mean_x)
    scale = (apart * (y - mean_y)).sum(1, keepdim=True) / (apart.square().sum(1, keepdim=True) + 1e-3 * count)
    return scale.clamp(min=0) * (x - mean_x) + mean_y


def scores(found: np.ndarray, disparity: np.ndarray) -> tuple[float, float]:
    """AbsRel and delta1 of maps (t, h, w) after one scale and shift for all, in inverse depth; sky does not count."""
    valid = disparity > FAR
    x, y = found[valid].astype(np.float64), disparity[valid].astype(np.float64)
    rows = np.stack([x, np.ones_like(x)], 1)
    near = np.clip(rows @ np.linalg.lstsq(rows.T @ rows, rows.T @ y, rcond=None)[0], y.min(), y.max())
    ratio = np.maximum(near / y, y / near)
    return float(np.abs(y / near - 1).mean()), float((ratio < 1.25).mean())


def judged(model: DepthNetwork, held: Examples, vae: AutoencoderDC, clips: int = 24) -> dict[str, float]:
    """Mean AbsRel and delta1 of single frames of held-back clips, and those of a vertical gradient."""
    device = next(model.parameters()).device
    found: dict[str, list[float]] = {"absrel": [], "delta1": [], "absrel of a gradient": []}
    noise = torch.randn((1, CHANNELS, *held.latents(0).shape[-2:]), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for clip in range(min(clips, len(held))):
            picture, time = held.latents(clip)[:1, 0].to(device), torch.tensor([999], device=device)
            latents = model(picture, noise.to(device), time) / float(vae.config.scaling_factor)
            answer = vae.decode(latents).sample.mean(1).cpu().numpy()
            disparity = held.near(clip)[:1]
            if (disparity > FAR).mean() < 0.1:
                continue
            absrel, delta1 = scores(answer, disparity)
            plane = np.broadcast_to(np.linspace(0, 1, disparity.shape[1])[None, :, None], disparity.shape)
            for name, value in zip(found, (absrel, delta1, scores(plane, disparity)[0]), strict=True):
                found[name].append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def told(model: DepthNetwork, held: Examples, vae: AutoencoderDC) -> str:
    """`judged` as JSON."""
    return json.dumps(judged(model, held, vae))


def write_tokenizer(folder: Path) -> None:
    """A CLIP tokenizer that knows the beginning and the end of a text."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(TOKENS)}) + "\n")
    (folder / "merges.txt").write_text("#version: 0.2\n")
    names = {"bos_token": TOKENS[0], "eos_token": TOKENS[1], "unk_token": TOKENS[1], "pad_token": TOKENS[1]}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 8, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def load(folder: Path) -> DepthNetwork:
    """What `export` wrote, in float32, to be trained on."""
    options: dict[str, Any] = {"local_files_only": True, "torch_dtype": torch.float32}
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", **options)
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", **options)
    model = DepthNetwork(tuple(unet.config.block_out_channels))
    model.unet.load_state_dict(unet.state_dict())
    model.text.load_state_dict(text.state_dict())
    return model


@torch.no_grad()
def mix(model: DepthNetwork, before: DepthNetwork, keep: float) -> None:
    """Bring a network's weights back towards those that it went on from, by a share in [0, 1].

    What is new is learned at less cost to what was known: Wortsman et al., "Robust fine-tuning of zero-shot models",
    CVPR 2022, eq. 1.
    """
    for weight, old in zip(model.parameters(), before.parameters(), strict=True):
        weight.lerp_(old.to(weight), keep)


def export(model: DepthNetwork, folder: Path) -> None:
    """Write the networks in fp16, the tokenizer, the schedule and the index."""
    parts: dict[str, Any] = {"unet": model.unet, "text_encoder": model.text, "scheduler": DDIMScheduler(**SCHEDULE)}
    write_folder(folder, "MarigoldDepthPipeline", parts, TOLD | SEEN)
    write_tokenizer(folder / "tokenizer")
