"""Structure from motion: how the camera moved between two frames, and the inverse depth by which that explains a flow.

Between two frames of a scene at rest the flow at a place is ``near * A t + B w`` (Longuet-Higgins and Prazdny, "The
interpretation of a moving retinal image", 1980): the camera's translation t counts by inverse depth, its rotation w
does not. With a first guess of inverse depth both follow by least squares; with both, the flow tells inverse depth at
every place, as surely as the translation there is large.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float

from vrestore.flow import FlowArray, Luma, dense_doubled, followed
from vrestore.registration import Map

FIRST, AGAIN = 12, 4
"""Reweightings of a motion when it is new, and when it was known in the round before."""
NOISE, GROWS = 0.3, 0.03
"""Error of a flow vector in pixels, at least, and as a part of its length."""
RETURNS = 0.7
"""Distance in pixels from which on a flow that is followed there and back is trusted half."""
PATCH, TEXTURE = 9, 50.0
"""Side of the square that has to look like something for its flow to be trusted; least eigenvalue of its structure
tensor, as OpenCV scales it, from which on it is by half."""
SAYS = (-0.3, 3.0)
"""What flow may say of inverse depth, in the unit of the map: it errs also about the infinitely far."""
FOCAL = 0.9
"""Focal length in picture widths that is taken where none is known: 58 degrees across."""
GRID = 58
"""Places across the picture on which motion is found."""
ODD = 4.0
"""Squared distance, in deviations, from which on what is seen is taken for something that moves by itself."""
AT_REST, SOFT = 0.5, 0.05
"""Share of the picture, explained by a camera that only turns, at which its translation is believed by half; and how
soft that is."""

Basis = Float[np.ndarray, "2 3 rows columns"]
Motion = Float[np.ndarray, " 6"]
"""Translation (3), in the unit of one over the map, and rotation (3) in radians; flow is in picture widths."""


@lru_cache(maxsize=2)
def bases(rows: int, columns: int) -> tuple[Basis, Basis]:
    """What a unit of translation (times inverse depth) and of rotation moves every pixel by, in picture widths."""
    x = np.broadcast_to((np.arange(columns, dtype=np.float32) + 0.5 - columns / 2) / columns, (rows, columns))
    y = np.broadcast_to(((np.arange(rows, dtype=np.float32) + 0.5 - rows / 2) / columns)[:, None], (rows, columns))
    none, focal = np.zeros_like(x), np.full_like(x, FOCAL)
    translation = [[focal, none, -x], [none, focal, -y]]
    rotation = [[-x * y / FOCAL, FOCAL + x * x / FOCAL, -y], [-FOCAL - y * y / FOCAL, x * y / FOCAL, x]]
    return np.array(translation, np.float32), np.array(rotation, np.float32)


@dataclass(frozen=True)
class Seen:
    """Flow from a frame to another in picture widths, how far each vector is trusted, and its error."""

    flow: FlowArray
    trust: Map
    error: Map

    @classmethod
    def between(cls, first: Luma, second: Luma) -> tuple["Seen", "Seen"]:
        """From the first to the second, and back."""
        there, back = dense_doubled(first, second), dense_doubled(second, first)
        return cls._of(there, back, first), cls._of(back, there, second)

    @classmethod
    def _of(cls, flow: FlowArray, back: FlowArray, luma: Luma) -> "Seen":
        rows, columns = flow.shape[:2]
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
        x, y = x + flow[..., 0], y + flow[..., 1]
        returned = flow + followed(flow, back)
        inside = (x >= 0) & (x <= columns - 1) & (y >= 0) & (y <= rows - 1)
        trust = inside / (1 + (returned**2).sum(-1) / RETURNS**2)
        texture = np.maximum(cv2.cornerMinEigenVal(luma.astype(np.float32), PATCH), 0)
        trust = trust * texture / (texture + TEXTURE)
        error = np.maximum(NOISE, GROWS * np.linalg.norm(flow, axis=-1))
        return cls(flow / columns, trust.astype(np.float32), (error / columns).astype(np.float32))


@dataclass(frozen=True)
class _Grid:
    """What is known at n places of a frame."""

    translation: np.ndarray
    """(2, 3, n)."""
    sides: np.ndarray
    """What a motion moves each place by: (2, 6, n)."""
    vague: np.ndarray
    """Variance of inverse depth."""
    flow: np.ndarray
    """(2, n)."""
    trust: np.ndarray
    noise: float
    """Variance of flow."""

    @classmethod
    def of(cls, near: Map, doubt: Map, seen: Seen) -> "_Grid":
        step = max(1, near.shape[1] // GRID)
        grid = np.s_[..., step // 2 :: step, step // 2 :: step]
        translation, rotation = (basis[grid].reshape(2, 3, -1).astype(np.float64) for basis in bases(*near.shape))
        depth, vague, trust = (of[grid].ravel().astype(np.float64) for of in (near, doubt, seen.trust))
        flow = np.moveaxis(seen.flow, -1, 0)[grid].reshape(2, -1).astype(np.float64)
        sides = np.concatenate([depth * translation, rotation], 1)
        return cls(translation, sides, vague**2, flow, trust, float(np.median(seen.error)) ** 2)

    def judged(self, motion: Motion) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Equations along and across the translation (2, 6, n), what they are to give (2, n), how sure they are as a
        part of flow's sureness (2, n), and the squared distance from what is seen, in its deviations (n,)."""
        x, y = np.tensordot(motion[:3], self.translation, (0, 1))
        size = x * x + y * y
        still, length = size == 0, np.sqrt(size) + 1e-30
        x, y = np.where(still, 1.0, x / length), y / length
        rows = np.stack([x * self.sides[0] + y * self.sides[1], x * self.sides[1] - y * self.sides[0]])
        wanted = np.stack([x * self.flow[0] + y * self.flow[1], x * self.flow[1] - y * self.flow[0]])
        sure = np.stack([self.noise / (self.noise + self.vague * size), np.ones_like(size)])
        left = wanted - np.tensordot(motion, rows, (0, 1))
        return rows, wanted, sure, (sure[0] * left[0] ** 2 + sure[1] * left[1] ** 2) / self.noise

    def fitted(self, motion: Motion, times: int, free: slice) -> Motion:
        """The motion after so many reweightings; what is not ``free`` stays."""
        for _ in range(times):
            rows, wanted, sure, away = self.judged(motion)
            weight = self.trust * sure / (1 + away / ODD)
            sides = np.concatenate(rows[:, free], -1)
            system = sides * weight.ravel()
            motion = np.zeros(6)
            motion[free] = np.linalg.solve(system @ sides.T + 1e-9 * np.eye(len(sides)), system @ wanted.ravel())
        return motion


