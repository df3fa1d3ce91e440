"""The training pool: clips made once, in memory-mapped arrays, of which training draws crops.

Rendering costs more than a training step. What a pool holds is up to its `Diet`: one for each head that is trained.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from vrestore.errors import ConfigError
from vrestore.priors.motion import flow_picture, motions
from vrestore.weights.recipe.footage import footage_clips
from vrestore.weights.recipe.textures import FLAT, TextureBank

MOTION_UNIT = 64.0
"""Motion is stored as int16 in this fraction of a latent pixel."""
LATENT = 8
"""Pixels of a latent pixel: crops lie on their grid."""

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """What the pool holds; it is a function of this, the diet and the data alone."""

    clips: int = 900
    """Rendered clips; footage comes on top."""
    size: int = 256
    frames: int = 7
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """What a training step sees.

    ``sharp`` and ``degraded`` (b, t, 3, h, w) in [0, 1]; ``motion`` (b, t, 6, h / 8, w / 8) in latent pixels;
    ``aligned`` (b, t, 6, h, w): what the decoder sees of the neighbours, None where it follows from the others;
    ``keys``: frames of a window that are given clean, nothing is learned of them.
    """

    sharp: Tensor
    degraded: Tensor
    motion: Tensor
    aligned: Tensor | None = None
    keys: tuple[int, ...] = ()


class Diet(Protocol):
    """How clips for one head are made, and how batches are drawn of them."""

    name: str
    footage_frames: int
    """Frames of a crop of footage that a clip is made of, beyond the clip's own."""

    def shapes(self, config: PoolConfig) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape of one clip's entry in every array, and its type."""
        ...

    def rendered(self, rng: np.random.Generator, bank: TextureBank, config: PoolConfig) -> Arrays:
        """The entries of a clip of the world."""
        ...

    def filmed(self, rng: np.random.Generator, clip: np.ndarray, config: PoolConfig) -> Arrays:
        """The entries of a clip of footage, (frames + footage_frames, size, size, 3) uint8."""
        ...

    def draw(self, pool: Arrays, rng: np.random.Generator, crop: int, clean: float) -> Batch:
        """A batch of crops; ``clean``: share of the easier variant."""
        ...

    def tests(self, clips: Mapping[str, Tensor]) -> dict[str, list[tuple[Batch, Tensor]]]:
        """Of clips (t, 3, h, w) that training never saw: by name of a test, batches and what they start from."""
        ...


def open_pool(folder: Path, mode: Literal["r", "r+"] = "r") -> Arrays:
    """Map the arrays in ``folder``."""
    shapes = json.loads((folder / "pool.json").read_text())["shapes"]
    return {k: np.memmap(folder / f"{k}.bin", kind, mode, shape=tuple(shape)) for k, (shape, kind) in shapes.items()}


def pool_diet(folder: Path) -> str:
    """Name of the diet that a pool was made for."""
    if not (folder / "pool.json").is_file():
        raise ConfigError(f"no pool in {folder}; make one first")
    return str(json.loads((folder / "pool.json").read_text())["diet"])


def packed_motion(motion: Tensor) -> np.ndarray:
    """Motion in latent pixels as the pool stores it."""
    return (motion * MOTION_UNIT).round().clamp(-32000, 32000).to(torch.int16).numpy()


def unpacked_motion(stored: np.ndarray) -> Tensor:
    """Motion in latent pixels from what the pool stores."""
    return torch.from_numpy(stored.copy()).float() / MOTION_UNIT


def clip_motion(degraded: Tensor) -> Tensor:
    """Motion of a clip (t, 3, h, w) to both neighbours: (t, 6, h / 8, w / 8)."""
    return torch.stack(list(motions(flow_picture(frame) for frame in degraded)))


def unit(stored: np.ndarray) -> Tensor:
    """8-bit pictures in [0, 1]."""
    return torch.from_numpy(stored.copy()).float() / 255


def frames_of(clip: np.ndarray) -> Tensor:
    """Footage (t, h, w, 3) uint8 as frames (t, 3, h, w) in [0, 1]."""
    return torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 255


