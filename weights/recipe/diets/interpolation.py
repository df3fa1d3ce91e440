"""Interpolation: two frames and the true one between them, beside what flow alone makes of the two."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vrestore.degradation import to_uint8
from vrestore.flow import Between, between, dense_fine, flow_pair
from vrestore.priors.motion import aligned_between, motion_of_between
from vrestore.weights.recipe.arrays import Arrays
from vrestore.weights.recipe.batch import (
    Batch,
    augmented,
    cells,
    crop_of,
    crop_place,
    flat,
    frames_of,
    joined,
    packed_motion,
    unit,
    unpacked_motion,
)
from vrestore.weights.recipe.pool import PoolConfig
from vrestore.weights.recipe.textures import TextureBank
from vrestore.weights.recipe.world import WorldConfig, render_scene

SPEED = 4.0
"""Of the world's camera, in pixels per frame: frames that are wanted between others are far from them."""
TRIPLETS = 4
"""Triplets of every clip."""
MIDDLE = 0.5
"""Share of triplets at the very middle, which most jobs ask for."""
PICTURES = ("left", "sharp", "right", "blend", "from_left", "from_right")


class Interpolation:
    """The diet of the prior behind `vrestore interpolate`: windows of a frame, one between, and the next frame."""

    name: ClassVar[str] = "interpolation"
    family: ClassVar[str] = "InterpolationPrior"
    footage_frames: ClassVar[int] = 0
    batch: ClassVar[int] = 12
    """More than of other diets: only their middle is decoded."""

    def shapes(self, config: PoolConfig) -> dict[str, tuple[tuple[int, ...], str]]:
        """Of each triplet the frames, what flow makes of them, and its motion."""
        size = config.size
        pictures = dict.fromkeys(PICTURES, ((TRIPLETS, 3, size, size), "uint8"))
        return {**pictures, "motion": ((TRIPLETS, 6, size // 8, size // 8), "int16")}

    def rendered(self, rng: np.random.Generator, bank: TextureBank, config: PoolConfig) -> Arrays:
        """A scene at several triplets of instants."""
        centres, gaps = rng.uniform(-3, 3, TRIPLETS), rng.uniform(0.7, 2.0, TRIPLETS)
        places = [0.5 if rng.random() < MIDDLE else float(rng.uniform(0.1, 0.9)) for _ in range(TRIPLETS)]
        times = np.stack([centres, centres + gaps * places, centres + gaps], 1).ravel()
        world = WorldConfig(size=config.size, frames=config.frames, speed=SPEED)
        pictures = render_scene(rng, bank, world, times).clamp(0, 1).unflatten(0, (TRIPLETS, 3))
        return _stacked([_triplet(three, place) for three, place in zip(pictures, places, strict=True)])

    def filmed(self, rng: np.random.Generator, clip: np.ndarray, config: PoolConfig) -> Arrays:
        """Frames of footage one, two or three apart."""
        frames, made = frames_of(clip), []
        for _ in range(TRIPLETS):
            gap = int(rng.choice([2, 3, 4], p=[0.7, 0.18, 0.12]))
            first, inner = int(rng.integers(len(frames) - gap)), int(rng.integers(1, gap))
            picked = frames[[first, first + inner, first + gap]]
            made.append(_triplet(picked, inner / gap))
        return _stacked(made)

    def draw(
        self, pool: Arrays, rng: np.random.Generator, crop: int, clean: float, batch: int, whole: bool = False
    ) -> Batch:
        """``batch`` triplets; ``clean`` and ``whole`` have no meaning here."""
        return joined([self._crop(pool, rng, crop) for _ in range(batch)])

    def tests(self, clips: Mapping[str, Tensor]) -> dict[str, list[tuple[Batch, Tensor]]]:
        """Every second frame from its neighbours, from what flow alone makes."""
        found = []
        for clip in clips.values():
            for i in range(1, len(clip) - 1, 2):
                made = between(clip[i - 1], clip[i + 1], flow_pair(clip[i - 1], clip[i + 1], dense_fine), 0.5)
                frames = clip[i - 1 : i + 2]
                found.append((_window(frames, made), made.blend.clamp(0, 1)))
        return {"every second": found}

    @staticmethod
    def _crop(pool: Arrays, rng: np.random.Generator, crop: int) -> Batch:
        place = crop_place(pool["sharp"], rng, 1, crop, lambda place: not flat(crop_of(pool["sharp"], place)[0]))
        left, sharp, right, blend, from_left, from_right = (unit(crop_of(pool[name], place)[0]) for name in PICTURES)
        index, which, window = place
        motion, aligned = torch.zeros(3, 6, crop // 8, crop // 8), torch.zeros(3, 6, crop, crop)
        motion[1] = unpacked_motion(pool["motion"][index, which, :, *cells(window)][0])
        aligned[1] = torch.cat([from_left - blend, from_right - blend])
        frames, seen = torch.stack([left, sharp, right]), torch.stack([left, blend, right])
        batch = Batch(frames[None], seen[None], motion[None], aligned[None], (0, 2))
        return augmented(batch, rng.random(4) < 0.5)


def _triplet(frames: Tensor, time: float) -> Arrays:
    left, sharp, right = to_uint8(frames).float() / 255
    made = between(left, right, flow_pair(left, right, dense_fine), time)
    pictures = (left, sharp, right, made.blend[0], made.from_left[0], made.from_right[0])
    entries = {name: to_uint8(picture).numpy() for name, picture in zip(PICTURES, pictures, strict=True)}
    return {**entries, "motion": packed_motion(motion_of_between(made))}


def _stacked(triplets: list[Arrays]) -> Arrays:
    return {name: np.stack([triplet[name] for triplet in triplets]) for name in triplets[0]}


def _window(frames: Tensor, made: Between) -> Batch:
    """A batch of one window (left, between, right)."""
    seen = torch.stack([frames[0], made.blend[0], frames[2]])
    moved, beside = motion_of_between(made), aligned_between(made)
    motion, aligned = torch.zeros(3, *moved.shape), torch.zeros(3, *beside.shape)
    motion[1], aligned[1] = moved, beside
    return Batch(frames[None], seen[None], motion[None], aligned[None], (0, 2))
