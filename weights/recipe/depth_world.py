"""A procedural world with depth: textured surfaces and solids under a perspective camera, drawn into a depth buffer.

Flat surfaces are drawn by their homography: along a pixel's ray, what a surface is at (its two coordinates and one over
its depth) is affine before the division, so one inverse of a 3x3 matrix draws it. Light lies in a coarse map on every
surface (lamps, the sun, corners, contact with the ground). Fog, defocus, noise and a codec's blocks come last, as a
camera adds them. Lengths are metres; x is right, y down, z forward; depth is along z.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Bytes = NDArray[np.uint8]

NEAR = 0.12
"""Metres before which nothing is drawn."""
SUPERSAMPLE = 2


@dataclass(frozen=True)
class Texture:
    """A picture with its smaller versions, side by side. ``atlas`` (size, 3 size / 2, 3 or 4) uint8; 4: with a mask."""

    atlas: Bytes
    size: int

    @classmethod
    def of(cls, picture: Bytes) -> "Texture":
        """From a square picture whose side is a power of two."""
        size = len(picture)
        atlas = np.zeros((size, size + size // 2, picture.shape[2]), np.uint8)
        atlas[:, :size] = picture
        at, side = 0, size // 2
        while side >= 4:
            picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
            atlas[at : at + side, size : size + side] = picture
            at, side = at + side, side // 2
        return cls(atlas, size)

    def look(self, u: Floats, v: Floats, footprint: Floats) -> Bytes:
        """The picture at places in [0, 1], each from the version whose pixels are as large as ``footprint``."""
        top = int(math.log2(self.size)) - 2
        level = np.clip(np.floor(np.log2(np.maximum(footprint * self.size, 1e-6)) + 0.5), 0, top)
        side = self.size * np.exp2(-level)
        down = np.where(level > 0, self.size - 2 * side, 0)
        right = np.where(level > 0, self.size, 0)
        x = (right + u * (side - 1)).astype(np.float32)
        y = (down + v * (side - 1)).astype(np.float32)
        return np.asarray(cv2.remap(self.atlas, x, y, cv2.INTER_LINEAR), np.uint8)


@dataclass(frozen=True)
class Surface:
    """A parallelogram: a corner and two edges, each (3,). ``light`` (n, n): what falls on it."""

    corner: Floats
    along: Floats
    down: Floats
    texture: Texture
    repeat: tuple[float, float] = (1.0, 1.0)
    light: Floats = field(default_factory=lambda: np.ones((2, 2), np.float32))
    velocity: Floats = field(default_factory=lambda: np.zeros(3))

    @property
    def normal(self) -> Floats:
        """Of unit length; which of both it is depends on the order of the edges."""
        normal = np.cross(self.along, self.down)
        return np.asarray(normal / (np.linalg.norm(normal) + 1e-9))

    def places(self, n: int) -> Floats:
        """A grid of points on it, (n, n, 3)."""
        at = np.linspace(0, 1, n)
        return np.asarray(self.corner + at[None, :, None] * self.along + at[:, None, None] * self.down)


@dataclass(frozen=True)
class Ball:
    """An ellipsoid with axes along the world's."""

    centre: Floats
    radii: Floats
    texture: Texture
    towards_light: Floats
    ambient: float = 0.5
    velocity: Floats = field(default_factory=lambda: np.zeros(3))


@dataclass(frozen=True)
class Camera:
    """Where it is, how it is turned (rows: its axes in the world), and the focal length in widths of the picture."""

    place: Floats
    turn: Floats
    focal: float

    @classmethod
    def looking(cls, place: Floats, angles: Floats, focal: float) -> "Camera":
        """``angles`` in radians: yaw to the right, pitch upwards, roll clockwise."""
        cy, sy, cp, sp, cr, sr = (f(a) for a in angles for f in (math.cos, math.sin))
        turn_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
        turn_p = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        turn_r = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
        return cls(np.asarray(place, float), turn_r @ turn_p @ turn_y, focal)


@dataclass(frozen=True)
class Scene:
    """What is there, and what lies behind all of it."""

    surfaces: Sequence[Surface]
    balls: Sequence[Ball]
    backdrop: Texture
    backdrop_disparity: float = 0.0
    fog: float = 0.0
    """Share of light lost per metre, as a rate."""
    fog_colour: tuple[float, float, float] = (0.8, 0.8, 0.85)
    focus: float | None = None
    """One over the depth that is sharp."""
    aperture: float = 0.0
    """Blur in widths of the picture, per unit of one over metres away from the focus."""


