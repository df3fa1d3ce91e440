"""Looks: what the edit prior learns to render. Each is a function of a picture, after the photographer's or painter's
recipe; none is a photograph of the real thing. A picture is float32 RGB (h, w, 3) in [0, 1].

A look draws its parameters from the generator, so that a clip has one look where every frame is given a generator of
the same seed; what moves (rain, flakes, grain) differs by ``moment``.
"""

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Look = Callable[[Picture, np.random.Generator, int], Picture]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def _luma(picture: Picture) -> Picture:
    return np.asarray(picture @ LUMA, np.float32)


def _saturated(picture: Picture, amount: float) -> Picture:
    gray = _luma(picture)[..., None]
    return gray + amount * (picture - gray)


def _smooth(picture: Picture, times: int = 3) -> Picture:
    """Flat regions, kept edges."""
    for _ in range(times):
        picture = cv2.bilateralFilter(picture, 7, 0.12, 5)
    return picture


def _edges(picture: Picture, sigma: float = 0.8) -> Picture:
    """Strength of edges in [0, 1], relative to the picture's own."""
    gray = cv2.GaussianBlur(_luma(picture), (0, 0), sigma)
    strength = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    return np.asarray(np.clip(strength / (np.quantile(strength, 0.95) + 0.08), 0, 1), np.float32)


def _down(picture: Picture) -> Picture:
    """How far down a row lies: 0 at the top, 1 at the bottom, (h, 1, 1)."""
    return np.linspace(0, 1, len(picture), dtype=np.float32)[:, None, None]


def _mixed(picture: Picture, other: Picture | list[float], share: Picture | float) -> Picture:
    return np.asarray(picture + share * (np.asarray(other, np.float32) - picture), np.float32)


def _vignette(picture: Picture, strength: float) -> Picture:
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in picture.shape[:2])
    return np.asarray(picture * (1 - strength * np.clip(y[:, None] ** 2 + x[None] ** 2, 0, 1.6) / 2)[..., None])


def _streaks(shape: tuple[int, ...], rng: np.random.Generator, count: int, length: float, slant: float) -> Picture:
    drawn = np.zeros(shape[:2], np.float32)
    for x, y, long in zip(*rng.random((2, count)), rng.uniform(0.5, 1, count), strict=True):
        start = np.array([x * shape[1], y * shape[0]])
        stop = start + long * length * np.array([slant, 1.0])
        a, b = ([int(v * 16) for v in point] for point in (start, stop))
        cv2.line(drawn, a, b, float(rng.uniform(0.4, 1)), 1, cv2.LINE_AA, 4)
    return drawn


