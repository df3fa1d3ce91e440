"""Two predictions of a sequence by their frequencies in time: the slow part of one, the fast part of the other."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vrestore.errors import ConfigError, PriorError
from vrestore.executor import Sums
from vrestore.plan.bands import GLOBAL, LOCAL


def low_pass(size: tuple[int, ...], cutoff: tuple[float, ...]) -> Tensor:
    """A Gaussian low-pass over some axes: exp(-1/2 sum (f / cutoff)^2), f a share of the highest frequency.

    FreeLong (Lu et al., NeurIPS 2024), equation 6. ``cutoff`` infinite: the axis has no say.
    """
    if len(size) != len(cutoff) or any(not c > 0 for c in cutoff):
        raise ConfigError(
            f"The cutoffs of a low-pass over {len(size)} axes are {cutoff}; give a positive one for each."
        )
    mask = torch.ones(size, dtype=torch.float64)
    for axis, (length, edge) in enumerate(zip(size, cutoff, strict=True)):
        share = 2 * torch.fft.fftfreq(length, dtype=torch.float64) / edge
        mask *= torch.exp(-0.5 * share**2).view([-1 if i == axis else 1 for i in range(len(size))])
    return mask


def blend(slow: Tensor, fast: Tensor, cutoff: tuple[float, ...]) -> Tensor:
    """The low frequencies of ``slow`` and the high ones of ``fast``, over the leading axes, one for each cutoff.

    Where both are the same the result is, too: the two parts are a partition of unity.
    """
    axes = tuple(range(len(cutoff)))
    mask = low_pass(tuple(slow.shape[: len(cutoff)]), cutoff).to(slow.device)
    mask = mask.view(*mask.shape, *[1] * (slow.ndim - len(cutoff)))
    difference = torch.fft.fftn((slow - fast).double(), dim=axes)
    mixed: Tensor = fast + torch.fft.ifftn(mask * difference, dim=axes).real.to(fast.dtype)
    return mixed


@dataclass(frozen=True)
class SpectralBlend:
    """A reducer for `BandsPlan`: what the windows that span the sequence say slowly, and the near ones say fast.

    ``cutoff``: in time, as a share of the highest frequency, above 0 (FreeLong: 0.25).
    """

    cutoff: float = 0.25

    def __call__(self, sums: Sums) -> Mapping[int, Tensor]:
        """The fused predictions of the frames of a tick, which must be the whole sequence, with both groups."""
        frames = sorted(sums)
        if any(set(sums[n]) != {GLOBAL, LOCAL} for n in frames):
            raise PriorError(f"A spectral blend needs the groups {GLOBAL} and {LOCAL} of every frame; use a BandsPlan.")
        slow, fast = (torch.stack([2 * sums[n][group] for n in frames]) for group in (GLOBAL, LOCAL))
        return dict(zip(frames, blend(slow, fast, (self.cutoff,)), strict=True))
