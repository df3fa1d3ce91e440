"""Deblurring without training: the exposure is known from the motion, and its inversion is held together by any prior.

Every frame is explained by its own exposure (`vrestore.exposure`), found from the flow of the blurred frames and once
more from the flow of the first result. In turns a prior says what the frame should look like, and conjugate gradients
find the frame next to that which explains the blurred one: plug-and-play restoration (Venkatakrishnan, Bouman and
Wohlberg, GlobalSIP 2013). What the exposure cannot explain stays as it was, and so does what was seen while the motion
changed too fast to be known. A frame depends on three frames before and three after it, and on what its prior looks at.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from vrestore.conditioning import given
from vrestore.errors import ConfigError, PriorError
from vrestore.exposure import Exposure, exposure, light_gain, to_light, to_values
from vrestore.flow import FlowPair, dense_doubled, flow_pair
from vrestore.guidance import data_consistent
from vrestore.neighbours import with_neighbours
from vrestore.noise import noise
from vrestore.padding import pad_to
from vrestore.prior import Conditioning, Prior
from vrestore.sampling import Ladder, advance, start
from vrestore.shapes import Frame, Frames, Latents

Restore = Callable[[Frames], Frames]
"""What a prior makes of neighbouring frames of a shot in [0, 1], (time, 3, height, width)."""

REACH = 3
"""Frames on either side that the result of a frame depends on: one for its flow, one more for the refined flow, and one
for how evenly that goes on."""
WEIGHT = 0.03
"""How much the prior is believed beside the data. Stored in 8 bits, data are exact to about a thousandth."""
ITERATIONS, TOLERANCE = 25, 0.03
"""Of conjugate gradients, at most, and the residual, relative to its start, that is small enough. A blur of a pixel
needs five, one of twenty pixels all; on rendered scenes exact solutions are no better, on real ones .1 dB."""
FLOOR = 1e-3
"""Light below which a stored value is taken to be no more sensitive to it."""
SHORT = 2.0
"""Pixels of blur below which less and less of it is undone, for no motion is known any better."""
UNEVEN = 4.5
"""Pixels of such blur for each pixel by which even motion may be wrong where the exposure ends: t (1 - t) times the
change of motion from one frame to the next. What shakes moves within an exposure as no flow between frames tells:
undone all the same, rendered shakes lost up to 8 dB a frame (90 degrees)."""
MOST_KEPT = 3.0
"""Weight, beside that of the data, with which the frame stays as it was, at most."""
BELIEVED, DISBELIEVED = 0.35, 0.5
"""Residual, relative to what the exposure changes, up to which a result is taken, and from which it is not. With the
right motion it was 0.20 to 0.35 on real clips, with motion that was partly or wholly wrong 0.43 and 0.47."""
AROUND = 16.0
"""Deviation, in pixels, of the surroundings in which that is measured."""
UNSEEN = 1.5 / 255
"""Change by the exposure that is too small to tell."""
EDGE_REACH, EDGE_VALUES = 3.0, 0.05
"""Of the smoothing that keeps edges: deviations in pixels and in values."""


@dataclass(frozen=True)
class ZeroShot:
    """How blurred frames are inverted."""

    shutter: float
    """Share of the frame interval in [0, 1] during which the shutter was open: degrees / 360."""
    instants: int | None = None
    """Sub-instants of the exposure; None: as many as the motion asks for."""
    rounds: int = 2
    """Turns of prior and data, 0 or more."""
    refine: bool = True
    """Whether the flow is found again, from the first result."""
    weight: float = WEIGHT
    short: float = SHORT
    """Pixels of blur, 0 or more, below which less and less of it is undone, at least."""
    window: int = 8
    """Frames that are held, and shown to the prior, together."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        if not 0 <= self.shutter <= 1:
            raise ConfigError(f"shutter is {self.shutter}; give 0 to 1 (degrees / 360)")
        if self.rounds < 0 or self.window < 1 or not self.weight > 0 or not self.short >= 0:
            raise ConfigError(
                f"rounds is {self.rounds}, window {self.window}, weight {self.weight}, short {self.short}; give 0 or "
                "more, 1 or more, a positive number, and 0 or more"
            )


