"""Motion between neighbouring degraded frames, from a classical flow: what temporal layers align by."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vrestore.shapes import Frame

FLOW_FACTOR = 2
"""The flow is computed at half the output size: at x4 that is twice the size of the input."""
PER_LATENT = 4
"""Flow pixels along one side of a latent pixel."""
SMALLEST = 16
"""Shortest side of a flow picture, in pixels, below which the flow has no coarse level to start from."""


def flow_picture(frame: Frame) -> np.ndarray:
    """8-bit luma (height / 2, width / 2) of a degraded frame, as the flow sees it."""
    small = F.avg_pool2d(frame[None].float(), FLOW_FACTOR)[0]
    weights = small.new_tensor([0.299, 0.587, 0.114])
    luma = torch.einsum("c,chw->hw", weights, small).clamp(0, 1)
    return (luma * 255).round().to(torch.uint8).cpu().numpy()


def _field(forward: np.ndarray, backward: np.ndarray) -> Tensor:
    height, width = forward.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    returned = cv2.remap(
        backward, x + forward[..., 0], y + forward[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    error = ((forward + returned) ** 2).sum(-1)
    seen = error < 0.01 * ((forward**2).sum(-1) + (returned**2).sum(-1)) + 0.5
    field = np.concatenate([forward / PER_LATENT, seen[..., None]], axis=-1).astype(np.float32)
    return F.avg_pool2d(rearrange(torch.from_numpy(field), "h w c -> 1 c h w"), PER_LATENT)[0]


def no_motion(picture: np.ndarray) -> Tensor:
    """The field towards a neighbour that does not exist: nothing visible, (3, h, w) at latent size."""
    return torch.zeros(3, picture.shape[0] // PER_LATENT, picture.shape[1] // PER_LATENT)


def motion_between(first: np.ndarray, second: np.ndarray) -> tuple[Tensor, Tensor]:
    """Motion from one flow picture to the other, and back: two fields (3, h, w) at latent size.

    Each holds flow (dx, dy, in latent pixels) and visibility in [0, 1]. Dense inverse search (Kroeger et al., 2016); a
    pixel is visible where forward and backward flow agree (Sundaram, Brox and Keutzer, 2010).
    """
    if min(first.shape) < SMALLEST:
        return no_motion(first), no_motion(second)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward, backward = dis.calc(first, second, None), dis.calc(second, first, None)
    return _field(forward, backward), _field(backward, forward)


def motions(pictures: Iterable[np.ndarray]) -> Iterator[Tensor]:
    """Of every flow picture in turn its motion to both neighbours, (6, h, w), previous first. Reads one ahead."""
    stream = iter(pictures)
    here = next(stream, None)
    if here is None:
        return
    to_previous = no_motion(here)
    for following in stream:
        to_next, back = motion_between(here, following)
        yield torch.cat([to_previous, to_next])
        here, to_previous = following, back
    yield torch.cat([to_previous, no_motion(here)])