def render(
    scene: Scene, cameras: Sequence[Camera], times: Sequence[float], size: tuple[int, int]
) -> tuple[Bytes, Floats]:
    """Pictures (t, h, w, 3) uint8 and one over depth (t, h, w), in one over metres, 0 at infinity."""
    found = [_frame(scene, camera, time, size) for camera, time in zip(cameras, times, strict=True)]
    return np.stack([picture for picture, _ in found]), np.stack([disparity for _, disparity in found])


def _frame(scene: Scene, camera: Camera, time: float, size: tuple[int, int]) -> tuple[Bytes, Floats]:
    height, width = (SUPERSAMPLE * side for side in size)
    picture, disparity = _backdrop(scene, camera, (height, width))
    for surface in scene.surfaces:
        _draw_surface(replace(surface, corner=surface.corner + time * surface.velocity), camera, picture, disparity)
    for ball in scene.balls:
        _draw_ball(replace(ball, centre=ball.centre + time * ball.velocity), camera, picture, disparity)
    if scene.fog:
        seen = np.exp(-scene.fog / np.maximum(disparity, 1e-4))[..., None]
        picture[:] = seen * picture + (1 - seen) * 255 * np.array(scene.fog_colour, np.float32)
    small = (size[1], size[0])
    picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
    disparity = cv2.resize(disparity, small, interpolation=cv2.INTER_AREA)
    if scene.focus is not None:
        picture = _defocused(picture, disparity, scene)
    return picture, disparity


def _backdrop(scene: Scene, camera: Camera, size: tuple[int, int]) -> tuple[Bytes, NDArray[np.float32]]:
    """The sky or what else is far: seen by direction alone."""
    height, width = size
    x, y = _rays(camera, size, (0, height, 0, width))
    ray = np.stack(np.broadcast_arrays(x, y, np.float32(1)), -1) @ camera.turn.astype(np.float32)
    across = np.arctan2(ray[..., 0], ray[..., 2]) / math.pi
    up = ray[..., 1] / np.hypot(ray[..., 0], ray[..., 2]).clip(1e-3)
    u, v = np.abs(across * 1.7), np.clip(0.5 + 0.5 * np.arctan(up * 1.2), 0, 1)
    picture = scene.backdrop.look(_folded(u), v, np.full(u.shape, 1.2 / width))[..., :3]
    return np.ascontiguousarray(picture), np.full(size, scene.backdrop_disparity, np.float32)


def _rays(camera: Camera, size: tuple[int, int], box: tuple[int, int, int, int]) -> tuple[Floats, Floats]:
    """x (1, w) and y (h, 1) of the rays of a box (top, bottom, left, right), at depth 1."""
    height, width = size
    focal = camera.focal * width
    x = ((np.arange(box[2], box[3], dtype=np.float32) + 0.5 - width / 2) / focal)[None]
    y = ((np.arange(box[0], box[1], dtype=np.float32) + 0.5 - height / 2) / focal)[:, None]
    return x, y


