"""Frames behind blended ones: what every pixel was before it was averaged over neighbouring frames, without any motion.

Means are sums of unknown frames, fewer than these: many clips explain them. Of those that do, up to the noise, the one
whose pixels change least in sum is taken, the total variation in time (Rudin, Osher and Fatemi, Physica D 1992): what
passes a pixel has edges. It is found by alternating directions (Boyd et al., 2011, section 6.4.1), in light.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vrestore.blending import DARKEST, matern, means
from vrestore.exposure import light_gain, to_light, to_values
from vrestore.neighbours import with_neighbours
from vrestore.shapes import Frame

Series = Float[Tensor, "frames pixels"]
Behind = Float[Tensor, "behind pixels"]
"""What was blended: some frames more."""

REACH = 2
"""Frames to each side, for each that was blended, that a group is worked out with."""
GROUP = 8
"""Frames that are worked out together."""
WEIGHT = 0.35
"""Of the variation beside the data, per deviation of the noise. On two clips blended by five frames, 0.1 code values
gained 9.8 and 8.3 dB; a fifth of it 5.7 and 6.4, four times as much 6.7 and 6.1."""
PENALTY, ITERATIONS = 0.01, 15
"""Of the alternating directions: sixty gained a third of a decibel more on one clip, and as much less on the other."""
STILL = 1.5
"""Range of code values that is rounding: a pixel that changes no more stays as it is."""
AT_ONCE = 1 << 16
"""Pixels that are worked out together."""
ROUNDING = 12**-0.5
"""Deviation of the noise at least, in code values."""
QUIETEST, EXPECTED, DOUBT = 0.25, 0.1015, 2.0
"""Share of pixels by which noise is measured; below what so much of squared normal noise is; and how many times as much
light as expected may show in what is taken for noise."""


def reach(count: int) -> int:
    """Frames before it that an unblended frame may depend on, and after it."""
    return GROUP + REACH * count


def unblended(frames: Iterable[Frame], count: int) -> Iterator[Frame]:
    """The frames of a shot whose means over ``count`` neighbours are the given ones, all in [0, 1], in order.

    Of an even number the later of the middle ones. Works in groups, counted from the first frame.
    """
    light = (to_light(frame.float()).half() for frame in frames)  # to a twentieth of a code value
    side = REACH * count
    for held, group in with_neighbours(light, GROUP, side, side):
        yield from _behind(held, group, count)


def _behind(light: Sequence[Tensor], wanted: range, count: int) -> Iterator[Frame]:
    """The frames behind some of the neighbouring means."""
    shape, series = light[0].shape, torch.stack([part.flatten() for part in light])
    weight = WEIGHT * _noise(series[:, :: 1 + series.shape[1] // AT_ONCE].float(), count)
    found = series[wanted.start : wanted.stop].float()
    for part in torch.arange(series.shape[1]).split(AT_ONCE):
        change, mean, slope = _change(series[:, part[0] : part[-1] + 1].float())
        moving = change.amax(0) - change.amin(0) > STILL
        behind = least_variation(change[:, moving], count, weight)[wanted.start + count // 2 :][: len(wanted)]
        found[:, part[moving]] = behind / slope[moving] + mean[moving]
    yield from (to_values(frame.view(shape)) for frame in found)


def _change(light: Series) -> tuple[Series, Tensor, Tensor]:
    """Of pixels how they change, in code values, their mean light, and code values per light."""
    mean = light.mean(0)
    slope = 255 * light_gain(mean, DARKEST)
    return (light - mean) * slope, mean, slope


def least_variation(seen: Series, count: int, weight: float) -> Behind:
    """x that minimises |A x - y|^2 / 2 + weight |D x|_1, A the means over ``count`` frames, D the change from frame to
    frame: all frames that were blended, ``count`` - 1 more than are seen."""
    to_seen, to_change, step = (matrix.to(seen) for matrix in _solver(len(seen), count))
    x = begun = to_seen @ seen
    split, dual = torch.zeros_like(step @ x), torch.zeros_like(step @ x)
    for _ in range(ITERATIONS):
        x = begun + to_change @ (split - dual)
        changed = torch.addmm(dual, step, x)
        split = torch.nn.functional.softshrink(changed, weight / PENALTY)
        dual = changed - split
    return x


@lru_cache(maxsize=16)
def _solver(frames: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a turn multiplies by: what is seen, the change that is wanted, and the step from frame to frame."""
    behind, seen_by = frames + count - 1, means(frames, count)
    step = np.eye(behind - 1, behind, 1) - np.eye(behind - 1, behind)
    inverse = np.linalg.inv(seen_by.T @ seen_by + PENALTY * step.T @ step + 1e-6 * np.eye(behind))
    found = inverse @ seen_by.T, PENALTY * inverse @ step.T, step
    return tuple(torch.from_numpy(matrix).float() for matrix in found)  # type: ignore[return-value]


def _noise(light: Series, count: int) -> float:
    """Deviation of the noise of some pixels, in code values: what changes as no mean over so many frames does."""
    if len(light) <= count:
        return ROUNDING
    quiet, leak = _quiet(len(light), count)
    change = _change(light)[0]
    silent = (quiet.to(change) @ change).square()
    variance = torch.quantile(silent, QUIETEST) / EXPECTED - DOUBT * leak * change.square().mean(0).median()
    return math.sqrt(max(float(variance), ROUNDING**2))


@lru_cache(maxsize=16)
def _quiet(frames: int, count: int) -> tuple[Tensor, float]:
    """The sum of means in which light shows least, and the share of the change in a frame that it shows."""
    seen_by = means(frames, count)
    covariance = seen_by @ matern(frames + count - 1, 2.0 * count, 0.5) @ seen_by.T
    changing = np.linalg.svd(np.ones((1, frames)))[2][1:].T
    values, modes = np.linalg.eigh(changing.T @ covariance @ changing)
    return torch.from_numpy(changing @ modes[:, 0]).float(), float(values[0] / values.sum()) * frames
