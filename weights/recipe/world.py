"""The procedural world: layered scenes of textured shapes under a moving camera, rendered to clips.

A "dead leaves" scene (Lee, Mumford and Huang, 2001; as training data for restoration: Achddou, Gousseau and Ladjal,
2021): a textured background and shapes with power-law sizes in front of it, each under its own smooth motion on top of
the camera's. Rendered at twice the size and averaged down, so edges are antialiased and textures stay sharp.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vrestore.errors import ConfigError

SUB_FRAMES = 3
"""Instants that an exposure is the mean of."""
STARTS = 16
"""Instants of a clip of footage that crops are taken at, at most."""
SOFT_DB = 31.0
"""PSNR above which footage that was reduced to a quarter and enlarged again is soft: it has no detail to learn."""


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Geometry and statistics of the scenes. Lengths in pixels of the finished clip, speeds in pixels per frame."""

    size: int = 256
    frames: int = 7
    supersample: int = 2
    mean_shapes: float = 3.0
    speed: float = 2.5
    """Scale of the heavy-tailed camera speed; shapes add their own."""
    blurred: float = 0.12
    """Share of clips with an exposure time: the mean in linear light of sub-frames."""


class TextureBank:
    """Crops of photographs, and synthetic textures beside them."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("*.jpg")) + sorted(folder.glob("*.png"))
        if not paths:
            raise ConfigError(f"no photographs (*.jpg, *.png) in {folder}; give a folder that holds some")
        self._photos = [cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB) for p in paths]
        areas = np.array([p.shape[0] * p.shape[1] for p in self._photos], np.float64)
        self._shares = np.sqrt(areas) / np.sqrt(areas).sum()

    def sample(self, rng: np.random.Generator, size: int) -> Tensor:
        """A texture (3, size, size), float in [0, 1]."""
        kind = rng.random()
        if kind < 0.82:
            return self._photo(rng, size)
        return _noise(rng, size) if kind < 0.88 else _gradient(rng, size) if kind < 0.92 else _strokes(rng, size)

    def _photo(self, rng: np.random.Generator, size: int) -> Tensor:
        crop = None
        for _ in range(12):  # small photographs repeat too often, flat crops (skies, bokeh) teach nothing
            photo = self._photos[rng.choice(len(self._photos), p=self._shares)]
            edge = min(size, *photo.shape[:2])
            if edge < 0.6 * size:
                continue
            y = int(rng.integers(photo.shape[0] - edge + 1))
            x = int(rng.integers(photo.shape[1] - edge + 1))
            crop = photo[y : y + edge, x : x + edge]
            if crop[::4, ::4].std() >= 15:
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
    """Lines, curves and lettering on a plain ground: thin structures with exact edges."""
    image = np.empty((size, size, 3), np.uint8)
    image[:] = rng.integers(0, 256, 3)
    for _ in range(int(rng.integers(10, 50))):
        colour = [int(c) for c in rng.integers(0, 256, 3)]
        x, y, x2, y2 = (int(v) for v in rng.integers(0, size, 4))
        width = int(rng.integers(1, 7))
        if rng.random() < 0.5:
            cv2.line(image, (x, y), (x2, y2), colour, width, cv2.LINE_AA)
        else:
            text = "".join(chr(c) for c in rng.integers(33, 127, int(rng.integers(3, 12))))
            cv2.putText(image, text, (x // 2, y), int(rng.integers(8)), rng.uniform(0.6, 3), colour, width, cv2.LINE_AA)
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def _shape(rng: np.random.Generator, size: int, radius: float) -> Tensor:
    """A mask (1, size, size) of a polygon, an ellipse or a star around the centre."""
    mask = np.zeros((size, size), np.uint8)
    corners = int(rng.integers(3, 14))
    angles = (
        np.sort(rng.uniform(0, 2 * math.pi, corners)) if rng.random() < 0.6 else np.linspace(0, 2 * math.pi, 40)[:-1]
    )
    radii = radius * rng.uniform(0.45, 1.0, len(angles)) if rng.random() < 0.6 else np.full(len(angles), radius)
    stretch = rng.uniform(0.25, 1.0)
    points = np.stack([radii * np.cos(angles), stretch * radii * np.sin(angles)], 1) + size / 2
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return torch.from_numpy(mask).float()[None] / 255


@dataclass(frozen=True)
class Motion:
    """A smooth similarity over time: position, angle and zoom, each with a speed; position with an acceleration too."""

    position: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    angle: float
    spin: float
    zoom: float
    growth: float

    def inverse(self, times: np.ndarray) -> np.ndarray:
        """Maps from picture to texture at ``times``: (n, 2, 3), in pixels around the centres."""
        angle = self.angle + self.spin * times
        zoom = self.zoom * np.exp(self.growth * times)
        place = self.position + self.velocity * times[:, None] + 0.5 * self.acceleration * times[:, None] ** 2
        cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
        rotation = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)
        return np.concatenate([rotation, -np.einsum("nij,nj->ni", rotation, place)[..., None]], -1)


def _motion(rng: np.random.Generator, speed: float, spread: float) -> Motion:
    velocity = rng.standard_normal(2) * speed * rng.gamma(0.6, 1.6)
    return Motion(
        position=rng.uniform(-spread, spread, 2),
        velocity=velocity,
        acceleration=rng.standard_normal(2) * 0.05 * np.abs(velocity).max(),
        angle=rng.uniform(-math.pi, math.pi) if spread else rng.uniform(-0.3, 0.3),
        spin=rng.standard_normal() * 0.008 * rng.gamma(0.5, 2),
        zoom=rng.uniform(0.7, 1.5),
        growth=rng.standard_normal() * 0.006 * rng.gamma(0.5, 2),
    )


def _draw(texture: Tensor, maps: np.ndarray, size: int, beyond: str = "reflection") -> Tensor:
    """The texture (c, s, s) seen through ``maps`` (n, 2, 3): (n, c, size, size); mirrored or zero beyond its edge."""
    theta = torch.from_numpy(maps).float()
    theta = torch.cat([theta[:, :, :2] * size, theta[:, :, 2:] * 2], dim=2) / texture.shape[-1]
    grid = F.affine_grid(theta, [len(maps), 1, size, size], align_corners=False)
    return F.grid_sample(texture.expand(len(maps), -1, -1, -1), grid, padding_mode=beyond, align_corners=False)


def expose(pictures: Tensor, sub: int) -> Tensor:
    """The mean in linear light (gamma 2.2) of every ``sub`` pictures: (n * sub, 3, h, w) to (n, 3, h, w)."""
    linear = pictures.clamp(min=0).pow(2.2)  # of a black pixel that rounding made negative this would not be a number
    mean: Tensor = linear.unflatten(0, (-1, sub)).mean(1)
    return mean.pow(1 / 2.2)


def sub_frame_times(frames: int, exposure: float, sub: int) -> np.ndarray:
    """Instants (frames * sub,) in frames from the clip's middle: ``sub`` evenly within each frame's exposure."""
    offsets = (np.arange(sub) - (sub - 1) / 2) / sub * exposure
    return (np.arange(frames)[:, None] + offsets).ravel() - frames / 2


def render_clip(rng: np.random.Generator, bank: TextureBank, config: WorldConfig) -> Tensor:
    """A clip (frames, 3, size, size), float in [0, 1]; it depends on the generator's state alone."""
    exposure = rng.uniform(0.15, 0.8) if rng.random() < config.blurred else 0.0
    sub = SUB_FRAMES if exposure else 1
    pictures = render_scene(rng, bank, config, sub_frame_times(config.frames, exposure, sub))
    return (expose(pictures, sub) if sub > 1 else pictures).clamp(0, 1)


