"""Deblurring: true exposures of the world, exposures of footage made through flow, and sharp frames among them."""

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vrestore.degradation import add_noise, to_uint8
from vrestore.flow import between, flow_pair
from vrestore.priors.motion import FINE
from vrestore.weights.recipe.arrays import Arrays
from vrestore.weights.recipe.batch import (
    CELL,
    Batch,
    Place,
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
from vrestore.weights.recipe.diets.restoration import compressed, generator_of
from vrestore.weights.recipe.pool import PoolConfig
from vrestore.weights.recipe.textures import TextureBank
from vrestore.weights.recipe.world import WorldConfig, expose, render_exposed

SPEED = 8.0
"""Of the world's camera, in pixels per frame: above that of other diets, blur is what is to be learned."""
SHUTTERS = (30 / 360, 1.0)
"""Range of the shutter's opening, as a part of the time between frames."""
SUB_FRAMES = 11
SHARP = 0.12
"""Share of clips without blur, which are to stay as they are."""
STRIDES = (1, 2)
"""Frames of footage from one that is kept to the next: where little moves, a longer time shows more blur."""
AVERAGED = {3: 0.1, 5: 0.15}
"""Share of clips of footage whose frames are means of so many frames, as of a camera of a higher rate."""
MILD = 2.0
"""Mean difference from the sharp frame, in 8-bit levels, below which a crop is nearly as it should be."""
MILD_SHARE = 0.15
"""Share of crops that may be mild or sharp."""


class Deblurring:
    """The diet of the prior behind `vrestore deblur`."""

    name: ClassVar[str] = "deblurring"
    family: ClassVar[str] = "EmbeddedPrior"
    footage_frames: ClassVar[int] = 10
    batch: ClassVar[int] = 18

    def shapes(self, config: PoolConfig) -> dict[str, tuple[tuple[int, ...], str]]:
        """Sharp and blurred frames, and the motion between the blurred ones."""
        t, size = config.frames, config.size
        pictures = ((t, 3, size, size), "uint8")
        return {"sharp": pictures, "blurred": pictures, "motion": ((t, 6, size // CELL, size // CELL), "int16")}

    def rendered(self, rng: np.random.Generator, bank: TextureBank, config: PoolConfig) -> Arrays:
        """A clip of the world through a shutter."""
        shutter = 0.0 if rng.random() < SHARP else rng.uniform(*SHUTTERS)
        world = WorldConfig(size=config.size, frames=config.frames, speed=SPEED)
        sharp, blurred = render_exposed(rng, bank, world, shutter, SUB_FRAMES if shutter else 1)
        return self._entries(rng, sharp, blurred)

    def filmed(self, rng: np.random.Generator, clip: np.ndarray, config: PoolConfig) -> Arrays:
        """Footage through a longer shutter than its own; ``clip`` is longer than what is made of it."""
        frames, kind = frames_of(clip), rng.random()
        if kind < SHARP:
            return self._entries(rng, frames[: config.frames], frames[: config.frames])
        means = rng.choice([0, *AVERAGED], p=[1 - sum(AVERAGED.values()), *AVERAGED.values()])
        if means:
            first = int(rng.integers(len(frames) - config.frames - means + 2))
            picked = frames[first : first + config.frames + means - 1]
            return self._entries(rng, picked[means // 2 :][: config.frames], mean_of(picked, int(means)))
        stride = int(rng.choice([s for s in STRIDES if (config.frames + 1) * s < len(frames)]))
        picked = frames[::stride][: config.frames + 2]
        shutter = rng.uniform(*SHUTTERS) if rng.random() < 0.5 else rng.uniform(0.7, 1.0)
        return self._entries(rng, picked[1:-1], longer_exposure(picked, shutter, int(rng.choice([7, 9, 11]))))

    def draw(
        self, pool: Arrays, rng: np.random.Generator, crop: int, clean: float, batch: int, whole: bool = False
    ) -> Batch:
        """Short and long windows mix, of ``batch`` frames together; ``clean`` has no meaning here."""
        frames = pool["sharp"].shape[1] if whole else (3, 6)[int(rng.random() < 0.4)]
        return joined([self._crop(pool, rng, frames, crop) for _ in range(max(1, batch // frames))])

    def tests(self, clips: Mapping[str, Tensor]) -> dict[str, list[tuple[Batch, Tensor]]]:
        """A shutter of 360 degrees, from the blurred frames; sharp frames, which should stay."""
        found: dict[str, list[tuple[Batch, Tensor]]] = {"blurred": [], "sharp": []}
        for clip in clips.values():
            own = clip[1:-1]
            for name, seen in (("blurred", longer_exposure(clip, 1.0, 7)), ("sharp", own)):
                seen = to_uint8(seen).float() / 255
                found[name].append((Batch(own[None], seen[None], clip_motion(seen)[None]), seen))
        return found

    @staticmethod
    def _entries(rng: np.random.Generator, sharp: Tensor, blurred: Tensor) -> Arrays:
        if rng.random() < 0.3:
            generator = generator_of(rng)
            blurred = add_noise(blurred, rng.uniform(0, 2), rng.uniform(0, 0.05), generator)
        seen = to_uint8(blurred)
        if rng.random() < 0.25:
            seen = compressed(seen, int(rng.integers(12, 27)))
        motion = packed_motion(clip_motion(seen.float() / 255))
        return {"sharp": to_uint8(sharp).numpy(), "blurred": seen.numpy(), "motion": motion}

    @staticmethod
    def _crop(pool: Arrays, rng: np.random.Generator, frames: int, crop: int) -> Batch:
        def good(place: Place) -> bool:
            sharp, seen = (crop_of(pool[name], place) for name in ("sharp", "blurred"))
            mild = np.abs(sharp.astype(np.int16) - seen).mean() < MILD
            return not flat(sharp[0]) and bool(not mild or rng.random() < MILD_SHARE)

        place = crop_place(pool["sharp"], rng, frames, crop, good, tries=20)
        sharp, seen = (unit(crop_of(pool[name], place)) for name in ("sharp", "blurred"))
        index, time, window = place
        motion = unpacked_motion(pool["motion"][index, time, :, *cells(window, FINE)])
        return augmented(Batch(sharp[None], seen[None], motion[None]), rng.random(4) < 0.5)


def mean_of(frames: Tensor, count: int) -> Tensor:
    """The mean in linear light of every ``count`` consecutive frames: (t, 3, h, w) to (t - count + 1, 3, h, w)."""
    runs = [frames[i : i + count] for i in range(len(frames) - count + 1)]
    return expose(torch.cat(runs), count)


def longer_exposure(frames: Tensor, shutter: float, sub: int) -> Tensor:
    """Footage (t, 3, h, w) as a shutter open for ``shutter`` of the frame interval would see it: (t - 2, 3, h, w).

    The mean in linear light of ``sub`` instants around each inner frame, those between two frames made through flow.
    """
    flows = [flow_pair(a, b) for a, b in pairwise(frames)]
    offsets = (np.arange(sub) - (sub - 1) / 2) / sub * shutter
    pictures = []
    for i in range(1, len(frames) - 1):
        for offset in offsets:
            if abs(offset) < 1e-9:
                pictures.append(frames[i])
                continue
            left = i if offset > 0 else i - 1
            time = float(offset % 1.0)
            pictures.append(between(frames[left], frames[left + 1], flows[left], time).blend[0].clamp(0, 1))
    return expose(torch.stack(pictures), sub)
