"""What the completion of depth is trained on: clips of the world, the maps a prior makes of them, and what motion says.

The clips are of another seed than those the prior was trained on: of its own it would make better maps than of others.
"""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from vrestore import engine
from vrestore.flow import Luma, luma8
from vrestore.parallax import PLANES, Evidence, with_parallax
from vrestore.registration import Map
from vrestore.report import RunOptions
from vrestore.tasks.depth import Depth
from vrestore.weights.recipe.arrays import Arrays, Facts, grow, opened
from vrestore.weights.recipe.depth_pool import DepthPoolConfig, make_clip
from vrestore.weights.recipe.depth_world import Bytes, Floats
from vrestore.weights.recipe.machine import made
from vrestore.weights.recipe.textures import TextureBank

DIET = "depth evidence"


@dataclass(frozen=True, kw_only=True)
class EvidenceConfig(DepthPoolConfig):
    """What the pool holds; with the photographs and the prior it is a function of this alone."""

    clips: int = 1400
    frames: int = 6
    seed: int = 500

    def facts(self) -> Facts:
        """Of the pool's folder: ``planes`` as `Evidence.planes`, ``likely`` of each frame, ``near`` one over metres."""
        count, size = [self.clips, self.frames], [self.height, self.width]
        shapes = {
            "planes": [[*count, PLANES, *size], "float16"],
            "likely": [count, "float32"],
            "near": [[*count, *size], "float16"],
        }
        return {"diet": DIET, "config": asdict(self), "shapes": shapes}


def prior_maps(pictures: Bytes, prior: str) -> Floats:
    """Registered maps (t, h, w) of a clip (t, h, w, 3) by a prior of depth, with nothing done to them yet."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, picture in enumerate(pictures):
            cv2.imwrite(str(folder / f"{number:04}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        task = Depth(prior=prior, parallax=False, steady=0)
        engine.run(task, folder / "%04d.png", folder / "maps.npz", RunOptions(shots=((0, len(pictures)),)))
        with np.load(folder / "maps.npz") as kept:
            return np.asarray(kept["depth"], np.float32)


def planes_of(pictures: Bytes, maps: Floats) -> tuple[Floats, Floats]:
    """Evidence of all frames of a clip, (t, 8, h, w), and how likely the camera moved, (t,)."""
    low, high = np.percentile(maps, [1, 99])
    lumas: list[Luma] = [luma8(torch.from_numpy(one).permute(2, 0, 1) / 255) for one in pictures]
    found: list[Evidence] = []

    def kept(seen: Evidence) -> Map:
        found.append(seen)
        return seen.found

    for _ in with_parallax(maps.__getitem__, lumas.__getitem__, len(lumas), low, high, kept):
        pass
    return np.stack([one.planes() for one in found]), np.array([one.likely for one in found], np.float32)


_sources: list[tuple[Arrays, TextureBank, EvidenceConfig, str]] = []


def _prepare(folder: Path, data: Path, config: EvidenceConfig, prior: str) -> None:
    _sources[:] = [(opened(folder, "r+"), TextureBank(data / "stills"), config, prior)]


def _fill(index: int) -> int:
    """Make one clip of the pool. Its place; those before it are made."""
    arrays, bank, config, prior = _sources[0]
    pictures, near = make_clip(bank, config, index)
    planes, likely = planes_of(pictures, prior_maps(pictures, prior))
    arrays["planes"][index], arrays["likely"][index], arrays["near"][index] = planes, likely, near
    return index


def build_evidence(
    folder: Path, sources: tuple[Path, str], config: EvidenceConfig, say: Callable[[str], None], jobs: int = 0
) -> None:
    """Make the clips, or go on with what ``folder`` holds of the same pool.

    ``sources``: the data, of which photographs (``stills``) are taken, and the prior, by name or folder. ``jobs``:
    processes that render; 0 renders in this one. ConfigError if the folder holds another pool.
    """
    data, prior = sources
    grow(folder, config.facts(), lambda rows: made(_fill, rows, jobs, _prepare, folder, data, config, prior), say)