def smooth_keeping_edges(frames: Frames) -> Frames:
    """The prior where there is none: bilateral filtering (Tomasi and Manduchi, ICCV 1998)."""
    pictures = [np.ascontiguousarray(frame.permute(1, 2, 0).float().cpu().numpy()) for frame in frames]
    smooth = [cv2.bilateralFilter(picture, 9, EDGE_VALUES, EDGE_REACH) for picture in pictures]
    return torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in smooth]).to(frames)


def through(prior: Prior, steps: int = 1, *, seed: int = 0) -> Restore:
    """Any prior as a restoring function: encode, walk down ``steps`` levels in one window, decode.

    ``seed``: of the noise that a prior is given, and starts from unless it is a bridge; the same in every window.

    Raises:
        PriorError: the prior enlarges, or wants to know more than it finds in the frames.
    """
    facts, ladder = prior.facts, prior.ladder(steps)
    if facts.scale not in (None, 1):
        raise PriorError(
            f"the prior {facts.name} makes frames {facts.scale} times larger; give one that keeps the size"
        )

    def restore(frames: Frames) -> Frames:
        size = (frames.shape[-2], frames.shape[-1])
        entries = list(prior.conditions(pad_to(frame, facts.size_multiple) for frame in frames))
        for i, entry in enumerate(entries):
            entry |= given(facts, frames[i], entry["degraded_latents"], seed=seed, frame=i)
        missing = facts.conditionings - entries[0].keys()
        if missing:
            raise PriorError(
                f"the prior {facts.name} asks for {', '.join(sorted(missing))} beside the frames; give a function that "
                "restores frames by it"
            )
        beside = [None, *entries, None]
        around = [here | prior.surroundings(beside[i], here, beside[i + 2]) for i, here in enumerate(entries)]
        known = {name: torch.stack([entry[name] for entry in around]) for name in around[0]}
        z = _walked(prior, ladder, known, seed)
        return prior.decode(z, known)[..., : size[0], : size[1]].to(frames).clamp(0, 1)

    return restore


def _walked(prior: Prior, ladder: Ladder, known: Conditioning, seed: int) -> Latents:
    """Clean latents of frames in one window, deterministically from where the prior starts."""

    def drawn(frame: int, level: int) -> Tensor:
        channels, height, width = known["degraded_latents"].shape[1:]
        return noise(seed, frame, level, (channels, height, width))

    wanted = {name: known[name][None] for name in prior.facts.conditionings}
    z = torch.stack([start(ladder, one, partial(drawn, i)) for i, one in enumerate(known["degraded_latents"])])
    for level in range(ladder.levels, 0, -1):
        times = torch.full((1, len(z)), ladder.time[level])
        x0 = prior.predict(z[None], times, wanted)[0].to(z)
        pairs = enumerate(zip(z, x0, strict=True))
        z = torch.stack([advance(ladder, a, b, level, level - 1, partial(drawn, i)) for i, (a, b) in pairs])
    return z


def consistent(x0: Frame, blurred: Frame, seen_by: Exposure, *, weight: float = WEIGHT, short: float = SHORT) -> Frame:
    """The frame near ``x0`` that the exposure blurs to ``blurred``; all stored values in [0, 1].

    The exposure is of light, while errors are of stored values: both are weighed by how values change with light.
    Where the blur is shorter than ``short`` pixels the frame stays near ``blurred``, too: |x - x0|^2 and
    |x - blurred|^2 are one square.
    """
    gain = light_gain(to_light(blurred), FLOOR)
    kept = (weight * (short / seen_by.length(blurred).clamp(min=1e-3)) ** 3).clamp(max=MOST_KEPT)
    near = (weight * to_light(x0) + kept * to_light(blurred)) / (weight + kept)
    found = data_consistent(
        gain * near,
        gain * to_light(blurred),
        lambda x: gain * seen_by.apply(x / gain),
        lambda y: seen_by.adjoint(gain * y) / gain,
        weight=weight + kept,
        iterations=ITERATIONS,
        tolerance=TOLERANCE,
    )
    return to_values(found / gain)


