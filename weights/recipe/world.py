"""The procedural world: layered scenes of textured shapes under a moving camera, rendered at any instants.

A "dead leaves" scene (Lee, Mumford and Huang, 2001; as training data for restoration: Achddou, Gousseau and Ladjal,
2021): a textured background and shapes with power-law sizes in front of it, each under its own smooth motion on top of
the camera's, wires and highlights among them. Rendered at twice the size and averaged down, so edges are antialiased
and textures stay sharp. Because it is rendered, the sharp picture at any instant is known: exposure is the true mean of
light over the shutter's time, and a picture between two others is the true answer to interpolation.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vrestore.exposure import GAMMA
from vrestore.weights.recipe.textures import TextureBank

WIRES = 0.15
"""Share of shapes that are thin: wires, poles, branches."""
HIGHLIGHTS = 0.25
"""Share of scenes with highlights, brighter than a picture holds: blurred, they leave streaks."""
BRIGHTEST = 2.5
"""Code value of the brightest highlight; 1 is white."""
SHAKEN = 0.3
"""Share of cameras that shake."""


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Geometry and statistics of the scenes. Lengths in pixels of the finished clip, speeds in pixels per frame."""

    size: int = 256
    frames: int = 7
    supersample: int = 2
    mean_shapes: float = 3.0
    speed: float = 2.5
    """Scale of the heavy-tailed camera speed; shapes add their own."""


@dataclass(frozen=True)
class Motion:
    """A smooth similarity over time: position, angle and zoom, each with a speed; position with an acceleration too.

    ``shake`` (n, 4): amplitude in x and y, in pixels, radians per frame and phase of vibrations on top.
    """

    position: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    angle: float
    spin: float
    zoom: float
    growth: float
    shake: np.ndarray

    def inverse(self, times: np.ndarray) -> np.ndarray:
        """Maps from picture to texture at ``times``: (n, 2, 3), in pixels around the centres."""
        angle = self.angle + self.spin * times
        zoom = self.zoom * np.exp(self.growth * times)
        place = self.position + self.velocity * times[:, None] + 0.5 * self.acceleration * times[:, None] ** 2
        place = place + np.sin(times[:, None] * self.shake[:, 2] + self.shake[:, 3]) @ self.shake[:, :2]
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
        shake=np.zeros((0, 4)),
    )


def _shaken(rng: np.random.Generator, camera: Motion, speed: float) -> Motion:
    """The camera held by hand: vibrations, slow ones wide and fast ones small."""
    if rng.random() >= SHAKEN:
        return camera
    pace = rng.uniform(0.3, 4.0, 4)
    wide = rng.standard_normal((4, 2)) * (speed * rng.gamma(1.0, 0.6) / pace)[:, None]
    return replace(camera, shake=np.column_stack([wide, pace, rng.uniform(0, 2 * math.pi, 4)]))


def _shape(rng: np.random.Generator, size: int, radius: float) -> Tensor:
    """A mask (1, size, size) of a polygon, an ellipse, a star or a wire around the centre."""
    mask = np.zeros((size, size), np.uint8)
    if rng.random() < WIRES:
        across = np.linspace(-1, 1, 12)
        bend = rng.uniform(-0.6, 0.6) * across**2 + rng.standard_normal(12) * 0.02
        points = np.stack([across, bend], 1) * radius + size / 2
        width = int(rng.integers(1, 6))
        cv2.polylines(mask, [np.round(points * 16).astype(np.int32)], False, 255, width, cv2.LINE_AA, 4)
        return torch.from_numpy(mask).float()[None] / 255
    corners = int(rng.integers(3, 14))
    angles = (
        np.sort(rng.uniform(0, 2 * math.pi, corners)) if rng.random() < 0.6 else np.linspace(0, 2 * math.pi, 40)[:-1]
    )
    radii = radius * rng.uniform(0.45, 1.0, len(angles)) if rng.random() < 0.6 else np.full(len(angles), radius)
    stretch = rng.uniform(0.25, 1.0)
    points = np.stack([radii * np.cos(angles), stretch * radii * np.sin(angles)], 1) + size / 2
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return torch.from_numpy(mask).float()[None] / 255


