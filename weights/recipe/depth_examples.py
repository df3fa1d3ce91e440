"""What the depth prior is trained on: latents of pictures and maps, and how depth is read off latents."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC
from torch import Tensor, nn

from vrestore.weights.recipe.depth_pool import open_depth_pool, unit_disparity
from vrestore.weights.recipe.editing import encoded

CLIP_SCALE = 5
"""Of so many clips the first two have one scale for all frames, as snippets need it, the others one for each frame."""
CHANNELS = 16
CELL, READ = 8, 4
"""Pixels of a latent pixel, and values that are read off one along each side."""
READ_CLIPS = 48
"""Clips on which the linear map is fitted."""


class Examples:
    """Latents of a pool's pictures and maps, made when they are first asked for, and kept in ``folder``.

    ``shrunk``: how many times smaller they are than those of the pool.
    """

    def __init__(self, pool: Path, folder: Path, vae: AutoencoderDC, shrunk: int = 1) -> None:
        self._pictures, self._disparity = open_depth_pool(pool)
        self._vae, self._shrunk = vae, shrunk
        count, self.frames = self._disparity.shape[:2]
        frames, height, width = self.frames, *(side // shrunk for side in self._disparity.shape[2:])
        shape = (count, frames, 2, CHANNELS, height // CELL, width // CELL)
        folder.mkdir(parents=True, exist_ok=True)
        self._latents = _kept(folder / "latents.npy", np.dtype(np.float16), shape)
        self._done = _kept(folder / "done.npy", np.dtype(np.uint8), (count,))
        small = tuple(side * READ // CELL for side in (height, width))
        self._small = _kept(folder / "maps.npy", np.dtype(np.float16), (count, 2, frames, *small))

    def __len__(self) -> int:
        return len(self._disparity)

    def near(self, clip: int) -> np.ndarray:
        """One over depth, (t, h, w) float32."""
        return reduced(torch.from_numpy(self._disparity[clip].astype(np.float32)), self._shrunk).numpy()

    def pictures(self, clip: int) -> np.ndarray:
        """(t, h, w, 3) in [0, 1], float32."""
        planes = torch.from_numpy(self._pictures[clip].astype(np.float32) / 255).permute(0, 3, 1, 2)
        return reduced(planes, self._shrunk).permute(0, 2, 3, 1).numpy()

    def target(self, clip: int) -> np.ndarray:
        """What is to be answered: (t, h, w) in [-1, 1], near 1; of one scale for the clip, or of one for each frame."""
        disparity = self.near(clip)
        if clip % CLIP_SCALE < 2:
            return unit_disparity(disparity).clip(-1, 1)
        return np.stack([unit_disparity(frame) for frame in disparity]).clip(-1, 1)

    def latents(self, clip: int) -> Tensor:
        """Of pictures and maps, (t, 2, 16, h, w) float32."""
        self._make(clip)
        return torch.from_numpy(self._latents[clip].astype(np.float32))

    def maps(self, clip: int) -> Tensor:
        """The target and one over depth, (2, t, 4 h, 4 w) float32."""
        self._make(clip)
        return torch.from_numpy(self._small[clip].astype(np.float32))

    def _make(self, clip: int) -> None:
        if not self._done[clip]:
            target = self.target(clip)
            for place, whole in enumerate((target, self.near(clip))):
                self._small[clip, place] = reduced(torch.from_numpy(whole)).numpy()
            maps = np.repeat(target[..., None] / 2 + 0.5, 3, axis=-1)
            both = encoded(self._vae, np.concatenate([self.pictures(clip), maps.astype(np.float32)]))
            self._latents[clip] = both.unflatten(0, (2, -1)).transpose(0, 1).numpy()
            self._done[clip] = 1


def _kept(path: Path, kind: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    """A mapped array, of zeros when it is new."""
    if path.exists():
        kept: np.ndarray = np.load(path, mmap_mode="r+")
        return kept
    return np.lib.format.open_memmap(path, "w+", kind, shape)


class Readout(nn.Module):
    """The linear map from latents and their neighbours to depth, at half the size of pictures, fitted to examples."""

    def __init__(self, examples: Examples, clips: int = READ_CLIPS) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, READ * READ, 3, padding=1, padding_mode="replicate")
        rows, wanted = [], []
        for clip in range(min(clips, len(examples))):
            padded = F.pad(examples.latents(clip)[:, 1], (1, 1, 1, 1), mode="replicate")
            near = F.unfold(padded, 3).transpose(1, 2).flatten(0, 1)
            rows.append(torch.cat([near, torch.ones(len(near), 1)], 1)[::2])
            target = examples.maps(clip)[0][:, None]
            wanted.append(F.unfold(target, READ, stride=READ).transpose(1, 2).flatten(0, 1)[::2])
        x, y = torch.cat(rows).double(), torch.cat(wanted).double()
        ridge = 1e-4 * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
        solved = torch.linalg.solve(x.T @ x + ridge, x.T @ y).float()
        with torch.no_grad():
            self.conv.weight.copy_(solved[:-1].T.reshape(self.conv.weight.shape))
            self.conv.get_parameter("bias").copy_(solved[-1])
        self.requires_grad_(False)

    def forward(self, latents: Tensor) -> Tensor:
        """(n, 4 h, 4 w)."""
        found: Tensor = F.pixel_shuffle(self.conv(latents), READ)[:, 0]
        return found


def reduced(maps: Tensor, by: int = CELL // READ) -> Tensor:
    """Maps (..., h, w) at a part of their size, by means."""
    found: Tensor = maps.unflatten(-1, (-1, by)).unflatten(-3, (-1, by)).mean((-3, -1))
    return found