def render_scene(rng: np.random.Generator, bank: TextureBank, config: WorldConfig, times: np.ndarray) -> Tensor:
    """A random scene at ``times``, in frames: (n, 3, size, size)."""
    scale, size = config.supersample, config.size * config.supersample
    camera = _motion(rng, config.speed * scale, 0.0)
    picture = _draw(bank.sample(rng, int(size * 1.5)), camera.inverse(times), size)
    for _ in range(int(rng.poisson(config.mean_shapes))):
        radius = size * min(0.45, 0.04 * rng.random() ** (-1 / 1.5))  # P(r) ~ r^-2.5, cut off
        own = _motion(rng, 0.7 * config.speed * scale, size * 0.55)
        moving = Motion(**{**vars(own), "velocity": own.velocity + camera.velocity})
        tile = int(2 * radius / 0.7 + 8)
        layer = torch.cat([bank.sample(rng, tile), _shape(rng, tile, radius)])
        drawn = _draw(layer, moving.inverse(times), size, beyond="zeros")
        picture = picture + drawn[:, 3:] * (drawn[:, :3] - picture)
    return F.avg_pool2d(picture, scale)


def footage_clips(folder: Path, config: WorldConfig) -> Sequence[np.ndarray]:
    """Crops of real footage for its real detail and motion: (frames, size, size, 3) uint8.

    At most `STARTS` instants of a clip, evenly spread; soft clips are reduced first.
    """
    found = []
    for path in sorted(folder.glob("*.mp4")):
        frames = _sharp_enough(_decoded(path), config.size)
        last = len(frames) - config.frames
        for first in np.unique(np.linspace(0, last, STARTS).astype(int)) if last >= 0 else ():
            found += _crops(frames[first : first + config.frames], config.size)
    return found


def _decoded(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return frames


def _sharp_enough(frames: list[np.ndarray], size: int) -> list[np.ndarray]:
    """The frames; reduced until the shorter side is ``size`` if they are soft, halved if they are large."""
    side = min(frames[0].shape[:2]) if frames else 0
    if side <= size:
        return frames
    factor = size / side if _regained_db(frames[len(frames) // 2]) > SOFT_DB else 0.5 if side > 2 * size else 1.0
    height, width = (max(size, round(n * factor)) for n in frames[0].shape[:2])
    return frames if factor == 1 else [cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in frames]


def _regained_db(frame: np.ndarray) -> float:
    """PSNR of a picture reduced to a quarter and enlarged again: high where there is no detail."""
    height, width = frame.shape[:2]
    small = cv2.resize(frame, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    return float(cv2.PSNR(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), frame))


def _crops(frames: list[np.ndarray], size: int) -> list[np.ndarray]:
    """As many squares as cover the picture, evenly spread; without the flat ones."""
    tops, lefts = (np.linspace(0, n - size, -(-n // size)).astype(int) for n in frames[0].shape[:2])
    crops = []
    for y, x in product(tops, lefts):
        crop = np.stack([f[y : y + size, x : x + size] for f in frames])
        if min(crop.shape[1:3]) == size and crop[0, ::4, ::4].std() >= 15:
            crops.append(crop)
    return crops
