"""Frame blending: every frame the mean of several neighbours, as exposures longer than a frame and rates that were
changed by mixing leave it. How many there were is measured from how pixels change in time.

A mean over n frames leaves nothing at multiples of 1/n of the frame rate, and something between them: no motion looks
like that, whatever moves. The light of a pixel is taken as a Gaussian process in time (Rasmussen and Williams,
"Gaussian Processes for Machine Learning", 2006), and which mean explains a clip is a question of evidence (eq. 2.30).
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float

from vrestore.exposure import light_gain, to_light
from vrestore.shapes import Frame

Series = Float[np.ndarray, "time pixels"]
"""Light of some pixels over neighbouring frames, or its change."""
Matrix = Float[np.ndarray, "rows columns"]

MOST = 8
"""Frames that one may be the mean of."""
SAMPLED = 4
"""Of so many pixels in a row or column one is measured."""
LEAST_CHANGE = 4.0
"""Variance, in squared code values, below which a pixel says nothing: it stands still."""
DARKEST = 1e-3
"""Light below which a stored value is taken to change with it as it does there."""
LIGHTS = (0.004, 0.83)
"""Light of pixels that are measured: neither lost in rounding nor clipped, which no mean survives."""
ENOUGH, PLENTY = 300, 12_000
"""Pixels that must change for a clip to say anything, and more than which are not asked."""
CUT = 20.0
"""Mean square of a step from frame to frame, relative to the median of all, from which it is a cut."""
CLEAR = 0.2
"""Evidence, in nats a pixel, from which frames count as blended. It was below 0.04 on 17 real clips as they are, and on
16 of them, blended by five frames, 0.3 to 1.9; the least on two that hardly move."""
SMOOTHNESS = (0.5, 1.5, 2.5)
LENGTHS = tuple(2.0 ** (k / 2) for k in range(-2, 11))
"""How pixels may change: Matern processes of these orders, over so many frames."""
NOISES = (0.09, 0.36, 1.5, 6.0, 25.0)
"""Variances of noise that are tried, in squared code values; the first is that of rounding."""
SCALES = tuple(2.0**k for k in range(-2, 6))
"""Variances of the process that are tried, relative to what is there."""


def sampled(frame: Frame) -> Float[np.ndarray, " pixels"]:
    """Light of some pixels of a frame, as `estimate_blending` wants it."""
    part: np.ndarray = to_light(frame[1, ::SAMPLED, ::SAMPLED].float()).flatten().cpu().numpy()
    return part


def estimate_blending(clips: Iterable[Series]) -> int:
    """Frames that every frame is the mean of, 1 to `MOST`; 1 where that is not clear, or too little moves.

    Args:
        clips: of a dozen neighbouring frames each; one with a cut says nothing.
    """
    found = [told for told in map(evidence, clips) if told]
    mean = {count: float(np.mean([told[count] for told in found])) for count in found[0]} if found else {1: 0.0}
    best = max(mean, key=mean.__getitem__)
    return best if mean[best] >= CLEAR else 1


def evidence(light: Series) -> dict[int, float]:
    """By how much, in nats a pixel, a clip is explained better as means of so many frames than as it is.

    Empty where too little changes, or all at once. Pixels are taken in three classes of how much they change; each has
    a process and a noise of its own size.
    """
    mean = light.mean(0)
    change = (light - mean) * 255 * light_gain(torch.from_numpy(mean), DARKEST).numpy()
    spread = change.var(0)
    telling = (spread > LEAST_CHANGE) & (mean > LIGHTS[0]) & (mean < LIGHTS[1])
    if telling.sum() < ENOUGH or len(light) <= MOST:
        return {}
    steps = np.square(np.diff(change[:, telling], axis=0)).mean(1)
    if steps.max() > CUT * np.median(steps):
        return {}
    asked = np.flatnonzero(telling)[:: 1 + int(telling.sum()) // PLENTY]
    change, spread = change[:, asked], spread[asked]
    which = np.digitize(spread, np.quantile(spread, [1 / 3, 2 / 3]))
    classes = [change[:, which == k] for k in range(3)]
    best = {count: _explained(classes, len(light), count) for count in range(1, MOST + 1)}
    return {count: value - best[1] for count, value in best.items()}


def means(frames: int, count: int) -> Matrix:
    """Frames as means of ``count`` neighbours among those behind them, (frames, frames + count - 1)."""
    return np.stack([np.eye(count, frames + count - 1, k=first).mean(0) for first in range(frames)])


def matern(frames: int, length: float, order: float) -> Matrix:
    """Covariance of a Matern process of order 1/2, 3/2 or 5/2 at so many instants (Rasmussen, Williams, eq. 4.17)."""
    apart = np.abs(np.subtract.outer(np.arange(frames), np.arange(frames))) / length * np.sqrt(2 * order)
    polynomial = {0.5: 1.0, 1.5: 1 + apart, 2.5: 1 + apart + apart**2 / 3}[order]
    found: np.ndarray = polynomial * np.exp(-apart)
    return found


def _explained(classes: Sequence[np.ndarray], frames: int, count: int) -> float:
    """Log evidence per pixel under the best of all processes, up to a constant."""
    found, noises = [], np.array(NOISES)[:, None]
    for values, directions in _modes(frames, count):
        total = 0.0
        for change in classes:
            power = ((directions.T @ change) ** 2).mean(1)
            variance = np.array(SCALES)[:, None, None] * power.sum() / values.sum() * values + noises
            total += float((-0.5 * (np.log(variance) + power / variance)).sum(-1).max())
        found.append(total / len(classes))
    return max(found)


@lru_cache(maxsize=64)
def _modes(frames: int, count: int) -> list[tuple[np.ndarray, Matrix]]:
    """Of every process, variances and directions of the means, leaving out what does not change."""
    changing = np.linalg.svd(np.ones((1, frames)))[2][1:].T
    seen, found = changing.T @ means(frames, count), []
    for order in SMOOTHNESS:
        for length in LENGTHS:
            values, directions = np.linalg.eigh(seen @ matern(frames + count - 1, length, order) @ seen.T)
            found.append((values.clip(0), changing @ directions))
    return found
