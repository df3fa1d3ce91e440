"""Evidence made worse than the worlds make it, as footage does: surfaces that cannot be followed, things that move by
themselves, cameras at rest, other light.

What is true and what the prior says stay as they are: where motion is not to be believed, the prior is.
"""

import cv2
import numpy as np

from vrestore import structure
from vrestore.parallax import APART, FIRST, FOUND, LEAST, LUMA, ODD, SAYS, SURER, TRUSTED
from vrestore.weights.recipe.depth_build import Rng
from vrestore.weights.recipe.depth_world import Floats

RESTS, BARE, MOVING = 0.1, 0.6, 0.4
"""Of the clips that are misled, the shares in which the camera rests, and, of the others, in which a part of the
picture cannot be followed, and in which something moves by itself."""


def misled(rng: Rng, planes: Floats, likely: Floats) -> tuple[Floats, Floats]:
    """Evidence (t, 8, h, w) of frames of a clip, and how likely the camera moved (t,), made worse."""
    planes = planes.copy()
    relit(rng, planes)
    if rng.random() < RESTS:
        planes[:, FOUND], planes[:, SURER] = planes[:, FIRST], 0
        return planes, likely * np.float32(rng.uniform(0, 0.3))
    if rng.random() < BARE:
        bared(rng, planes)
    if rng.random() < MOVING:
        moved(rng, planes)
    return planes, likely


def relit(rng: Rng, planes: Floats) -> None:
    """Another exposure and contrast, and a little noise."""
    luma = np.clip(planes[:, LUMA], 0, 1) ** np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.2))
    luma += rng.normal(0, 0.05) + rng.exponential(0.01) * rng.standard_normal(luma.shape, np.float32)
    planes[:, LUMA] = np.clip(luma, 0, 1)


def bared(rng: Rng, planes: Floats) -> None:
    """A part of the picture, often the lower, loses its texture and with it what can be followed.

    Its flow says anything, and here and there still seems sure of it.
    """
    rows, columns = size = planes.shape[-2:]
    down = np.linspace(-1, 1, rows, dtype=np.float32)[:, None] * np.float32(rng.normal(1, 1.5))
    part = 1 / (1 + np.exp(np.clip(-8 * (field(rng, size, 3) + down - np.float32(rng.normal(0, 0.5))), -30, 30)))
    spots = field(rng, size, columns // 8) > rng.uniform(1, 2.5)
    left = 1 - part * (1 - spots * np.float32(rng.uniform(0, 0.5)))
    anything = np.float32(rng.uniform(-0.1, 0.8)) + np.float32(0.4) * field(rng, size, 5)
    luma, first, found, says, surer, apart, trusted, _ = np.moveaxis(planes, 1, 0)
    side = columns // 8
    plain = np.stack([cv2.blur(one, (side, side)) for one in luma])
    planes[:, LUMA] = luma + part * np.float32(rng.uniform(0, 1)) * (plain - luma)
    planes[:, FOUND] = np.clip(
        first + (1 - part) * (found - first) + part * np.float32(rng.uniform(0, 0.5)) * (anything - first), LEAST, None
    )
    planes[:, SAYS] = says + part * np.float32(rng.uniform(0, 1)) * (anything - says)
    planes[:, SURER] = np.log1p(np.expm1(surer) * left)
    planes[:, APART] = apart + part * np.float32(rng.uniform(0, 0.3)) * np.abs(field(rng, size, 8))
    planes[:, TRUSTED] = trusted * left


def moved(rng: Rng, planes: Floats) -> None:
    """Something moves by itself: surely followed, it seems much nearer or farther; some of it no depth explains."""
    rows, columns = planes.shape[-2:]
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    high, wide = rows * rng.uniform(0.1, 0.5), columns * rng.uniform(0.06, 0.3)
    away = ((y - rng.uniform(0, rows)) / high) ** 2 + ((x - rng.uniform(0, columns)) / wide) ** 2
    thing = np.asarray(1 / (1 + np.exp(np.clip(10 * (away + 0.3 * field(rng, (rows, columns), 6) - 1), -30, 30))))
    thing = thing.astype(np.float32)
    apart = np.float32(rng.uniform(0.2, 1.5) * rng.choice([-1, 1]))
    seems = apart * thing * (1 - np.exp(-planes[:, SURER]))
    planes[:, SAYS] = np.clip(planes[:, SAYS] + apart * thing, *structure.SAYS)
    planes[:, FOUND] = np.clip(planes[:, FOUND] + seems, LEAST, None)
    planes[:, ODD] += thing * np.float32(rng.exponential(1.5)) * np.abs(field(rng, (rows, columns), 5))


def field(rng: Rng, size: tuple[int, int], cells: int) -> Floats:
    """Chance of mean 0 and about unit deviation that changes smoothly, in so many places across the picture."""
    rows, columns = size
    coarse = rng.standard_normal((max(2, cells * rows // columns), cells), np.float32)
    return np.asarray(cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC), np.float32)
