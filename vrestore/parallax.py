"""Nearness from parallax: where the camera moves, what is near moves more, and that corrects maps of a prior.

With the prior's map for a first guess of inverse depth the flow tells the camera's motion, that tells inverse depth
(`structure`), and the better map tells the motion better. What the flow says enters as a correction of the map,
weighted by how sure it is and spread along the picture (guided filter, He et al., 2013). Without parallax the map stays
as it was: a camera that stands or only turns tells nothing, and what moves by itself would be taken for near or far. A
network that learned where such a correction errs may have the last word (`Complete`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from vrestore.flow import Luma
from vrestore.registration import Map
from vrestore.structure import Motion, Seen, Voice, camera_motion, moves, triangulated

DISTANCES = (1, 3, 8)
"""Frames to either side with which one is compared."""
PIXEL_BYTES = 700
"""Of a pixel: a dozen flows that wait, with trust and error, one that is being found, and what one frame's correction
takes."""
ROUNDS = 4
"""Of motion from maps and maps from motion."""
DOUBT = 0.2
"""Error of a prior's map, as a part of its range: what the flow has to be surer than."""
FARTHEST = 0.05
"""Guess of the inverse depth of the farthest place, as a part of the range: a prior leaves it open."""
LEAST = 0.003
"""Least inverse depth of a corrected map."""
MENDED = 0.09
"""Variance that is left to a map that is surely corrected, as a part of what it had."""
SPREAD, AROUND = 24, 12
"""Parts of the picture's width that the guided filter reaches to each side, and in whose mean sureness a correction
counts."""
SURE, EDGE = 0.3, 1e-3
"""Sureness with which a correction counts half; contrast (a variance) from which on the filter keeps an edge."""
PLANES = 8
"""Pictures that `Evidence.planes` stacks."""
LUMA, FIRST, FOUND, SAYS, SURER, APART, TRUSTED, ODD = range(PLANES)
"""Where each of them is."""


@dataclass(frozen=True)
class Evidence:
    """What a prior and the motion around a frame say of its inverse depth, in the unit of the map's range."""

    luma: Luma
    first: Map
    """The prior's."""
    found: Map
    """Corrected by the flow."""
    says: Map
    """What the flows say, in the mean by how sure they are."""
    surer: Map
    """How many times as sure that is as the prior (a ratio of precisions)."""
    apart: Map
    """How far the flows are from their mean, in the mean."""
    trusted: Map
    """How far the flows are trusted, in the mean: also where nothing moves."""
    odd: Map
    """How much moves as no depth explains it, in the mean: see `Voice`."""
    likely: float
    """How likely the camera moved, in the mean: see `moves`."""

    def planes(self) -> Float[np.ndarray, "8 rows columns"]:
        """All of it but ``likely``, as a network sees it: luma in [0, 1], ``surer`` as its logarithm."""
        luma = self.luma.astype(np.float32) / 255
        seen = [luma, self.first, self.found, self.says, np.log1p(self.surer), self.apart, self.trusted, self.odd]
        return np.stack(seen)


Complete = Callable[[Evidence], Map]
"""Makes the best map of all that was seen."""


def evidence(near: Map, luma: Luma, others: list[Seen]) -> Evidence:
    """Of a map, its range from 0 to 1, and flows to other frames, one at least."""
    first = np.clip(near + FARTHEST, LEAST, None)
    doubt = DOUBT * float(np.subtract(*np.percentile(first, [95, 5]))) + 1e-6
    guide, found, vague = luma.astype(np.float32) / 255, first, np.full_like(first, doubt)
    motions: list[Motion | None] = [None] * len(others)
    likely = [moves(seen) for seen in others]
    side = near.shape[1] // AROUND + 1
    for _ in range(ROUNDS):
        voices: list[Voice] = []
        for place, seen in enumerate(others):
            motions[place] = motion = camera_motion(found, vague, seen, motions[place])
            voice = triangulated(motion, seen)
            voices.append(voice._replace(precision=np.float32(likely[place]) * voice.precision))
        says, weight = mean_of([(voice.says, voice.precision) for voice in voices])
        sure = weight / (weight + doubt**-2)
        around = cv2.boxFilter(sure, -1, (side, side))
        moved = spread(says - first, sure**2, guide) * around / (around + SURE)
        found = np.clip(first + moved, LEAST, None)
        vague = doubt * np.sqrt(1 - around + MENDED)
    apart, _ = mean_of([(np.abs(voice.says - says), voice.precision) for voice in voices])
    odd, trusted = mean_of([(voice.odd, seen.trust) for voice, seen in zip(voices, others, strict=True)])
    surer, trusted = weight * doubt**2, trusted / len(others)
    return Evidence(luma, first, found, says, surer, apart, trusted, odd, float(np.mean(likely)))


def mean_of(voices: list[tuple[Map, Map]]) -> tuple[Map, Map]:
    """The mean of maps by their precisions, and its precision."""
    total, weight = np.zeros_like(voices[0][0]), np.full_like(voices[0][0], 1e-9)
    for said, precision in voices:
        total, weight = total + precision * said, weight + precision
    return total / weight, weight


def corrected(near: Map, luma: Luma, others: list[Seen], complete: Complete | None = None) -> Map:
    """A map, its range from 0 to 1, corrected by flows to other frames."""
    seen = evidence(near, luma, others)
    return (seen.found if complete is None else complete(seen)) - FARTHEST


def spread(values: Map, weight: Map, guide: Map) -> Map:
    """Values by a linear function of the guide around each place, fitted where they have weight."""
    side = 2 * (guide.shape[1] // SPREAD) + 1

    def mean(of: Map) -> Map:
        found: Map = cv2.boxFilter(of, -1, (side, side), borderType=cv2.BORDER_REFLECT)
        return found

    weight = weight + np.float32(1e-6)
    whole = mean(weight)
    bright, level = mean(weight * guide) / whole, mean(weight * values) / whole
    slope = (mean(weight * guide * values) / whole - bright * level) / (
        mean(weight * guide**2) / whole - bright**2 + EDGE
    )
    around = mean(whole)
    found: Map = (mean(slope * whole) * guide + mean((level - slope * bright) * whole)) / around
    return found


def with_parallax(
    maps: Callable[[int], Map],
    lumas: Callable[[int], Luma],
    frames: int,
    low: float,
    high: float,
    complete: Complete | None = None,
) -> Iterator[Map]:
    """The maps of all frames in order, corrected; holds the flows of as many frames as `DISTANCES` reach.

    ``low`` and ``high``: the shot's usual range. ``maps`` and ``lumas`` (of the same size) are asked by frame.
    """
    whole = max(high - low, 1e-6)
    back: dict[int, list[Seen]] = {}
    for frame in range(frames):
        here, others = lumas(frame), back.pop(frame, [])
        for later in (frame + distance for distance in DISTANCES if frame + distance < frames):
            there, returning = Seen.between(here, lumas(later))
            others.append(there)
            back.setdefault(later, []).append(returning)
        found = maps(frame)
        yield corrected((found - low) / whole, here, others, complete) * whole + low if others else found