def believed(x: Frame, blurred: Frame, seen_by: Exposure) -> Frame:
    """A data-consistent frame where its exposure explains the blurred one, which stays where it does not.

    A wrong motion (at the end of a shot, where things appear, where the flow failed) leaves a residual that no frame
    can explain: the same sign by which `vrestore.shutter` tells that an exposure was shorter.
    """
    left, changed = (_energy(to_values(seen_by.apply(to_light(frame))) - blurred) for frame in (x, blurred))
    share = (left / (changed + UNSEEN**2)).sqrt()
    trust = ((DISBELIEVED - share) / (DISBELIEVED - BELIEVED)).clamp(0, 1)
    return blurred + trust * (x - blurred)


def _energy(error: Frame) -> Tensor:
    """Mean square of an error around every pixel, (height, width)."""
    square = error.square().mean(0)
    return torch.from_numpy(cv2.GaussianBlur(square.cpu().numpy(), (0, 0), AROUND)).to(square)


def deblurred(frames: Iterable[Frame], how: ZeroShot, restore: Restore = smooth_keeping_edges) -> Iterator[Frame]:
    """Frames of one shot, deblurred, in order; holds ``how.window`` + 2 `REACH` of them.

    ``restore`` sees ``how.window`` frames and those around them, as far as there are any.
    """
    for held, group in with_neighbours(frames, how.window, REACH, REACH):
        yield from _inverted(held, how, restore, group.start, group.stop)


def deblur(frames: Frames, how: ZeroShot, restore: Restore = smooth_keeping_edges) -> Frames:
    """All frames of a shot, or of a window of it, deblurred together."""
    return torch.stack(_inverted(list(frames), how, restore, 0, len(frames)))


def _inverted(frames: Sequence[Frame], how: ZeroShot, restore: Restore, first: int, stop: int) -> list[Frame]:
    """The frames from ``first`` up to ``stop``, deblurred; the others are neighbours to look at."""
    flows = [flow_pair(a, b, dense_doubled) for a, b in pairwise(frames)]
    around = range(max(0, first - 1), min(len(frames), stop + 1))
    end = how.shutter / 2
    short = {i: max(how.short, UNEVEN * end * (1 - end) * unevenness(flows, i)) for i in around}
    found = list(frames)

    def once(predicted: Frame, i: int) -> Frame:
        seen_by = _exposure(flows, i, how)  # large: one at a time
        x = consistent(predicted, frames[i], seen_by, weight=how.weight, short=short[i])
        return believed(x, frames[i], seen_by)

    if how.refine:
        for i in around:
            found[i] = once(frames[i], i)
        for i in around[:-1]:
            flows[i] = flow_pair(found[i], found[i + 1], dense_doubled)
    predicted: Sequence[Frame] | Frames = frames
    for turn in range(how.rounds + 1):
        for i in range(first, stop):
            found[i] = once(predicted[i], i)
        if turn < how.rounds:
            predicted = restore(torch.stack(found))
    return found[first:stop]


def unevenness(flows: Sequence[FlowPair], i: int) -> float:
    """Pixels a frame by which motion changes from frame to frame, at frame ``i`` or beside it, whichever is more.

    The median over the picture: things that start to move by themselves do not make a camera shake.

    Args:
        flows: between each frame and the next, that from frame ``i`` to its neighbours among them, as far as there are.
        i: index of the frame, counted as the flows are: flow ``i`` starts there.
    """
    pairs = [(flows[k - 1], flows[k]) for k in range(i - 1, i + 2) if 0 < k < len(flows)]
    changes = [float((after.forward - before.forward).norm(dim=1).median()) for before, after in pairs]
    return max(changes, default=0.0)


def _exposure(flows: Sequence[FlowPair], i: int, how: ZeroShot) -> Exposure:
    before = flows[i - 1] if i > 0 else None
    after = flows[i] if i < len(flows) else None
    return exposure(before, after, how.shutter, instants=how.instants)
