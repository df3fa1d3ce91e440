"""Colour maps: values in [0, 1] to colours, for looking at."""

from functools import cache

import cv2
import numpy as np
from jaxtyping import Float32

from vrestore.errors import ConfigError
from vrestore.video.info import Rgb

Values = Float32[np.ndarray, "height width"]

_SPECTRAL = (
    "9e0142", "d53e4f", "f46d43", "fdae61", "fee08b", "ffffbf", "e6f598", "abdda4", "66c2a5", "3288bd", "5e4fa2",
)  # fmt: skip
"""ColorBrewer's Spectral, 11 classes, from red."""
_OPENCV = {
    "inferno": cv2.COLORMAP_INFERNO,
    "magma": cv2.COLORMAP_MAGMA,
    "viridis": cv2.COLORMAP_VIRIDIS,
    "turbo": cv2.COLORMAP_TURBO,
}
COLORMAPS = (*_OPENCV, "spectral", "gray")
"""Names. All but spectral grow brighter or warmer with the value; spectral goes from blue to red."""


@cache
def _table(name: str) -> Float32[np.ndarray, "3 256"]:
    """Colours at 256 even steps, in [0, 1]."""
    if name == "gray":
        return np.tile(np.linspace(0, 1, 256, dtype=np.float32), (3, 1))
    if name == "spectral":
        anchors = np.array([[int(one[i : i + 2], 16) / 255 for i in (0, 2, 4)] for one in reversed(_SPECTRAL)])
        at = np.linspace(0, len(anchors) - 1, 256)
        return np.stack([np.interp(at, np.arange(len(anchors)), channel) for channel in anchors.T]).astype(np.float32)
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return np.ascontiguousarray(cv2.applyColorMap(ramp, _OPENCV[name])[:, 0, ::-1].T / np.float32(255))


def coloured(values: Values, name: str) -> Rgb:
    """Values in [0, 1] (what lies outside is clipped) in the colours of a map, between its steps interpolated.

    Raises:
        ConfigError: no map of that name.
    """
    if name not in COLORMAPS:
        raise ConfigError(f"colormap is {name!r}; give one of {', '.join(COLORMAPS)}")
    place = np.clip(values, 0, 1) * np.float32(255)
    low = np.minimum(place.astype(np.int32), 254)
    share = place - low
    table = _table(name)
    return np.asarray(table[:, low] * (1 - share) + table[:, low + 1] * share, np.float32)
