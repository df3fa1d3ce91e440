"""How long the shutter was open, where nobody says: the longest exposure that still explains the blurred frames."""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vrestore.exposure import exposure, to_light, to_values
from vrestore.flow import FlowPair, flow_pair
from vrestore.shapes import Frame, Frames
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
RISE = 0.35
"""What cannot be explained of a further blur: near 0 up to the true shutter, about 0.7 above it."""


def estimate_shutter(frames: Frames) -> float:
    """Share of the frame interval during which the shutter was open, to an eighth; 0 where nothing moves.

    A frame that was exposed for a while can be explained by any shorter exposure of a less sharp frame, but not by a
    longer one, which leaves out frequencies that the frame shows. So the residual of the best explanation stays low up
    to the true shutter and rises from there, by a fixed share of what the longer exposure would blur.

    Args:
        frames: three or more neighbouring frames of one shot, stored values in [0, 1].
    """
    if len(frames) < 3:  # no frame has a neighbour on both sides
        return 0.0
    small = _moving_part(frames)
    flows = [flow_pair(a, b) for a, b in pairwise(small)]
    moving = {i: _moving(flows[i - 1], flows[i]) for i in range(1, len(small) - 1)}
    told = [i for i in moving if float(moving[i].mean()) >= LEAST_MOVING]
    told = sorted(told, key=lambda i: -float((moving[i] * flows[i].forward.square().sum(1)).mean()))[:LOOKED_AT]
    if not told:
        return 0.0
    left, blurred = [0.0], [0.0]
    for step in range(1, CANDIDATES + 1):
        pairs = [_energies(small[i], flows[i - 1], flows[i], step / CANDIDATES, moving[i]) for i in told]
        left.append(sum(pair[0] for pair in pairs) ** 0.5)
        blurred.append(sum(pair[1] for pair in pairs) ** 0.5)
    # from the longest down: what a longer shutter blurs further, the data refuse
    for step in range(CANDIDATES, 0, -1):
        if left[step] - left[step - 1] < RISE * (blurred[step] - blurred[step - 1]):
            return step / CANDIDATES
    return 0.0


def _energies(frame: Frame, before: FlowPair, after: FlowPair, shutter: float, where: Tensor) -> tuple[float, float]:
    """Squared error of the best explanation by a shutter, and what that shutter would change in the frame."""
    seen_by = exposure(before, after, shutter)
    found = consistent(frame, frame, seen_by)
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