def camera_motion(near: Map, doubt: Map, seen: Seen, known: Motion | None = None) -> Motion:
    """The motion that explains a flow best, given inverse depth and its error, robustly.

    What the flow says along a place's translation counts less where inverse depth is in doubt; what it says across
    does not depend on inverse depth. ``known``: where to start from.
    """
    start, times = (np.zeros(6), FIRST) if known is None else (known, AGAIN)
    return _Grid.of(near, doubt, seen).fitted(start, times, slice(6))


def moves(seen: Seen) -> float:
    """How likely the camera moved, and did not stand or turn while things moved before it: 0 to 1.

    If turning alone explains most of the picture, the rest may as well move by itself.
    """
    none = np.zeros_like(seen.trust)  # how near places are makes no difference to one that turns
    grid = _Grid.of(none, none, seen)
    *_, away = grid.judged(grid.fitted(np.zeros(6), FIRST, slice(3, 6)))
    share = float((grid.trust * (away < ODD)).sum() / (grid.trust.sum() + 1e-9))
    return float(1 / (1 + np.exp((share - AT_REST) / SOFT)))


class Voice(NamedTuple):
    """What one flow says of inverse depth."""

    says: Map
    precision: Map
    """One over its variance."""
    odd: Map
    """How much moves as no depth explains it: the logarithm of one more than its square, in parts of `ODD`."""


def triangulated(motion: Motion, seen: Seen) -> Voice:
    """Inverse depth by which a motion explains a flow; what goes across the motion is not explained by any."""
    translation, rotation = bases(*seen.trust.shape)
    x, y = np.tensordot(motion[:3].astype(np.float32), translation, (0, 1))
    left_x, left_y = np.moveaxis(seen.flow, -1, 0) - np.tensordot(motion[3:].astype(np.float32), rotation, (0, 1))
    size = x * x + y * y + np.float32(1e-12)
    across = (left_x * y - left_y * x) ** 2 / size / (ODD * seen.error**2)
    precision = seen.trust * size / seen.error**2 / (1 + across)
    return Voice(np.clip((left_x * x + left_y * y) / size, *SAYS), precision, np.log1p(across))
