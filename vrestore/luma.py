"""How well two frames agree, in tensors: PSNR of luma, as benchmarks have it (see `metrics` for the whole measures)."""

import torch
from jaxtyping import Float
from torch import Tensor

WEIGHTS = (65.481 / 255, 128.553 / 255, 24.966 / 255)
"""Of red, green and blue in BT.601 luma, for code values in [0, 1]."""
BEST_DB = 100.0


def luma(frames: Float[Tensor, "*time 3 height width"]) -> Float[Tensor, "*time height width"]:
    """Luma of frames, or of differences between frames, without its offset."""
    return torch.einsum("c,...chw->...hw", frames.new_tensor(WEIGHTS), frames)


def psnr_y(
    frames: Float[Tensor, "*time 3 height width"], reference: Float[Tensor, "*time 3 height width"], border: int = 0
) -> float:
    """PSNR-Y in dB of frames in [0, 1], both rounded to 8 bits; the mean over frames, of each at most 100.

    ``border``: pixels at each side that are left out.
    """
    first, second = ((x.clamp(0, 1) * 255).round() / 255 for x in (frames, reference))
    error = luma(first - second)
    height, width = error.shape[-2:]
    mean = error[..., border : height - border, border : width - border].square().mean((-2, -1))
    return float((-10 * torch.log10(mean.clamp(min=10 ** (-BEST_DB / 10)))).mean())
