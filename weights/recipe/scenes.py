"""Scenes: what the generation prior learns to show. Each is a procedural picture of a time, so that a clip may have
any rate and any length; what is in it is drawn once from a generator.

A picture is float32 RGB (SIDE, SIDE, 3) in [0, 1]; shapes are drawn at twice the size and reduced, against jaggies.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.floating[Any]]
Drawn = Callable[[float], Picture]
"""Time in seconds -> the picture."""

SIDE = 128
CANVAS = 2 * SIDE

HUES: Mapping[str, tuple[float, float, float]] = {
    "red": (0.85, 0.15, 0.12),
    "orange": (0.95, 0.5, 0.1),
    "yellow": (0.95, 0.85, 0.2),
    "green": (0.2, 0.65, 0.25),
    "blue": (0.15, 0.35, 0.85),
    "purple": (0.5, 0.2, 0.7),
}
"""Colour words, for the main thing of a scene."""

SKIES: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "day": ((0.3, 0.55, 0.9), (0.8, 0.9, 1.0)),
    "sunset": ((0.35, 0.2, 0.45), (1.0, 0.6, 0.3)),
    "night": ((0.02, 0.03, 0.1), (0.1, 0.13, 0.3)),
}
"""Words for the time of day: the sky at the top and at the horizon."""
LIGHT: Mapping[str, float] = {"day": 1.0, "sunset": 0.8, "night": 0.35}
"""How bright what the sky shines on is."""


@dataclass(frozen=True)
class Asked:
    """What a scene is to show."""

    hue: tuple[float, float, float]
    time: str

    @property
    def lit(self) -> Picture:
        """The colour in the light of that time."""
        return np.array(self.hue, np.float32) * LIGHT[self.time]


def _sky(time: str) -> Picture:
    top, bottom = (np.array(colour, np.float32) for colour in SKIES[time])
    share = np.linspace(0, 1, CANVAS, dtype=np.float32)[:, None, None]
    return np.tile(top + share * (bottom - top), (1, CANVAS, 1))


def _reduced(canvas: Picture) -> Picture:
    return np.asarray(cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


def _disc(canvas: Picture, x: float, y: float, radius: float, colour: Picture) -> None:
    cv2.circle(canvas, (round(x), round(y)), round(radius), colour.tolist(), -1, cv2.LINE_AA)


def _outline(rng: np.random.Generator, low: float, high: float, waves: int = 3) -> Callable[[Picture], Picture]:
    """A smooth line that repeats after a few canvases: heights between shares of the canvas."""
    turns = rng.integers(1, 7, waves) * np.pi / CANVAS
    shares, phases = rng.dirichlet(np.ones(waves)), rng.uniform(0, 2 * np.pi, waves)

    def line(x: Picture) -> Picture:
        unit = (np.sin(x[:, None] * turns + phases) * shares).sum(1) / 2 + 0.5
        return np.asarray((low + (high - low) * unit) * CANVAS, np.float32)

    return line


def _fill_below(canvas: Picture, line: Picture, colour: Picture) -> None:
    rows = np.arange(CANVAS, dtype=np.float32)[:, None]
    share = np.clip(rows - line[None] + 0.5, 0, 1)[..., None]
    canvas += share * (colour - canvas)


def _layers(rng: np.random.Generator, asked: Asked, count: int, speed: float, spread: float) -> Callable[..., None]:
    """Outlines that move past one another, the nearer the lower, the faster and the darker."""
    lines = [_outline(rng, 0.45 + 0.15 * i, 0.45 + 0.15 * i + spread) for i in range(count)]
    way = speed * CANVAS * (1 if rng.random() < 0.5 else -1)
    haze = np.array(SKIES[asked.time][1], np.float32)

    def draw(canvas: Picture, t: float) -> None:
        x = np.arange(CANVAS, dtype=np.float32)
        for i, line in enumerate(lines):
            near = (i + 1) / count
            colour = haze + (0.35 + 0.65 * near) * (asked.lit * (1.15 - 0.45 * near) - haze)
            _fill_below(canvas, line(x + way * near * t), colour)

    return draw


def _sun(rng: np.random.Generator, asked: Asked) -> Callable[[Picture], None]:
    x, y, radius = rng.uniform(0.15, 0.85), rng.uniform(0.12, 0.32), rng.uniform(0.05, 0.1)
    colour = np.array((0.95, 0.95, 0.9) if asked.time == "night" else (1.0, 0.9, 0.6), np.float32)
    return lambda canvas: _disc(canvas, x * CANVAS, y * CANVAS, radius * CANVAS, colour)


def hills(rng: np.random.Generator, asked: Asked) -> Drawn:
    """A ride past hills."""
    layers, sun = _layers(rng, asked, 3, rng.uniform(0.06, 0.16), 0.22), _sun(rng, asked)

    def at(t: float) -> Picture:
        canvas = _sky(asked.time)
        sun(canvas)
        layers(canvas, t)
        return _reduced(canvas)

    return at


def waves(rng: np.random.Generator, asked: Asked) -> Drawn:
    """A sea that rolls, and a boat on it."""
    lines = [_outline(rng, 0.5 + 0.13 * i, 0.56 + 0.13 * i, 2) for i in range(4)]
    speeds, swell = rng.uniform(0.05, 0.15, 4) * CANVAS * rng.choice([-1, 1]), rng.uniform(0.6, 1.4)
    place, sun = rng.uniform(0.25, 0.75) * CANVAS, _sun(rng, asked)
    wood, sail = (np.array(c, np.float32) * LIGHT[asked.time] for c in ((0.35, 0.2, 0.1), (0.95, 0.95, 0.9)))

    def at(t: float) -> Picture:
        canvas = _sky(asked.time)
        sun(canvas)
        x = np.arange(CANVAS, dtype=np.float32)
        for i, line in enumerate(lines):
            height = line(x + speeds[i] * t) + 0.015 * CANVAS * np.sin(swell * t * 2 + i)
            if i == 2:
                _boat(canvas, place, float(height[round(place)]), wood, sail)
            _fill_below(canvas, height, asked.lit * (1.1 - 0.17 * i))
        return _reduced(canvas)

    return at


def _boat(canvas: Picture, x: float, y: float, wood: Picture, sail: Picture) -> None:
    unit = CANVAS / 20
    hull = np.array([[-1.6, -0.6], [1.6, -0.6], [1.0, 0.7], [-1.0, 0.7]])
    cloth = np.array([[-0.1, -0.8], [-0.1, -3.6], [1.5, -0.8]])
    for shape, colour in ((hull, wood), (cloth, sail)):
        cv2.fillPoly(canvas, [np.round(shape * unit + (x, y)).astype(np.int32)], colour.tolist(), cv2.LINE_AA)


def stars(rng: np.random.Generator, asked: Asked) -> Drawn:
    """Stars that drift by, and a planet of the colour."""
    count = 40
    places, depth = rng.random((count, 2)) * CANVAS, rng.uniform(0.3, 1, count)
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.08, 0.25) * CANVAS
    way = np.array([np.cos(angle), np.sin(angle)]) * speed
    planet, radius = rng.uniform(0.25, 0.75, 2) * CANVAS, rng.uniform(0.1, 0.2) * CANVAS
    sky, colour = _sky("night") * rng.uniform(0.4, 1), np.array(asked.hue, np.float32)

    def at(t: float) -> Picture:
        canvas = sky.copy()
        for (x, y), near in zip((places + way * depth[:, None] * t) % CANVAS, depth, strict=True):
            _disc(canvas, x, y, 1 + 2 * near, np.full(3, 0.4 + 0.6 * near, np.float32))
        _disc(canvas, planet[0], planet[1], radius, colour * 0.55)
        _disc(canvas, planet[0] - radius * 0.18, planet[1] - radius * 0.18, radius * 0.8, colour)
        return _reduced(canvas)

    return at


def balls(rng: np.random.Generator, asked: Asked) -> Drawn:
    """Balls that bounce on a floor, to and fro between two walls."""
    count = int(rng.integers(1, 4))
    radii, phases = rng.uniform(0.07, 0.12, count), rng.random((count, 2))
    heights, paces = rng.uniform(0.3, 0.6, count), rng.uniform(0.1, 0.3, count)
    wall, floor = (np.array(rng.uniform(0.55, 0.9, 3), np.float32) * LIGHT[asked.time] for _ in range(2))
    floor *= 0.7

    def at(t: float) -> Picture:
        canvas = np.empty((CANVAS, CANVAS, 3), np.float32)
        canvas[: 3 * CANVAS // 4], canvas[3 * CANVAS // 4 :] = wall, floor
        for i in range(count):
            across = abs((t * paces[i] + 2 * phases[i][0]) % 2 - 1)
            beat = (t * (0.9 - heights[i] / 2) + phases[i][1]) % 1
            up = heights[i] * 4 * beat * (1 - beat)
            x, ground = (0.12 + 0.76 * across) * CANVAS, 0.88 * CANVAS
            wide = radii[i] * CANVAS
            ellipse = ((x, ground), (2 * wide * (1 - up / 2), 0.5 * wide), 0.0)
            cv2.ellipse(canvas, ellipse, (floor * 0.6).tolist(), -1, cv2.LINE_AA)
            y = ground - wide - up * CANVAS
            _disc(canvas, x, y, wide, asked.lit)
            _disc(canvas, x - wide * 0.3, y - wide * 0.3, wide * 0.3, asked.lit * 0.5 + 0.45 * LIGHT[asked.time])
        return _reduced(canvas)

    return at


def city(rng: np.random.Generator, asked: Asked) -> Drawn:
    """A ride past a row of houses with lit windows."""
    count, wide = 12, CANVAS / 6
    heights, bright = rng.uniform(0.25, 0.7, count), rng.uniform(0.6, 1.0, count)
    lit = rng.random((count, 12, 3)) < (0.6 if asked.time != "day" else 0.15)
    way = rng.uniform(0.08, 0.2) * CANVAS * rng.choice([-1, 1])
    lamp = np.array((1.0, 0.9, 0.5), np.float32)

    def at(t: float) -> Picture:
        canvas = _sky(asked.time)
        for i in range(count):
            x = (i * wide + way * t + wide) % (count * wide) - wide
            top = (0.95 - heights[i]) * CANVAS
            wall = asked.lit * bright[i]
            cv2.rectangle(canvas, (round(x), round(top)), (round(x + wide - 4), CANVAS), wall.tolist(), -1)
            for row in range(int(heights[i] * CANVAS / 20)):
                for column in range(3):
                    corner = (round(x + 6 + 11 * column), round(top + 8 + 20 * row))
                    colour = lamp if lit[i, row, column] else wall * 0.5
                    cv2.rectangle(canvas, corner, (corner[0] + 6, corner[1] + 9), colour.tolist(), -1)
        canvas[round(0.95 * CANVAS) :] = 0.12 + 0.15 * LIGHT[asked.time]
        return _reduced(canvas)

    return at


def snow(rng: np.random.Generator, asked: Asked) -> Drawn:
    """Flakes that fall before firs of the colour on white ground."""
    count = 70
    places, near = rng.random((count, 2)), rng.uniform(0.4, 1, count)
    fall, drift = rng.uniform(0.2, 0.4), rng.uniform(-0.1, 0.1)
    trees = sorted(zip(rng.uniform(0.05, 0.95, 5), rng.uniform(0.6, 0.8, 5), rng.uniform(0.25, 0.4, 5), strict=True),
                   key=lambda tree: tree[1])  # fmt: skip
    white = np.full(3, 0.3 + 0.65 * LIGHT[asked.time], np.float32)
    ground = _outline(rng, 0.6, 0.68)(np.arange(CANVAS, dtype=np.float32))
    still = _sky(asked.time)
    _fill_below(still, ground, white)
    for x, y, high in trees:
        for part in range(3):
            half, top = high * (0.12 + 0.06 * part), y - high + high * 0.25 * part
            corners = np.array([[x, top], [x - half, top + high * 0.4], [x + half, top + high * 0.4]]) * CANVAS
            cv2.fillPoly(still, [np.round(corners).astype(np.int32)], asked.lit.tolist(), cv2.LINE_AA)

    def at(t: float) -> Picture:
        canvas = still.copy()
        for (x, y), size in zip(places, near, strict=True):
            here = ((x + drift * size * t) % 1 * CANVAS, (y + fall * size * t) % 1 * CANVAS)
            _disc(canvas, here[0], here[1], 1.5 + 2 * size, np.minimum(white + 0.05, 1))
        return _reduced(canvas)

    return at


def fish(rng: np.random.Generator, asked: Asked) -> Drawn:
    """Fish of the colour that swim past in an aquarium, and bubbles."""
    count = int(rng.integers(2, 5))
    places, size, paces = rng.random((count, 2)), rng.uniform(0.08, 0.14, count), rng.uniform(0.1, 0.25, count)
    ways, bubbles, rise = rng.choice([-1, 1], count), rng.random((12, 2)), rng.uniform(0.15, 0.3)
    water = np.array((0.1, 0.4, 0.55), np.float32) * np.linspace(1.5, 0.6, CANVAS, dtype=np.float32)[:, None, None]
    still = np.tile(water * LIGHT[asked.time] ** 0.5, (1, CANVAS, 1))
    _fill_below(still, _outline(rng, 0.85, 0.92)(np.arange(CANVAS, dtype=np.float32)), np.array((0.7, 0.6, 0.4)) *
                LIGHT[asked.time])  # fmt: skip
    body = asked.lit * 0.9 + 0.08

    def at(t: float) -> Picture:
        canvas = still.copy()
        for x, y in bubbles:
            _disc(canvas, x * CANVAS, (y - rise * t) % 1 * CANVAS, 3.0, np.array((0.6, 0.85, 0.95)) * LIGHT[asked.time])
        for (x, y), wide, pace, way in zip(places, size * CANVAS, paces, ways, strict=True):
            here = ((x + way * pace * t) % 1.3 - 0.15) * CANVAS
            level = (0.15 + 0.6 * y + 0.02 * np.sin(3 * t + 6 * x)) * CANVAS
            tail = np.array([[-0.8, 0], [-1.7, -0.6 + 0.2 * np.sin(9 * t)], [-1.7, 0.6 + 0.2 * np.sin(9 * t)]])
            corners = np.round(tail * wide * (way, 1) + (here, level)).astype(np.int32)
            cv2.fillPoly(canvas, [corners], (body * 0.8).tolist(), cv2.LINE_AA)
            cv2.ellipse(canvas, ((here, level), (2.2 * wide, 1.2 * wide), 0.0), body.tolist(), -1, cv2.LINE_AA)
            _disc(canvas, here + way * 0.6 * wide, level - 0.15 * wide, 0.13 * wide, np.zeros(3, np.float32))
        return _reduced(canvas)

    return at


SCENES: Mapping[str, Callable[[np.random.Generator, Asked], Drawn]] = {
    "hills": hills,
    "waves": waves,
    "stars": stars,
    "balls": balls,
    "city": city,
    "snow": snow,
    "fish": fish,
}
