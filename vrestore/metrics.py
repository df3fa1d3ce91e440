"""Measures of one picture against a reference, in numpy and OpenCV; none needs weights.

A *picture* is RGB, shape (height, width, 3), in 8-bit levels 0..255, of any real type. ``crop`` takes that many pixels
off every side first (super-resolution papers leave out a border). Where a measure is not symmetric, the reference is
the second argument. Luma is the Y of ITU-R BT.601 in its 16..235 range, not rounded, as MATLAB's ``rgb2ycbcr``.
"""

from functools import lru_cache

import cv2
import numpy as np
from einops import reduce
from jaxtyping import Float64, Real
from numpy.typing import NDArray

from vrestore.bicubic import taps

Picture = Real[np.ndarray, "height width 3"]
Other = Real[np.ndarray, "other_height other_width 3"]
Plane = Float64[np.ndarray, "height width"]
Array = NDArray[np.float64]

PEAK = 255.0
PSNR_CAP_DB = 100.0
_LUMA = np.array([65.481, 128.553, 24.966]) / PEAK
_GRAY = np.array([0.299, 0.587, 0.114])


def luma(picture: Picture) -> Plane:
    """BT.601 luma of a picture, 16..235, float64."""
    return 16.0 + picture.astype(np.float64) @ _LUMA


def psnr_rgb(picture: Picture, reference: Picture, crop: int = 0) -> float:
    """Peak signal-to-noise ratio over the three channels, in dB, at most 100 (equal pictures)."""
    return _psnr(_inner(picture.astype(np.float64), crop), _inner(reference.astype(np.float64), crop))


def psnr_y(picture: Picture, reference: Picture, crop: int = 0) -> float:
    """Peak signal-to-noise ratio of luma, in dB, at most 100; the peak is 255, as the literature has it."""
    return _psnr(_inner(luma(picture), crop), _inner(luma(reference), crop))


def ssim_y(picture: Picture, reference: Picture, crop: int = 0) -> float:
    """Structural similarity of luma, 1 = equal (Wang et al. 2004: Gaussian 11x11, sigma 1.5, valid area)."""
    kernel = _gaussian(11, 1.5)
    x, y = _inner(luma(picture), crop), _inner(luma(reference), crop)
    mean_x, mean_y = _valid(x, kernel), _valid(y, kernel)
    var_x, var_y, cov = _moments(x, y, mean_x, mean_y, kernel)
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    brightness = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    return float(np.mean(brightness * structure))


def vif(picture: Picture, reference: Picture, crop: int = 0, noise_variance: float = 2.0) -> float:
    """Visual information fidelity of luma in the pixel domain: the share of the reference's information that is left.

    1 = all of it; more than 1 is possible where contrast was raised; nan where the reference is flat.
    Sheikh and Bovik 2006, the four-scale pixel-domain form: windows of 17, 9, 5 and 3 pixels, a fifth as sigma.
    """
    x, y = _inner(luma(picture), crop), _inner(luma(reference), crop)
    kept = whole = 0.0
    for scale, size in enumerate((17, 9, 5, 3)):
        kernel = _gaussian(size, size / 5)
        if scale:
            x, y = (_valid(plane, kernel)[::2, ::2] for plane in (x, y))
        scale_kept, scale_whole = _information(x, y, kernel, noise_variance)
        kept, whole = kept + scale_kept, whole + scale_whole
    return kept / whole if whole > 0 else float("nan")


def gmsd(picture: Picture, reference: Picture, crop: int = 0) -> float:
    """Gradient magnitude similarity deviation of gray, 0 = equal, lower is better.

    Xue et al. 2014: half size, Prewitt gradients, c = 170.
    """
    one, two = (_gradient(_halved(_inner(p.astype(np.float64) @ _GRAY, crop))) for p in (picture, reference))
    return float(np.std((2 * one * two + 170) / (one**2 + two**2 + 170)))


def haarpsi(picture: Picture, reference: Picture, crop: int = 0) -> float:
    """Haar wavelet-based perceptual similarity of gray, 0..1 (Reisenhofer et al. 2018: C = 30, alpha = 4.2)."""
    c, alpha = 30.0, 4.2
    box = np.full((2, 2), 0.25)
    one, two = (
        _haar(_zero_padded(_inner(p.astype(np.float64) @ _GRAY, crop), box)[::2, ::2]) for p in (picture, reference)
    )
    weight = np.maximum(one[2], two[2])  # the coarsest scale says where it matters
    similarity = np.mean((2 * one[:2] * two[:2] + c) / (one[:2] ** 2 + two[:2] ** 2 + c), axis=0)
    if not weight.any():
        return 1.0
    pooled = np.sum(weight / (1 + np.exp(-alpha * similarity))) / np.sum(weight)
    return float((np.log(pooled / (1 - pooled)) / alpha) ** 2)


def sharpness(picture: Picture, reference: Picture) -> float:
    """Variance of the Laplacian of luma over the reference's: 1 = as sharp; more is sharper or noisier."""
    mine, its = (float(cv2.Laplacian(luma(p), cv2.CV_64F).var()) for p in (picture, reference))
    return mine / max(its, 1e-9)


