"""Textures that the world's surfaces wear: photographs, and synthetic ones where photographs are poor."""

import math
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from vrestore.errors import ConfigError

KINDS = {"photo": 0.76, "noise": 0.05, "gradient": 0.04, "strokes": 0.06, "lettering": 0.04, "repeated": 0.05}
"""Share of every kind of texture."""
FLAT = 15
"""Standard deviation, in 8-bit levels, below which a crop holds nothing to learn (skies, bokeh)."""


class TextureBank:
    """Crops of photographs, and synthetic textures beside them."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("*.jpg")) + sorted(folder.glob("*.png"))
        if not paths:
            raise ConfigError(f"no photographs (*.jpg, *.png) in {folder}; give a folder that holds some")
        self._photos = [cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB) for p in paths]
        areas = np.array([p.shape[0] * p.shape[1] for p in self._photos], np.float64)
        self._areas, self._shares = areas / areas.sum(), np.sqrt(areas) / np.sqrt(areas).sum()

    def sample(self, rng: np.random.Generator, size: int) -> Tensor:
        """A texture (3, size, size), float in [0, 1]."""
        kind = rng.choice(list(KINDS), p=list(KINDS.values()))
        if kind == "photo":
            return self._photo_crop(rng, size)
        if kind == "repeated":
            return _repeated(self._photo_crop(rng, max(8, int(size * rng.uniform(0.06, 0.3)))), size)
        makers = {"noise": _noise, "gradient": _gradient, "strokes": _strokes, "lettering": _lettering}
        return makers[kind](rng, size)

    def photo(self, rng: np.random.Generator) -> np.ndarray:
        """A whole photograph (height, width, 3), uint8; large ones more often, as they hold more."""
        found: np.ndarray = self._photos[rng.choice(len(self._photos), p=self._areas)]
        return found

    def _photo_crop(self, rng: np.random.Generator, size: int) -> Tensor:
        crop = None
        for _ in range(12):  # small photographs repeat too often, flat crops (skies, bokeh) teach nothing
            photo = self._photos[rng.choice(len(self._photos), p=self._shares)]
            edge = min(size, *photo.shape[:2])
            if edge < 0.6 * size:
                continue
            y = int(rng.integers(photo.shape[0] - edge + 1))
            x = int(rng.integers(photo.shape[1] - edge + 1))
            crop = photo[y : y + edge, x : x + edge]
            if crop[::4, ::4].std() >= FLAT:
                break
        if crop is None:  # there are only small ones
            crop = photo[:edge, :edge]
        missing = size - len(crop)
        if missing:
            crop = cv2.copyMakeBorder(crop, 0, missing, 0, missing, cv2.BORDER_REFLECT_101)
        crop = np.rot90(crop, int(rng.integers(4)))
        return torch.from_numpy(crop.copy()).permute(2, 0, 1).float() / 255


def _noise(rng: np.random.Generator, size: int) -> Tensor:
    """Coloured noise with a power-law spectrum, the exponent of natural images and around it."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) + 1 / size
    amplitude = frequency ** -rng.uniform(0.6, 1.6)
    planes = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((3, size, size))) * amplitude, s=(size, size))
    planes /= planes.std(axis=(1, 2), keepdims=True) + 1e-9
    mixed = np.einsum("ij,jhw->ihw", np.eye(3) * 0.3 + 0.7 / 3, planes)
    return torch.from_numpy(np.clip(0.5 + rng.uniform(0.08, 0.25) * mixed + rng.uniform(-0.2, 0.2), 0, 1)).float()


def _gradient(rng: np.random.Generator, size: int) -> Tensor:
    """A smooth ramp between two colours, sometimes cut into bands with hard edges."""
    angle = rng.uniform(0, 2 * math.pi)
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    ramp = np.clip((x * math.cos(angle) + y * math.sin(angle)) * 0.9 + 0.5, 0, 1)
    if rng.random() < 0.6:
        bands = int(rng.integers(4, 60))
        ramp = np.floor(ramp * bands) % 2 if rng.random() < 0.5 else np.floor(ramp * bands) / bands
    first, last = rng.random((2, 3, 1, 1))
    return torch.from_numpy(first + (last - first) * ramp[None]).float()


def _strokes(rng: np.random.Generator, size: int) -> Tensor:
    """Lines and curves on a plain ground, from hairlines on: thin structures with exact edges."""
    image = np.empty((size, size, 3), np.uint8)
    image[:] = rng.integers(0, 256, 3)
    for _ in range(int(rng.integers(10, 60))):
        colour, width = [int(c) for c in rng.integers(0, 256, 3)], int(rng.integers(1, 7))
        x, y, x2, y2 = (int(v) for v in rng.integers(0, size, 4))
        if rng.random() < 0.7:
            cv2.line(image, (x, y), (x2, y2), colour, width, cv2.LINE_AA)
        else:
            axes = (abs(x2 - x) // 2 + 1, abs(y2 - y) // 2 + 1)
            cv2.ellipse(image, (x, y), axes, float(rng.uniform(0, 180)), 0, 270, colour, width, cv2.LINE_AA)
    return _tensor(image)


def _lettering(rng: np.random.Generator, size: int) -> Tensor:
    """Rows of letters of one size, as on a page or a sign, in two colours."""
    image = np.empty((size, size, 3), np.uint8)
    image[:] = rng.integers(0, 256, 3)
    colour = [int(c) for c in rng.integers(0, 256, 3)]
    font, scale, width = int(rng.integers(8)), rng.uniform(0.4, 2.5), int(rng.integers(1, 4))
    height = int(cv2.getTextSize("Ag", font, scale, width)[0][1] * rng.uniform(1.3, 2.2)) + 4
    for y in range(height, size + height, height):
        text = "".join(chr(c) for c in rng.choice([*range(97, 123), *range(48, 58), 32, 32, 32], 80))
        cv2.putText(image, text, (int(rng.integers(-40, 10)), y), font, scale, colour, width, cv2.LINE_AA)
    return _tensor(image)


def _repeated(tile: Tensor, size: int) -> Tensor:
    """One tile over and over, as of bricks, fences and windows: a trap for whoever matches patterns."""
    edge = tile.shape[-1]
    rows = torch.arange(size) % edge
    return tile[:, rows][:, :, rows]


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255
