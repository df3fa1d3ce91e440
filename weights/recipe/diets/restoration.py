"""Super-resolution and clean-up: every clip reduced to a quarter cleanly, and by some full chains."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from vrestore.degradation import Blur, Resize, add_noise, gaussian_kernel, through_h264, to_uint8
from vrestore.priors.motion import FINE
from vrestore.weights.recipe.arrays import Arrays
from vrestore.weights.recipe.batch import (
    CELL,
    Batch,
    augmented,
    cells,
    clip_motion,
    crop_of,
    crop_place,
    flat,
    frames_of,
    joined,
    packed_motion,
    unit,
    unpacked_motion,
)
from vrestore.weights.recipe.panned import panned
from vrestore.weights.recipe.pool import PoolConfig
from vrestore.weights.recipe.textures import TextureBank
from vrestore.weights.recipe.world import WorldConfig, render_exposed

SCALE = 4
CHAINS = 4
"""Full chains that a clip goes through: a network that sees the same noise again and again learns it by heart."""
HALF_SHARE = 0.06
"""Share of batches at scale 2."""
PANNED = 0.75
"""Share of the clips beside footage in which a photograph passes by; the others are scenes of the world."""
BLURRED = 0.12
"""Share of these with an exposure time."""
SUB_FRAMES = 5
SOFT_SHARE = 0.3
"""Share of clean reductions by a Gaussian instead of bicubically: what lenses and many scalers do."""
SOFT = (1.2, 2.0)
"""Its deviation, in pixels of the larger picture."""
NOISY_SHARE = 0.15
"""Share of clean reductions with some noise that the truth lacks: in pictures that stand still it would be kept."""
NOISE = 3.0
"""Its deviation at most, in levels."""


class Restoration:
    """The diet of the prior behind `vrestore sr`."""

    name: ClassVar[str] = "restoration"
    family: ClassVar[str] = "EmbeddedPrior"
    footage_frames: ClassVar[int] = 0
    batch: ClassVar[int] = 18

    def shapes(self, config: PoolConfig) -> dict[str, tuple[tuple[int, ...], str]]:
        """``low`` and ``motion`` hold variants: clean bicubic, then full chains."""
        t, size, variants = config.frames, config.size, 1 + CHAINS
        return {
            "sharp": ((t, 3, size, size), "uint8"),
            "low": ((variants, t, 3, size // SCALE, size // SCALE), "uint8"),
            "motion": ((variants, t, 6, size // CELL, size // CELL), "int16"),
        }

    def rendered(self, rng: np.random.Generator, bank: TextureBank, config: PoolConfig) -> Arrays:
        """A photograph that passes by; or a clip of the world, some with an exposure time, as cameras deliver."""
        if rng.random() < PANNED:
            return self._entries(rng, panned(rng, bank, config.frames, config.size))
        shutter = rng.uniform(0.15, 0.8) if rng.random() < BLURRED else 0.0
        world = WorldConfig(size=config.size, frames=config.frames)
        _, clip = render_exposed(rng, bank, world, shutter, SUB_FRAMES if shutter else 1)
        return self._entries(rng, clip)

    def filmed(self, rng: np.random.Generator, clip: np.ndarray, config: PoolConfig) -> Arrays:
        """Footage as it is."""
        return self._entries(rng, frames_of(clip))

    def draw(
        self, pool: Arrays, rng: np.random.Generator, crop: int, clean: float, batch: int, whole: bool = False
    ) -> Batch:
        """Short and long windows mix, of ``batch`` frames together; ``clean``: share of clips reduced cleanly."""
        frames = pool["sharp"].shape[1] if whole else (3, 6)[int(rng.random() < 0.4)]
        clips = range(max(1, batch // frames))
        chains = pool["low"].shape[1] - 1
        drawn = [0 if rng.random() < clean else 1 + int(rng.integers(chains)) for _ in clips]
        made = joined([self._crop(pool, rng, frames, crop, variant) for variant in drawn])
        if rng.random() < HALF_SHARE:
            half = Resize((crop, crop), (crop // 2, crop // 2)).apply(made.sharp)
            made = Batch(made.sharp, enlarge(to_uint8(half), crop), made.motion)
        return made

    def tests(self, clips: Mapping[str, Tensor]) -> dict[str, list[tuple[Batch, Tensor]]]:
        """Clean bicubic, Gaussian and the middle of the full chain, all from bicubic."""
        found: dict[str, list[tuple[Batch, Tensor]]] = {}
        for clip in clips.values():
            lows = {"clean": degrade_clean(clip), "soft": degrade_soft(clip, 1.6), "real": degrade_fixed(clip)}
            for name, low in lows.items():
                size = (clip.shape[-2], clip.shape[-1])
                large = Resize((low.shape[-2], low.shape[-1]), size).apply(low.float() / 255)
                batch = Batch(clip[None], large[None], clip_motion(large)[None])
                found.setdefault(name, []).append((batch, large))
        return found

    @staticmethod
    def _entries(rng: np.random.Generator, clip: Tensor) -> Arrays:
        low = torch.stack([degrade_clean(clip), *(degrade_real(clip, rng) for _ in range(CHAINS))])
        moved = torch.stack([clip_motion(enlarge(one, clip.shape[-1])) for one in low])
        return {"sharp": to_uint8(clip).numpy(), "low": low.numpy(), "motion": packed_motion(moved)}

    @staticmethod
    def _crop(pool: Arrays, rng: np.random.Generator, frames: int, crop: int, variant: int) -> Batch:
        place = crop_place(pool["sharp"], rng, frames, crop, lambda place: not flat(crop_of(pool["sharp"], place)[0]))
        sharp, (index, time, window) = unit(crop_of(pool["sharp"], place)), place
        low = pool["low"][index, variant, time]
        if variant == 0 and rng.random() < SOFT_SHARE:
            low = degrade_soft(unit(pool["sharp"][index, time]), rng.uniform(*SOFT)).numpy()
        if variant == 0 and rng.random() < NOISY_SHARE:
            low = noisy(low, rng.uniform(0, NOISE), rng)
        degraded = enlarge_part(low, window[0].start, window[1].start, crop)
        motion = unpacked_motion(pool["motion"][index, variant, time, :, *cells(window, FINE)])
        return augmented(Batch(sharp[None], degraded[None], motion[None]), rng.random(4) < 0.5)


def degrade_clean(clip: Tensor) -> Tensor:
    """Antialiased bicubic to a quarter of the size: (t, 3, h, w) in [0, 1] to uint8."""
    size = (clip.shape[-2], clip.shape[-1])
    return to_uint8(Resize(size, (size[0] // SCALE, size[1] // SCALE)).apply(clip))


def degrade_soft(clip: Tensor, sigma: float) -> Tensor:
    """A Gaussian sampled at every fourth pixel, between pixels so that centres agree: (t, 3, h, w) to uint8."""
    blurred = Blur(gaussian_kernel(sigma, sigma)).apply(clip)
    return to_uint8(torch.nn.functional.avg_pool2d(blurred[..., 1:-1, 1:-1], 2, stride=SCALE))


def noisy(low: np.ndarray, levels: float, rng: np.random.Generator) -> np.ndarray:
    """8-bit frames with white noise of a deviation in levels, another one in each of them."""
    return to_uint8(add_noise(unit(low), levels, 0.0, generator_of(rng))).numpy()


def degrade_real(clip: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur, reduction, noise of up to 7 levels and H.264 at CRF 20 to 32, any of them sometimes absent: uint8."""
    height, width = clip.shape[-2:]
    if rng.random() < 0.9:
        sigma_x, sigma_y = rng.uniform(0.5, 2.3, 2)
        clip = Blur(gaussian_kernel(sigma_x, sigma_y, rng.uniform(0, np.pi))).apply(clip)
    if rng.random() < 0.5:
        low = torch.nn.functional.avg_pool2d(clip, SCALE)
    else:
        low = Resize((height, width), (height // SCALE, width // SCALE)).apply(clip)
    if rng.random() < 0.85:
        generator = generator_of(rng)
        low = add_noise(low, rng.uniform(0, 7), rng.uniform(0, 0.3), generator)
    seen = to_uint8(low)
    return compressed(seen, int(rng.integers(20, 33))) if rng.random() < 0.88 else seen


def generator_of(rng: np.random.Generator) -> torch.Generator:
    """A generator of its own for the noise of a clip, seeded by the next number of ``rng``."""
    return torch.Generator().manual_seed(int(rng.integers(2**62)))


def degrade_fixed(clip: Tensor) -> Tensor:
    """The full chain in the middle of its range: Gaussian 1.4, area, noise of 4 levels, H.264 at CRF 28; uint8."""
    low = torch.nn.functional.avg_pool2d(Blur(gaussian_kernel(1.4, 1.4)).apply(clip), SCALE)
    return compressed(to_uint8(add_noise(low, 4.0, 0.1, torch.Generator().manual_seed(1))), 28)


def compressed(frames: Tensor, crf: int) -> Tensor:
    """8-bit frames (t, 3, h, w) as they come back from H.264."""
    back = through_h264(list(rearrange(frames, "t c h w -> t h w c").numpy()), crf)
    return rearrange(torch.from_numpy(np.stack(back)), "t h w c -> t c h w")


def enlarge(low: Tensor, size: int) -> Tensor:
    """uint8 (..., 3, h, w) to the degraded frames that the prior sees: float in [0, 1] at output size, bicubic."""
    return Resize((low.shape[-2], low.shape[-1]), (size, size)).apply(low.float() / 255)


def enlarge_part(low: np.ndarray, y: int, x: int, crop: int) -> Tensor:
    """``crop`` by ``crop`` pixels at (y, x) of the enlarged frames, from no more of ``low`` than the kernel reaches."""
    first = [max(0, v // SCALE - 4) for v in (y, x)]
    last = [v // SCALE + crop // SCALE + 4 for v in (y, x)]
    part = unit(low[..., first[0] : last[0], first[1] : last[1]])
    size = (part.shape[-2], part.shape[-1])
    large = Resize(size, (size[0] * SCALE, size[1] * SCALE)).apply(part)
    top, left = y - first[0] * SCALE, x - first[1] * SCALE
    return large[..., top : top + crop, left : left + crop]
