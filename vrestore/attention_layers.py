"""What self-attention layers do under a directive: whose keys and values the queries of a frame meet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor

from vrestore.attention_bank import Entry
from vrestore.errors import PriorError
from vrestore.noise import chosen
from vrestore.plan.attend import Consistent, CrossWindow, Within

Heads = Float[Tensor, "rows heads tokens dim"]


@dataclass
class Told:
    """What the layers do in a call."""

    windows: int
    frames: int
    """Of a window, without context."""
    size: tuple[int, int]
    """Latent (height, width) of the call."""
    attend: Within

    def takes_part(self, tokens: int) -> bool:
        """Whether a layer with so many tokens a frame does; sides are halved and rounded up."""
        height, width = (-(-side // self.attend.downsampling) for side in self.size)
        return tokens <= height * width

    def attention(self, layer: int, query: Heads, key: Heads, value: Heads) -> Heads:
        """The layer's answer, from its queries, keys and values; a row is a frame."""
        raise NotImplementedError

    def _apart(self, rows: Heads) -> Float[Tensor, "several frames heads tokens dim"]:
        """By window (of each branch of guidance) and frame."""
        if len(rows) % (self.windows * self.frames):
            raise PriorError(
                f"A network was run on {len(rows)} frames, which are not the {self.windows} windows of {self.frames} "
                "frames of the call; a prior whose attention is directed runs all of them together."
            )
        apart: Tensor = rows.unflatten(0, (-1, self.frames))
        return apart


@dataclass
class Recording(Told):
    """A frame by itself: plain attention, whose keys and values are kept."""

    layers: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)

    def attention(self, layer: int, query: Heads, key: Heads, value: Heads) -> Heads:
        """Plain; keys and values are kept, (branches, windows, heads, tokens, dim) each."""
        kept = (rows.unflatten(0, (-1, self.windows)) for rows in (key, value))
        self._apart(query)
        self.layers.append((layer, *kept))
        return F.scaled_dot_product_attention(query, key, value)

    def entry(self) -> Entry:
        """What the frame gives, in the order in which the layers were run."""
        return Entry(tuple((layer, key[:, 0].clone(), value[:, 0].clone()) for layer, key, value in self.layers))


