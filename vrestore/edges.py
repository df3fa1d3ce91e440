"""Edges of a picture by Canny's method (IEEE PAMI 8, 1986)."""

import cv2
import numpy as np
from jaxtyping import UInt8

from vrestore.flow import Luma

Colour = UInt8[np.ndarray, "rows columns 3"]
Edges = UInt8[np.ndarray, "rows columns"]
"""255 on an edge, else 0."""


def canny_edges(picture: Luma | Colour, low: int | float, high: int | float) -> Edges:
    """Edges whose gradient reaches ``high``, and those of ``low`` that continue them; the same as `cv2.Canny` finds.
    Of colours the strongest gradient counts.

    It is given the gradients, for where it finds them itself, OpenCV 5.0 on one thread writes beyond its memory.
    """
    right, down = (
        cv2.Sobel(picture, cv2.CV_16S, *order, borderType=cv2.BORDER_REPLICATE) for order in ((1, 0), (0, 1))
    )
    found: Edges = cv2.Canny(right, down, low, high)
    return found
