"""How long the shutter was open, where nobody says: the longest exposure that still explains the blurred frames."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vrestore.exposure import exposure, to_light, to_values
from vrestore.flow import FlowPair, dense_doubled, flow_pair
from vrestore.gather import Warp, doubled
from vrestore.shapes import Flow, Frame, Frames
from vrestore.zero_shot import consistent

CANDIDATES = 8
"""Shutters that are tried: 1/8 to 1 of the frame interval, 45 to 360 degrees."""
LOOKED_AT = 2
"""Frames that are measured: those that move most."""
LARGEST = 2048
"""Longest side, in pixels, at which frames are measured: reduced further, they would show too little of their blur."""
PART = (256, 448)
"""Height and width, in pixels, of the part that is measured: the one that moves most."""
FASTEST = 24.0
"""Pixels a frame above which more motion is no better."""
LEAST_MOTION = 2.0
"""Pixels a frame: less leaves no blur to measure."""
LEAST_MOVING = 0.01
"""Share of a frame that must move for it to say anything."""
EXPLAINED = 0.55
"""What cannot be explained of a further blur, in parts of it, below which a shutter may be the true one: near 0 up to
there, about 0.7 to 1 above it."""
KINK = 0.4
"""By how much that rises within two steps, where the shutter can be told: pictures that were soft before they moved are
explained by shutters a little less well each."""
EVEN = 0.3
"""What cannot be explained of the last two steps, below which the shutter was open all the time."""
COARSE = 8.0
"""Pixels between places whose differences tell how much detail a picture has along and across its motion anyway."""
NOISE = 0.3 / 255
"""Differences that stored values of 8 bits have without any detail."""
STREAKED, SOME_STREAKS = 0.75, 0.95
"""Detail along the motion to that across it, below which it was the motion that took it away, and above which it was
not. Of 10 rendered and 3 real clips it was .72 to 1.7 where they were sharp, .79 to 1.4 softened, and .15 to .67 under
360 degrees."""
LEAST_CHANGE = 1 / 255
"""What the shutter changes in a frame, root mean square, below which it does not matter and cannot be told."""


class Shutter(NamedTuple):
    """What frames tell of a shutter."""

    share: float
    """Of the frame interval, during which it was open, to an eighth."""
    sure: bool
    """Whether streaks lie along the motion: where none do, the share may be a wrong one, if a short one."""


CLOSED = Shutter(0.0, sure=True)


def estimate_shutter(frames: Frames) -> Shutter:
    """Share of the frame interval during which the shutter was open; `CLOSED` where nothing moves.

    A frame that was exposed for a while can be explained by any shorter exposure of a less sharp frame, but not by a
    longer one, which leaves out frequencies that the frame shows. So the residual of the best explanation stays low up
    to the true shutter and rises from there, by a fixed share of what the longer exposure would blur. What was soft
    before it moved is explained by any shutter: closed, too, unless detail lacks along the motion alone.

    Args:
        frames: three or more neighbouring frames of one shot, stored values in [0, 1].
    """
    if len(frames) < 3:  # no frame has a neighbour on both sides
        return CLOSED
    small = _moving_part(frames)
    flows = [flow_pair(a, b, dense_doubled) for a, b in pairwise(small)]
    moving = {i: _moving(flows[i - 1], flows[i]) for i in range(1, len(small) - 1)}
    told = [i for i in moving if float(moving[i].mean()) >= LEAST_MOVING]
    told = sorted(told, key=lambda i: -float((moving[i] * flows[i].forward.square().sum(1)).mean()))[:LOOKED_AT]
    if not told:
        return CLOSED
    left, blurred = [0.0], [0.0]
    for step in range(1, CANDIDATES + 1):
        pairs = [_energies(small[i], flows[i - 1], flows[i], step / CANDIDATES, moving[i]) for i in told]
        left.append(sum(pair[0] for pair in pairs) ** 0.5)
        blurred.append(sum(pair[1] for pair in pairs) ** 0.5)
    step = last_explained(np.diff(left) / np.maximum(np.diff(blurred), 1e-9))
    if blurred[step] < LEAST_CHANGE:
        return CLOSED
    most = STREAKED if step >= CANDIDATES - 1 else SOME_STREAKS  # nothing tells that a longer one is refused
    found = float(np.mean([streaks(small[i], flows[i].forward, moving[i]) for i in told]))
    if found > most:
        return CLOSED
    return Shutter(step / CANDIDATES, sure=found < STREAKED)


def streaks(frame: Frame, flow: Flow, where: Tensor) -> float:
    """Fine detail along a motion, compared with that across it, each relative to coarse detail in that direction.

    1 where blur, if any, is the same in all directions; small where the motion drew streaks.

    Args:
        frame: stored values in [0, 1].
        flow: (1, 2, height, width), of which only the direction counts.
        where: (1, 1, height, width), what counts.
    """
    luma = frame.mean(0)[None, None]
    fine = doubled(luma)
    along = flow / flow.norm(dim=1, keepdim=True).clamp(min=1e-3)
    across = torch.stack([-along[:, 1], along[:, 0]], dim=1)

    def detail(way: Flow) -> float:
        around = sum(Warp(side * way, halves=True).apply(fine) for side in (1, -1))
        return float(((around - 2 * luma).square() * where).sum() / where.sum()) + NOISE**2

    (fine_along, coarse_along), (fine_across, coarse_across) = (
        [detail(way), detail(COARSE * way)] for way in (along, across)
    )
    return (fine_along / coarse_along) / (fine_across / coarse_across)


def last_explained(unexplained: np.ndarray) -> int:
    """The longest shutter, in steps, that explains what is seen, where longer ones are clearly refused; 0 if none is.

    ``unexplained``: what cannot be explained of each step's blur, in parts of it.
    """
    if unexplained[-2:].mean() < EVEN:
        return len(unexplained)
    for step in range(len(unexplained) - 1, 0, -1):
        here, above = unexplained[step - 1], unexplained[step : step + 2]
        if here < EXPLAINED and above.max() - here >= KINK:
            return step
    return 0


def _energies(frame: Frame, before: FlowPair, after: FlowPair, shutter: float, where: Tensor) -> tuple[float, float]:
    """Squared error of the best explanation by a shutter, and what that shutter would change in the frame."""
    seen_by = exposure(before, after, shutter)
    found = consistent(frame, frame, seen_by, short=0.0)
    errors = [to_values(seen_by.apply(to_light(x))) - frame for x in (found, frame)]
    left, changed = (float((error.square() * where[0]).mean()) for error in errors)
    return left, changed


def _moving(before: FlowPair, after: FlowPair) -> Tensor:
    """Where a frame moves and both neighbours show it, (1, 1, height, width)."""
    fast = after.forward.square().sum(1, keepdim=True).sqrt() > LEAST_MOTION
    return fast * (after.left_seen > 0.9) * (before.right_seen > 0.9).float()


def _moving_part(frames: Frames) -> Frames:
    """The part of the pictures that moves most, at no more than the largest size."""
    small = F.avg_pool2d(frames.float(), -(-max(frames.shape[-2:]) // LARGEST))
    flows = torch.cat([flow_pair(a, b).forward for a, b in pairwise(small)])
    speed = flows.norm(dim=1).clamp(max=FASTEST).mean(0, keepdim=True)
    rows, columns = (min(most, n) for most, n in zip(PART, small.shape[-2:], strict=True))
    stride = 16
    pooled = F.avg_pool2d(speed[None], (rows, columns), stride=stride)[0, 0]
    y, x = (stride * int(i) for i in np.unravel_index(int(pooled.argmax()), tuple(pooled.shape)))
    return small[..., y : y + rows, x : x + columns]
