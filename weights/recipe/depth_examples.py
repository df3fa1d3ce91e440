"""What the depth prior is trained on: latents of pictures and maps, and how depth is read off latents."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC
from torch import Tensor, nn

from vrestore.weights.recipe.depth_pool import open_depth_pool, unit_disparity
from vrestore.weights.recipe.editing import encoded
from vrestore.weights.recipe.machine import kept

CLIP_SCALE = 3
"""Of so many clips the first two have one scale for all frames, as snippets need it, the others one for each frame."""
CHANNELS = 16
CELL, READ = 8, 4
"""Pixels of a latent pixel, and values that are read off one along each side."""
READ_CLIPS = 48
"""Clips on which the linear maps are fitted."""


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
        self._latents = kept(folder / "latents.npy", np.dtype(np.float16), shape)
        self._done = kept(folder / "done.npy", np.dtype(np.uint8), (count,))
        small = tuple(side * READ // CELL for side in (height, width))
        self._small = kept(folder / "maps.npy", np.dtype(np.float16), (count, 2, frames, *small))

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

    def fill(self) -> None:
        """Make those of all clips, so that several threads may draw."""
        for clip in range(len(self)):
            self._make(clip)

    def latents(self, clip: int) -> Tensor:
        """Of pictures and maps, (t, 2, 16, h, w) float32."""
        self._make(clip)
        return torch.from_numpy(self._latents[clip].astype(np.float32))

    def maps(self, clip: int) -> Tensor:
        """The target and one over depth, (2, t, 4 h, 4 w) float32."""
        self._make(clip)
        return torch.from_numpy(self._small[clip].astype(np.float32))

    def mirrored(self, clip: int, kind: int) -> Tensor:
        """Latents (t, 16, h, w) of a clip's pictures (0) or maps (1), left and right changed; they are not kept."""
        pictures = _grey(self.target(clip)) if kind else self.pictures(clip)
        return encoded(self._vae, np.ascontiguousarray(pictures[:, :, ::-1]))

    def _make(self, clip: int) -> None:
        if not self._done[clip]:
            target = self.target(clip)
            for place, whole in enumerate((target, self.near(clip))):
                self._small[clip, place] = reduced(torch.from_numpy(whole)).numpy()
            both = encoded(self._vae, np.concatenate([self.pictures(clip), _grey(target)]))
            self._latents[clip] = both.unflatten(0, (2, -1)).transpose(0, 1).numpy()
            self._done[clip] = 1


def _grey(target: np.ndarray) -> np.ndarray:
    """Maps in [-1, 1] as pictures (t, h, w, 3) in [0, 1]."""
    return np.repeat(target[..., None] / 2 + 0.5, 3, axis=-1).astype(np.float32)


class Readout(nn.Module):
    """The linear map from latents and their neighbours to depth, at half the size of pictures, fitted to examples."""

    def __init__(self, examples: Examples, clips: int = READ_CLIPS) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, READ * READ, 3, padding=1, padding_mode="replicate")
        places = range(min(clips, len(examples)))
        latents = torch.cat([examples.latents(clip)[:, 1] for clip in places])
        targets = torch.cat([examples.maps(clip)[0] for clip in places])
        _solve(self.conv, latents, F.pixel_unshuffle(targets[:, None], READ))
        self.requires_grad_(False)

    def forward(self, latents: Tensor) -> Tensor:
        """(n, 4 h, 4 w)."""
        found: Tensor = F.pixel_shuffle(self.conv(latents), READ)[:, 0]
        return found


class Mirror(nn.Module):
    """Latents of pictures whose left and right are changed, from those of the pictures, by a linear map for each kind.

    An autoencoder is not symmetric; but what a mirrored picture's latents are is told, but for some hundredths of their
    variance, by the mirrored latents and their neighbours. So mirrored examples need not be encoded and kept.
    """

    def __init__(self, examples: Examples, clips: int = READ_CLIPS) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, padding_mode="replicate") for _ in "pd")
        places = np.unique(np.linspace(0, len(examples) - 1, min(clips, len(examples))).astype(int))
        for kind, conv in enumerate(self.maps):
            plain = torch.cat([examples.latents(int(clip))[:, kind] for clip in places])
            mirrored = torch.cat([examples.mirrored(int(clip), kind) for clip in places])
            _solve(conv, plain.flip(-1), mirrored)
        self.requires_grad_(False)

    def forward(self, latents: Tensor) -> Tensor:
        """Of pictures and maps, (n, 2, 16, h, w)."""
        return torch.stack([conv(latents[:, kind].flip(-1)) for kind, conv in enumerate(self.maps)], 1)


def _solve(conv: nn.Module, given: Tensor, wanted: Tensor) -> None:
    """Weights of a convolution of 3 x 3 by least squares, of maps (n, c, h, w)."""
    near = F.unfold(F.pad(given, (1, 1, 1, 1), mode="replicate"), 3).transpose(1, 2).flatten(0, 1)
    x = torch.cat([near, torch.ones(len(near), 1)], 1).double()
    y = wanted.flatten(2).transpose(1, 2).flatten(0, 1).double()
    ridge = 1e-4 * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    solved = torch.linalg.solve(x.T @ x + ridge, x.T @ y).float()
    with torch.no_grad():
        weight = conv.get_parameter("weight")
        weight.copy_(solved[:-1].T.reshape(weight.shape))
        conv.get_parameter("bias").copy_(solved[-1])


def reduced(maps: Tensor, by: int = CELL // READ) -> Tensor:
    """Maps (..., h, w) at a part of their size, by means."""
    found: Tensor = maps.unflatten(-1, (-1, by)).unflatten(-3, (-1, by)).mean((-3, -1))
    return found
