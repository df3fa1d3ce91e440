"""The pool that depth is trained on: clips of the world with depth, made once, and their latents."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vrestore.weights.recipe.arrays import Arrays, Facts, diet_of, grow, opened
from vrestore.weights.recipe.depth_film import as_filmed
from vrestore.weights.recipe.depth_scenes import filmed
from vrestore.weights.recipe.depth_world import Bytes, render
from vrestore.weights.recipe.machine import made
from vrestore.weights.recipe.textures import TextureBank

DIET = "depth"
PERCENT = (2.0, 98.0)
"""Percentiles of a clip's inverse depth that become -1 and 1."""


@dataclass(frozen=True, kw_only=True)
class DepthPoolConfig:
    """What the pool holds; with the photographs it is a function of this alone."""

    clips: int = 1200
    frames: int = 4
    height: int = 192
    width: int = 288
    seed: int = 0

    def facts(self) -> Facts:
        """Of the pool's folder: ``pictures`` RGB, ``disparity`` one over metres."""
        whole = [self.clips, self.frames, self.height, self.width]
        shapes = {"pictures": [[*whole, 3], "uint8"], "disparity": [whole, "float16"]}
        return {"diet": DIET, "config": asdict(self), "shapes": shapes}


def make_clip(bank: TextureBank, config: DepthPoolConfig, index: int) -> tuple[Bytes, NDArray[np.float32]]:
    """Pictures (t, h, w, 3) uint8 and inverse depth (t, h, w) of one clip; of config's seed and the index alone."""
    rng = np.random.default_rng([config.seed, index])
    scene, cameras, times = filmed(rng, bank, config.frames)
    pictures, disparity = render(scene, cameras, times, (config.height, config.width))
    return as_filmed(rng, pictures), disparity.astype(np.float32)


_sources: list[tuple[Arrays, TextureBank, DepthPoolConfig]] = []


def _prepare(folder: Path, data: Path, config: DepthPoolConfig) -> None:
    _sources[:] = [(opened(folder, "r+"), TextureBank(data / "stills"), config)]


def _fill(index: int) -> int:
    """Make one clip of the pool. Its place; those before it are made."""
    arrays, bank, config = _sources[0]
    arrays["pictures"][index], arrays["disparity"][index] = make_clip(bank, config, index)
    return index


def build_depth_pool(
    folder: Path, data: Path, config: DepthPoolConfig, say: Callable[[str], None], jobs: int = 0
) -> None:
    """Render the clips, or go on with what ``folder`` holds of the same pool. ``data/stills``: photographs.

    ``jobs``: processes that render; 0 renders in this one. ConfigError if the folder holds another pool.
    """
    grow(folder, config.facts(), lambda rows: made(_fill, rows, jobs, _prepare, folder, data, config), say)


def open_depth_pool(folder: Path) -> tuple[Bytes, NDArray[np.float16]]:
    """The finished clips of a pool: pictures (n, t, h, w, 3) and inverse depth (n, t, h, w), mapped."""
    diet_of(folder, (DIET,))
    arrays = opened(folder)
    return arrays["pictures"], arrays["disparity"]


def unit_disparity(disparity: NDArray[np.floating]) -> NDArray[np.float32]:
    """A clip's inverse depth with the `PERCENT` percentiles of all its frames at -1 and 1; what lies beyond is kept."""
    low, high = np.percentile(disparity.astype(np.float32), PERCENT)
    return np.asarray((disparity.astype(np.float32) - low) / max(high - low, 1e-6) * 2 - 1, np.float32)
