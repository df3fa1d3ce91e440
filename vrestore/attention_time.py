"""Temporal attention of motion modules over more frames than they were trained on: in windows, or in two bands.

Every layer's queries, keys and values are projected once, whatever the number of windows that a frame is in, and what
the windows say is fused before the layer's output projection, as in the code of FreeNoise's authors. (diffusers fuses
once for both layers of a block, so the second has everything to project anew for each window.) A motion block is worked
on some places of the picture at a time, everything else on some frames: each is independent of the others there.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from jaxtyping import Float
from torch import Tensor

from vrestore.errors import PriorError
from vrestore.plan import Cover
from vrestore.plan.attend import SpectralTime, WindowedTime
from vrestore.spectral import blend

Tokens = Float[Tensor, "places frames channels"]
"""Of every place of a picture (and every clip of a batch) the frames, one after another."""
Heads = Float[Tensor, "places heads frames dim"]

CACHED, LAUNCHED = 1 << 18, 1 << 26
"""Numbers in the queries of all windows that are worked on at once: on a CPU what a second-level cache holds with keys
and values, elsewhere what keeps a device busy and takes little memory."""
AT_ONCE = 8
"""Frames that layers within frames are given at once on a CPU."""


@contextmanager
def in_time(unet: torch.nn.Module, told: WindowedTime | SpectralTime) -> Iterator[None]:
    """The network's temporal attention as a directive says, for the duration.

    Calls of no more frames than a window are plain.

    Raises:
        PriorError: no motion modules, or a window longer than they have positions for.
    """
    blocks = motion_blocks(unet)
    longest = known_places(blocks)
    if longest is not None and told.window > longest:
        raise PriorError(f"Windows of {told.window} frames are more than the motion modules know; use {longest}.")
    sizes = Sizes()
    replaced: list[torch.nn.Module] = list(blocks)
    for block in blocks:
        block.forward = partial(_forward, block, block.forward, told, sizes)
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D | Transformer2DModel):
            module.forward = partial(_in_parts, module.forward)
            replaced.append(module)
    with sizes.seen(unet):
        try:
            yield
        finally:
            for module in replaced:
                del module.forward


def motion_blocks(unet: torch.nn.Module) -> list[BasicTransformerBlock]:
    """The blocks of a network's motion modules, in order. PriorError if it has none."""
    found = [module for module in unet.modules() if isinstance(module, AnimateDiffTransformer3D)]
    if not found:
        raise PriorError(f"{type(unet).__name__} has no motion modules; use a UNetMotionModel.")
    return [block for module in found for block in module.transformer_blocks]


def known_places(blocks: Sequence[BasicTransformerBlock]) -> int | None:
    """Frames that motion modules have positions for; None: any number."""
    return min((block.pos_embed.pe.shape[1] for block in blocks if block.pos_embed is not None), default=None)


