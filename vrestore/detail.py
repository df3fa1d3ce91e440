"""Detail that the likeliest picture lacks, given back: fine bands as strong as those of natural pictures.

The mean of all that a frame may have been is the most faithful answer, and too smooth. Of the answers that look natural
the nearest is the mean transported to the statistics of natural pictures, and all best trades lie on the line from one
to the other (Freirich, Michaeli and Meir, "A Theory of the Distortion-Perception Tradeoff in Wasserstein Space",
NeurIPS 2021). Between Gaussians the transport is a gain for each band, and what bands of natural pictures
have in common is how strong each is beside the next coarser one (Field, "Relations between the statistics of natural
images", 1987).
"""

from itertools import pairwise

import torch
from kornia.filters import gaussian_blur2d

from vrestore.errors import ConfigError
from vrestore.luma import luma
from vrestore.shapes import OutputFrame

SCALES = (1.0, 2.0, 4.0)
"""Deviations of the Gaussians, in pixels, between which bands lie; the finest lies below the first."""
NATURAL = (0.98, 0.68)
"""Deviation of a band over that of the next coarser one, finest first: medians over the clips that the embedded priors
were trained on (of photographs 1.3 and .79)."""
MOST_GAIN = 3.0
"""A band that needs more holds hardly anything of the picture, but noise and ringing."""


def with_detail(frame: OutputFrame, share: float) -> OutputFrame:
    """The frame with its two finest bands raised, by a gain each, towards what they are in natural pictures.

    Args:
        frame: (3, height, width) in [0, 1].
        share: how far on the way, 0 to 1; 0 leaves the frame.

    Returns:
        Not clamped. What is as sharp as natural pictures already stays as it is.

    Raises:
        ConfigError: the share is out of its range.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"detail is {share}; give a number from 0 to 1")
    if share == 0:
        return frame
    bands = _bands(frame)
    gains = _gains([float(luma(band).std(correction=0)) for band in bands])
    more = torch.stack([share * (gain - 1) * band for gain, band in zip(gains, bands, strict=False)])
    raised: OutputFrame = frame + more.sum(0)
    return raised


def _bands(frame: OutputFrame) -> list[OutputFrame]:
    """Differences of ever blurrier versions, finest first."""
    height, width = frame.shape[-2:]
    versions = [frame]
    for scale in SCALES:
        sides = [min(2 * round(3 * scale) + 1, side - (side + 1) % 2) for side in (height, width)]
        versions.append(gaussian_blur2d(frame[None], (sides[0], sides[1]), (scale, scale))[0])
    return [finer - coarser for finer, coarser in pairwise(versions)]


def _gains(deviations: list[float]) -> list[float]:
    """Of all bands but the coarsest, each beside the next coarser one as it will be."""
    gains: list[float] = []
    coarser = deviations[-1]
    for own, natural in zip(deviations[-2::-1], NATURAL[::-1], strict=True):
        gain = min(max(natural * coarser / own, 1.0), MOST_GAIN) if own > 0 else 1.0
        gains.insert(0, gain)
        coarser = gain * own
    return gains
