"""The subject of a video held from frame to frame: attention to it in neighbours, and guidance towards it.

Ouroboros-Diffusion (Chen et al., AAAI 2025): subject-aware cross-frame attention, self-recurrent guidance.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vrestore.attention_layers import Heads, Told
from vrestore.plan.attend import Subject
from vrestore.prior import Conditioning
from vrestore.shapes import Times, Windows

NAME = "subject"
"""Of the conditioning that says where the subject is."""

Masks = Float[Tensor, "windows frames h w"]
Predict = Callable[[Windows, Times, Conditioning], Windows]


@dataclass
class SeeingSubject(Told):
    """Frames that attend to themselves and to the subject in their neighbours."""

    attend: Subject
    masks: Masks = field(kw_only=True)
    """1 where the subject is, of the latents' size."""
    said: list[Tensor] | None = None
    """What each layer says, (branches, windows, frames, tokens, channels), if it is asked for."""

    def attention(self, layer: int, query: Heads, key: Heads, value: Heads) -> Heads:
        """Own tokens, and those of the subject before and after; a layer's place is the subject's if any of it is."""
        mask = self.tokens(query.shape[2])
        if self.attend.neighbours and mask.any():
            answer = self._among_neighbours(query, key, value, mask)
        else:
            answer = F.scaled_dot_product_attention(query, key, value)
        if self.said is not None:
            self.said.append(self._apart(answer).unflatten(0, (-1, self.windows)).transpose(3, 4).flatten(4))
        return answer

    def tokens(self, count: int) -> Tensor:
        """The masks on the grid of a layer, (windows, frames, tokens) of bool."""
        for factor in (1, 2, 4, 8, 16):
            size = tuple(-(-side // factor) for side in self.size)
            if size[0] * size[1] == count:
                break
        return F.adaptive_max_pool2d(self.masks, size).flatten(2) > 0.5

    def _among_neighbours(self, query: Heads, key: Heads, value: Heads, mask: Tensor) -> Heads:
        frames, reach = self.frames, self.attend.neighbours
        steps = [step for step in range(-reach, reach + 1) if step and abs(step) < frames]
        q, k, v = (self._apart(rows) for rows in (query, key, value))  # (several, frames, heads, tokens, dim)
        seen = [torch.ones_like(mask)]
        keys, values = [k], [v]
        for step in steps:
            there = torch.arange(frames, device=mask.device) + step
            inside = (there >= 0) & (there < frames)
            there = there.clamp(0, frames - 1)
            seen.append(mask[:, there] & inside[:, None])
            keys.append(k[:, there])
            values.append(v[:, there])
        allowed = torch.cat(seen, 2)[None].expand(len(q) // len(mask), -1, -1, -1).flatten(0, 2)
        return F.scaled_dot_product_attention(
            q.flatten(0, 1), torch.cat(keys, 3).flatten(0, 1), torch.cat(values, 3).flatten(0, 1),
            attn_mask=allowed[:, None, None],
        )  # fmt: skip


def guided(
    attend: Subject,
    predict: Predict,
    telling: Callable[[SeeingSubject], AbstractContextManager[None]],
    inputs: tuple[Windows, Times, Conditioning],
    masks: Masks,
) -> Windows:
    """Latents moved so that the subject of noisier frames is what less noisy ones have of it; the others as they were.

    Args:
        attend: the directive.
        predict: the prior, whose gradient is taken.
        telling: tells the layers of its networks.
        inputs: latents, times and conditioning.
        masks: where the subject is.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        latents, times = (value.clone() for value in inputs[:2])
        given = {name: value.clone() for name, value in inputs[2].items()}
        z = latents.detach().requires_grad_()
        size = (int(z.shape[-2]), int(z.shape[-1]))
        told = SeeingSubject(len(z), z.shape[1], size, attend, masks=masks.clone(), said=[])
        with telling(told):
            predict(z, times, given)
        losses = [strangeness(said, told.tokens(said.shape[3]), times, attend.memory) for said in told.said or ()]
        loss = sum(losses, z.new_zeros(())) / max(1, len(losses))
        if not loss.requires_grad:
            return inputs[0]
        (gradient,) = torch.autograd.grad(loss, z)
    later = times > times.amin(1, keepdim=True)
    return inputs[0] - attend.strength * later[:, :, None, None, None] * gradient.detach()


def strangeness(said: Tensor, mask: Tensor, times: Times, memory: float) -> Tensor:
    """How far the subject of noisier frames is from a moving average over the less noisy ones, of one layer.

    Args:
        said: (branches, windows, frames, tokens, channels).
        mask: (windows, frames, tokens): the subject's tokens. Frames without any have no part in it.
        times: (windows, frames).
        memory: share of the average that is kept when a frame is added.
    """
    weights = mask.to(said.dtype)
    means = torch.einsum("bwftc,wft->bwfc", said, weights) / weights.sum(2).clamp(min=1)[..., None]
    total = said.new_zeros(())
    for window, row in enumerate(times):
        remembered: Tensor | None = None
        for frame in torch.argsort(row, stable=True).tolist():
            if not mask[window, frame].any():
                continue
            mean = means[:, window, frame]
            if remembered is None:
                remembered = mean.detach()
                continue
            if row[frame] > row.min():
                total = total + (mean - remembered).square().mean()
            remembered = memory * remembered + (1 - memory) * mean.detach()
    return total