def _box(points: Floats, camera: Camera, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """What part of the picture the points (n, 3) in the camera's axes surround; all of it where one is behind."""
    height, width = size
    if (points[:, 2] < NEAR).all():
        return None
    if (points[:, 2] < NEAR).any():
        return 0, height, 0, width
    focal = camera.focal * width
    x = points[:, 0] / points[:, 2] * focal + width / 2
    y = points[:, 1] / points[:, 2] * focal + height / 2
    top, bottom = max(0, math.floor(y.min())), min(height, math.ceil(y.max()) + 1)
    left, right = max(0, math.floor(x.min())), min(width, math.ceil(x.max()) + 1)
    return (top, bottom, left, right) if top < bottom and left < right else None


def _folded(place: Floats) -> Floats:
    """Places on a mirrored repetition of [0, 1]."""
    return np.asarray(1 - np.abs(np.mod(place, 2) - 1))


def _draw_surface(surface: Surface, camera: Camera, picture: Bytes, disparity: NDArray[np.float32]) -> None:
    size = (picture.shape[0], picture.shape[1])
    corner, along, down = (camera.turn @ one for one in (surface.corner - camera.place, surface.along, surface.down))
    box = _box(np.stack([corner, corner + along, corner + down, corner + along + down]), camera, size)
    matrix = np.stack([along, down, corner], 1)
    if box is None or abs(np.linalg.det(matrix)) < 1e-7:
        return
    inverse = np.linalg.inv(matrix).astype(np.float32)
    x, y = _rays(camera, size, box)
    a, b, near = (row[0] * x + row[1] * y + row[2] for row in inverse)
    part = np.s_[box[0] : box[1], box[2] : box[3]]
    seen = (near > disparity[part]) & (near < 1 / NEAR) & (a >= 0) & (b >= 0) & (a <= near) & (b <= near)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return
    inner = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    seen, near, a, b = seen[inner], near[inner], a[inner], b[inner]
    safe = np.where(seen, near, 1)
    a, b = np.clip(a / safe, 0, 1), np.clip(b / safe, 0, 1)
    step = 1 / (camera.focal * size[1] * safe)
    growth = [
        repeat * np.maximum(np.abs(row[0] - place * inverse[2, 0]), np.abs(row[1] - place * inverse[2, 1])) * step
        for row, place, repeat in zip(inverse, (a, b), surface.repeat, strict=False)
    ]
    colour = surface.texture.look(
        _folded(a * surface.repeat[0]), _folded(b * surface.repeat[1]), np.maximum(*growth) * 0.7 + 0 * safe
    )
    if colour.shape[2] == 4:
        seen = seen & (colour[..., 3] > 127)
    n = len(surface.light) - 1
    light = cv2.remap(surface.light, (a * n).astype(np.float32), (b * n).astype(np.float32), cv2.INTER_LINEAR)
    lit = np.clip(colour[..., :3] * light[..., None], 0, 255).astype(np.uint8)
    top, left = box[0] + rows[0], box[2] + columns[0]
    target = np.s_[top : top + seen.shape[0], left : left + seen.shape[1]]
    picture[target][seen] = lit[seen]
    disparity[target][seen] = near[seen]


def _draw_ball(ball: Ball, camera: Camera, picture: Bytes, disparity: NDArray[np.float32]) -> None:
    size = (picture.shape[0], picture.shape[1])
    centre, reach = camera.turn @ (ball.centre - camera.place), float(ball.radii.max())
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * reach
    box = _box(centre + corners, camera, size)
    if box is None or centre[2] < reach + NEAR:
        return
    x, y = _rays(camera, size, box)
    ray = np.stack(np.broadcast_arrays(x, y, np.float32(1)), -1) @ camera.turn.astype(np.float32)
    ray, start = ray / ball.radii.astype(np.float32), (camera.place - ball.centre) / ball.radii
    a, b, c = (ray * ray).sum(-1), ray @ start.astype(np.float32), float(start @ start) - 1
    root = b * b - a * c
    depth = (-b - np.sqrt(np.maximum(root, 0))) / a
    part = np.s_[box[0] : box[1], box[2] : box[3]]
    seen = (root > 0) & (depth > NEAR)
    near = np.where(seen, 1 / np.where(seen, depth, 1), 0).astype(np.float32)
    seen &= near > disparity[part]
    if not seen.any():
        return
    unit = ray * depth[..., None] + start
    normal = unit / ball.radii
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9
    u = _folded(np.arctan2(unit[..., 0], unit[..., 2]) / math.pi)
    v = np.clip(0.5 + np.arcsin(np.clip(unit[..., 1], -1, 1)) / math.pi, 0, 1)
    step = depth / (camera.focal * size[1] * reach) * 0.5
    colour = ball.texture.look(u, v, np.maximum(step, 1e-6))[..., :3]
    light = ball.ambient + (1 - ball.ambient) * np.maximum(normal @ ball.towards_light, 0)
    picture[part][seen] = np.clip(colour * light[..., None], 0, 255).astype(np.uint8)[seen]
    disparity[part][seen] = near[seen]


def _defocused(picture: Bytes, disparity: Floats, scene: Scene) -> Bytes:
    """Blurred by the distance from the focus, in four steps."""
    width = picture.shape[1]
    blur = np.minimum(np.abs(disparity - (scene.focus or 0.0)) * scene.aperture, 0.02).astype(np.float32) * width
    blur = cv2.GaussianBlur(blur, (0, 0), 1.5)
    sigmas = [0.0, 0.8, 1.8, 4.0]
    levels = [picture.astype(np.float32)] + [
        cv2.GaussianBlur(picture, (0, 0), s).astype(np.float32) for s in sigmas[1:]
    ]
    found = levels[0]
    for low, high, level in zip(sigmas, sigmas[1:], levels[1:], strict=False):
        share = np.clip((blur - low) / (high - low), 0, 1)[..., None]
        found = found * (1 - share) + level * share
    return np.asarray(np.clip(found + 0.5, 0, 255), np.uint8)