def _highlights(rng: np.random.Generator, size: int) -> Tensor:
    """Small sources and reflections brighter than white, and their mask: (4, size, size)."""
    mask = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(2, 14))):
        centre = [int(v) for v in rng.integers(0, size * 16, 2)]
        cv2.circle(mask, centre, int(16 * rng.uniform(0.8, 5)), 255, -1, cv2.LINE_AA, 4)
    colour = rng.uniform(1.0, BRIGHTEST) * rng.uniform(0.75, 1, 3)
    light = torch.from_numpy(colour).float()[:, None, None].expand(3, size, size)
    return torch.cat([light, torch.from_numpy(mask).float()[None] / 255])


def _draw(texture: Tensor, maps: np.ndarray, size: int, beyond: str = "reflection") -> Tensor:
    """The texture (c, s, s) seen through ``maps`` (n, 2, 3): (n, c, size, size); mirrored or zero beyond its edge."""
    theta = torch.from_numpy(maps).float()
    theta = torch.cat([theta[:, :, :2] * size, theta[:, :, 2:] * 2], dim=2) / texture.shape[-1]
    grid = F.affine_grid(theta, [len(maps), 1, size, size], align_corners=False)
    return F.grid_sample(texture.expand(len(maps), -1, -1, -1), grid, padding_mode=beyond, align_corners=False)


def _over(picture: Tensor, drawn: Tensor) -> Tensor:
    """A layer (n, 4, h, w), the last channel its mask, over a picture."""
    return picture + drawn[:, 3:] * (drawn[:, :3] - picture)


def render_scene(rng: np.random.Generator, bank: TextureBank, config: WorldConfig, times: np.ndarray) -> Tensor:
    """A random scene at ``times``, in frames: (n, 3, size, size), highlights above 1.

    The scene depends on the generator's state alone, not on the times.
    """
    scale, size = config.supersample, config.size * config.supersample
    camera = _shaken(rng, _motion(rng, config.speed * scale, 0.0), config.speed * scale)
    picture = _draw(bank.sample(rng, int(size * 1.5)), camera.inverse(times), size)
    for _ in range(int(rng.poisson(config.mean_shapes))):
        radius = size * min(0.45, 0.04 * rng.random() ** (-1 / 1.5))  # P(r) ~ r^-2.5, cut off
        own = _motion(rng, 0.7 * config.speed * scale, size * 0.55)
        moving = replace(own, velocity=own.velocity + camera.velocity, shake=camera.shake)
        tile = int(2 * radius / 0.7 + 8)
        layer = torch.cat([bank.sample(rng, tile), _shape(rng, tile, radius)])
        picture = _over(picture, _draw(layer, moving.inverse(times), size, beyond="zeros"))
    if rng.random() < HIGHLIGHTS:
        picture = _over(picture, _draw(_highlights(rng, size), camera.inverse(times), size, beyond="zeros"))
    return F.avg_pool2d(picture, scale)


def expose(pictures: Tensor, sub: int) -> Tensor:
    """The mean in linear light of every ``sub`` pictures, as a picture: (n * sub, 3, h, w) to (n, 3, h, w)."""
    linear = pictures.clamp(min=0).pow(GAMMA)  # of a black pixel that rounding made negative this would not be a number
    mean: Tensor = linear.unflatten(0, (-1, sub)).mean(1)
    return mean.pow(1 / GAMMA)


def instants(frames: int, shutter: float, sub: int) -> np.ndarray:
    """Times (frames * sub,) in frames from the clip's middle: ``sub`` evenly within each frame's exposure.

    ``shutter``: time that it is open, as a part of the time between frames; 1 is 360 degrees. With an odd ``sub`` the
    middle instant is the frame's own.
    """
    offsets = (np.arange(sub) - (sub - 1) / 2) / sub * shutter
    return (np.arange(frames)[:, None] + offsets).ravel() - (frames - 1) / 2


def render_exposed(
    rng: np.random.Generator, bank: TextureBank, config: WorldConfig, shutter: float, sub: int
) -> tuple[Tensor, Tensor]:
    """A clip as a shutter sees it, and its sharp middle instants: (frames, 3, size, size) in [0, 1] each.

    ``shutter`` as for `instants`; ``sub`` odd.
    """
    pictures = render_scene(rng, bank, config, instants(config.frames, shutter, sub))
    sharp = pictures[sub // 2 :: sub]
    return sharp.clamp(0, 1), expose(pictures, sub).clamp(0, 1)
