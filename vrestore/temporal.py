"""Measures over time: of a video, one pair of successive frames after the other, against a reference video.

Pictures are uint8 RGB, shape (height, width, 3). Nothing holds more than two frames of each video. All errors are in
8-bit levels. Read them beside one another: warping error and flicker fall when a video is blurred, so the aim is the
reference's own (a quotient of 1), while the flow difference (tOF) ranks honestly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from numpy.typing import NDArray

Picture = UInt8[np.ndarray, "height width 3"]
Flow = Float32[np.ndarray, "height width 2"]
Mask = Bool[np.ndarray, "height width"]
Array = NDArray[np.float32]

STILL_PX = 0.25
STILL_LEVELS = 3.0
STILL_SHARE = 0.01
STEP_FLOOR = 0.25
_NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Motion:
    """What happens in the reference between two successive frames."""

    flow: Flow
    """Displacement in pixels (right, down) from the later frame back to the earlier one."""
    visible: Mask
    """Pixels of the later frame that are seen in the earlier one."""
    still: Mask
    """Pixels that neither move nor change."""


class Change(NamedTuple):
    """What one video does between two successive frames."""

    warp: float
    """Mean difference after motion compensation where nothing is occluded; nan if everything is."""
    still: float
    """Mean difference where the reference stands still; nan if too little does."""
    still_pixels: int
    step: float
    """Mean difference of the two frames."""
    tof: float = 0.0
    """Mean difference of its optical flow from the reference's, in pixels (Chu et al. 2020)."""


@dataclass(frozen=True)
class TemporalScores:
    """The measures of a whole video. nan where there is nothing to measure."""

    warp: float
    warp_rel: float
    tof: float
    flicker: float
    flicker_rel: float
    seam: float
    """Temporal difference at window starts over elsewhere, each relative to the reference's own; 1 = no seam."""
    jump: float
    """Largest over median of the same quotient: a seam that shows without knowing where windows start."""


class MotionMeter:
    """Measures pairs of frames; holds the flow estimator (DIS, medium preset: Kroeger et al. 2016)."""

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def flow(self, source: Picture, target: Picture) -> Flow:
        """Where every pixel of ``source`` lies in ``target``."""
        source_gray, target_gray = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (source, target))
        return np.asarray(self._dis.calc(source_gray, target_gray, None))

    def motion(self, before: Picture, after: Picture) -> Motion:
        """The reference's motion from ``before`` to ``after``."""
        back, forth = self.flow(after, before), self.flow(before, after)
        change = np.abs(cv2.blur(after.astype(np.float32) - before, (5, 5))).max(axis=-1)
        still = (np.hypot(back[..., 0], back[..., 1]) < STILL_PX) & (change < STILL_LEVELS)
        return Motion(flow=back, visible=visible(back, forth), still=still)

    def change(self, before: Picture, after: Picture, motion: Motion, *, is_reference: bool = False) -> Change:
        """What a video does over this pair; of the reference itself the flow is known already."""
        plain = np.abs(after.astype(np.float32) - before).mean(axis=-1)
        moved = np.abs(after.astype(np.float32) - warp(before.astype(np.float32), motion.flow)).mean(axis=-1)
        tof = 0.0 if is_reference else float(np.abs(self.flow(after, before) - motion.flow).sum(axis=-1).mean())
        enough = motion.still.mean() > STILL_SHARE
        return Change(
            warp=float(moved[motion.visible].mean()) if motion.visible.any() else _NAN,
            still=float(plain[motion.still].mean()) if enough else _NAN,
            still_pixels=int(motion.still.sum()) if enough else 0,
            step=float(plain.mean()),
            tof=tof,
        )


def warp(picture: Array, flow: Flow) -> Array:
    """Backward warp: the value at a pixel is the picture's where the flow points to (bilinear, borders repeated)."""
    x, y = _targets(flow)
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def visible(flow: Flow, opposite: Flow) -> Mask:
    """Pixels whose flow leads inside the picture and back again (Sundaram et al. 2010, eq. 5)."""
    back = warp(opposite, flow)
    error = ((flow + back) ** 2).sum(axis=-1)
    length = (flow**2).sum(axis=-1) + (back**2).sum(axis=-1)
    height, width = error.shape
    x, y = _targets(flow)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return np.asarray((error < 0.01 * length + 0.5) & inside)


def summarise(changes: Sequence[Change], reference: Sequence[Change], bounds: Sequence[int] = ()) -> TemporalScores:
    """Scores of a video from its changes and the reference's over the same pairs.

    ``bounds``: frames at which a window of the program that made the video starts, for the seam index.
    """
    warp_mean, reference_warp = _mean([c.warp for c in changes]), _mean([c.warp for c in reference])
    flicker, reference_flicker = _flicker(changes), _flicker(reference)
    quotient = np.array([c.step / max(r.step, STEP_FLOOR) for c, r in zip(changes, reference, strict=True)])
    return TemporalScores(
        warp=warp_mean,
        warp_rel=warp_mean / max(reference_warp, 1e-6),
        tof=_mean([c.tof for c in changes]),
        flicker=flicker,
        flicker_rel=flicker / max(reference_flicker, 1e-6),
        seam=_seam(quotient, bounds),
        jump=float(quotient.max() / max(np.median(quotient), 1e-6)) if len(quotient) else _NAN,
    )


def _targets(flow: Flow) -> tuple[Array, Array]:
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x + flow[..., 0], y + flow[..., 1]


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else _NAN


def _flicker(changes: Sequence[Change]) -> float:
    """Mean change of still pixels: every pair counts by how many it has."""
    weight = sum(c.still_pixels for c in changes)
    return sum(c.still * c.still_pixels for c in changes if c.still_pixels) / weight if weight else _NAN


def _seam(quotient: NDArray[np.float64], bounds: Sequence[int]) -> float:
    at = np.zeros(len(quotient), dtype=bool)
    at[[b - 1 for b in bounds if 0 < b <= len(quotient)]] = True
    return float(quotient[at].mean() / quotient[~at].mean()) if at.any() and not at.all() else _NAN