@dataclass
class Looking(Told):
    """Frames that attend to a few others as well."""

    attend: CrossWindow
    kept: Sequence[int]
    """The places in the step of the window's frames."""
    entries: Sequence[Sequence[Entry]]
    """For each window, of the frames that are seen alone."""
    layer: int = 0
    """How many layers were run."""

    def attention(self, layer: int, query: Heads, key: Heads, value: Heads) -> Heads:
        """Rows that have as many sources are done together."""
        query, key, value = (self._apart(rows) for rows in (query, key, value))
        outside = self._outside(layer, len(query))
        found = torch.empty_like(query)
        for sources, rows in self._groups().items():
            alone = [self.attend.alone.index(place) for place in sources[0]]
            keys, values = [], []
            if sources[1]:
                among = torch.tensor([self._together(row) for row in rows])
                keys.append(_joined(key[:, among]))
                values.append(_joined(value[:, among]))
            if alone:
                shape = (len(query), len(rows), *([-1] * 3))
                keys.append(_joined(outside[0][:, alone][:, None]).expand(shape))
                values.append(_joined(outside[1][:, alone][:, None]).expand(shape))
            answer = F.scaled_dot_product_attention(
                query[:, rows].flatten(0, 1), torch.cat(keys, 3).flatten(0, 1), torch.cat(values, 3).flatten(0, 1)
            )
            found[:, rows] = answer.unflatten(0, (-1, len(rows)))
        return found.flatten(0, 1)

    def _together(self, row: int) -> list[int]:
        """Rows of the window that a row attends to: itself first, nobody twice."""
        others = [self.kept.index(place) for place in self.attend.together]
        return [row, *(other for other in others if other != row)] if self.attend.own else others

    def _groups(self) -> Mapping[tuple[tuple[int, ...], int], list[int]]:
        """Rows by the frames outside the window that they attend to, and the number of those inside."""
        groups: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for row in range(self.frames):
            own = self.kept[row] if self.attend.own else None
            alone = tuple(place for place in self.attend.alone if place != own)
            groups.setdefault((alone, len(self._together(row))), []).append(row)
        return groups

    def _outside(self, layer: int, several: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the frames seen alone, (several, alone, heads, tokens, dim) each."""
        at, self.layer = self.layer, self.layer + 1
        if not self.attend.alone:
            return torch.empty(0), torch.empty(0)
        layers = [[entry.layers[at] if at < len(entry.layers) else None for entry in row] for row in self.entries]
        if any(kept is None or kept[0] != layer for row in layers for kept in row):
            raise PriorError("The prior runs its layers in another order for one frame than for a window.")
        both = []
        for give in (_key, _value):  # (branches, windows, alone, ...)
            kept = torch.stack([torch.stack([give(one) for one in row if one], 1) for row in layers], 1)
            both.append(kept.flatten(0, 1))
        if len(both[0]) != several:
            raise PriorError(f"The prior runs {several} windows now, but {len(both[0])} where frames were seen alone.")
        return both[0], both[1]


@dataclass
class Sampled(Told):
    """Frames that attend to themselves and to tokens drawn of the others."""

    attend: Consistent

    def attention(self, layer: int, query: Heads, key: Heads, value: Heads) -> Heads:
        """Own tokens first, then those of the others."""
        query, key, value = (self._apart(rows) for rows in (query, key, value))
        tokens, frames = query.shape[3], self.frames
        count = max(1, round(self.attend.share * tokens))
        drawn = torch.stack(
            [
                torch.from_numpy(chosen(self.attend.seed, frame, self.attend.level, layer, tokens, count))
                for frame in self.attend.frames
            ]
        ).to(query.device)
        others = torch.tensor([[j for j in range(frames) if j != i] for i in range(frames)])
        index = drawn[None, :, None, :, None].expand(len(query), -1, query.shape[2], -1, query.shape[4])
        both = []
        for rows in (key, value):
            given = rows.gather(3, index)[:, others] if frames > 1 else rows[:, :, None, :, :0]
            both.append(torch.cat([rows, _joined(given)], 3).flatten(0, 1))
        return F.scaled_dot_product_attention(query.flatten(0, 1), both[0], both[1])


def _key(layer: tuple[int, Tensor, Tensor]) -> Tensor:
    return layer[1]


def _value(layer: tuple[int, Tensor, Tensor]) -> Tensor:
    return layer[2]


def _joined(rows: Tensor) -> Tensor:
    """(several, rows, sources, heads, tokens, dim) to (several, rows, heads, sources * tokens, dim)."""
    return rows.transpose(2, 3).flatten(3, 4)


@dataclass
class Switch:
    """What the layers of some networks are told to do at the moment; None: what they did before."""

    told: Told | None = None


class Processor:
    """In the place of a self-attention's processor; without a directive it is that one."""

    def __init__(self, plain: Any, switch: Switch, number: int) -> None:  # noqa: ANN401
        self.plain, self._switch, self._number = plain, switch, number

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor:
        told = self._switch.told
        if told is None or not told.takes_part(hidden_states.shape[1]):
            plain: Tensor = self.plain(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs
            )
            return plain
        if encoder_hidden_states is not None or attention_mask is not None:
            raise PriorError("A self-attention with a mask or keys of its own cannot be directed.")
        query, key, value = (
            project(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        if attn.norm_q is not None:
            query = attn.norm_q(query)
        if attn.norm_k is not None:
            key = attn.norm_k(key)
        answer = told.attention(self._number, query, key, value)
        found = attn.to_out[1](attn.to_out[0](answer.transpose(1, 2).flatten(2).to(query.dtype)))
        scaled: Tensor = found / attn.rescale_output_factor
        return scaled
