"""The training pool: clips made once, in memory-mapped arrays, of which training draws crops.

Rendering costs more than a training step. What a pool holds is up to its `Diet`: one for each head that is trained.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from vrestore.weights.recipe.arrays import Arrays, grow, opened
from vrestore.weights.recipe.batch import Batch
from vrestore.weights.recipe.footage import footage_clips
from vrestore.weights.recipe.machine import made
from vrestore.weights.recipe.textures import TextureBank


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """What the pool holds; it is a function of this, the diet and the data alone."""

    clips: int = 900
    """Rendered clips; footage comes before them."""
    size: int = 256
    frames: int = 7
    seed: int = 0


@runtime_checkable
class Diet(Protocol):
    """How clips for one head are made, and how batches are drawn of them."""

    name: ClassVar[str]
    family: ClassVar[str]
    """Adapter of the prior that is trained on it."""
    footage_frames: ClassVar[int]
    """Frames of a crop of footage that a clip is made of, beyond the clip's own."""
    batch: ClassVar[int]
    """Usual size of a batch."""

    def shapes(self, config: PoolConfig) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape of one clip's entry in every array, and its type."""
        ...

    def rendered(self, rng: np.random.Generator, bank: TextureBank, config: PoolConfig) -> Arrays:
        """The entries of a clip of the world."""
        ...

    def filmed(self, rng: np.random.Generator, clip: np.ndarray, config: PoolConfig) -> Arrays:
        """The entries of a clip of footage, (frames + footage_frames, size, size, 3) uint8."""
        ...

    def draw(
        self, pool: Arrays, rng: np.random.Generator, crop: int, clean: float, batch: int, whole: bool = False
    ) -> Batch:
        """A batch of crops; ``clean``: share of the easier variant; ``whole``: windows as long as the clips."""
        ...

    def tests(self, clips: Mapping[str, Tensor]) -> dict[str, list[tuple[Batch, Tensor]]]:
        """Of clips (t, 3, h, w) that training never saw: by name of a test, batches and what they start from."""
        ...


@dataclass(frozen=True)
class _Sources:
    """What a process makes clips of."""

    pool: Arrays
    diet: Diet
    config: PoolConfig
    bank: TextureBank
    footage: Sequence[np.ndarray]


_sources: list[_Sources] = []


def _prepare(folder: Path, data: Path, diet: Diet, config: PoolConfig) -> None:
    bank = TextureBank(data / "stills")
    _sources[:] = [_Sources(opened(folder, "r+"), diet, config, bank, _footage(data, diet, config))]


def _footage(data: Path, diet: Diet, config: PoolConfig) -> Sequence[np.ndarray]:
    return footage_clips(data / "clips", config.frames + diet.footage_frames, config.size)


def _fill(index: int) -> int:
    """Make one clip of the pool: footage first, then rendered ones. Its place; those before it are made."""
    sources = _sources[0]
    config, filmed = sources.config, len(sources.footage)
    rng = np.random.default_rng([config.seed, index])
    if index < filmed:
        entries = sources.diet.filmed(rng, sources.footage[index], config)
    else:
        entries = sources.diet.rendered(rng, sources.bank, config)
    for name, entry in entries.items():
        sources.pool[name][index] = entry
    return index


def build_pool(folder: Path, data: Path, diet: Diet, config: PoolConfig, jobs: int, say: Callable[[str], None]) -> None:
    """Make the clips of a diet from ``data/clips``, then ``data/stills``, or go on with what ``folder`` holds of them.

    ``jobs``: processes that render; 0 renders in this one. ConfigError if the folder holds another pool.
    """
    footage = len(_footage(data, diet, config))
    count = config.clips + footage
    shapes = {name: [[count, *shape], kind] for name, (shape, kind) in diet.shapes(config).items()}
    facts = {"diet": diet.name, "config": asdict(config), "footage": footage, "shapes": shapes}
    grow(folder, facts, lambda rows: made(_fill, rows, jobs, _prepare, folder, data, diet, config), say)
    say(f"pool of {count} clips, {footage} of them footage")
