"""The pool that depth is trained on: clips of the world with depth, made once, and their latents."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vrestore.errors import ConfigError
from vrestore.weights.recipe.depth_film import as_filmed
from vrestore.weights.recipe.depth_scenes import filmed
from vrestore.weights.recipe.depth_world import Bytes, render
from vrestore.weights.recipe.machine import made
from vrestore.weights.recipe.textures import TextureBank

PERCENT = (2.0, 98.0)
"""Percentiles of a clip's inverse depth that become -1 and 1."""
FILES = {"pictures": "uint8", "disparity": "float16"}
REPORT = 50


@dataclass(frozen=True, kw_only=True)
class DepthPoolConfig:
    """What the pool holds; with the photographs it is a function of this alone."""

    clips: int = 1200
    frames: int = 4
    height: int = 192
    width: int = 288
    seed: int = 0

    def shape(self, name: str) -> tuple[int, ...]:
        """Of an array of the pool: ``pictures`` RGB, ``disparity`` one over metres."""
        whole = (self.clips, self.frames, self.height, self.width)
        return (*whole, 3) if name == "pictures" else whole


def make_clip(bank: TextureBank, config: DepthPoolConfig, index: int) -> tuple[Bytes, NDArray[np.float32]]:
    """Pictures (t, h, w, 3) uint8 and inverse depth (t, h, w) of one clip; of config's seed and the index alone."""
    rng = np.random.default_rng([config.seed, index])
    scene, cameras, times = filmed(rng, bank, config.frames)
    pictures, disparity = render(scene, cameras, times, (config.height, config.width))
    return as_filmed(rng, pictures), disparity.astype(np.float32)


_sources: list[tuple[TextureBank, DepthPoolConfig]] = []


def _prepare(data: Path, config: DepthPoolConfig) -> None:
    _sources[:] = [(TextureBank(data / "stills"), config)]


def _make(index: int) -> tuple[Bytes, NDArray[np.float32]]:
    return make_clip(*_sources[0], index)


def build_depth_pool(
    folder: Path, data: Path, config: DepthPoolConfig, say: Callable[[str], None], jobs: int = 0
) -> None:
    """Render the clips, or go on with what ``folder`` holds of the same pool. ``data/stills``: photographs.

    ``jobs``: processes that render; 0 renders in this one.
    """
    facts = folder / "pool.json"
    folder.mkdir(parents=True, exist_ok=True)
    if facts.exists() and json.loads(facts.read_text())["config"] != asdict(config):
        raise ConfigError(f"{folder} holds another pool; use another folder")
    done = int(json.loads(facts.read_text())["done"]) if facts.exists() else 0
    if not done:
        for name, kind in FILES.items():
            with (folder / f"{name}.bin").open("wb") as file:
                file.truncate(int(np.prod(config.shape(name))) * np.dtype(kind).itemsize)
    arrays = {
        name: np.memmap(folder / f"{name}.bin", kind, "r+", shape=config.shape(name)) for name, kind in FILES.items()
    }
    rows = range(done, config.clips)
    for index, clip in zip(rows, made(_make, rows, jobs, _prepare, data, config), strict=True):
        arrays["pictures"][index], arrays["disparity"][index] = clip
        if (index + 1) % REPORT == 0 or index + 1 == config.clips:
            facts.write_text(json.dumps({"config": asdict(config), "done": index + 1}))
            say(f"made {index + 1} of {config.clips}")


def open_depth_pool(folder: Path) -> tuple[Bytes, NDArray[np.float16]]:
    """The finished clips of a pool: pictures (n, t, h, w, 3) and inverse depth (n, t, h, w), mapped."""
    if not (folder / "pool.json").is_file():
        raise ConfigError(f"no pool in {folder}; make one first")
    facts = json.loads((folder / "pool.json").read_text())
    config, done = DepthPoolConfig(**facts["config"]), int(facts["done"])
    pictures, disparity = (
        np.memmap(folder / f"{name}.bin", kind, "r", shape=config.shape(name))[:done] for name, kind in FILES.items()
    )
    return pictures, disparity


def unit_disparity(disparity: NDArray[np.floating]) -> NDArray[np.float32]:
    """A clip's inverse depth with the `PERCENT` percentiles of all its frames at -1 and 1; what lies beyond is kept."""
    low, high = np.percentile(disparity.astype(np.float32), PERCENT)
    return np.asarray((disparity.astype(np.float32) - low) / max(high - low, 1e-6) * 2 - 1, np.float32)
