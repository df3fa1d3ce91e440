"""Bicubic resampling, the same for the degradation that is undone and for what is measured."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def cubic(x: Array) -> Array:
    """Keys' cubic convolution kernel with a = -1/2 (Keys, 1981, eq. 15)."""
    a = np.abs(x)
    near = 1.5 * a**3 - 2.5 * a**2 + 1
    far = -0.5 * a**3 + 2.5 * a**2 - 4 * a + 2
    return np.where(a <= 1, near, np.where(a <= 2, far, 0.0))


def taps(old: int, new: int) -> tuple[NDArray[np.int64], Array]:
    """Of every new sample of an axis the old ones that it reaches and their weights, which add up to one: (new, n).

    As MATLAB's ``imresize``: the kernel widens with a reduction, and the edges are mirrored.
    """
    scale = new / old
    stretch = min(scale, 1.0)
    centre = (np.arange(new) + 0.5) / scale - 0.5
    first = np.floor(centre - 2 / stretch).astype(np.int64) + 1
    reached = first[:, None] + np.arange(int(np.ceil(4 / stretch)) + 1)
    weight = cubic(stretch * (centre[:, None] - reached))
    weight /= weight.sum(1, keepdims=True)
    folded = np.mod(reached, 2 * old)  # half-sample symmetric
    return np.where(folded >= old, 2 * old - 1 - folded, folded), weight
