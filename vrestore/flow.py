"""Dense motion between two pictures, what of it can be believed, and the picture at any time between them.

Flow is backward: ``flow[:, y, x]`` is where a pixel of the first picture lies in the second, in pixels (dx, dy).
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from vrestore.shapes import Flow, Frame

Luma = UInt8[np.ndarray, "rows columns"]
FlowArray = Float[np.ndarray, "rows columns 2"]
Finder = Callable[[Luma, Luma], FlowArray]

SMALLEST = 16
"""Shortest side of a picture, in pixels, below which the flow has no coarse level to start from."""
SMOOTHNESS = 30.0
"""Of a flow that is found down to single pixels: the weight of its smoothness in the variational refinement."""
SEEN_BLUR = 1.0
"""Deviation, in pixels, by which the edge of what both pictures show is softened."""
LEAST_SHARE = 0.02
"""Least share of a picture in the blend: where neither shows a place, both are mixed."""
DOUBT = 20 / 255
"""Photometric error at which a splatted motion vector counts a third."""


def warp(features: Tensor, flow: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Backward warp, out[y, x] = features[y + dy, x + dx], edges repeated: (n, c, h, w) by (n, 2, h, w) in pixels."""
    h, w = features.shape[-2:]
    y = torch.arange(h, device=flow.device, dtype=torch.float32)
    x = torch.arange(w, device=flow.device, dtype=torch.float32)
    grid_x = (2 * (x + flow[:, 0].float()) + 1) / w - 1  # align_corners=False: pixel centres lie at (2 i + 1) / n - 1
    grid_y = (2 * (y[:, None] + flow[:, 1].float()) + 1) / h - 1
    grid = torch.stack([grid_x, grid_y], dim=-1)
    sampled = F.grid_sample(features.float(), grid, mode=mode, padding_mode="border", align_corners=False)
    return sampled.to(features.dtype)


def luma8(frame: Frame) -> Luma:
    """8-bit luma of a frame in [0, 1], as the flow sees it."""
    weights = frame.new_tensor([0.299, 0.587, 0.114], dtype=torch.float32)
    luma = torch.einsum("c,chw->hw", weights, frame.float()).clamp(0, 1)
    return (luma * 255).round().to(torch.uint8).cpu().numpy()


def dense(first: Luma, second: Luma) -> FlowArray:
    """Flow from the first picture to the second by dense inverse search (Kroeger et al., ECCV 2016).

    Zero where the pictures are too small for it.
    """
    return _searched(first, second, cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM))


