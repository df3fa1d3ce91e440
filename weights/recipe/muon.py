"""The optimiser of the recipe: Muon for what multiplies, AdamW for the rest.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, with the scale of Liu et al., "Muon is
Scalable for LLM Training", 2025, section 2.2, so that one learning rate serves both. PyTorch's own takes matrices only;
here the kernel of a convolution is a matrix of its outputs by all that it sees.
"""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM, NEWTON_SCHULZ, SCALE = 0.95, 5, 0.2
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the iteration, chosen by Jordan et al. to be steep at zero rather than exact."""
WEIGHT_DECAY = 1e-3
PLAIN = re.compile(r"embedding|^(\w+\.)?conv_(in|out)\.")
"""Names whose weights AdamW moves: what looks up, and the ends of a network."""


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V^T of a matrix U S V^T, by Newton and Schulz's iteration; no singular value is far from 1.

    In bf16, which is enough for that (Jordan et al.) and on processors with bf16 products several times as fast.
    """
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(torch.bfloat16)
    x = x / (x.norm() + 1e-7)
    for _ in range(NEWTON_SCHULZ):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    found: Tensor = (x.T if tall else x).to(matrix.dtype)
    return found


class _Muon(torch.optim.Optimizer):
    def __init__(self, learned: Iterable[nn.Parameter], rate: float) -> None:
        super().__init__(learned, {"lr": rate})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                mean = state.setdefault("momentum", torch.zeros_like(weight))
                mean.lerp_(weight.grad, 1 - MOMENTUM)
                ahead = weight.grad.lerp(mean, MOMENTUM)  # Nesterov's
                moved = orthogonal(ahead.flatten(1).float())
                size = SCALE * max(moved.shape) ** 0.5
                weight.mul_(1 - group["lr"] * WEIGHT_DECAY)
                weight.add_(moved.view_as(weight), alpha=-group["lr"] * size)


class Optimiser:
    """Both, at one learning rate.

    Args:
        model: whose parameters with gradients are moved.
        rate: the learning rate at the start.
        muon: whether Muon moves anything; else AdamW moves everything.
        fused: whether AdamW is one kernel, which GPUs have.
    """

    def __init__(self, model: nn.Module, rate: float, *, muon: bool = True, fused: bool = False) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        inner = [p for name, p in named if muon and p.ndim >= 2 and not PLAIN.search(name)]
        chosen = {id(p) for p in inner}
        rest = [p for _, p in named if id(p) not in chosen]
        self._parts: list[torch.optim.Optimizer] = []
        if inner:
            self._parts.append(_Muon(inner, rate))
        if rest:
            adam = torch.optim.AdamW(rest, rate, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, fused=fused)
            self._parts.append(adam)

    @property
    def rate(self) -> float:
        """Learning rate of the last step."""
        return float(self._parts[0].param_groups[0]["lr"])

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self._parts:
            part.zero_grad()

    def step(self, rate: float) -> None:
        """Move every parameter by its gradient."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Of both, for `load_state_dict`."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, saved: list[dict[str, Any]]) -> None:
        """Go on from a `state_dict`."""
        for part, state in zip(self._parts, saved, strict=True):
            part.load_state_dict(state)
