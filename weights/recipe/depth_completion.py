"""Training of the completion of depth: maps of evidence, judged as the head is, after one scale and shift a clip."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vrestore.parallax import FARTHEST, FIRST, FOUND, LEAST
from vrestore.priors.completion import COARSEST, FOLDER, DepthCompletion
from vrestore.priors.folder import load_network, part_folder
from vrestore.weights.recipe.arrays import diet_of, opened
from vrestore.weights.recipe.depth import FAR, fitted, scores
from vrestore.weights.recipe.depth_evidence import DIET
from vrestore.weights.recipe.depth_misled import misled
from vrestore.weights.recipe.depth_pool import PERCENT
from vrestore.weights.recipe.drawn import Tensors
from vrestore.weights.recipe.fit import Drawing, Moment
from vrestore.weights.recipe.written import write_part

PART = 0.6
"""Least part of a picture's side that a step with doubts sees."""
CLIPS, FRAMES = 4, 3
"""Usual clips of a step, and frames of each."""
SEEN = 0.1
"""Share of a clip that has to be nearer than the sky."""


@dataclass(frozen=True)
class Seeing(Tensors):
    """Evidence (clips, t, 8, h, w), how likely the camera moved (clips, t), one over depth (clips, t, h, w)."""

    planes: Tensor
    likely: Tensor
    near: Tensor
    target: Tensor
    """One over depth in the unit that evidence has."""


class Clips:
    """The clips of a pool of evidence in which there is something to see. ConfigError for another pool."""

    def __init__(self, folder: Path) -> None:
        diet_of(folder, (DIET,))
        arrays = opened(folder)
        self._planes, self._likely, self._near = (arrays[name] for name in ("planes", "likely", "near"))
        self.frames = self._likely.shape[1]
        self._rows = [row for row, near in enumerate(self._near) if (near > FAR).mean() > SEEN]

    def __len__(self) -> int:
        return len(self._rows)

    def taken(self, clip: int, frames: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Evidence, likelihood and truth of some frames of a clip, in 32 bits."""
        row = self._rows[clip]
        planes, likely, near = (array[row][frames] for array in (self._planes, self._likely, self._near))
        return planes.astype(np.float32), np.array(likely), near.astype(np.float32)


class Completing(Drawing[DepthCompletion, Seeing]):
    """The losses: the measure itself, distance in the unit of the range, and slopes.

    ``doubts``: share of clips whose evidence is made worse, and of steps that see a part of their pictures.
    """

    def __init__(self, clips: Clips, count: int = CLIPS, doubts: float = 0.0) -> None:
        self._clips, self._count, self._doubts = clips, count or CLIPS, doubts

    def draw(self, rng: np.random.Generator, moment: Moment) -> Seeing:
        """Some frames of some clips, half of them mirrored."""
        parts: list[tuple[np.ndarray, ...]] = []
        for clip in rng.integers(len(self._clips), size=self._count).tolist():
            frames = rng.permutation(self._clips.frames)[:FRAMES]
            planes, likely, near = self._clips.taken(clip, frames)
            turned = slice(None, None, -1 if rng.random() < 0.5 else 1)
            if self._doubts and rng.random() < self._doubts:
                planes, likely = misled(rng, planes, likely)
            parts.append((planes[..., turned], likely, near[..., turned]))
        seen, moves, true = (torch.from_numpy(np.stack(kind)) for kind in zip(*parts, strict=True))
        rows, columns = slice(None), slice(None)
        if self._doubts and rng.random() < self._doubts:
            rows, columns = (_part(rng, side) for side in true.shape[-2:])
        target = in_unit(true)
        return Seeing(seen[..., rows, columns], moves, true[..., rows, columns], target[..., rows, columns])

    def losses(self, model: DepthCompletion, batch: Seeing, moment: Moment) -> Mapping[str, Tensor]:
        """Of one step."""
        found = model(batch.planes.flatten(0, 1), batch.likely.flatten()).unflatten(0, batch.likely.shape).float()
        slopes = [(found.diff(dim=d) - batch.target.diff(dim=d)).abs().clamp(max=1).mean() for d in (-1, -2)]
        return {
            "absrel": absrel(found.flatten(1), batch.near.flatten(1)),
            "depth": 0.3 * (found - batch.target).abs().clamp(max=2).mean(),
            "slopes": torch.stack(slopes).sum(),
        }


def _part(rng: np.random.Generator, side: int) -> slice:
    """Some of the pixels along a side, from `PART` of them on, in whole `COARSEST` if there are as many."""
    taken = max(int(side * rng.uniform(PART, 1)) // COARSEST, 1) * COARSEST
    start = int(rng.integers(max(side - taken, 0) + 1))
    return slice(start, start + taken)


def absrel(found: Tensor, near: Tensor) -> Tensor:
    """Mean AbsRel of clips (n, k) as `scores` has it.

    It does not see by how much what is fitted lies below all that is true, and grows without end short of that: below
    a third of what is true it goes on as a line.
    """
    valid = (near > FAR).float()
    like, true = fitted(found, near, valid), near.clamp(min=FAR)
    least = torch.where(valid > 0, true, torch.inf).amin(1, keepdim=True).clamp(max=1)
    kept = torch.maximum(like, torch.maximum(least, true / 3))
    lost = (true / kept - 1).abs() + (kept - like) / true
    return ((valid * lost).clamp(max=4).sum(1) / valid.sum(1).clamp(min=1)).mean()


def in_unit(near: Tensor) -> Tensor:
    """One over depth (clips, t, h, w) in the unit that evidence has: the `PERCENT` percentiles of a clip 1 apart."""
    ends = torch.tensor(PERCENT).to(near) / 100
    low, high = torch.quantile(near.flatten(1)[:, ::7], ends, dim=1)[..., None, None, None]
    unit: Tensor = (near - low) / (high - low).clamp(min=1e-6) + FARTHEST
    return unit


def told(model: DepthCompletion, held: Clips) -> str:
    """Mean AbsRel and delta1 of clips that are held back, and those of the corrections by hand, as JSON."""
    found: dict[str, list[float]] = {name: [] for name in ("absrel", "delta1", "by hand", "delta1 by hand", "prior")}
    with torch.inference_mode():
        for clip in range(len(held)):
            planes, likely, near = held.taken(clip, slice(None))
            maps = model(torch.from_numpy(planes), torch.from_numpy(likely)).numpy()
            absrel, delta1 = scores(np.clip(maps, LEAST, None), near)
            values = absrel, delta1, *scores(planes[:, FOUND], near), scores(planes[:, FIRST], near)[0]
            for name, value in zip(found, values, strict=True):
                found[name].append(value)
    return json.dumps({name: round(float(np.mean(values)), 4) for name, values in found.items()})


def load(prior: Path) -> DepthCompletion:
    """The network of a prior's folder, in 32 bits, to be trained on. PriorError where it has none."""
    network: DepthCompletion = load_network(DepthCompletion, part_folder(prior, FOLDER), torch.float32)
    network.requires_grad_(True)
    return network


def export(model: DepthCompletion, prior: Path, folder: Path) -> None:
    """Write a copy of the folder of the prior that has the network, in fp16, among its parts."""
    shutil.copytree(prior, folder, dirs_exist_ok=True)
    write_part(model, folder / FOLDER)
    index = json.loads((folder / "model_index.json").read_text()) | {FOLDER: ["vrestore", type(model).__name__]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
