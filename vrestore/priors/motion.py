"""Motion between neighbouring degraded frames, from a classical flow: what temporal layers align by."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vrestore.flow import SMALLEST, Between, FlowArray, Luma, dense, luma8, visible
from vrestore.shapes import Frame

FLOW_FACTOR = 2
"""The flow is computed at half the output size: at x4 that is twice the size of the input."""
PER_LATENT = 4
"""Flow pixels along one side of a latent pixel."""


def flow_picture(frame: Frame) -> Luma:
    """8-bit luma (height / 2, width / 2) of a degraded frame, as the flow sees it."""
    return luma8(F.avg_pool2d(frame[None].float(), FLOW_FACTOR)[0])


def _field(forward: FlowArray, backward: FlowArray, per_latent: int) -> Tensor:
    field = np.concatenate([forward / per_latent, visible(forward, backward)[..., None]], axis=-1).astype(np.float32)
    return F.avg_pool2d(rearrange(torch.from_numpy(field), "h w c -> 1 c h w"), per_latent)[0]


def no_motion(picture: Luma, per_latent: int = PER_LATENT) -> Tensor:
    """The field towards a neighbour that does not exist: nothing visible, (3, h, w) at latent size."""
    return torch.zeros(3, picture.shape[0] // per_latent, picture.shape[1] // per_latent)


def motion_between(first: Luma, second: Luma, per_latent: int = PER_LATENT) -> tuple[Tensor, Tensor]:
    """Motion from one flow picture to the other, and back: two fields (3, h, w) at latent size.

    Each holds flow (dx, dy, in latent pixels) and visibility in [0, 1].
    """
    if min(first.shape) < SMALLEST:
        return no_motion(first, per_latent), no_motion(second, per_latent)
    forward, backward = dense(first, second), dense(second, first)
    return _field(forward, backward, per_latent), _field(backward, forward, per_latent)


def motions(pictures: Iterable[Luma], per_latent: int = PER_LATENT) -> Iterator[Tensor]:
    """Of every flow picture in turn its motion to both neighbours, (6, h, w), previous first. Reads one ahead.

    ``per_latent``: flow pixels along one side of a latent pixel.
    """
    stream = iter(pictures)
    here = next(stream, None)
    if here is None:
        return
    to_previous = no_motion(here, per_latent)
    for following in stream:
        to_next, back = motion_between(here, following, per_latent)
        yield torch.cat([to_previous, to_next])
        here, to_previous = following, back
    yield torch.cat([to_previous, no_motion(here, per_latent)])


def motion_of_between(made: Between) -> Tensor:
    """Motion of a picture between two frames to both of them, (6, h, w) at latent size, sides multiples of 8."""
    size = FLOW_FACTOR * PER_LATENT
    fields = [made.to_left / size, made.seen_left, made.to_right / size, made.seen_right]
    return F.avg_pool2d(torch.cat(fields, dim=1), size)[0]


def aligned_between(made: Between) -> Tensor:
    """What the two frames, brought to the time between them, show differently from their blend: (6, height, width)."""
    return torch.cat([made.from_left - made.blend, made.from_right - made.blend], dim=1)[0]
