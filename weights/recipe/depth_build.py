"""What scenes of the world with depth are built of: lit surfaces, boxes, poles, cut-outs, balls, and their looks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
from einops import rearrange

from vrestore.weights.recipe.depth_world import Ball, Bytes, Floats, Surface, Texture
from vrestore.weights.recipe.textures import TextureBank

Rng = np.random.Generator
GRID = 24
"""Side of the maps of light."""
OF_ITS_OWN = 0.65
"""Share of the plain things in a scene that are of its own materials."""
X, Y, Z = np.eye(3)


@dataclass(frozen=True)
class Lamp:
    """A light at a place, or from a direction (``sun``)."""

    place: Floats
    power: float
    sun: bool = False


@dataclass
class Builder:
    """Collects what stands in a scene, under its lamps."""

    rng: Rng
    bank: TextureBank
    lamps: Sequence[Lamp]
    ambient: float
    surfaces: list[Surface]
    balls: list[Ball]
    footprints: list[tuple[float, float, float]]
    """(x, z, radius) of what stands on the ground, which is darker there."""
    own: Sequence[Texture] = ()
    """What most of its plain things are made of."""

    def texture(self, plain: float, size: int = 256) -> Texture:
        """A photograph, something synthetic, or (``plain``: how often) one colour with little on it."""
        if self.rng.random() >= plain:
            return Texture.of(as_picture(self.bank, self.rng, size))
        if self.own and self.rng.random() < OF_ITS_OWN:
            return self.own[int(self.rng.integers(len(self.own)))]
        return Texture.of(painted(self.rng, self.bank, size))

    def add(self, surface: Surface, corner_dark: float = 0.0) -> None:
        """A surface, lit."""
        self.surfaces.append(lit(surface, self.lamps, self.ambient, corner_dark))

    def box(
        self,
        centre: Floats,
        size: Sequence[float] | Floats,
        yaw: float,
        plain: float = 0.6,
        velocity: Floats | None = None,
    ) -> None:
        """A box (width, height, depth) around a centre, turned about the vertical, of one look or of several."""
        texture = self.texture(plain)
        one = self.rng.random() < 0.7
        x = np.array([math.cos(yaw), 0, -math.sin(yaw)]) * size[0] / 2
        z = np.array([math.sin(yaw), 0, math.cos(yaw)]) * size[2] / 2
        y = Y * size[1] / 2
        moving = np.zeros(3) if velocity is None else velocity
        for out, a, b in ((-z, x, y), (z, -x, y), (x, z, y), (-x, -z, y), (-y, x, z), (y, x, -z)):
            look = texture if one else self.texture(plain, 128)
            self.add(Surface(centre + out - a - b, 2 * a, 2 * b, look, velocity=moving))

    def pole(self, foot: Floats, radius: float, height: float, plain: float = 0.7, bright: float = 0.0) -> None:
        """A prism of eight sides; ``bright``: a lampshade that shines."""
        texture = self.texture(plain, 64)
        angles = np.linspace(0, 2 * math.pi, 9)
        ring = foot + radius * np.stack([np.cos(angles), 0 * angles, np.sin(angles)], 1)
        for left, right in pairwise(ring):
            surface = Surface(left - height * Y, right - left, height * Y, texture)
            if bright:
                self.surfaces.append(replace(surface, light=np.full((2, 2), bright, np.float32)))
            else:
                self.add(surface)

    def cutout(self, foot: Floats, width: float, height: float, facing: float, velocity: Floats | None = None) -> None:
        """A flat thing of some shape that stands: a plant, a figure, a tree."""
        picture = as_picture(self.bank, self.rng, 128)
        texture = Texture.of(np.concatenate([picture, outline(self.rng, 128)[..., None]], -1))
        along = np.array([math.cos(facing), 0, -math.sin(facing)]) * width
        moving = np.zeros(3) if velocity is None else velocity
        self.add(Surface(foot - along / 2 - height * Y, along, height * Y, texture, velocity=moving))

    def ball(self, centre: Floats, radii: Floats, velocity: Floats | None = None) -> None:
        """An ellipsoid, lit by the strongest lamp."""
        lamp = max(self.lamps, key=lambda one: one.power)
        way = lamp.place if lamp.sun else lamp.place - centre
        moving = np.zeros(3) if velocity is None else velocity
        towards = way / (np.linalg.norm(way) + 1e-9)
        self.balls.append(Ball(centre, radii, self.texture(0.5, 128), towards, self.ambient, moving))


def as_picture(bank: TextureBank, rng: Rng, size: int) -> Bytes:
    """A texture of the bank, (size, size, 3) uint8, sometimes reduced from a larger one."""
    side = size * int(rng.choice([1, 1, 2, 3]))
    found = rearrange((bank.sample(rng, side) * 255).byte().numpy(), "c h w -> h w c")
    return (
        found if side == size else np.asarray(cv2.resize(found, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
    )


def painted(rng: Rng, bank: TextureBank, size: int) -> Bytes:
    """Paint, cloth or wood: one colour, with a trace of grain or of a picture on it."""
    grey = rng.uniform(40, 240)
    colour = np.clip(grey + rng.normal(0, 14 if rng.random() < 0.7 else 45, 3), 5, 250)
    kind = rng.random()
    if kind < 0.4:
        rough = cv2.resize(rng.normal(0, 1, (size // 8, size // 8, 1)).astype(np.float32), (size, size))[..., None]
        grain = rng.uniform(0, 7) * rough + rng.uniform(0, 4) * rng.normal(0, 1, (size, size, 1))
    elif kind < 0.75:
        picture = as_picture(bank, rng, size).astype(np.float32)
        grain = (picture - picture.mean((0, 1))) * rng.uniform(0.05, 0.4)
    else:  # planks, tiles, stripes
        period, phase = rng.integers(8, 64), rng.integers(64)
        line = ((np.arange(size) + phase) % period < 2) * -rng.uniform(10, 60)
        grain = np.broadcast_to(line[None, :, None], (size, size, 1)) + rng.normal(0, 2, (size, size, 1))
        if rng.random() < 0.5:
            grain = grain + line[:, None, None]
        if rng.random() < 0.5:
            grain = grain.transpose(1, 0, 2)
    return np.asarray(np.clip(colour + grain, 0, 255), np.uint8)


def wood(rng: Rng, size: int) -> Bytes:
    """Light to nearly black, brown or red, with long grain."""
    tone = rng.uniform(0.08, 0.8) * np.array([255, rng.uniform(120, 200), rng.uniform(40, 130)])
    grain = rng.normal(0, 1, (size, 8)).astype(np.float32)
    grain = cv2.resize(cv2.GaussianBlur(grain, (1, 5), 0), (size, size))[..., None]
    picture = tone * (1 + rng.uniform(0.02, 0.2) * grain)
    return np.asarray(np.clip(picture if rng.random() < 0.5 else picture.transpose(1, 0, 2), 0, 255), np.uint8)


def materials(rng: Rng, bank: TextureBank, size: int = 256) -> list[Texture]:
    """A few that the things of one room share: mostly wood, and cloth or paint."""
    woods = [wood(rng, size) for _ in range(int(rng.integers(1, 3)))]
    return [Texture.of(one) for one in (*woods, *(painted(rng, bank, size) for _ in range(int(rng.integers(1, 3)))))]


def outline(rng: Rng, size: int) -> Bytes:
    """The mask (size, size) of something that stands on the ground: leaves, a figure, a blob, bars."""
    mask, kind = np.zeros((size, size), np.uint8), rng.random()
    if kind < 0.3:
        for _ in range(int(rng.integers(4, 16))):
            tip, foot = rng.uniform([0.05, 0.05], [0.95, 0.8]) * size, np.array([size / 2, size])
            centre, length = (tip + foot) / 2, float(np.hypot(*(tip - foot)))
            angle = math.degrees(math.atan2(*(tip - foot)[::-1]))
            axes = (int(length / 2), int(rng.uniform(2, 10)))
            cv2.ellipse(mask, [int(v) for v in centre], axes, angle, 0, 360, 255, -1)
    elif kind < 0.55:
        middle = size // 2
        cv2.ellipse(mask, (middle, int(size * 0.12)), (int(size * 0.12), int(size * 0.12)), 0, 0, 360, 255, -1)
        cv2.ellipse(
            mask, (middle, int(size * 0.42)), (int(size * rng.uniform(0.2, 0.4)), int(size * 0.24)), 0, 0, 360, 255, -1
        )
        for side in (-1, 1):
            heel = int(middle + side * size * rng.uniform(0.05, 0.25))
            cv2.line(mask, (middle + side * size // 12, size // 2), (heel, size - 1), 255, int(size * 0.12))
    elif kind < 0.8:
        angles = np.linspace(0, 2 * math.pi, int(rng.integers(5, 40)), endpoint=False)
        radii = size * rng.uniform(0.25, 0.5, len(angles))
        crown = np.stack([size / 2 + radii * np.cos(angles), size * 0.45 + 0.9 * radii * np.sin(angles)], 1)
        cv2.fillPoly(mask, [crown.astype(np.int32)], 255)
        cv2.line(mask, (size // 2, size // 2), (size // 2, size - 1), 255, int(size * rng.uniform(0.04, 0.2)))
    else:
        for at in np.arange(0, size, int(rng.integers(12, 40))):
            mask[:, at : at + int(rng.integers(3, 8))] = 255
            mask[at : at + 4] = 255
    return mask


def lit(surface: Surface, lamps: Sequence[Lamp], ambient: float, corner_dark: float = 0.0) -> Surface:
    """The surface with what falls on it: every lamp by angle and distance, and less in corners (``corner_dark``)."""
    places, normal = surface.places(GRID), surface.normal
    light = np.full((GRID, GRID), ambient)
    for lamp in lamps:
        way = np.broadcast_to(lamp.place, places.shape) if lamp.sun else lamp.place - places
        far = np.linalg.norm(way, axis=-1) + 1e-6
        facing = np.abs((way * normal).sum(-1)) if not lamp.sun else np.maximum((way * normal).sum(-1), 0)
        fall = 1.0 if lamp.sun else 1 / (0.3 + (far / 2.5) ** 2)
        light += lamp.power * facing / far * fall
    if corner_dark:
        at = np.minimum(np.linspace(0, 1, GRID), np.linspace(1, 0, GRID))
        for edge, axis in ((surface.along, 0), (surface.down, 1)):
            near = 1 - corner_dark * np.exp(-at * np.linalg.norm(edge) / 0.35)
            light *= near[None] if axis == 0 else near[:, None]
    return replace(surface, light=np.clip(light, 0.05, 1.9).astype(np.float32))


def shaded(surface: Surface, footprints: Sequence[tuple[float, float, float]]) -> Surface:
    """The ground, darker where something stands."""
    grid = 96
    light = cv2.resize(surface.light, (grid, grid))
    places = surface.places(grid)
    for x, z, radius in footprints:
        away = np.hypot(places[..., 0] - x, places[..., 2] - z) / radius
        light *= (1 - 0.55 / (1 + np.maximum(away - 0.4, 0) ** 2 * 5)).astype(np.float32)
    return replace(surface, light=light)
