"""YCbCr to R'G'B' and back by explicit matrices, with sited chroma resampling. Arrays in, arrays out.

Matrices: ITU-R BT.601, BT.709, BT.2020 (non-constant luminance), SMPTE 240M, FCC; ranges: H.273 equations 24 to 31.
Untagged video is read as BT.601 below 720 lines and as BT.709 from 720 lines on, limited range.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, UInt

from vrestore.errors import UnsupportedMediaError
from vrestore.video.info import ColorTags, Rgb

Plane = Float32[np.ndarray, "_ _"]
"""One plane of any size."""
LumaCodes = UInt[np.ndarray, "height width"]
ChromaCodes = UInt[np.ndarray, "rows columns"]

BT709, UNSPECIFIED, BT601, RGB = 1, 2, 6, 0
LIMITED, FULL = 1, 2
HD_LINES = 720
# (Kr, Kb) by matrix code of H.273, table 4
LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
# where a chroma sample lies between the luma samples it covers: (down, across), 0 the first, 1 the last
CHROMA_SITES = {1: (0.5, 0.0), 2: (0.5, 0.5), 3: (0.0, 0.0), 4: (0.0, 0.5), 5: (1.0, 0.0), 6: (1.0, 0.5)}
LEFT = 1
_BLOCK, _REACH = 64, 16
"""Of `_inverse`, in results: the weights of what lies further off are below 1e-8."""


@dataclass(frozen=True)
class YuvRule:
    """How one video's YCbCr codes and R'G'B' belong together."""

    kr: float
    kb: float
    full: bool
    sites: tuple[float, float] = CHROMA_SITES[LEFT]


def default_matrix(height: int, width: int) -> int:
    """The matrix of untagged video; lines are those of the short side, so that upright video counts as lying."""
    return BT709 if min(height, width) >= HD_LINES else BT601


def yuv_rule(tags: ColorTags, height: int, width: int) -> YuvRule:
    """The conversion that ``tags`` ask for, with the documented defaults where they say nothing.

    Raises:
        UnsupportedMediaError: a matrix that is not a plain one (YCgCo, constant luminance, ICtCp).
    """
    # an RGB tag on YCbCr samples is a mistake of the writer: treated as absent
    matrix = default_matrix(height, width) if tags.matrix in (RGB, UNSPECIFIED) else tags.matrix
    if matrix not in LUMA_WEIGHTS:
        raise UnsupportedMediaError(
            f"colour matrix {matrix} (H.273) is not handled; convert the video to BT.709 (1), BT.601 (6) or "
            "BT.2020 non-constant luminance (9) first"
        )
    kr, kb = LUMA_WEIGHTS[matrix]
    sites = CHROMA_SITES.get(tags.chroma_location, CHROMA_SITES[LEFT])
    return YuvRule(kr, kb, tags.range == FULL, sites)


def _levels(depth: int, full: bool) -> tuple[float, float, float, float]:
    """Offset and span of luma, offset and span of chroma, in codes."""
    if full:
        top = float(2**depth - 1)
        return 0.0, top, float(2 ** (depth - 1)), top
    unit = float(2 ** (depth - 8))
    return 16 * unit, 219 * unit, 128 * unit, 224 * unit


def yuv_to_rgb(y: LumaCodes, u: ChromaCodes, v: ChromaCodes, depth: int, rule: YuvRule, *, clip: bool = True) -> Rgb:
    """Codes of three planes (chroma possibly smaller) to R'G'B' in [0, 1]; what lies outside is clipped if asked."""
    offset, span, middle, chroma_span = _levels(depth, rule.full)
    kg = 1 - rule.kr - rule.kb
    luma = y.astype(np.float32)
    luma -= offset
    luma *= 1 / span
    cb, cr = (_enlarged(plane, y.shape, middle, chroma_span, rule.sites) for plane in (u, v))
    rgb = np.empty((3, *y.shape), np.float32)
    np.multiply(cr, 2 * (1 - rule.kr), out=rgb[0])
    rgb[0] += luma
    np.multiply(cb, 2 * (1 - rule.kb), out=rgb[2])
    rgb[2] += luma
    cr *= 2 * (1 - rule.kr) * rule.kr / kg
    cb *= 2 * (1 - rule.kb) * rule.kb / kg
    np.subtract(luma, cr, out=rgb[1])
    rgb[1] -= cb
    return np.clip(rgb, 0, 1, out=rgb) if clip else rgb


def rgb_to_yuv(
    rgb: Rgb, depth: int, factors: tuple[int, int], rule: YuvRule, *, exact: bool = False
) -> tuple[Plane, Plane, Plane]:
    """R'G'B' to codes of three planes, not yet rounded. ``factors``: chroma subsampling (down, across).

    ``exact``: chroma undoes `upsample` (see `unsample`) instead of being low-passed.
    """
    reduce = unsample if exact else downsample
    offset, span, middle, chroma_span = _levels(depth, rule.full)
    luma = rgb[0] * np.float32(rule.kr)
    luma += rgb[1] * np.float32(1 - rule.kr - rule.kb)
    luma += rgb[2] * np.float32(rule.kb)
    chroma = []
    for channel, weight in ((2, rule.kb), (0, rule.kr)):
        plane = rgb[channel] - luma
        for axis in (0, 1):
            plane = reduce(plane, axis, factors[axis], rule.sites[axis])
        plane *= chroma_span / (2 * (1 - weight))
        plane += middle
        chroma.append(plane)
    luma *= span
    luma += offset
    return luma, chroma[0], chroma[1]


