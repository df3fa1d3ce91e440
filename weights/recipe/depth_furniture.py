"""What stands and hangs in the rooms of the world with depth: tables with chairs, cabinets, shelves, sofas, pictures.

Thin parts (legs, slats, rails) are masks on flat panels, which draw as fast as one surface.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from vrestore.weights.recipe.depth_build import Builder, Rng, X, Y, Z
from vrestore.weights.recipe.depth_world import Bytes, Floats, Surface, Texture

SIDE = 128
"""Of the masks of thin parts."""


def furnish(build: Builder, half: Floats, height: float, camera: Floats) -> None:
    """Fill a room (``half``: of its size) but for where the camera is; most pieces stand along the walls."""
    rng = build.rng
    for _ in range(min(int(rng.poisson(half[0] * half[2])) + 4, 14)):
        size = rng.uniform([0.4, 0.4, 0.35], [1.8, min(2.1, height * 0.85), 0.9])
        at, turned = rng.uniform(-1, 1, 3) * (half - 0.3) * [1, 0, 1], rng.normal(0, 0.03)
        if rng.random() < 0.65:
            side, end = int(rng.choice([0, 2])), rng.choice([-1.0, 1.0])
            at[side] = end * (half[side] - size[2] / 2 - 0.03)
            turned += end * math.pi / 2 if side == 0 else (0.0 if end > 0 else math.pi)  # its front to the room
        elif rng.random() < 0.4:
            turned = rng.uniform(-3, 3)
        reach = float(np.hypot(size[0], size[2]) / 2)
        if np.hypot(*(at - camera)[[0, 2]]) < reach + 0.3:
            continue
        build.footprints.append((at[0], at[2], reach))
        _stand(Piece(build, at, turned), size)
    for _ in range(int(rng.integers(1, 6))):
        _hang(build, half, height)
    if rng.random() < 0.35:
        at = rng.uniform(-0.8, 0.8, 3) * half * [1, 0, 1]
        build.pole(at, 0.02, 1.5)
        build.pole(at - 1.4 * Y, rng.uniform(0.12, 0.25), 0.3, bright=rng.uniform(1.1, 1.8))


@dataclass
class Piece:
    """Something on the floor at a place, turned about the vertical. Its front is at negative z of its own."""

    build: Builder
    at: Floats
    turned: float

    def place(self, x: float, y: float, z: float) -> Floats:
        """In the room; y is upwards."""
        right = np.array([math.cos(self.turned), 0, -math.sin(self.turned)])
        back = np.array([math.sin(self.turned), 0, math.cos(self.turned)])
        return np.asarray(self.at + x * right - y * Y + z * back)

    def box(self, at: tuple[float, float, float], *sides: float) -> None:
        """Standing on ``at``."""
        x, y, z = at
        self.build.box(self.place(x, y + sides[1] / 2, z), sides, self.turned, 0.85)

    def panel(self, left: tuple[float, float, float], right: tuple[float, float, float], high: float, mask: Bytes
              ) -> None:  # fmt: skip
        """Flat and upright between the feet of its edges, there where the mask is."""
        look = self.build.texture(0.9, SIDE)
        picture = look.atlas[: look.size, : look.size, :3]
        picture = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        texture = Texture.of(np.concatenate([picture, mask[..., None]], -1))
        a, b = self.place(*left), self.place(*right)
        self.build.add(Surface(a - high * Y, b - a, high * Y, texture))

    def legs(self, width: float, depth: float, high: float) -> None:
        """Four, at the corners."""
        w, d, thick = width / 2, depth / 2, self.build.rng.uniform(0.03, 0.07)
        for sign in (-1.0, 1.0):
            self.panel((-w, 0.0, sign * d), (w, 0.0, sign * d), high, ends(thick / width))
            self.panel((sign * w, 0.0, -d), (sign * w, 0.0, d), high, ends(thick / depth))


def ends(share: float) -> Bytes:
    """A mask with posts at its left and right, each of a share of its width, and a rail above."""
    mask, post = np.zeros((SIDE, SIDE), np.uint8), max(2, round(share * SIDE))
    mask[:, :post] = mask[:, -post:] = mask[: SIDE // 10] = 255
    return mask


def slats(rng: Rng) -> Bytes:
    """The back of a chair: a frame with upright or level slats, or full."""
    mask = ends(rng.uniform(0.06, 0.12))
    kind = rng.random()
    if kind < 0.3:
        mask[: SIDE * 3 // 4] = 255
    else:
        count, wide = int(rng.integers(2, 7)), int(rng.integers(4, 12))
        for at in np.linspace(0, SIDE - wide, count + 2).astype(int):
            if kind < 0.7:
                mask[:, at : at + wide] = 255
            else:
                mask[at : at + wide] = 255
    return mask


def _stand(piece: Piece, size: Floats) -> None:
    rng, (w, h, d) = piece.build.rng, size
    kind = rng.random()
    if kind < 0.25:
        _cabinet(piece, w, h, d)
    elif kind < 0.4:
        _table(piece, w, d)
    elif kind < 0.6:
        _chair(piece, rng.uniform(0.38, 0.55))
    elif kind < 0.75:
        _sofa(piece, w, d)
    elif kind < 0.85:
        _shelf(piece, w, h)
    elif kind < 0.95:
        piece.build.cutout(piece.at, w * 0.7, min(h, 1.8), rng.uniform(-1, 1))
    else:
        piece.build.ball(piece.at - h / 2 * Y, size / 2)


def _cabinet(piece: Piece, w: float, h: float, d: float) -> None:
    """Drawers or doors, and sometimes things on top."""
    rng = piece.build.rng
    piece.box((0.0, 0.0, 0.0), w, h, d)
    rows, columns = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    if rng.random() < 0.6:
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for i in range(rows):
            for j in range(columns):
                y, x = (int(SIDE * (k + 0.06) / n) for k, n in ((i, rows), (j, columns)))
                mask[y : int(SIDE * (i + 0.94) / rows), x : int(SIDE * (j + 0.94) / columns)] = 255
        piece.panel((-w / 2, 0.0, -d / 2 - 0.012), (w / 2, 0.0, -d / 2 - 0.012), h, mask)
    _on_top(piece, w, h, d)


def _table(piece: Piece, w: float, d: float) -> None:
    """Low or high, with things on it and chairs around."""
    rng = piece.build.rng
    top = rng.uniform(0.4, 0.8)
    piece.box((0.0, top, 0.0), w, 0.04, d)
    piece.legs(w * 0.94, d * 0.94, top)
    _on_top(piece, w, top + 0.04, d)
    if top > 0.6:
        for side in (-1.0, 1.0):
            if rng.random() < 0.6:
                place = piece.place(rng.uniform(-0.3, 0.3) * w, 0.0, side * (d / 2 + 0.2))
                turned = piece.turned + (math.pi if side < 0 else 0.0) + rng.normal(0, 0.2)
                _chair(Piece(piece.build, place, turned), 0.42)


def _on_top(piece: Piece, w: float, top: float, d: float) -> None:
    rng = piece.build.rng
    for _ in range(int(rng.integers(0, 4))):
        x, z, s = rng.uniform(-0.4, 0.4) * w, rng.uniform(-0.4, 0.4) * d, rng.uniform(0.05, 0.25)
        if rng.random() < 0.5:
            piece.box((x, top, z), s, rng.uniform(0.5, 2) * s, s)
        else:
            piece.build.ball(piece.place(x, top + s / 2, z), np.full(3, s / 2))


def _chair(piece: Piece, side: float) -> None:
    rng = piece.build.rng
    seat, back = rng.uniform(0.4, 0.48), rng.uniform(0.4, 0.65)
    piece.legs(side, side, seat)
    piece.box((0.0, seat, 0.0), side, rng.uniform(0.03, 0.1), side)
    piece.panel((-side / 2, seat, side / 2), (side / 2, seat, side / 2), back, slats(rng))


def _sofa(piece: Piece, w: float, d: float) -> None:
    """Sofa, armchair or bed."""
    rng = piece.build.rng
    seat, arm, back = rng.uniform(0.35, 0.5), rng.uniform(0.1, 0.2), rng.uniform(0.3, 0.8)
    piece.box((0.0, 0.0, 0.0), w, seat, d)
    piece.box((0.0, seat, d / 2 - arm / 2), w, back, arm)
    if rng.random() < 0.7:
        for sign in (-1, 1):
            piece.box((sign * (w / 2 - arm / 2), seat, 0.0), arm, 0.2, d)
    for _ in range(int(rng.integers(0, 3))):
        piece.build.ball(piece.place(rng.uniform(-0.4, 0.4) * w, seat + 0.18, 0.1), np.array([0.2, 0.18, 0.12]))


def _shelf(piece: Piece, w: float, h: float) -> None:
    """Boards with things on them, before a back."""
    rng, deep = piece.build.rng, 0.3
    piece.box((0.0, 0.0, deep / 2), w, h, 0.03)
    for y in np.linspace(0, h - 0.03, int(rng.integers(3, 6))):
        piece.box((0.0, float(y), 0.0), w, 0.03, deep)
        if rng.random() < 0.6:
            wide = rng.uniform(0.2, 0.8) * w
            piece.box((rng.uniform(-0.5, 0.5) * (w - wide), float(y) + 0.03, 0.0), wide, rng.uniform(0.1, 0.28), 0.2)


def _hang(build: Builder, half: Floats, height: float) -> None:
    """A picture, a door, a window full of light or a curtain on a wall."""
    rng = build.rng
    side, sign = int(rng.choice([0, 2])), rng.choice([-1.0, 1.0])
    along = Z if side == 0 else X
    wide, high = rng.uniform(0.4, 1.5), rng.uniform(0.3, 1.2)
    top, kind, look = rng.uniform(0.5, 0.9) * height, rng.random(), 0.3
    if kind < 0.3:  # a door, or a curtain
        wide, high, look = rng.uniform(0.7, 1.6), min(2.1, height * 0.9), 0.8
        top = high
    place = rng.uniform(-0.8, 0.8) * half * along
    place[side] = sign * (half[side] - 0.02)
    surface = Surface(place - along * wide / 2 - top * Y, along * wide, high * Y, build.texture(look))
    if kind > 0.85:
        bright = np.full((SIDE, SIDE, 3), 255, np.uint8)
        surface = Surface(surface.corner, surface.along, surface.down, Texture.of(bright), light=np.full((2, 2), 1.8))
        build.surfaces.append(surface)
    else:
        build.add(surface)