@dataclass
class Sizes:
    """What the tokens of a motion module do not tell: the size of its picture."""

    here: tuple[int, int] = (0, 0)
    """(height, width) in the motion module that runs."""
    whole: tuple[int, int] = (0, 0)
    """In the first one: that of the latents."""
    _hooks: list[Any] = field(default_factory=list)

    @contextmanager
    def seen(self, unet: torch.nn.Module) -> Iterator[None]:
        """While the block runs, the network's motion modules tell."""
        found = [module for module in unet.modules() if isinstance(module, AnimateDiffTransformer3D)]
        hooks = [module.register_forward_pre_hook(self._note, with_kwargs=True) for module in found]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _note(self, module: torch.nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        states = given[0] if given else named["hidden_states"]
        self.here = int(states.shape[-2]), int(states.shape[-1])
        self.whole = max(self.whole, self.here)

    def downsampled(self, times: int) -> bool:
        """Whether the picture is downsampled at least so many times along a side; sides are rounded up."""
        height, width = (-(-side // times) for side in self.whole)
        return self.here[0] * self.here[1] <= height * width


def _in_parts(forward: Callable[..., Any], first: Tensor | None = None, *rest: Any, **named: Any) -> Any:  # noqa: ANN401
    """A layer within frames, on some of them at a time: numbers that fit a cache, and little that is held."""
    if first is None:
        name = "input_tensor" if "input_tensor" in named else "hidden_states"
        first = named.pop(name)
    count = len(first)
    if first.device.type != "cpu" or count <= AT_ONCE:
        return forward(first, *rest, **named)
    found = []
    for start in range(0, count, AT_ONCE):
        cut = partial(_cut, slice(start, start + AT_ONCE), count)
        more = {name: cut(value) for name, value in named.items()}
        found.append(forward(cut(first), *(cut(value) for value in rest), **more))
    return torch.cat(found) if isinstance(found[0], Tensor) else (torch.cat([one[0] for one in found]),)


def _cut(part: slice, count: int, value: Any) -> Any:  # noqa: ANN401
    """Frames of what has one entry for each; anything else as it is."""
    return value[part] if isinstance(value, Tensor) and len(value) == count else value


def _forward(
    block: BasicTransformerBlock,
    plain: Callable[..., Tensor],
    told: WindowedTime | SpectralTime,
    sizes: Sizes,
    hidden_states: Tokens,
    **rest: object,
) -> Tokens:
    frames = hidden_states.shape[1]
    if frames <= told.window:
        return plain(hidden_states=hidden_states, **rest)
    cover = Cover(frames, told.window, told.window - told.stride)
    mix = partial(windows_mixed, cover)
    numbers = CACHED if hidden_states.device.type == "cpu" else LAUNCHED
    at_once = max(1, numbers // (cover.count * cover.length * hidden_states.shape[2]))
    if isinstance(told, SpectralTime) and sizes.downsampled(told.downsampling):
        mix = partial(_two_bands, told, sizes.here, mix)
        at_once = len(hidden_states)  # a picture's places belong together
    return torch.cat([_block(block, part, mix) for part in hidden_states.split(at_once)])


Given = tuple[Heads, Tensor | None]
"""Projections of tokens, and of the places (heads, places, dim) that a motion module knows."""
Mix = Callable[[Sequence[Given], float], Heads]
"""Queries, keys and values, and their scale, to what a layer says before its output projection."""


def _block(block: BasicTransformerBlock, x: Tokens, mix: Mix) -> Tokens:
    """The block on some places.

    A projection of a token and its place is the sum of both projections, so tokens are projected once.
    """
    known = None if block.pos_embed is None else block.pos_embed.pe.to(x)
    for layer, norm in ((block.attn1, block.norm1), (block.attn2, block.norm2)):
        if layer is not None:
            normed = norm(x)
            given = [projected(layer, project, normed, known) for project in (layer.to_q, layer.to_k, layer.to_v)]
            x = x + through(layer, mix(given, layer.scale))
    out: Tensor = block.ff(block.norm3(x)) + x
    return out


def projected(layer: Attention, project: torch.nn.Linear, x: Tokens, known: Tensor | None) -> Given:
    """Tokens and places (1, places, channels), by one of a layer's projections, apart for its heads."""
    places = None if known is None else _heads(F.linear(known, project.weight), layer.heads)[0]
    return _heads(project(x), layer.heads).contiguous(), places


def through(layer: Attention, mixed: Heads) -> Tokens:
    """What the heads say, through a layer's output projection."""
    out: Tensor = layer.to_out[1](layer.to_out[0](mixed.transpose(1, 2).flatten(2))) / layer.rescale_output_factor
    return out


def _heads(x: Tokens, heads: int) -> Heads:
    rows: Tensor = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    return rows


def windows_mixed(cover: Cover, given: Sequence[Given], scale: float) -> Heads:
    """Attention within the windows of a cover, their answers weighed by pyramids."""
    count = 1 + (cover.extent - cover.length) // cover.stride  # all but a last one that is shifted back
    (rows, places), *others = given
    mixed, shares = torch.zeros_like(rows), _pyramids(cover).to(rows)
    scaled = [(rows * scale, None if places is None else places * scale), *others]  # once, not in every window
    apart = -(-cover.length // cover.stride)  # every so manieth window shares no frame with the one before
    for first, number in ((0, count), (count, cover.count - count)):
        if not number:
            continue
        start = cover.start(first)
        end = start + cover.length + (number - 1) * cover.stride
        windows = []
        for rows, places in scaled:
            cut = rows[:, :, start:end].unfold(2, cover.length, cover.stride).transpose(3, 4)
            windows.append(cut if places is None else cut + places[:, None, : cover.length])
        answer = _products(windows)
        for i in range(min(apart, number)):
            own = slice(i, number, apart)
            spans = mixed[:, :, start + i * cover.stride : end].unfold(2, cover.length, apart * cover.stride)
            spans.transpose(3, 4).addcmul_(answer[:, :, own], shares[first : first + number][own])
    return mixed


def _products(windows: Sequence[Tensor]) -> Tensor:
    """Attention; for so few frames and so many windows plain products are faster than fused kernels."""
    q, k, v = windows
    scores = torch.bmm(q.flatten(0, 2), k.flatten(0, 2).transpose(1, 2)).softmax(-1)
    return torch.bmm(scores, v.flatten(0, 2)).view(q.shape)


@lru_cache(maxsize=64)
def _pyramids(cover: Cover) -> Tensor:
    """(windows, frames of one, 1): how much every window says of its frames; what is said of a frame adds up to one."""
    with torch.inference_mode(mode=False):  # it is kept, and may be needed where gradients are
        ramp = torch.arange(1, cover.length + 1)
        ramp = torch.minimum(ramp, ramp.flip(0)).float()
        spans = torch.tensor([list(range(start, start + cover.length)) for start in cover.starts()])
        total = torch.zeros(cover.extent).index_add(0, spans.flatten(), ramp.repeat(cover.count))
        return (ramp / total[spans])[..., None]


def _two_bands(told: SpectralTime, size: tuple[int, int], local: Mix, given: Sequence[Given], scale: float) -> Heads:
    """What all frames say to one another slowly, and those of a window fast."""
    query, key, value = (_spread(*each) for each in given)
    far = F.scaled_dot_product_attention(query, key, value, scale=scale)
    slow, fast = (  # (frames, height, width, clips, ...)
        mixed.unflatten(0, (-1, *size)).movedim(4, 0).movedim(1, 3) for mixed in (far, local(given, scale))
    )
    both = blend(slow, fast, (told.cutoff, told.space, told.space))
    return both.movedim(3, 1).movedim(0, 4).flatten(0, 2)


def _spread(rows: Heads, places: Tensor | None) -> Heads:
    """Tokens at places of their own, or, where they are more than the module knows, spread evenly over those."""
    if places is None:
        return rows
    frames, known = rows.shape[2], places.shape[1]
    if frames <= known:
        return rows + places[:, :frames]
    at = torch.linspace(0, known - 1, frames, device=rows.device, dtype=torch.float64)
    low = at.floor().long().clamp(max=known - 2)
    part = (at - low).to(rows)[:, None]
    spread: Tensor = rows + torch.lerp(places[:, low], places[:, low + 1], part)
    return spread