def crop_window(pictures: np.ndarray, rng: np.random.Generator, crop: int) -> tuple[slice, slice]:
    """A window on the grid of latent pixels, anywhere in the pictures (..., size, size)."""
    y, x = (int(v) * LATENT for v in rng.integers((pictures.shape[-1] - crop) // LATENT + 1, size=2))
    return slice(y, y + crop), slice(x, x + crop)


def coarse(window: tuple[slice, slice]) -> tuple[slice, slice]:
    """A window of pixels in latent pixels."""
    rows, columns = (slice(part.start // LATENT, part.stop // LATENT) for part in window)
    return rows, columns


def flat(picture: np.ndarray) -> bool:
    """Whether an 8-bit picture holds nothing to learn."""
    return bool(picture[..., ::2, ::2].std() < FLAT)


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
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    bank = TextureBank(data / "stills")
    _sources[:] = [_Sources(open_pool(folder, "r+"), diet, config, bank, _footage(data, diet, config))]


def _footage(data: Path, diet: Diet, config: PoolConfig) -> Sequence[np.ndarray]:
    return footage_clips(data / "clips", config.frames + diet.footage_frames, config.size)


def _fill(index: int) -> int:
    """Make one clip of the pool: rendered ones first, then footage."""
    sources = _sources[0]
    config = sources.config
    rng = np.random.default_rng([config.seed, index])
    if index < config.clips:
        entries = sources.diet.rendered(rng, sources.bank, config)
    else:
        entries = sources.diet.filmed(rng, sources.footage[index - config.clips], config)
    for name, entry in entries.items():
        sources.pool[name][index] = entry
    return index


def _in_processes(jobs: int, count: int, *prepared: object) -> Iterator[int]:
    if jobs == 0:
        _prepare(*prepared)  # type: ignore[arg-type]
        yield from map(_fill, range(count))
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_prepare, initargs=prepared) as workers:
        yield from workers.map(_fill, range(count), chunksize=4)


def build_pool(folder: Path, data: Path, diet: Diet, config: PoolConfig, jobs: int, say: Callable[[str], None]) -> None:
    """Make the clips of a diet in ``folder`` from ``data/stills`` and ``data/clips``; footage fills the tail.

    ``jobs``: processes that render; 0 renders in this one, with a single thread of torch and OpenCV.
    """
    footage = len(_footage(data, diet, config))
    count = config.clips + footage
    shapes = {name: ((count, *shape), kind) for name, (shape, kind) in diet.shapes(config).items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, (shape, kind) in shapes.items():
        with (folder / f"{name}.bin").open("wb") as file:
            file.truncate(int(np.prod(shape)) * np.dtype(kind).itemsize)
    facts = {"diet": diet.name, "config": asdict(config), "footage": footage, "shapes": shapes}
    (folder / "pool.json").write_text(json.dumps(facts))
    for done in _in_processes(jobs, count, folder, data, diet, config):
        if done % 50 == 0:
            say(f"made {done} of {count}")
    say(f"pool of {count} clips, {footage} of them footage")


def batch_at(pool: Arrays, diet: Diet, seed: int, step: int, crop: int, clean: float) -> Batch:
    """The batch of a step: a function of its arguments alone."""
    return diet.draw(pool, np.random.default_rng([seed, step]), crop, clean)


def augmented(batch: Batch, choose: np.ndarray) -> Batch:
    """Mirrored in x, mirrored in y, transposed, reversed in time: pictures and motion alike. ``choose``: four flags."""
    mirror_x, mirror_y, transpose, reverse = choose
    pictures, motion = [batch.sharp, batch.degraded, batch.aligned], batch.motion
    for flag, dim, channels in ((mirror_x, -1, [0, 3]), (mirror_y, -2, [1, 4])):
        if flag:
            pictures, motion = [None if p is None else p.flip(dim) for p in pictures], motion.flip(dim)
            motion[:, :, channels] *= -1
    if transpose:
        pictures = [None if p is None else p.transpose(-1, -2) for p in pictures]
        motion = motion.transpose(-1, -2)[:, :, [1, 0, 2, 4, 3, 5]]
    if reverse:  # what was earlier is later now
        sharp, degraded, aligned = (None if p is None else p.flip(1) for p in pictures)
        pictures = [sharp, degraded, None if aligned is None else aligned[:, :, [3, 4, 5, 0, 1, 2]]]
        motion = motion.flip(1)[:, :, [3, 4, 5, 0, 1, 2]]
    sharp, degraded, aligned = pictures
    assert sharp is not None and degraded is not None
    last = sharp.shape[1] - 1
    return Batch(
        sharp, degraded, motion, aligned, tuple(sorted(last - k for k in batch.keys)) if reverse else batch.keys
    )


def joined(parts: Sequence[Batch]) -> Batch:
    """Batches of one clip each as one."""
    aligned = [p.aligned for p in parts if p.aligned is not None]
    return Batch(
        torch.cat([p.sharp for p in parts]),
        torch.cat([p.degraded for p in parts]),
        torch.cat([p.motion for p in parts]),
        torch.cat(aligned) if aligned else None,
        parts[0].keys,
    )