def displacement(picture: Picture, reference: Picture) -> tuple[float, float]:
    """How far the picture lies to the right of and below the reference, in pixels: phase correlation of luma."""
    height, width = reference.shape[:2]
    hann = cv2.createHanningWindow((width, height), cv2.CV_64F)
    (right, down), _ = cv2.phaseCorrelate(luma(reference), luma(picture), hann)
    return float(right), float(down)


def consistency_psnr(picture: Picture, low_resolution: Other) -> float:
    """PSNR-Y in dB of the picture, reduced to the low-resolution input's size, against that input.

    The reduction is antialiased bicubic, rounded to 8 bits: what the input would be, had the picture been its origin.
    """
    height, width = low_resolution.shape[:2]
    return psnr_y(to_uint8(resize(picture, height, width)), low_resolution)


def resize(picture: Picture, height: int, width: int) -> Float64[np.ndarray, "new_height new_width 3"]:
    """Bicubic resizing as MATLAB's ``imresize``: Keys' kernel (a = -0.5), widened for reduction, mirrored borders."""
    rows, columns = _resizing(picture.shape[0], height), _resizing(picture.shape[1], width)
    channels = np.moveaxis(picture.astype(np.float64), -1, 0)
    return np.moveaxis(rows @ channels @ columns.T, 0, -1)


def to_uint8(picture: Picture) -> Picture:
    """Levels rounded and clipped to what 8 bits hold."""
    levels: NDArray[np.uint8] = np.clip(np.rint(picture), 0, PEAK).astype(np.uint8)
    return levels


def _inner(plane: Array, crop: int) -> Array:
    height, width = plane.shape[:2]
    return plane[crop : height - crop, crop : width - crop]


def _psnr(x: Array, y: Array) -> float:
    error = float(np.mean((x - y) ** 2))
    return PSNR_CAP_DB if error < 1e-10 else 10 * float(np.log10(PEAK**2 / error))


@lru_cache(maxsize=16)
def _gaussian(size: int, sigma: float) -> Array:
    offsets = np.arange(size) - (size - 1) / 2
    kernel: Array = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    return kernel


def _valid(plane: Array, kernel: Array) -> Array:
    """Separable filtering, only where the kernel lies inside the plane."""
    filtered: Array = cv2.sepFilter2D(plane, cv2.CV_64F, kernel, kernel)
    return _inner(filtered, len(kernel) // 2)


def _moments(x: Array, y: Array, mean_x: Array, mean_y: Array, kernel: Array) -> tuple[Array, Array, Array]:
    """Local variances and covariance."""
    return (
        _valid(x * x, kernel) - mean_x**2,
        _valid(y * y, kernel) - mean_y**2,
        _valid(x * y, kernel) - mean_x * mean_y,
    )


def _information(x: Array, y: Array, kernel: Array, noise_variance: float) -> tuple[float, float]:
    """Bits (log10) that x still tells of the reference y at one scale, and bits that y tells of itself.

    Model: x = gain * y + noise of variance ``residual`` in every window (Sheikh and Bovik 2006, eq. 6).
    """
    tiny = 1e-10
    var_x, var_y, cov = _moments(x, y, _valid(x, kernel), _valid(y, kernel), kernel)
    var_x, var_y = np.maximum(var_x, 0), np.maximum(var_y, 0)
    flat_x, flat_y = var_x < tiny, var_y < tiny
    gain = np.where(flat_y, 0, cov / (var_y + tiny))
    residual = np.where(flat_y, var_x, var_x - gain * cov)
    gain, residual = np.where(flat_x, 0, gain), np.where(flat_x, 0, residual)
    residual = np.maximum(np.where(gain < 0, var_x, residual), tiny)  # an inverted pattern carries nothing
    gain, var_y = np.maximum(gain, 0), np.where(flat_y, 0, var_y)
    kept = np.log10(1 + gain**2 * var_y / (residual + noise_variance))
    return float(kept.sum()), float(np.log10(1 + var_y / noise_variance).sum())


def _halved(plane: Array) -> Array:
    height, width = (n // 2 * 2 for n in plane.shape)
    return reduce(plane[:height, :width], "(height 2) (width 2) -> height width", "mean")


def _gradient(plane: Array) -> Array:
    prewitt = np.array([[1.0, 0.0, -1.0]] * 3) / 3
    across, down = (cv2.filter2D(plane, -1, kernel) for kernel in (prewitt, np.ascontiguousarray(prewitt.T)))
    return np.asarray(np.hypot(across, down))


def _zero_padded(plane: Array, kernel: Array) -> Array:
    return np.asarray(cv2.filter2D(plane, -1, kernel, borderType=cv2.BORDER_CONSTANT))


def _haar(plane: Array) -> Array:
    """Magnitudes of undecimated Haar coefficients, shape (3 scales, 2 orientations, height, width)."""
    scales = []
    for size in (2, 4, 8):
        kernel = np.full((size, size), 1 / size)
        kernel[: size // 2] *= -1
        both = (kernel, np.ascontiguousarray(kernel.T))
        scales.append(np.stack([np.abs(_zero_padded(np.ascontiguousarray(plane), k)) for k in both]))
    return np.stack(scales)


@lru_cache(maxsize=16)
def _resizing(old: int, new: int) -> Array:
    """Matrix (new, old) of one-dimensional bicubic resizing; every row adds up to one."""
    reached, weight = taps(old, new)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new)[:, None], reached), weight)
    return matrix
