"""The training pool: rendered clips and footage, each degraded twice, with their motion, in memory-mapped arrays.

Rendering costs more than a training step, so a fixed pool is rendered once; training draws crops from it.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from vrestore.degradation import Blur, Resize, add_noise, gaussian_kernel, through_h264, to_uint8
from vrestore.priors.motion import flow_picture, motions
from vrestore.weights.recipe.world import TextureBank, WorldConfig, footage_clips, render_clip

SCALE = 4
HALF_SHARE = 0.06
"""Share of batches at scale 2."""
MOTION_UNIT = 64.0
"""Motion is stored as int16 in this fraction of a latent pixel."""


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """What the pool holds; it is a function of this and the data alone."""

    clips: int = 900
    size: int = 256
    frames: int = 7
    seed: int = 0


@dataclass(frozen=True)
class Pool:
    """``sharp`` (n, frames, 3, size, size); ``low`` (n, 2, frames, 3, size / 4, size / 4): clean bicubic, then the full
    chain; ``motion`` (n, 2, frames, 6, size / 8, size / 8) in latent pixels * MOTION_UNIT. All memory-mapped."""

    sharp: np.ndarray
    low: np.ndarray
    motion: np.ndarray

    @classmethod
    def open(cls, folder: Path, mode: Literal["r", "r+"] = "r") -> "Pool":
        """Map the arrays in ``folder``."""
        shapes = json.loads((folder / "pool.json").read_text())["shapes"]
        kinds: dict[str, Any] = {"sharp": np.uint8, "low": np.uint8, "motion": np.int16}
        arrays = {k: np.memmap(folder / f"{k}.bin", kinds[k], mode, shape=tuple(shapes[k])) for k in kinds}
        return cls(**arrays)


def degrade_clean(clip: Tensor) -> Tensor:
    """Antialiased bicubic to a quarter of the size: (t, 3, h, w) in [0, 1] to uint8."""
    size = (clip.shape[-2], clip.shape[-1])
    return to_uint8(Resize(size, (size[0] // SCALE, size[1] // SCALE)).apply(clip))


def degrade_real(clip: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur, reduction, noise and codec with random strengths, any of them sometimes absent: uint8."""
    height, width = clip.shape[-2:]
    if rng.random() < 0.9:
        sigma_x, sigma_y = rng.uniform(0.5, 2.3, 2)
        clip = Blur(gaussian_kernel(sigma_x, sigma_y, rng.uniform(0, np.pi))).apply(clip)
    if rng.random() < 0.5:
        low = torch.nn.functional.avg_pool2d(clip, SCALE)
    else:
        low = Resize((height, width), (height // SCALE, width // SCALE)).apply(clip)
    if rng.random() < 0.85:
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        low = add_noise(low, rng.uniform(0, 7), rng.uniform(0, 0.3), generator)
    low8 = to_uint8(low)
    if rng.random() < 0.88:
        frames = list(rearrange(low8, "t c h w -> t h w c").numpy())
        low8 = rearrange(
            torch.from_numpy(np.stack(through_h264(frames, int(rng.integers(20, 33))))), "t h w c -> t c h w"
        )
    return low8


def enlarge(low: Tensor, size: int) -> Tensor:
    """uint8 (t, 3, h, w) to the degraded frames that the prior sees: float in [0, 1] at output size, bicubic."""
    return Resize((low.shape[-2], low.shape[-1]), (size, size)).apply(low.float() / 255)


def clip_motion(degraded: Tensor) -> np.ndarray:
    """Motion of a clip of degraded frames to both neighbours: (t, 6, h, w) int16 in units of 1 / MOTION_UNIT."""
    scaled = torch.stack(list(motions(flow_picture(frame) for frame in degraded))) * MOTION_UNIT
    return scaled.round().clamp(-32000, 32000).to(torch.int16).numpy()


@dataclass(frozen=True)
class _Sources:
    """What a process makes clips of."""

    pool: Pool
    config: PoolConfig
    bank: TextureBank
    footage: Sequence[np.ndarray]


_sources: list[_Sources] = []


def _prepare(folder: Path, data: Path, config: PoolConfig) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    footage = footage_clips(data / "clips", WorldConfig(size=config.size, frames=config.frames))
    _sources[:] = [_Sources(Pool.open(folder, "r+"), config, TextureBank(data / "stills"), footage)]


def _fill(index: int) -> int:
    """Make one clip of the pool: rendered ones first, then footage."""
    sources = _sources[0]
    pool, config = sources.pool, sources.config
    rng = np.random.default_rng([config.seed, index])
    if index < config.clips:
        clip = render_clip(rng, sources.bank, WorldConfig(size=config.size, frames=config.frames))
    else:
        clip = rearrange(torch.from_numpy(sources.footage[index - config.clips]), "t h w c -> t c h w").float() / 255
    pool.sharp[index] = to_uint8(clip).numpy()
    for variant, low in enumerate((degrade_clean(clip), degrade_real(clip, rng))):
        pool.low[index, variant] = low.numpy()
        pool.motion[index, variant] = clip_motion(enlarge(low, clip.shape[-1]))
    return index


def _in_processes(jobs: int, count: int, folder: Path, data: Path, config: PoolConfig) -> Iterator[int]:
    if jobs == 0:
        _prepare(folder, data, config)
        yield from map(_fill, range(count))
        return
    prepared = (folder, data, config)
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_prepare, initargs=prepared) as workers:
        yield from workers.map(_fill, range(count), chunksize=4)


def build_pool(folder: Path, data: Path, config: PoolConfig, jobs: int, say: Callable[[str], None]) -> None:
    """Render and degrade the pool into ``folder`` from ``data/stills`` and ``data/clips``; footage fills the tail.

    ``jobs``: processes that render; 0 renders in this one, with a single thread of torch and OpenCV.
    """
    footage = list(footage_clips(data / "clips", WorldConfig(size=config.size, frames=config.frames)))
    count, size, frames = config.clips + len(footage), config.size, config.frames
    shapes = {
        "sharp": (count, frames, 3, size, size),
        "low": (count, 2, frames, 3, size // SCALE, size // SCALE),
        "motion": (count, 2, frames, 6, size // 8, size // 8),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape in shapes.items():
        with (folder / f"{name}.bin").open("wb") as file:
            file.truncate(int(np.prod(shape)) * (2 if name == "motion" else 1))
    (folder / "pool.json").write_text(json.dumps({"config": asdict(config), "footage": len(footage), "shapes": shapes}))
    for done in _in_processes(jobs, count, folder, data, config):
        if done % 50 == 0:
            say(f"made {done} of {count}")
    say(f"pool of {count} clips, {len(footage)} of them footage")


@dataclass(frozen=True)
class Batch:
    """``sharp`` and ``degraded`` (b, t, 3, h, w) in [0, 1]; ``motion`` (b, t, 6, h / 8, w / 8) in latent pixels."""

    sharp: Tensor
    degraded: Tensor
    motion: Tensor


def draw(pool: Pool, rng: np.random.Generator, clips: int, frames: int, crop: int, clean: float) -> Batch:
    """Random crops in space and time, mirrored, transposed and reversed at random.

    ``clean``: share of clips with the clean reduction. Crops lie on the grid of latent pixels.
    """
    rows = [_crop(pool, rng, frames, crop, int(rng.random() >= clean)) for _ in range(clips)]
    if rng.random() < HALF_SHARE:
        half = Resize((crop, crop), (crop // 2, crop // 2))
        rows = [(sharp, enlarge(to_uint8(half.apply(sharp)), crop), motion) for sharp, _, motion in rows]
    sharp, degraded, motion = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return Batch(sharp, degraded, motion)


def _crop(pool: Pool, rng: np.random.Generator, frames: int, crop: int, variant: int) -> tuple[Tensor, Tensor, Tensor]:
    for _ in range(10):
        index = int(rng.integers(len(pool.sharp)))
        first = int(rng.integers(pool.sharp.shape[1] - frames + 1))
        y, x = (int(v) * 8 for v in rng.integers((pool.sharp.shape[-1] - crop) // 8 + 1, size=2))
        time, window = slice(first, first + frames), (slice(y, y + crop), slice(x, x + crop))
        sharp = pool.sharp[index, time, :, *window]
        if sharp[0, :, ::2, ::2].std() >= 15:  # flat crops teach nothing
            break
    degraded = _enlarge_part(pool.low[index, variant, time], y, x, crop)
    part = (slice(y // 8, (y + crop) // 8), slice(x // 8, (x + crop) // 8))
    motion = torch.from_numpy(pool.motion[index, variant, time, :, *part].copy()).float() / MOTION_UNIT
    return _augment(torch.from_numpy(sharp.copy()).float() / 255, degraded, motion, rng.random(4) < 0.5)


def _enlarge_part(low: np.ndarray, y: int, x: int, crop: int) -> Tensor:
    """``crop`` by ``crop`` pixels at (y, x) of the enlarged frames, from no more of ``low`` than the kernel reaches."""
    first = [max(0, v // SCALE - 4) for v in (y, x)]
    last = [v // SCALE + crop // SCALE + 4 for v in (y, x)]
    part = torch.from_numpy(low[..., first[0] : last[0], first[1] : last[1]].copy()).float() / 255
    size = (part.shape[-2], part.shape[-1])
    large = Resize(size, (size[0] * SCALE, size[1] * SCALE)).apply(part)
    top, left = y - first[0] * SCALE, x - first[1] * SCALE
    return large[..., top : top + crop, left : left + crop]


def _augment(sharp: Tensor, degraded: Tensor, motion: Tensor, choose: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Mirror in x, mirror in y, transpose, reverse time: pictures and motion alike."""
    mirror_x, mirror_y, transpose, reverse = choose
    for flag, dim, channels in ((mirror_x, -1, [0, 3]), (mirror_y, -2, [1, 4])):
        if flag:
            sharp, degraded, motion = sharp.flip(dim), degraded.flip(dim), motion.flip(dim)
            motion[:, channels] *= -1
    if transpose:
        sharp, degraded, motion = (a.transpose(-1, -2) for a in (sharp, degraded, motion))
        motion = motion[:, [1, 0, 2, 4, 3, 5]]
    if reverse:
        sharp, degraded, motion = sharp.flip(0), degraded.flip(0), motion.flip(0)[:, [3, 4, 5, 0, 1, 2]]
    return sharp, degraded, motion


def batch_at(pool: Pool, seed: int, step: int, crop: int, clean: float) -> Batch:
    """The batch of a step: a function of its arguments alone. Short and long windows mix."""
    rng = np.random.default_rng([seed, step])
    clips, frames = ((6, 3), (3, 6))[int(rng.random() < 0.4)]
    return draw(pool, rng, clips, frames, crop, clean)
