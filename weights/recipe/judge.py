"""PSNR-Y of one-step restoration on folders of real frames, clean and with the full chain, beside bicubic's."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from vrestore.degradation import Blur, Resize, add_noise, gaussian_kernel, through_h264, to_uint8
from vrestore.priors.embedded_nets import align
from vrestore.weights.recipe.pool import MOTION_UNIT, SCALE, clip_motion, degrade_clean
from vrestore.weights.recipe.train import Restorer


def load_sequences(folder: Path, frames: int, size: tuple[int, int]) -> dict[str, Tensor]:
    """The first ``frames`` pictures of every subfolder, cropped to ``size`` (height, width): (t, 3, h, w) in [0, 1]."""
    found = {}
    for sub in sorted(p for p in folder.iterdir() if p.is_dir()):
        paths = sorted(p for p in sub.iterdir() if p.suffix in {".jpg", ".png"})[:frames]
        pictures = [cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB) for p in paths]
        y, x = ((a - b) // 2 for a, b in zip(pictures[0].shape[:2], size, strict=True))
        crops = np.stack([p[y : y + size[0], x : x + size[1]] for p in pictures])
        found[sub.name] = rearrange(torch.from_numpy(crops), "t h w c -> t c h w").float() / 255
    return found


def degrade_fixed(clip: Tensor) -> Tensor:
    """The full chain in the middle of its range: Gaussian 1.4, area, noise of 4 levels, H.264 at CRF 28; uint8."""
    low = torch.nn.functional.avg_pool2d(Blur(gaussian_kernel(1.4, 1.4)).apply(clip), SCALE)
    low8 = to_uint8(add_noise(low, 4.0, 0.1, torch.Generator().manual_seed(1)))
    frames = through_h264(list(rearrange(low8, "t c h w -> t h w c").numpy()), 28)
    return rearrange(torch.from_numpy(np.stack(frames)), "t h w c -> t c h w")


def psnr_y(a: Tensor, b: Tensor, border: int = 8) -> float:
    """Mean over frames of the PSNR of BT.601 luma in dB, frames (t, 3, h, w) in [0, 1], 8-bit rounded first."""
    weights = torch.tensor([65.481, 128.553, 24.966]) / 255
    luma = [torch.einsum("c,tchw->thw", weights, (x.clamp(0, 1) * 255).round() / 255) for x in (a, b)]
    error = (luma[0] - luma[1])[:, border:-border, border:-border].square().mean((1, 2))
    return float((-10 * torch.log10(error)).mean())


@torch.no_grad()
def restore(model: Restorer, degraded: Tensor, motion: Tensor) -> Tensor:
    """One step over one window: (t, 3, h, w)."""
    with torch.autocast(degraded.device.type, torch.bfloat16):
        start = model.vae.encode(degraded)
        times = torch.ones(1, len(degraded), device=degraded.device)
        found = model.unet(start[None], times, start[None], degraded[None], motion[None])[0]
        aligned = align(degraded[None], motion[None])
        frames = [model.vae.decode(*(x[i : i + 1] for x in (found, degraded, aligned))) for i in range(len(found))]
        return torch.cat(frames).float()


def judge(model: Restorer, sequences: dict[str, Tensor], names: Sequence[str] = ("clean", "real")) -> str:
    """A line: PSNR-Y and its gain over bicubic for each degradation, and the autoencoder's."""
    device = next(model.parameters()).device
    gains: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    rebuilt = []
    for clip in sequences.values():
        size = (clip.shape[-2], clip.shape[-1])
        for name in names:
            low = (degrade_clean if name == "clean" else degrade_fixed)(clip)
            degraded = Resize((low.shape[-2], low.shape[-1]), size).apply(low.float() / 255)
            motion = torch.from_numpy(clip_motion(degraded)).float() / MOTION_UNIT
            out = restore(model, degraded.to(device), motion.to(device)).cpu()
            gains[name].append((psnr_y(out, clip), psnr_y(degraded, clip)))
            if name == "clean":
                with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
                    seen, still = degraded[:1].to(device), torch.zeros_like(motion[None, :1]).to(device)
                    own = model.vae.decode(model.vae.encode(clip[:1].to(device)), seen, align(seen[None], still))
                rebuilt.append(psnr_y(own.float().cpu(), clip[:1]))
    lines = []
    for name, pairs in gains.items():
        ours, bicubic = np.mean(pairs, axis=0)
        worst = min(a - b for a, b in pairs)
        lines.append(f"{name} {ours:.2f} dB ({ours - bicubic:+.2f} over bicubic, worst sequence {worst:+.2f})")
    return ", ".join(lines) + f", autoencoder {np.mean(rebuilt):.2f} dB"
