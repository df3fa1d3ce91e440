"""Scenes of the world with depth: rooms, streets, tables seen from near, and things anywhere; and cameras in them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vrestore.edges import canny_edges
from vrestore.weights.recipe.depth_build import Builder, Lamp, Rng, X, Y, Z, as_picture, materials, shaded
from vrestore.weights.recipe.depth_furniture import furnish
from vrestore.weights.recipe.depth_world import Camera, Floats, Scene, Surface, Texture, render
from vrestore.weights.recipe.textures import TextureBank

FLAT, SHALLOW, EMPTY = 16.0, 1.5, 0.04
"""Standard deviation in 8-bit levels, ratio of the nearest to the farthest, and share of pixels at edges, below which
nobody would film a view.
"""
Made = tuple[Scene, Floats, float]
"""A scene, with a place and a heading for the camera."""


def room(rng: Rng, bank: TextureBank) -> Made:
    """Four walls, floor and ceiling, furniture, pictures and lamps; with a place and heading for the camera."""
    width, depth, height = rng.uniform(2.5, 8), rng.uniform(3, 11), rng.uniform(2.2, 3.4)
    half = np.array([width / 2, 0, depth / 2])
    lamps = [
        Lamp(
            np.array([rng.uniform(-1, 1), -rng.uniform(0.5, 1), rng.uniform(-1, 1)])
            * [half[0], height * 0.95, half[2]],
            rng.uniform(0.2, 0.9),
        )
        for _ in range(int(rng.integers(1, 4)))
    ]
    build = Builder(rng, bank, lamps, rng.uniform(0.25, 0.7), [], [], [])
    low, high = np.array([-half[0], -height, -half[2]]), np.array([half[0], 0.0, half[2]])
    x, z, up = (high - low) * X, (high - low) * Z, (high - low) * Y
    wall = build.texture(0.85)
    build.own = materials(rng, bank)
    dark = rng.uniform(0.1, 0.45)
    for corner, along in ((low, x), (low + z, x), (low, z), (low + x, z)):
        look = wall if rng.random() < 0.75 else build.texture(0.6)
        build.add(Surface(corner, along, up, look, (float(np.linalg.norm(along)) / height, 1.0)), dark)
    build.add(Surface(low, x, z, build.texture(0.9), (1.0, 1.0)), dark)
    tiles = rng.uniform(0.5, 3)
    build.add(Surface(low + up, x, z, build.texture(0.5), (width / tiles, depth / tiles)), dark)
    camera = rng.uniform([0.15, 0.4, 0.15], [0.85, 0.75, 0.85]) * (high - low) + low
    if rng.random() < 0.6:  # near a wall, looking in
        camera[2] = low[2] + rng.uniform(0.2, 0.8)
    furnish(build, half, height, camera)
    build.surfaces[5] = shaded(build.surfaces[5], build.footprints)
    heading = math.atan2(-camera[0], -camera[2]) + rng.normal(0, 0.5)  # into the room
    if rng.random() < 0.15:
        heading = rng.uniform(-math.pi, math.pi)
    return Scene(build.surfaces, build.balls, wall, 0.1), camera, heading


def street(rng: Rng, bank: TextureBank) -> Made:
    """Ground under a sky with houses, trees, figures, cars, posts, often in haze."""
    sun = np.array([rng.uniform(-1, 1), -rng.uniform(0.3, 1), rng.uniform(-1, 1)])
    lamps = [Lamp(sun / np.linalg.norm(sun), rng.uniform(0.2, 0.7), True)]
    build = Builder(rng, bank, lamps, rng.uniform(0.4, 0.8), [], [], [])
    span, tile = 160.0, rng.uniform(1, 8)
    ground = Surface(
        np.array([-span, 0, -span]), 2 * span * X, 2 * span * Z, build.texture(0.45), (span / tile, span / tile)
    )
    build.surfaces.append(replace(ground, light=np.full((2, 2), rng.uniform(0.6, 1.1), np.float32)))
    lane, drift = rng.uniform(2, 9), rng.uniform(2, 10)
    if rng.random() < 0.6:
        road = build.texture(0.9)
        build.add(Surface(np.array([-lane, -0.01, -20]), 2 * lane * X, 140 * Z, road, (1.0, 12.0)))
        for at in np.arange(-10, 60, rng.uniform(3, 9)) if rng.random() < 0.5 else ():
            build.add(
                Surface(np.array([-0.08, -0.02, at]), 0.16 * X, 2 * Z, Texture.of(np.full((64, 64, 3), 225, np.uint8)))
            )
    if rng.random() < 0.6:
        for side in (-1, 1):
            z = -5.0
            while z < 90:
                size = rng.uniform([4, 3, 5], [14, 22, 16])
                if rng.random() < 0.85:
                    build.box(
                        np.array([side * (lane + drift + size[0] / 2), -size[1] / 2, z + size[2] / 2]),
                        size,
                        rng.normal(0, 0.04),
                        0.3,
                    )
                z += size[2] + rng.exponential(2)
    for _ in range(int(rng.poisson(14))):
        z = rng.uniform(1.5, 8) * rng.random() ** -0.6
        at = np.array([rng.uniform(-1, 1) * max(2.0, z * 0.8), 0, min(z, 80)])
        _outside(build, at)
    camera = np.array([rng.normal(0, 1), -rng.uniform(0.5, 2.2) if rng.random() < 0.75 else -rng.uniform(3, 12), 0.0])
    fog = rng.exponential(0.012) if rng.random() < 0.5 else 0.0
    tint = np.clip(rng.uniform(0.5, 0.95) + rng.normal(0, 0.05, 3), 0, 1)
    return Scene(build.surfaces, build.balls, sky(rng, bank), 0.0, fog, tuple(tint)), camera, rng.normal(0, 0.35)


def _outside(build: Builder, at: Floats) -> None:
    """Something that stands outside."""
    rng, kind = build.rng, build.rng.random()
    moving = rng.normal(0, 0.05, 3) * [1, 0, 1] if rng.random() < 0.3 else None
    if kind < 0.3:
        build.cutout(at, rng.uniform(0.4, 0.9), rng.uniform(1.2, 1.9), rng.uniform(-0.5, 0.5), moving)
    elif kind < 0.5:
        build.cutout(at, rng.uniform(1, 5), rng.uniform(2, 8), rng.uniform(-0.5, 0.5))
    elif kind < 0.65:
        build.pole(at, rng.uniform(0.05, 0.3), rng.uniform(1, 7))
    elif kind < 0.8:
        turned = rng.normal(0, 0.3) + math.pi / 2 * int(rng.integers(2))
        build.box(at - 0.55 * Y, (1.7, 0.7, 4.2), turned, 0.8, moving)
        build.box(at - 1.1 * Y, (1.5, 0.5, 2.2), turned, 0.7, moving)
    elif kind < 0.92:
        size = rng.uniform(0.3, 2.5, 3)
        build.box(at - size[1] / 2 * Y, size, rng.uniform(-3, 3), 0.5, moving)
    else:
        radii = rng.uniform(0.2, 1.2, 3)
        build.ball(at - radii[1] * Y, radii, moving)


def sky(rng: Rng, bank: TextureBank) -> Texture:
    """Above the horizon a gradient or a photograph, blurred or not."""
    if rng.random() < 0.4:
        return Texture.of(as_picture(bank, rng, 256))
    top, low = rng.uniform(80, 255, 3), rng.uniform(150, 255, 3)
    share = np.clip(np.linspace(0, 2, 256), 0, 1)[:, None, None]
    cloud = cv2.resize(rng.normal(0, 1, (12, 12, 1)).astype(np.float32), (256, 256), interpolation=cv2.INTER_CUBIC)
    picture = top * (1 - share) + low * share + cloud[..., None] * rng.uniform(0, 25)
    return Texture.of(np.clip(np.broadcast_to(picture, (256, 256, 3)), 0, 255).astype(np.uint8))


def table(rng: Rng, bank: TextureBank) -> Made:
    """Things on a table or on the floor, near the camera; a wall behind them."""
    lamps = [Lamp(np.array([rng.uniform(-1, 1), -rng.uniform(0.8, 1.8), rng.uniform(-0.5, 1)]), rng.uniform(0.3, 0.9))]
    build = Builder(rng, bank, lamps, rng.uniform(0.3, 0.7), [], [], [])
    wide, back = rng.uniform(0.8, 2.5), rng.uniform(0.8, 3)
    build.add(Surface(np.array([-wide, 0, -0.3]), 2 * wide * X, (back + 0.3) * Z, build.texture(0.6), (1.0, 1.0)))
    behind = back + (rng.exponential(1.2) if rng.random() < 0.6 else 0.0)
    build.add(Surface(np.array([-6, -3.5, behind]), 12 * X, 4.5 * Y, build.texture(0.6), (2.0, 1.0)))
    build.add(Surface(np.array([-6, 0.75, -2]), 12 * X, (behind + 2) * Z, build.texture(0.5), (4.0, 3.0)))
    for _ in range(int(rng.integers(2, 14))):
        at = np.array([rng.uniform(-0.8, 0.8) * wide, 0, rng.uniform(0.25, 1) * back])
        moving = rng.normal(0, 0.01, 3) if rng.random() < 0.25 else None
        size = rng.uniform(0.04, 0.3, 3)
        build.footprints.append((at[0], at[2], float(size[[0, 2]].max())))
        kind = rng.random()
        if kind < 0.45:
            build.box(at - size[1] / 2 * Y, size, rng.uniform(-3, 3), 0.5, moving)
        elif kind < 0.65:
            build.ball(at - size[1] / 2 * Y, np.full(3, size[1] / 2) if rng.random() < 0.6 else size / 2, moving)
        elif kind < 0.85:
            build.pole(at, size[0] / 3, size[1])
        else:
            build.cutout(at, size[0] * 2, size[1] * 2, rng.uniform(-1, 1), moving)
    build.surfaces[0] = shaded(build.surfaces[0], build.footprints)
    camera = np.array([rng.normal(0, 0.2), -rng.uniform(0.15, 0.9), -rng.uniform(0.0, 0.4)])
    return Scene(build.surfaces, build.balls, build.texture(0.5), 0.1), camera, rng.normal(0, 0.2)


def anything(rng: Rng, bank: TextureBank) -> Made:
    """Surfaces, boxes and balls anywhere, at any angle, before a tilted wall."""
    lamps = [Lamp(rng.normal(0, 3, 3), rng.uniform(0.2, 0.8))]
    build = Builder(rng, bank, lamps, rng.uniform(0.5, 0.9), [], [], [])
    far = rng.uniform(4, 15)
    tilt = rng.normal(0, 0.6, 2)
    along, down = np.array([6 * far, 0, tilt[0] * far]), np.array([0, 6 * far, tilt[1] * far])
    build.add(Surface(np.array([0, 0, far]) - (along + down) / 2, along, down, build.texture(0.4), (3.0, 3.0)))
    for _ in range(int(rng.integers(3, 16))):
        z = far * rng.uniform(0.08, 0.95)
        at = np.array([rng.uniform(-1, 1) * z * 0.8, rng.uniform(-1, 1) * z * 0.6, z])
        moving = rng.normal(0, 0.01, 3) * z if rng.random() < 0.5 else None
        size = z * rng.uniform(0.1, 0.6)
        kind = rng.random()
        if kind < 0.4:
            build.cutout(at + size / 2 * Y, size, size * rng.uniform(0.5, 2), rng.uniform(-1.2, 1.2), moving)
        elif kind < 0.75:
            build.box(at, size * rng.uniform(0.3, 1, 3), rng.uniform(-3, 3), 0.4, moving)
        else:
            build.ball(at, size * rng.uniform(0.2, 0.5, 3), moving)
    return Scene(build.surfaces, build.balls, build.texture(0.3), 0.02), np.zeros(3), rng.normal(0, 0.2)


@dataclass(frozen=True)
class Kind:
    """A kind of scenes and how cameras move in it."""

    make: Callable[[Rng, TextureBank], Made]
    share: float
    pitch: tuple[float, float]
    """Mean and deviation, in radians."""
    reach: float
    """Deviation of what the camera moves in a frame, in metres."""
    indoors: bool


SCENES = (
    Kind(room, 0.52, (-0.12, 0.2), 0.04, True),
    Kind(street, 0.25, (-0.03, 0.12), 0.12, False),
    Kind(table, 0.15, (-0.5, 0.25), 0.012, True),
    Kind(anything, 0.08, (0.0, 0.2), 0.05, False),
)


def filmed(rng: Rng, bank: TextureBank, frames: int) -> tuple[Scene, list[Camera], list[float]]:
    """A scene, the cameras of a clip in it and their times, of which something can be learned."""
    for _ in range(8):
        scene, cameras, times = _taken(rng, bank, frames)
        picture, near = render(scene, cameras[:1], times[:1], (48, 72))
        low, high = np.percentile(near, [4, 96])
        edges = (canny_edges(cv2.cvtColor(picture[0], cv2.COLOR_RGB2GRAY), 40, 90) > 0).mean()
        if picture.std() >= FLAT and high > SHALLOW * max(low, 1e-3) and edges >= EMPTY:
            break
    return scene, cameras, times


def _taken(rng: Rng, bank: TextureBank, frames: int) -> tuple[Scene, list[Camera], list[float]]:
    """Neighbouring frames, or some that are far apart."""
    kind = SCENES[rng.choice(len(SCENES), p=[one.share for one in SCENES])]
    scene, place, heading = kind.make(rng, bank)
    pitch = (-0.35, 0.2) if kind.make is street and place[1] < -2.5 else kind.pitch
    turn = np.array([heading, rng.normal(*pitch), rng.normal(0, 0.3 if rng.random() < 0.2 else 0.05)])
    stride = float(rng.choice([1, 1, 3, 8]))
    move, spin = rng.normal(0, kind.reach, 3) * [1, 0.4, 1], rng.normal(0, 0.01, 3) * [1, 0.6, 0.3]
    if stride > 1:
        move, spin = move * 0.5, spin * 0.5
    focal = 0.5 / math.tan(math.radians(rng.uniform(38, 82)) / 2)
    times = [stride * (k - (frames - 1) / 2) for k in range(frames)]
    cameras = [Camera.looking(place + t * move, turn + t * spin, focal) for t in times]
    if rng.random() < 0.25:
        near = rng.uniform(0.1, 2.5) if kind.indoors else rng.uniform(0.05, 1)
        scene = replace(scene, focus=near, aperture=rng.exponential(0.006) / max(near, 0.1))
    return scene, cameras, times