def dense_fine(first: Luma, second: Luma) -> FlowArray:
    """As `dense`, down to single pixels instead of pairs of them, and smoother, at four times the time.

    Only so precise a flow brings detail above the sampling limit of a small frame into phase.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    search.setVariationalRefinementAlpha(SMOOTHNESS)
    return _searched(first, second, search)


def _searched(first: Luma, second: Luma, search: cv2.DISOpticalFlow) -> FlowArray:
    if min(first.shape) < SMALLEST:
        return np.zeros((*first.shape, 2), np.float32)
    found: FlowArray = search.calc(first, second, None)
    return found


def dense_doubled(first: Luma, second: Luma) -> FlowArray:
    """As `dense`, on pictures twice as large: less of what is thin or goes far is missed, at four times the time."""
    larger = [cv2.resize(one, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for one in (first, second)]
    found: FlowArray = cv2.resize(dense(*larger), first.shape[::-1], interpolation=cv2.INTER_AREA) / 2
    return found


def visible(forward: FlowArray, backward: FlowArray) -> np.ndarray:
    """Pixels of the first picture that the second shows: forward and backward flow agree there, bool (height, width).

    Sundaram, Brox and Keutzer, ECCV 2010, eq. 5.
    """
    back = followed(forward, backward)
    error = ((forward + back) ** 2).sum(-1)
    seen: np.ndarray = error < 0.01 * ((forward**2).sum(-1) + (back**2).sum(-1)) + 0.5
    return seen


def followed(forward: FlowArray, backward: FlowArray) -> FlowArray:
    """The backward flow at the places to which pixels of the first picture go, edges repeated."""
    height, width = forward.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x + forward[..., 0], y + forward[..., 1]
    found: FlowArray = cv2.remap(backward, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found


@dataclass(frozen=True)
class FlowPair:
    """Flow between two frames both ways, (1, 2, height, width), and what of each the other shows, (1, 1, ...)."""

    forward: Flow
    backward: Flow
    left_seen: Tensor
    right_seen: Tensor


def flow_pair(left: Frame, right: Frame, find: Finder = dense) -> FlowPair:
    """Motion between two frames of one size, on their device; ``find``: the flow from one picture to another."""
    pictures = luma8(left), luma8(right)
    forward, backward = find(*pictures), find(*reversed(pictures))
    seen = [visible(forward, backward), visible(backward, forward)]
    soft = [cv2.GaussianBlur(s.astype(np.float32), (0, 0), SEEN_BLUR) for s in seen]
    flows = [torch.from_numpy(f).permute(2, 0, 1)[None].to(left.device) for f in (forward, backward)]
    masks = [torch.from_numpy(s)[None, None].to(left.device) for s in soft]
    return FlowPair(flows[0], flows[1], masks[0], masks[1])


@dataclass(frozen=True)
class Between:
    """The picture at a time between two frames as flow alone makes it, and what it is made of. Leading axis 1."""

    blend: Tensor
    """(1, 3, height, width): both frames brought there, mixed by nearness and visibility."""
    from_left: Tensor
    from_right: Tensor
    to_left: Flow
    """Flow from the picture to the left frame, in pixels."""
    to_right: Flow
    seen_left: Tensor
    """(1, 1, height, width) in [0, 1]: whether the left frame shows the place."""
    seen_right: Tensor
    share: Tensor
    """(1, 1, height, width): share of the left frame in the blend."""
    agreement: Tensor
    """(1, 1, height, width) in [0, 1]: how well both frames, brought there, agree; 0 where only one shows the place."""


def between(left: Frame, right: Frame, flows: FlowPair, time: float) -> Between:
    """The picture at ``time`` in (0, 1) between two frames, by splatted flows and backward warping.

    Motion is taken as uniform between the frames; where two motions land on one place, the one that is photometrically
    right counts more (Niklaus and Liu, "Softmax splatting", CVPR 2020, their summation splatting with such weights).
    """
    a, b = left[None].float(), right[None].float()
    to_left, to_right = _towards(a, b, flows, time)
    brought = warp(a, to_left, mode="bicubic").clamp(0, 1), warp(b, to_right, mode="bicubic").clamp(0, 1)
    # a place that the other frame does not show must come from the one frame that shows it
    seen = warp(flows.right_seen, to_right).clamp(LEAST_SHARE, 1), warp(flows.left_seen, to_left).clamp(LEAST_SHARE, 1)
    weights = (1 - time) * seen[0], time * seen[1]
    share = weights[0] / (weights[0] + weights[1])
    blend = share * brought[0] + (1 - share) * brought[1]
    error = (brought[0] - brought[1]).abs().mean(1, keepdim=True)
    agreement = torch.exp(-error / DOUBT) * seen[0].minimum(seen[1])
    return Between(blend, *brought, to_left, to_right, *seen, share, agreement)


def _towards(left: Tensor, right: Tensor, flows: FlowPair, time: float) -> tuple[Tensor, Tensor]:
    """Flow from the time between to both frames.

    Where no vector lands, that of the other direction, reversed, stands in; where neither does, the linear estimate of
    Jiang et al., "Super SloMo", CVPR 2018, eq. 4.
    """
    errors = (left - warp(right, flows.forward)).abs(), (right - warp(left, flows.backward)).abs()
    doubts = [torch.exp(-e.mean(1, keepdim=True) / DOUBT) for e in errors]
    moved, hit = splat(flows.forward, doubts[0], time)
    back, hit_back = splat(flows.backward, doubts[1], 1 - time)
    rest = 1 - time
    linear_left = -rest * time * flows.forward + time**2 * flows.backward
    linear_right = rest**2 * flows.forward - time * rest * flows.backward
    to_left = torch.where(hit, -time * moved, torch.where(hit_back, time * back, linear_left))
    to_right = torch.where(hit_back, -rest * back, torch.where(hit, rest * moved, linear_right))
    return to_left, to_right


def splat(flow: Tensor, weight: Tensor, time: float) -> tuple[Tensor, Tensor]:
    """Carry every vector to where it points after ``time``, (1, 2, h, w), and tell where one landed, bool (1, 1, h, w).

    ``weight`` (1, 1, h, w): how much a vector counts where several land.
    """
    h, w = flow.shape[-2:]
    x = torch.arange(w, device=flow.device) + time * flow[0, 0]
    y = torch.arange(h, device=flow.device)[:, None] + time * flow[0, 1]
    carried = torch.cat([flow[0] * weight[0], weight[0]]).flatten(1)
    total = flow.new_zeros(3, h * w)
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        column, row = x.floor() + corner[0], y.floor() + corner[1]
        near = (1 - (x - column).abs()) * (1 - (y - row).abs())
        near = near * ((column >= 0) & (column < w) & (row >= 0) & (row < h))
        place = (row.clamp(0, h - 1) * w + column.clamp(0, w - 1)).long().flatten()
        total.index_add_(1, place, carried * near.flatten())
    total = total.view(1, 3, h, w)
    return total[:, :2] / total[:, 2:].clamp(min=1e-6), total[:, 2:] > 1e-3
