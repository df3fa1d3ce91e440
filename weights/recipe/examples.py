"""Examples of the edit prior and of its motion modules: crops of pictures or clips, each in a look, made once."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from diffusers import AutoencoderDC

from vrestore.weights.recipe.arrays import opened
from vrestore.weights.recipe.editing import LATENT, SIZE, encoded
from vrestore.weights.recipe.footage import decoded
from vrestore.weights.recipe.looks import COLOURS, LOOKS, rendered
from vrestore.weights.recipe.machine import made

UNCHANGED, TINTED = 0.14, 0.3
"""Share of examples that keep the picture as it is, and of those that have a colour word."""
TOGETHER = 16
"""Examples that are encoded at once."""


class Source(ABC):
    """Where crops come from. A process that makes examples opens its own."""

    frames: tuple[int, ...]
    """How many frames a crop has, as a shape; none for a picture."""

    @abstractmethod
    def crop(self, rng: np.random.Generator) -> np.ndarray:
        """(*frames, SIZE, SIZE, 3) uint8."""


class Pictures(Source):
    """The photographs of ``data/stills`` and some frames of ``data/clips``, short sides up to 480."""

    frames = ()

    def __init__(self, data: Path) -> None:
        paths = sorted(p for p in (data / "stills").iterdir() if p.suffix in {".jpg", ".png"})
        whole = [cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB) for p in paths]
        for clip in sorted((data / "clips").glob("*.mp4")):
            whole += decoded(clip)[::12]
        self._pictures = [_reduced(picture) for picture in whole]

    def crop(self, rng: np.random.Generator) -> np.ndarray:
        """At a random size, perhaps mirrored."""
        picture = self._pictures[int(rng.integers(len(self._pictures)))]
        short = min(picture.shape[:2])
        scale = rng.uniform(1.0, max(1.0, min(2.2, short / SIZE))) * SIZE / short
        if scale < 1:
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        y, x = (int(rng.integers(max(n - SIZE, 0) + 1)) for n in picture.shape[:2])
        crop = picture[y : y + SIZE, x : x + SIZE]
        if crop.shape[:2] != (SIZE, SIZE):
            crop = cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


class Clips(Source):
    """The sharp clips of a pool."""

    def __init__(self, pool: Path) -> None:
        self._pictures = opened(pool)["sharp"]
        self.frames = (self._pictures.shape[1],)

    def crop(self, rng: np.random.Generator) -> np.ndarray:
        """Anywhere."""
        clip = self._pictures[int(rng.integers(len(self._pictures)))]
        y, x = rng.integers(clip.shape[-1] - SIZE + 1, size=2)
        return np.asarray(clip[..., y : y + SIZE, x : x + SIZE].transpose(0, 2, 3, 1))


def _reduced(picture: np.ndarray) -> np.ndarray:
    scale = 480 / min(picture.shape[:2])
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture


def drawn_look(rng: np.random.Generator) -> tuple[str | None, str | None]:
    """A look and a colour word, either of which may be none."""
    if rng.random() < UNCHANGED:
        return None, None
    colour = str(rng.choice(list(COLOURS))) if rng.random() < TINTED else None
    look = None if colour is not None and rng.random() < 0.3 else str(rng.choice(list(LOOKS)))
    return look, colour


_opened: list[tuple[Source, int]] = []


def _prepare(open_source: Callable[[Path], Source], origin: Path, seed: int) -> None:
    _opened[:] = [(open_source(origin), seed)]


def _make(index: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Of one example the source, the truth in [0, 1], and the numbers of look and colour."""
    source, seed = _opened[0]
    rng = np.random.default_rng([seed, index])
    crop = source.crop(rng)
    look, colour = drawn_look(rng)
    own, frames = int(rng.integers(1 << 30)), crop.reshape(-1, SIZE, SIZE, 3)
    shown = [rendered((f / np.float32(255)).astype(np.float32), look, colour, own, t) for t, f in enumerate(frames)]
    asked = [None, *LOOKS].index(look), [None, *COLOURS].index(colour)
    return crop, np.stack(shown), asked


def build_examples(
    folder: Path, origin: tuple[Callable[[Path], Source], Path], vae: AutoencoderDC, count: int, seed: int, jobs: int
) -> None:
    """``count`` examples: sources, latents of the truth, numbers of look and colour; a function of seed and origin.

    ``origin``: `Pictures` and the data, or `Clips` and a pool. ``jobs`` processes render, 0 renders in this one;
    ``vae`` encodes on its device.
    """
    frames = origin[0](origin[1]).frames
    folder.mkdir(parents=True, exist_ok=True)
    sources = np.lib.format.open_memmap(folder / "sources.npy", "w+", np.uint8, (count, *frames, SIZE, SIZE, 3))
    latents = np.lib.format.open_memmap(folder / "latents.npy", "w+", np.float16, (count, *frames, *LATENT))
    asked = np.lib.format.open_memmap(folder / "asked.npy", "w+", np.int8, (count, 2))
    first = 0
    found = made(_make, range(count), jobs, _prepare, *origin, seed)
    while group := tuple(islice(found, TOGETHER)):
        rows = slice(first, first + len(group))
        truths = encoded(vae, np.concatenate([truth for _, truth, _ in group])).numpy()
        sources[rows], asked[rows] = np.stack([crop for crop, _, _ in group]), [one for _, _, one in group]
        latents[rows] = truths.reshape(latents[rows].shape)
        first += len(group)
