"""Latent fusion: how much of the source's latents an edit takes over on its way down the ladder, and where.

Liao and Deng, "LOVECon: Text-driven Training-Free Long Video Editing with ControlNet", 2023, section 3.3, with the
numbers of its code for 50 steps; where the source stays untouched, it is put back at every level as in Avrahami, Fried
and Lischinski, "Blended Latent Diffusion", SIGGRAPH 2023.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vrestore.shapes import Frame, Latent, OutputFrame

Mode = Literal["attribute", "background", "shape", "style"]
LatentMask = Float[Tensor, "1 h w"]
Mask = Float[Tensor, "1 height width"]

STEPS = 50
"""Steps for which the shares of `Fusion` are meant; with fewer, a step takes more."""


@dataclass(frozen=True)
class Fusion:
    """What is taken of the source."""

    share: float = 0.0
    """Of the source's latent that is mixed in everywhere, at each of 50 steps."""
    share_until: float = 0.0
    """Part of the ladder, from the noisy end, in which it is."""
    put_back_until: float = 1.0
    """Part of the ladder in which the source's latent takes the place of what lies outside of the mask. Up to the end
    the source's own latents stay exactly; less lets the edges settle."""


FUSIONS: dict[Mode | None, Fusion] = {
    None: Fusion(),
    "attribute": Fusion(0.03, 0.6, 0.8),
    "background": Fusion(0.0, 0.0, 0.4),
    "shape": Fusion(0.0, 0.0, 0.8),
    "style": Fusion(0.05, 0.4, 1.0),
}
"""attribute: something looks different where it is. background: all but what the mask shows is made anew. shape:
something has another form. style: the whole picture has another look."""


def takes_source(mode: Mode | None, share: float, *, masked: bool) -> bool:
    """Whether `fused` mixes anything in on a level with the part ``share`` of the ladder still to be walked."""
    fusion, walked = FUSIONS[mode], 1 - share
    return walked < fusion.share_until or (masked and walked <= fusion.put_back_until)


def fused(
    z: Latent, source: Latent, mask: LatentMask | None, mode: Mode | None, share: float, levels: int = STEPS
) -> Latent:
    """A latent on its way, with what it takes of the source's latent at the same level.

    Args:
        z: of the edit.
        source: at the same level.
        mask: 1 where the picture is edited; None: everywhere. In the mode background it is what stays, too: `edited`
            turns it round.
        mode: as in `FUSIONS`; None: the source is only put back outside of the mask.
        share: part of the ladder that is still to be walked, [0, 1).
        levels: steps of the ladder.
    """
    fusion, walked = FUSIONS[mode], 1 - share
    if walked < fusion.share_until:
        taken = 1 - (1 - fusion.share) ** (STEPS / levels)
        z = torch.lerp(z, source, taken)
    if mask is not None and walked <= fusion.put_back_until:
        z = torch.lerp(source, z, mask.to(z))
    return z


def edited(mask: Mask, mode: Mode | None) -> Mask:
    """Where the picture is edited, given what the mask shows: that itself, or in the mode background all else."""
    return 1 - mask if mode == "background" else mask


def composite(edit: OutputFrame, source: Frame, mask: Mask) -> OutputFrame:
    """The edit where the mask is 1, the very source where it is 0."""
    return torch.where(mask == 0, source, torch.lerp(source, edit, mask))
