"""Maps made of all evidence by a network: depth completion where the prior and the motion of the picture disagree.

As depth is completed from sparse measurements and a picture (Ma and Karaman, "Sparse-to-Dense", ICRA 2018), a small
U-Net (Ronneberger et al., MICCAI 2015) sees beside the picture what the prior says, what the flow says, how sure that
is, and the correction by hand. It answers with what is to be added to that correction, once for the picture and once
for its mirror image, and the mean of both counts.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vrestore.parallax import FOUND, LEAST, PLANES, Complete, Evidence
from vrestore.priors.folder import load_network, part_folder
from vrestore.registration import Map

FOLDER = "completion"
"""Where a folder of a prior holds the network, if it does."""
CELL = 4
"""Pixels along one side of what the network sees as one place."""
COARSEST = 4 * CELL
"""The same where it sees least finely."""
HEADS = 4
"""Of the attention among the coarsest places."""


class Block(nn.Module):
    """Two convolutions whose answer is added; at first nothing is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        _silenced(self.second)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w)."""
        found: Tensor = x + self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.1)), 0.1))
        return found


class Around(nn.Module):
    """Every place looks at all others: what is wrong with a whole picture is not seen in a part of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.look = nn.MultiheadAttention(channels, HEADS, batch_first=True)
        _silenced(self.look.out_proj)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w)."""
        places = self.norm(rearrange(x, "n c h w -> n (h w) c"))
        told: Tensor = self.look(places, places, places, need_weights=False)[0]
        return x + rearrange(told, "n (h w) c -> n c h w", h=x.shape[2])


class DepthCompletion(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Evidence of frames to their maps. Ends with zeros: starts as the correction by hand."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, widths: Sequence[int] = (56, 80, 88)) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.look = nn.Conv2d((PLANES + 1) * CELL**2, fine, 3, padding=1)
        self.fine, self.middle = Block(fine), Block(middle)
        self.down, self.deeper = (nn.Conv2d(a, b, 3, 2, 1) for a, b in ((fine, middle), (middle, coarse)))
        self.coarse = nn.Sequential(Block(coarse), Around(coarse), Block(coarse))
        self.higher, self.up = (nn.Conv2d(a, b, 1) for a, b in ((coarse, middle), (middle, fine)))
        self.middle_again, self.fine_again = Block(middle), Block(fine)
        self.tell = nn.Conv2d(fine, CELL**2, 3, padding=1)
        _silenced(self.tell)

    def forward(
        self, planes: Float[Tensor, "frames 8 height width"], likely: Float[Tensor, " frames"]
    ) -> Float[Tensor, "frames height width"]:
        """`Evidence.planes` of frames and how likely the camera moved, to maps in the unit of theirs."""
        height, width = planes.shape[-2:]
        rows, columns = (-side % COARSEST for side in (height, width))
        seen = F.pad(_told(planes, likely), (0, columns, 0, rows), mode="replicate")
        fine = self.fine(self.look(F.pixel_unshuffle(seen, CELL)))
        middle = self.middle(self.down(fine))
        middle = self.middle_again(middle + self.higher(_doubled(self.coarse(self.deeper(middle)))))
        fine = self.fine_again(fine + self.up(_doubled(middle)))
        added = F.pixel_shuffle(self.tell(F.leaky_relu(fine, 0.1)), CELL)
        return planes[:, FOUND] + added[:, 0, :height, :width]


def _silenced(layer: nn.Module) -> None:
    for part in layer.parameters():
        nn.init.zeros_(part)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _told(planes: Tensor, likely: Tensor) -> Tensor:
    """What is seen, of like size: what flows say counts by how sure it is."""
    luma, first, found, says, surer, apart, trusted, odd = planes.unbind(1)
    sure = 1 - torch.exp(-surer)
    told = [
        luma - 0.5,
        first - 0.4,
        2 * (found - first),
        (says - first).clamp(-1, 1) * sure,
        surer / 2 - 0.5,
        4 * apart.clamp(0, 1) * sure,
        trusted - 0.5,
        trusted.sqrt() * odd / 4,
        (likely[:, None, None] - 0.5).expand_as(luma),
    ]
    return torch.stack(told, 1)


def completion_in(folder: Path | None) -> Complete | None:
    """The network of a prior's folder, ready to complete maps on the CPU; None where there is no such thing.

    PriorError for weights that do not fit.
    """
    if folder is None or not (told := part_folder(folder, FOLDER)).is_dir():
        return None
    network = load_network(DepthCompletion, told, torch.float32)

    def complete(seen: Evidence) -> Map:
        """The mean of both sides: what depends on left and right evens out."""
        planes = torch.from_numpy(seen.planes())
        with torch.inference_mode():
            plain, mirrored = network(torch.stack([planes, planes.flip(-1)]), torch.tensor([seen.likely] * 2))
            found: Map = ((plain + mirrored.flip(-1)) / 2).clamp(min=LEAST).numpy()
        return found

    return complete
