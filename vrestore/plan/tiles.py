"""Tiles of a latent picture that is too large for one call of the prior."""

import math

import numpy as np

from vrestore.plan.cover import Cover
from vrestore.plan.steps import Tile


def split(height: int, width: int, tile: int, overlap: int) -> tuple[Tile, ...]:
    """Tiles that cover a picture, row by row, with raised-cosine ramps where they overlap.

    Args:
        height, width: size of the latent picture, latent pixels, at least 1.
        tile: edge of a tile, latent pixels; a shorter side of the picture is one shorter tile. All tiles have the same
            size; the last of a row or column is shifted back.
        overlap: latent pixels that neighbours share, in [0, tile).

    Returns:
        Tiles whose outer products ``weight_y[:, None] * weight_x`` add up to one at every latent pixel.

    Raises:
        PlanError: an argument outside its range.
    """
    rows, columns = Cover(height, tile, overlap), Cover(width, tile, overlap)
    return tuple(
        Tile(y, x, weight_y, weight_x)
        for y, weight_y in zip(rows.starts(), _ramps(rows), strict=True)
        for x, weight_x in zip(columns.starts(), _ramps(columns), strict=True)
    )


def _ramps(cover: Cover) -> list[tuple[float, ...]]:
    """Weights of each span along one axis; they add up to one at every position."""
    starts, length = cover.starts(), cover.length
    spans = []
    for k, start in enumerate(starts):
        # A ramp spans what is truly shared with the neighbour: more than `overlap` at the shifted-back last span.
        before = _ramp(length, starts[k - 1] + length - start) if k else np.ones(length)
        after = _ramp(length, start + length - starts[k + 1]) if k + 1 < len(starts) else np.ones(length)
        spans.append(before * after[::-1])
    total = np.zeros(cover.extent)
    for start, span in zip(starts, spans, strict=True):
        total[start : start + length] += span
    return [tuple((s / total[a : a + length]).tolist()) for a, s in zip(starts, spans, strict=True)]


def _ramp(length: int, shared: int) -> np.ndarray:
    """Rise from 0 to 1 as sin² over ``shared`` positions (sampled at their centres, so never 0), then 1."""
    if shared <= 0:
        return np.ones(length)
    phase = np.minimum((np.arange(length) + 0.5) / shared, 1.0)
    return np.asarray(np.sin(0.5 * math.pi * phase) ** 2)
