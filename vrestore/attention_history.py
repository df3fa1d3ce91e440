"""Keys and values of clean frames in layers of time, computed once and kept: a cache for chunks behind a history.

Ca2-VDM (Gao et al., ICML 2025) and ViD-GPT (Gao et al., 2024). The history goes through the network by itself and
leaves the keys and values of every motion module in a bank, found again by all that enters the prior with it; the
others attend to these and to one another. So a step of a chunk costs the chunk alone, after the first. For SD 1.5 at
512x512 with guidance they are, by the sizes of its layers, 191 MB a frame in half precision: more than five frames need
more than `BANK_BYTES`; without room the result is the same, and each step costs the history as well.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from diffusers import UNetMotionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor

from vrestore.attention_bank import Bank, Entry, fingerprint
from vrestore.attention_time import Heads, Sizes, Tokens, known_places, motion_blocks, projected, through
from vrestore.errors import PriorError
from vrestore.plan.attend import CleanHistory
from vrestore.prior import Conditioning
from vrestore.shapes import Times, Windows

Predict = Callable[[Windows, Times, Conditioning], Windows]


@dataclass
class _Pass:
    """What the motion modules of a network do while frames of some windows go through it."""

    windows: int
    first: int
    """Place of the first frame."""
    entries: Sequence[Entry] | None
    """For each window, what its history gives; None: this is the history, and its keys and values are noted."""
    noted: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)
    run: int = 0
    """Layers that were run."""

    def joined(self, layer: int, key: Heads, value: Heads, places: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer with those of the history; rows are (branches, windows, places of the picture)."""
        at, self.run = self.run, self.run + 1
        if self.entries is None:
            self.noted.append((layer, key, value))
            return key, value
        kept = [entry.layers[at] if at < len(entry.layers) else None for entry in self.entries]
        if any(one is None or one[0] != layer or one[1].shape[0] * self.windows != len(key) for one in kept):
            raise PriorError("The prior runs its layers otherwise for the history than for a chunk.")
        both = []
        for past, own in (([one[1] for one in kept if one], key), ([one[2] for one in kept if one], value)):
            history = torch.stack([rows.unflatten(0, (-1, places)) for rows in past], 1).flatten(0, 2)
            both.append(torch.cat([history, own], 2))
        return both[0], both[1]


def behind_history(
    networks: Sequence[torch.nn.Module],
    bank: Bank,
    attend: CleanHistory,
    predict: Predict,
    latents: Windows,
    times: Times,
    conditioning: Conditioning,
) -> Windows:
    """``predict`` for the frames behind a clean history, which come back as zeros.

    Raises:
        PriorError: a network whose frames meet elsewhere than in motion modules, or not at all; a call without others
            than the history; more frames than the modules have positions for.
    """
    unet = _moving(networks)
    count, history = latents.shape[1], len(attend.context)
    longest = known_places(motion_blocks(unet))
    if history >= count or (longest is not None and count > longest):
        raise PriorError(
            f"A call of {count} frames has no room behind a history of {history}; it must be shorter than the call, "
            f"which may have {longest or 'any number of'} frames."
        )
    entries = []
    for window in range(len(latents)):  # one by one: in a batch numbers are rounded differently
        past = (latents[window, :history], times[window, :history])
        given = {name: value[window, :history] for name, value in conditioning.items()}
        key = fingerprint(*past, given, 0)
        entry = bank.get(key)
        if entry is None:
            noting = _Pass(1, 0, None)
            with _replaced(unet, noting):
                predict(past[0][None], past[1][None], {name: value[None] for name, value in given.items()})
            entry = Entry(tuple((layer, k.clone(), v.clone()) for layer, k, v in noting.noted))
            bank.put(key, entry)
        entries.append(entry)
    rest = {name: value[:, history:] for name, value in conditioning.items()}
    with _replaced(unet, _Pass(len(latents), history, entries)):
        found = predict(latents[:, history:], times[:, history:], rest)
    return torch.cat([found.new_zeros(latents[:, :history].shape), found], 1)


def _moving(networks: Sequence[torch.nn.Module]) -> UNetMotionModel:
    found = [network for network in networks if isinstance(network, UNetMotionModel)]
    if len(found) != 1:
        raise PriorError(
            "The keys and values of a history can be kept where frames meet in motion modules alone, as in a "
            f"UNetMotionModel; the networks are {', '.join(type(one).__name__ for one in networks)}."
        )
    return found[0]


@contextmanager
def _replaced(unet: UNetMotionModel, here: _Pass) -> Iterator[None]:
    blocks, sizes = motion_blocks(unet), Sizes()
    for number, block in enumerate(blocks):
        block.forward = partial(_forward, block, here, sizes, number)
    try:
        with sizes.seen(unet):
            yield
    finally:
        for block in blocks:
            del block.forward


def _forward(
    block: BasicTransformerBlock, here: _Pass, sizes: Sizes, number: int, hidden_states: Tokens, **rest: object
) -> Tokens:
    x = hidden_states
    known = None
    if block.pos_embed is not None:
        known = block.pos_embed.pe[:, here.first : here.first + x.shape[1]].to(x)
    for second, (layer, norm) in enumerate(((block.attn1, block.norm1), (block.attn2, block.norm2))):
        if layer is None:
            continue
        given = [projected(layer, one, norm(x), known) for one in (layer.to_q, layer.to_k, layer.to_v)]
        query, key, value = (rows if places is None else rows + places for rows, places in given)
        key, value = here.joined(2 * number + second, key, value, sizes.here[0] * sizes.here[1])
        x = x + through(layer, F.scaled_dot_product_attention(query, key, value, scale=layer.scale))
    out: Tensor = block.ff(block.norm3(x)) + x
    return out
