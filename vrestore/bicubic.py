"""Resampling, above all bicubic, the same for the degradation that is undone and for what is measured."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def cubic(x: Array) -> Array:
    """Keys' cubic convolution kernel with a = -1/2 (Keys, 1981, eq. 15)."""
    a = np.abs(x)
    near = 1.5 * a**3 - 2.5 * a**2 + 1
    far = -0.5 * a**3 + 2.5 * a**2 - 4 * a + 2
    return np.where(a <= 1, near, np.where(a <= 2, far, 0.0))


@dataclass(frozen=True)
class Kernel:
    """Weights by distance, up to ``reach``, in samples of the coarser grid."""

    weight: Callable[[Array], Array]
    reach: float


BICUBIC = Kernel(cubic, 2.0)
GAUSSIAN = Kernel(lambda x: np.exp(-(x**2) / (2 * 0.4**2)), 2.0)
"""That of the protocol "BD": 1.6 pixels in a reduction by four."""


def taps(old: int, new: int, kernel: Kernel = BICUBIC) -> tuple[NDArray[np.int64], Array]:
    """Of every new sample of an axis the old ones that it reaches and their weights, which add up to one: (new, n).

    As MATLAB's ``imresize``: the kernel widens with a reduction, and the edges are mirrored.
    """
    scale = new / old
    stretch = min(scale, 1.0)
    centre = (np.arange(new) + 0.5) / scale - 0.5
    first = np.floor(centre - kernel.reach / stretch).astype(np.int64) + 1
    reached = first[:, None] + np.arange(int(np.ceil(2 * kernel.reach / stretch)) + 1)
    weight = kernel.weight(stretch * (centre[:, None] - reached))
    weight /= weight.sum(1, keepdims=True)
    folded = np.mod(reached, 2 * old)  # half-sample symmetric
    return np.where(folded >= old, 2 * old - 1 - folded, folded), weight
