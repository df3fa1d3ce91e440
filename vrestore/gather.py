"""Gathering along a flow as a linear operator: the warp, and its exact transpose, the splat."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vrestore.shapes import Flow, Latents

HALFWAY = (20 / 32, -5 / 32, 1 / 32)
"""Weights, outwards, of the pixels to both sides of a place between two: H.264's (ITU-T H.264, 8.4.2.2.1)."""
BEFORE, AFTER = len(HALFWAY) - 1, len(HALFWAY)
"""Pixels that it reaches to, from the one before it."""
ROWS, COLUMNS = 2, 3
"""Dimensions of pictures (time, channels, h, w)."""

Sources = Float[Tensor, "time channels rows columns"]
"""What a warp gathers from: pictures, or pictures that were `doubled`."""


class Warp:
    """W: out[y, x] = in[y + dy, x + dx], edges repeated, and its transpose. Between pixels it is bilinear.

    Unlike `vrestore.flow.warp` it computes in the precision of what it is given. Pictures are (time, channels, h, w),
    one flow for each.
    """

    def __init__(self, flow: Flow, *, halves: bool = False) -> None:
        """``halves``: what is gathered from has been doubled (`doubled`), so that less is lost between pixels."""
        h, w = flow.shape[-2:]
        x = torch.arange(w, device=flow.device) + flow[:, 0]
        y = torch.arange(h, device=flow.device)[:, None] + flow[:, 1]
        if halves:  # the last place of a doubled picture lies beyond the last pixel
            x, y = x.clamp(0, w - 1), y.clamp(0, h - 1)
        # align_corners=False: pixel centres lie at (2 i + 1) / n - 1, those of doubled pictures at (2 i + 1/2) / n - 1
        first = 0.5 if halves else 1.0
        self._grid = torch.stack([(2 * x + first) / w - 1, (2 * y + first) / h - 1], dim=-1)
        self._factor = 2 if halves else 1

    def apply(self, x: Sources) -> Latents:
        """W x."""
        return F.grid_sample(x, self._grid.to(x), padding_mode="border", align_corners=False)

    def adjoint(self, y: Latents) -> Sources:
        """W^T y, with <W x, y> = <x, W^T y>: every value goes back to the four pixels that it was mixed from."""
        back = torch.ops.aten.grid_sampler_2d_backward  # a derivative of a linear map is its transpose; keeps no graph
        like = y.new_empty(()).expand(*y.shape[:2], *(self._factor * n for n in y.shape[-2:]))  # only its shape counts
        splatted: Tensor = back(y, like, self._grid.to(y), 0, 1, False, [True, False])[0]
        return splatted

    def inside(self) -> Tensor:
        """Whether a pixel is taken from within the picture, bool (time, 1, h, w), and not from a repeated edge."""
        return (self._grid.abs() <= 1).all(-1)[:, None]


def doubled(x: Latents) -> Sources:
    """Pictures (time, channels, h, w) on a grid of half pixels, (time, channels, 2 h, 2 w); edges repeated.

    Every second value of every second row is a pixel as it is.
    """
    for dim in (ROWS, COLUMNS):
        both = x.new_empty(*(2 * n if d == dim else n for d, n in enumerate(x.shape)))
        pixels, between = both.unflatten(dim, (-1, 2)).unbind(dim + 1)
        pixels.copy_(x)
        between.copy_(_halfway(_repeated(x, dim), dim))
        x = both
    return x


def doubled_adjoint(y: Sources) -> Latents:
    """The transpose of `doubled`: (time, channels, 2 h, 2 w) to (time, channels, h, w)."""
    for dim in (COLUMNS, ROWS):
        pixels, between = y.unflatten(dim, (-1, 2)).unbind(dim + 1)
        y = pixels + _spread(between, dim)
    return y


def _repeated(x: Tensor, dim: int) -> Tensor:
    """With as many more values at the edges as `_halfway` reaches to."""
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
    return torch.cat([first] * BEFORE + [x] + [last] * AFTER, dim)


def _halfway(x: Tensor, dim: int) -> Tensor:
    """Values between neighbours, `BEFORE` + `AFTER` fewer than there are."""
    count = x.shape[dim] - BEFORE - AFTER
    found = torch.zeros_like(x.narrow(dim, 0, count))
    for k, weight in enumerate(HALFWAY):
        found.add_(x.narrow(dim, BEFORE - k, count) + x.narrow(dim, AFTER + k, count), alpha=weight)
    return found


def _spread(y: Tensor, dim: int) -> Tensor:
    """The transpose of `_halfway` of `_repeated`: what repeated values had, the edges get."""
    count = y.shape[dim]
    nothing = torch.zeros_like(y.narrow(dim, 0, 1))
    wide = _halfway(torch.cat([nothing] * (BEFORE + AFTER) + [y] + [nothing] * (BEFORE + AFTER), dim), dim)
    found = wide.narrow(dim, BEFORE, count).clone()
    found.narrow(dim, 0, 1).add_(wide.narrow(dim, 0, BEFORE).sum(dim, keepdim=True))
    found.narrow(dim, count - 1, 1).add_(wide.narrow(dim, BEFORE + count, AFTER).sum(dim, keepdim=True))
    return found