def _enlarged(
    codes: ChromaCodes, shape: tuple[int, ...], middle: float, span: float, sites: tuple[float, float]
) -> Plane:
    plane = codes.astype(np.float32)
    plane -= middle
    plane *= 1 / span
    for axis in (0, 1):
        factor = -(-shape[axis] // plane.shape[axis])
        plane = upsample(plane, axis, factor, sites[axis], shape[axis])
    return plane


def _catmull_rom(x: float) -> float:
    """The interpolating cubic of Catmull and Rom (1974): a = -1/2 in Keys (1981), equation 15."""
    x = abs(x)
    if x < 1:
        return 1 - 2.5 * x * x + 1.5 * x**3
    return 2 - 4 * x + 2.5 * x * x - 0.5 * x**3 if x < 2 else 0.0


def upsample(plane: Plane, axis: int, factor: int, site: float, size: int) -> Plane:
    """Interpolates ``plane`` along ``axis`` to ``size`` samples, ``factor`` times as dense.

    Sample i of ``plane`` lies at ``factor * i + site * (factor - 1)`` of the result.
    """
    if factor == 1:
        return plane
    margin = 3
    padding = [(0, 0), (0, 0)]
    padding[axis] = (margin, margin)
    source = np.moveaxis(np.pad(plane, padding, mode="edge"), axis, 0)
    shape = (size, plane.shape[1]) if axis == 0 else (plane.shape[0], size)
    out = np.empty(shape, np.float32)
    target = np.moveaxis(out, axis, 0)
    for phase in range(factor):
        part = target[phase::factor]
        position = (phase - site * (factor - 1)) / factor
        base = int(np.floor(position))
        taps = [(base + k, _catmull_rom(base + k - position)) for k in (-1, 0, 1, 2)]
        _weighted_sum(source, [(margin + at, weight) for at, weight in taps], 1, part)
    return out


def downsample(plane: Plane, axis: int, factor: int, site: float) -> Plane:
    """Low-passes ``plane`` along ``axis`` and keeps one sample in ``factor``; the counterpart of `upsample`."""
    if factor == 1:
        return plane
    size = plane.shape[axis]
    count = -(-size // factor)
    margin = 2 * factor
    padding = [(0, 0), (0, 0)]
    padding[axis] = (margin, margin + factor)
    source = np.moveaxis(np.pad(plane, padding, mode="edge"), axis, 0)
    shape = (count, plane.shape[1]) if axis == 0 else (plane.shape[0], count)
    out = np.empty(shape, np.float32)
    taps = [(margin + at, weight) for at, weight in _decimation_taps(factor, site)]
    _weighted_sum(source, taps, factor, np.moveaxis(out, axis, 0))
    return out


def unsample(plane: Plane, axis: int, factor: int, site: float) -> Plane:
    """The samples that `upsample` makes ``plane`` of, or comes closest to it with in the mean square."""
    if factor == 1:
        return plane
    source = np.moveaxis(plane, axis, 0)
    parts = [matrix @ source[low : low + matrix.shape[1]] for low, matrix in _inverse(plane.shape[axis], factor, site)]
    return np.ascontiguousarray(np.moveaxis(np.concatenate(parts), 0, axis))


@lru_cache(maxsize=8)
def _inverse(size: int, factor: int, site: float) -> tuple[tuple[int, Plane], ...]:
    """The pseudo-inverse of `upsample` to ``size`` samples: for every block of results the first sample that they
    reach, and their matrix. Away from the ends all rows are alike, so that of a short row of samples tells them all.
    """
    count = -(-size // factor)
    middle = 3 * _REACH
    left_out = max(0, count - 2 * middle)
    short = upsample(np.eye(count - left_out, dtype=np.float32), 0, factor, site, size - left_out * factor)
    known = np.linalg.solve(short.T.astype(np.float64) @ short, short.T.astype(np.float64))
    blocks = []
    for at in range(0, count, _BLOCK):
        rows = range(at, min(at + _BLOCK, count))
        low, high = max(0, (at - _REACH) * factor), min(size, (rows[-1] + 1 + _REACH) * factor)
        matrix = np.zeros((len(rows), high - low), np.float32)
        for row in rows:
            alike = row if row < middle else max(middle, row - left_out)
            first = max(0, (alike - _REACH) * factor)
            taps = known[alike, first : (alike + _REACH + 1) * factor]
            start = first + (row - alike) * factor - low
            matrix[row - at, start : start + len(taps)] = taps
        blocks.append((low, matrix))
    return tuple(blocks)


@lru_cache
def _decimation_taps(factor: int, site: float) -> tuple[tuple[int, float], ...]:
    shift = site * (factor - 1)
    taps = [(at, _catmull_rom((at - shift) / factor)) for at in range(-2 * factor + 1, 3 * factor)]
    total = sum(weight for _, weight in taps)
    return tuple((at, weight / total) for at, weight in taps if weight)


def _weighted_sum(source: Plane, taps: list[tuple[int, float]], step: int, out: Plane) -> None:
    """``out[i] = sum of weight * source[first + step * i]`` over the taps that are not zero."""
    count, started = len(out), False
    for first, weight in taps:
        if abs(weight) < 1e-9:
            continue
        part = source[first : first + step * (count - 1) + 1 : step]
        if started:
            out += part * np.float32(weight)
        else:
            np.multiply(part, np.float32(weight), out=out)
            started = True
