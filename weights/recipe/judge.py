"""PSNR-Y of one step on folders of real frames, beside that of what the step starts from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from vrestore.luma import psnr_y
from vrestore.priors.embedded_nets import align
from vrestore.weights.recipe.batch import Batch
from vrestore.weights.recipe.machine import precise
from vrestore.weights.recipe.train import Restorer

BORDER = 8
"""Pixels at each side that do not count."""
FRAMES, SIZE = 7, (256, 448)
"""Of what is judged of a sequence: height and width in pixels."""


def load_sequences(folder: Path, frames: int = FRAMES, size: tuple[int, int] = SIZE) -> dict[str, Tensor]:
    """The first ``frames`` pictures of every subfolder, cropped to ``size`` (height, width): (t, 3, h, w) in [0, 1]."""
    found = {}
    for sub in sorted(p for p in folder.iterdir() if p.is_dir()):
        paths = sorted(p for p in sub.iterdir() if p.suffix in {".jpg", ".png"})[:frames]
        pictures = [cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB) for p in paths]
        y, x = ((a - b) // 2 for a, b in zip(pictures[0].shape[:2], size, strict=True))
        crops = np.stack([p[y : y + size[0], x : x + size[1]] for p in pictures])
        found[sub.name] = rearrange(torch.from_numpy(crops), "t h w c -> t c h w").float() / 255
    return found


@torch.no_grad()
def restore(model: Restorer, batch: Batch) -> Tensor:
    """One step over the windows of a batch: all frames but the keys, (n, 3, h, w)."""
    clips, frames = batch.sharp.shape[:2]
    wanted = [i for i in range(frames) if i not in batch.keys]
    with precise(batch.sharp.device):
        start = model.vae.encode(batch.degraded.flatten(0, 1)).unflatten(0, (clips, frames))
        times = torch.ones(clips, frames, device=start.device)
        times[:, list(batch.keys)] = 0
        found = model.unet(start, times, start, batch.degraded, batch.motion)
        beside = batch.aligned
        if beside is None:
            beside = align(batch.degraded, batch.motion).unflatten(0, (clips, frames))
        parts = [part[:, wanted].flatten(0, 1) for part in (found, batch.degraded, beside)]
        if model.guide is not None:
            parts.append(model.guide(batch.degraded, batch.motion)[:, wanted].flatten(0, 1))
        return torch.cat([model.vae.decode(*(p[i : i + 1] for p in parts)) for i in range(len(parts[0]))]).float()


def judge(model: Restorer, tests: Mapping[str, Sequence[tuple[Batch, Tensor]]]) -> str:
    """A line: of every test the mean PSNR-Y over its clips and the gain over what the prior starts from."""
    device, lines = next(model.parameters()).device, []
    for name, cases in tests.items():
        pairs = []
        for batch, start in cases:
            truth = batch.sharp[:, [i for i in range(batch.sharp.shape[1]) if i not in batch.keys]].flatten(0, 1)
            pairs.append((psnr_y(restore(model, batch.to(device)).cpu(), truth, BORDER), psnr_y(start, truth, BORDER)))
        ours, before = np.mean(pairs, axis=0)
        worst = min(a - b for a, b in pairs)
        lines.append(f"{name} {ours:.2f} dB ({ours - before:+.2f}, worst {worst:+.2f})")
    return ", ".join(lines)