def night(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Dark and blue, only the brightest places keep their colour."""
    dark = _saturated(picture, 0.45) * rng.uniform(0.28, 0.38) * np.array([0.55, 0.75, 1.35], np.float32)
    lamps = np.clip((_luma(picture) - 0.82) / 0.18, 0, 1)[..., None]
    return _mixed(dark, picture * np.array([1.0, 0.88, 0.6], np.float32), 0.7 * lamps)


def dusk(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Violet and dim, a rest of warm light low down."""
    dim = _saturated(picture, 0.7) * rng.uniform(0.55, 0.65) * np.array([0.95, 0.78, 1.15], np.float32)
    return dim + 0.14 * _down(picture) * np.array([1.0, 0.35, 0.25], np.float32)


def sunset(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Orange light, glowing from above."""
    warm = _saturated(picture, 1.15) * np.array([1.18, 0.82, 0.48], np.float32)
    return _mixed(warm, [1.0, 0.5, 0.12], (1 - _down(picture)) * rng.uniform(0.4, 0.5))


def snow(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Cold and pale, white on what faces up, flakes."""
    pale = _saturated(picture, 0.25) * 0.75 + 0.22
    pale = pale * np.array([0.95, 1.0, 1.08], np.float32)
    facing = np.clip(cv2.Sobel(cv2.GaussianBlur(_luma(picture), (0, 0), 2), cv2.CV_32F, 0, 1) * 3, 0, 1)[..., None]
    covered = _mixed(pale, [0.97, 0.98, 1.0], np.maximum(facing, 0.55 * _down(picture)))
    flakes = np.random.default_rng([int(rng.integers(1 << 30)), moment])
    drawn = np.zeros(picture.shape[:2], np.float32)
    for x, y, size in zip(*flakes.random((2, 90)), flakes.uniform(0.8, 2.6, 90), strict=True):
        centre = (int(x * picture.shape[1] * 16), int(y * picture.shape[0] * 16))
        cv2.circle(drawn, centre, int(size * 16), 1.0, -1, cv2.LINE_AA, 4)
    return _mixed(covered, [1.0, 1.0, 1.0], 0.9 * drawn[..., None])


def fog(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Gray air, thicker with the height in the picture, for there it is usually far."""
    thick = rng.uniform(0.6, 0.7) + 0.22 * (1 - _down(picture))
    soft = cv2.GaussianBlur(picture, (0, 0), 1.2)
    return _mixed(_saturated(soft, 0.5), [0.78, 0.8, 0.82], thick)


def rain(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Gray-green light, wet contrast, slanted streaks."""
    wet = (_saturated(picture, 0.5) * 0.62) * np.array([0.88, 1.0, 1.02], np.float32)
    slant, seed = rng.uniform(0.15, 0.35), int(rng.integers(1 << 30))
    drops = _streaks(picture.shape, np.random.default_rng([seed, moment]), 150, 26.0, slant)
    return _mixed(wet, [0.85, 0.9, 0.95], 0.65 * drops[..., None])


def sepia(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Brown print."""
    return _vignette(_luma(picture)[..., None] * np.array([1.07, 0.84, 0.58], np.float32) * 0.92 + 0.05, 0.25)


def black_and_white(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Gray film of strong contrast, with grain and dark corners."""
    gray = np.clip((_luma(picture) - 0.5) * 1.35 + 0.48, 0, 1)
    grain = np.random.default_rng([int(rng.integers(1 << 30)), moment]).standard_normal(gray.shape)
    grain = cv2.GaussianBlur(grain.astype(np.float32), (0, 0), 0.8) * 0.05
    return _vignette(np.repeat((gray + grain)[..., None], 3, axis=2), 0.45)


def pencil(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Gray lines on white paper, shaded where it is dark (a dodge of the picture by its blurred negative)."""
    gray = cv2.GaussianBlur(_luma(picture), (0, 0), 0.7)
    around = cv2.GaussianBlur(1 - gray, (0, 0), 6)
    dodged = np.clip(gray / np.maximum(1 - around, 0.05), 0, 1) ** 2.2
    return np.repeat((0.96 * dodged * (0.85 + 0.15 * gray))[..., None], 3, axis=2)


def watercolour(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Light washes that run together, darker at their rims, on paper."""
    wash = cv2.medianBlur((np.clip(_smooth(picture, 2), 0, 1) * 255).astype(np.uint8), 9)
    light = _saturated(wash.astype(np.float32) / 255, 1.25) * 0.62 + 0.4
    return light - 0.16 * _edges(wash.astype(np.float32) / 255, 1.6)[..., None]


def oil(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Thick strokes: every place has the mean colour of its most frequent shade."""
    bytes_ = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
    shades = 8
    level = (_luma(picture).clip(0, 0.999) * shades).astype(np.int32)
    counts = np.stack([cv2.blur((level == i).astype(np.float32), (9, 9)) for i in range(shades)])
    means = np.stack([cv2.blur(bytes_ * (level == i)[..., None].astype(np.float32), (9, 9)) for i in range(shades)])
    most = counts.argmax(0)[None]
    colour = np.take_along_axis(means, most[..., None], 0)[0] / (
        np.take_along_axis(counts, most, 0)[0][..., None] + 1e-3
    )
    return _saturated(colour.astype(np.float32) / 255, 1.5) * 1.02 - 0.02


def cartoon(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Flat saturated colours in few shades, black outlines."""
    flat = _saturated(_smooth(picture), 1.6)
    shade = _luma(flat)[..., None]
    stepped = (np.floor(shade.clip(0, 0.999) * 5) + 0.6) / 5
    flat = flat * (stepped / np.maximum(shade, 0.04)).clip(0, 2.5)
    lines = np.clip((_edges(picture, 1.2) - 0.45) * 3, 0, 1)[..., None]
    return _mixed(flat, [0.02, 0.02, 0.02], lines)


def neon(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Glowing contours in magenta and cyan on black."""
    lines = _edges(picture, 1.0)
    glow = np.clip(lines + 0.7 * cv2.GaussianBlur(lines, (0, 0), 4), 0, 1.2)[..., None]
    share = np.clip(_luma(cv2.GaussianBlur(picture, (0, 0), 6)) * 1.5 - 0.2, 0, 1)[..., None]
    colour = _mixed(np.zeros_like(picture) + np.array([1.0, 0.1, 0.8], np.float32), [0.1, 0.95, 1.0], share)
    return np.asarray(glow * colour + 0.03)


def blueprint(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """White lines on blue."""
    lines = np.clip(_edges(picture, 0.9) * 1.2 - 0.1, 0, 1)[..., None]
    ground = np.array([0.06, 0.2, 0.52], np.float32) * (0.9 + 0.2 * _luma(picture)[..., None])
    return _mixed(ground, [0.92, 0.96, 1.0], 0.9 * lines)


def thermal(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Brightness as heat: black, blue, red, yellow, white."""
    heat = cv2.GaussianBlur(_luma(picture), (0, 0), 1.5).clip(0, 1)
    painted = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.asarray(painted[..., ::-1] / 255, np.float32)


def autumn(picture: Picture, rng: np.random.Generator, moment: int) -> Picture:
    """Greens turn orange and red, the light is warm."""
    red, green, blue = np.moveaxis(picture, 2, 0)
    leaves = np.clip((green - 0.5 * (red + blue)) * 9 + 0.25, 0, 1)[..., None]
    gold = _luma(picture)[..., None] * np.array([1.5, 0.82, 0.2], np.float32) + 0.02
    return _mixed(picture * np.array([1.12, 0.98, 0.76], np.float32), gold, 0.25 + 0.7 * leaves)


LOOKS: Mapping[str, Look] = {
    "night": night,
    "dusk": dusk,
    "sunset": sunset,
    "snow": snow,
    "fog": fog,
    "rain": rain,
    "sepia": sepia,
    "black and white film": black_and_white,
    "pencil sketch": pencil,
    "watercolour": watercolour,
    "oil painting": oil,
    "cartoon": cartoon,
    "neon": neon,
    "blueprint": blueprint,
    "thermal": thermal,
    "autumn": autumn,
}
"""Every look by the words that ask for it."""

COLOURS: Mapping[str, tuple[float, float, float]] = {
    "red": (1.0, 0.25, 0.2),
    "orange": (1.0, 0.55, 0.15),
    "golden": (1.0, 0.8, 0.3),
    "green": (0.3, 0.85, 0.35),
    "teal": (0.15, 0.75, 0.7),
    "blue": (0.25, 0.45, 1.0),
    "purple": (0.65, 0.3, 0.95),
    "pink": (1.0, 0.5, 0.75),
}
"""Colour words that tint any look."""


def tinted(picture: Picture, colour: tuple[float, float, float], strength: float = 0.5) -> Picture:
    """The picture in light of a colour, as bright as before."""
    light = np.asarray(colour, np.float32)
    lit = picture * (light / (light @ LUMA))
    return _mixed(picture, lit, strength)


def rendered(picture: Picture, look: str | None, colour: str | None, seed: int, moment: int = 0) -> Picture:
    """A picture in a look and a tint, or in one of them; clipped to [0, 1].

    ``seed``: of the clip; ``moment``: the frame's number, for what moves.
    """
    made = picture
    if look is not None:
        made = LOOKS[look](made, np.random.default_rng(seed), moment)
    if colour is not None:
        made = tinted(made, COLOURS[colour])
    return np.clip(made, 0, 1).astype(np.float32)
