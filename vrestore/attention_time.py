"""Temporal attention in overlapping windows, fused within the network: FreeNoise on the motion modules of diffusers.

Qiu et al., "FreeNoise", ICLR 2024, section 3.3. A call may then have more frames than a motion module was trained on.
Places are those within a window. The last window is shifted back to end with the last frame, and the shares of every
frame add up to one, at the tail as elsewhere.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from jaxtyping import Float
from torch import Tensor

from vrestore.errors import PriorError
from vrestore.plan import Cover

Tokens = Float[Tensor, "places frames channels"]
"""Of every place of a picture (and every clip of a batch) the frames, one after another."""


@dataclass(frozen=True)
class WindowedTime:
    """``window`` frames attend to one another; windows begin ``stride`` frames apart and are fused by a pyramid."""

    window: int = 16
    stride: int = 4


@contextmanager
def windowed_in_time(unet: torch.nn.Module, windows: WindowedTime) -> Iterator[None]:
    """The network's temporal attention in windows, for the duration. Calls of no more frames than a window are plain.

    Raises:
        PriorError: no motion modules, or a window longer than they were trained on.
        PlanError: a stride below 1 or beyond the window.
    """
    Cover(windows.window, windows.window, windows.window - windows.stride)  # raises PlanError
    blocks = [
        block
        for module in unet.modules()
        if isinstance(module, AnimateDiffTransformer3D)
        for block in module.transformer_blocks
    ]
    if not blocks:
        raise PriorError(f"{type(unet).__name__} has no motion modules; use a UNetMotionModel.")
    longest = min((block.pos_embed.pe.shape[1] for block in blocks if block.pos_embed is not None), default=None)
    if longest is not None and windows.window > longest:
        raise PriorError(f"Windows of {windows.window} frames are more than the motion modules know; use {longest}.")
    plain = [block.forward for block in blocks]
    for block, forward in zip(blocks, plain, strict=True):
        block.forward = MethodType(_forward(windows, forward), block)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _forward(windows: WindowedTime, plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def forward(block: BasicTransformerBlock, hidden_states: Tensor, **rest: object) -> Tensor:
        frames = hidden_states.shape[1]
        if frames <= windows.window:
            return plain(hidden_states=hidden_states, **rest)
        seen = _attended(block, hidden_states, Cover(frames, windows.window, windows.window - windows.stride))
        out: Tensor = block.ff(block.norm3(seen)) + seen
        return out

    return forward


def _attended(block: BasicTransformerBlock, x: Tokens, cover: Cover) -> Tokens:
    """Both self-attentions of a block, window by window, and their weighted mean.

    A projection of a token and its place is the sum of both projections, so tokens are projected once, not once for
    each window that they are in.
    """
    place = None if block.pos_embed is None else block.pos_embed.pe[:, : cover.length].to(x)
    normed = block.norm1(x)
    projected = [layer(normed) for layer in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v)]
    places = [
        0 if place is None else F.linear(place, layer.weight)
        for layer in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v)
    ]
    ramp = torch.arange(1, cover.length + 1, device=x.device, dtype=x.dtype)
    ramp = torch.minimum(ramp, ramp.flip(0)).view(1, -1, 1)
    total, shares = torch.zeros_like(x), x.new_zeros(1, cover.extent, 1)
    for start in cover.starts():
        span = slice(start, start + cover.length)
        q, k, v = (each[:, span] + there for each, there in zip(projected, places, strict=True))
        here = x[:, span] + _attention(block.attn1, q, k, v)
        if block.attn2 is not None:
            second = block.norm2(here)
            here = here + block.attn2(second if place is None else second + place)
        total[:, span] += ramp * here
        shares[:, span] += ramp
    return total / shares


def _attention(layer: Attention, q: Tokens, k: Tokens, v: Tokens) -> Tokens:
    queries, keys, values = (each.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for each in (q, k, v))
    mixed = F.scaled_dot_product_attention(queries, keys, values, scale=layer.scale).transpose(1, 2).flatten(2)
    out: Tensor = layer.to_out[1](layer.to_out[0](mixed)) / layer.rescale_output_factor
    return out
