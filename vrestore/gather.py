"""Bilinear gathering along a flow as a linear operator: the warp, and its exact transpose, the splat."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vrestore.shapes import Flow, Latents


class Warp:
    """W: out[y, x] = in[y + dy, x + dx], edges repeated, and its transpose.

    Unlike `vrestore.flow.warp` it computes in the precision of what it is given. Pictures are (time, channels, h, w),
    one flow for each.
    """

    def __init__(self, flow: Flow) -> None:
        h, w = flow.shape[-2:]
        x = torch.arange(w, device=flow.device) + flow[:, 0]
        y = torch.arange(h, device=flow.device)[:, None] + flow[:, 1]
        # align_corners=False: pixel centres lie at (2 i + 1) / n - 1
        self._grid = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], dim=-1)
        self._size = h, w

    def apply(self, x: Latents) -> Latents:
        """W x."""
        return F.grid_sample(x, self._grid.to(x), padding_mode="border", align_corners=False)

    def adjoint(self, y: Latents) -> Latents:
        """W^T y, with <W x, y> = <x, W^T y>: every value goes back to the four pixels that it was mixed from."""
        back = torch.ops.aten.grid_sampler_2d_backward  # a derivative of a linear map is its transpose; keeps no graph
        splatted: Tensor = back(y, torch.zeros_like(y), self._grid.to(y), 0, 1, False, [True, False])[0]
        return splatted

    def inside(self) -> Tensor:
        """Whether a pixel is taken from within the picture, bool (time, 1, h, w), and not from a repeated edge."""
        return (self._grid.abs() <= 1).all(-1)[:, None]
