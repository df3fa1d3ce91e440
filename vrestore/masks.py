"""Masks: where a picture is edited. Drawn by the user, or found from which places attend to some words of a text."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from jaxtyping import Float
from kornia.filters import guided_blur
from torch import Tensor

from vrestore.errors import PriorError
from vrestore.fusion import LatentMask, Mask
from vrestore.shapes import Frame, Latent

THRESHOLD = 0.4
"""Share of the strongest attention in a picture from which a place belongs to the words: LOVECon's code has 100 of
255."""
REACH, EPSILON = 16, 1e-3
"""Pixels from which edges of a picture draw those of a mask: a place of the layers that are looked at; and the variance
of colours, squared parts of white, from which something is an edge."""
DOWNSAMPLING = 2
"""Latents are downsampled at least so many times along a side in the layers that are looked at, where there are such:
finer ones say more of texture than of things."""
GLANCES = (0.3, 0.5, 0.7)
"""Parts of the ladder on which the network is looked at; the answers are averaged."""


@runtime_checkable
class Reads(Protocol):
    """A prior whose reading of a text can be watched."""

    @property
    def unet(self) -> torch.nn.Module:
        """The network, with cross-attention to the text."""
        ...

    def places(self, text: str, words: str) -> tuple[int, ...]:
        """Positions of the tokens of some words within those of a text. ConfigError if they are not in it."""
        ...

    def glance(self, latents: Float[Tensor, "time channels h w"], time: float, text: Tensor) -> None:
        """Run the network on frames at a time with one text (tokens, width): no guidance, no controls."""
        ...


class _Watching:
    """In the place of a cross-attention's processor: the same answer, and a note of where some tokens are read."""

    def __init__(self, plain: Any, places: Sequence[int] | None, notes: list[Tensor]) -> None:  # noqa: ANN401
        self._plain, self._places, self._notes = plain, None if places is None else list(places), notes

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor:
        if encoder_hidden_states is not None:
            query, key = (
                project(states).unflatten(-1, (attn.heads, -1)).transpose(1, 2).float()
                for project, states in ((attn.to_q, hidden_states), (attn.to_k, encoder_hidden_states))
            )
            shares = (query @ key.transpose(-1, -2) * attn.scale).softmax(-1)
            some = self._places
            self._notes.append(shares.mean(1) if some is None else shares[..., some].mean((1, 3)))
        answer: Tensor = self._plain(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
        return answer


@contextmanager
def watched(network: torch.nn.Module, places: Sequence[int] | None = None) -> Iterator[list[Tensor]]:
    """Notes, one of every cross-attention that runs in the block: how much each place (frames, places of the layer)
    reads of the tokens at ``places``, the mean over heads; left out, of each token (frames, places, tokens).

    Raises:
        PriorError: the network has no cross-attention.
    """
    layers = [
        block.attn2
        for transformer in network.modules()
        if isinstance(transformer, Transformer2DModel)
        for block in transformer.transformer_blocks
        if block.attn2 is not None
    ]
    if not layers:
        raise PriorError(f"{type(network).__name__} does not read texts place by place; draw the mask")
    notes: list[Tensor] = []
    before = [layer.processor for layer in layers]
    try:
        for layer, plain in zip(layers, before, strict=True):
            layer.set_processor(_Watching(plain, places, notes))
        yield notes
    finally:
        for layer, plain in zip(layers, before, strict=True):
            layer.set_processor(plain)


def word_map(prior: Reads, noisy: Sequence[tuple[float, Latent]], text: Tensor, places: Sequence[int]) -> LatentMask:
    """How much the places of a picture have to do with some words: 0 the least, 1 the most.

    Tang et al., "What the DAAM: Interpreting Stable Diffusion Using Cross Attention", ACL 2023: attention averaged over
    heads, layers and levels.

    Args:
        prior: reads the text.
        noisy: times, and the picture's latents with the noise of each.
        text: that holds the words.
        places: their tokens.
    """
    total = torch.zeros(())
    for time, latent in noisy:
        with watched(prior.unet, places) as notes, torch.inference_mode():
            prior.glance(latent[None], time, text)
        total = total + _averaged(notes, (int(latent.shape[-2]), int(latent.shape[-1])))
    total = total - total.min()
    return total / total.max().clamp(min=1e-8)


def _averaged(notes: Sequence[Tensor], size: tuple[int, int]) -> LatentMask:
    """The mean of the notes of one picture, on the grid of its latents."""
    found: dict[int, list[Tensor]] = {}
    for note in notes:
        for factor in (1, 2, 4, 8, 16):
            h, w = (-(-side // factor) for side in size)
            if h * w == note.shape[1]:
                found.setdefault(factor, []).append(note[:1].reshape(1, 1, h, w))
                break
    coarse = {factor: maps for factor, maps in found.items() if factor >= DOWNSAMPLING} or found
    grown = [
        F.interpolate(one, size, mode="bilinear", align_corners=False)[0] for maps in coarse.values() for one in maps
    ]
    return torch.stack(grown).mean(0).cpu()


def mask_of(heat: LatentMask, picture: Frame) -> Mask:
    """Where a `word_map` is strong, 0 or 1, with the edges of the picture (3, height, width) that it was read on.

    He, Sun and Tang, "Guided Image Filtering", ECCV 2010: the map, far coarser than the picture, becomes locally a
    linear function of the picture's colours.
    """
    size = (int(picture.shape[-2]), int(picture.shape[-1]))
    grown = F.interpolate(heat[None], size, mode="bilinear", align_corners=False)
    side = 2 * REACH + 1
    fitted = guided_blur(picture[None].to(grown), grown, side, EPSILON, border_type="replicate", separable=True)
    found: Mask = (fitted[0] >= THRESHOLD).float()
    return found


def feathered(mask: Mask, reach: int) -> Mask:
    """A mask whose edges are soft over ``reach`` pixels to both sides; what lies farther from them is untouched."""
    found = mask[None]
    for part in (reach - reach // 2, reach // 2):  # twice a box is smooth enough not to show
        if part:
            found = F.avg_pool2d(found, 2 * part + 1, stride=1, padding=part, count_include_pad=False)
    return found[0].clamp(0, 1)


def on_latents(mask: Mask, size: tuple[int, int]) -> LatentMask:
    """A padded mask on the grid of the latents: edited is what any pixel of is."""
    return (F.adaptive_max_pool2d(mask[None], size)[0] > 0).float()
