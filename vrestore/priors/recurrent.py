"""What the decoder is told of all frames around one: features that travel along the motion, both ways."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from vrestore.flow import warp
from vrestore.neighbours import with_neighbours
from vrestore.priors.embedded_nets import Motion, blocks, centred

Recalled = Float[Tensor, "batch time channels rows columns"]
"""Of every frame what it and its surroundings show, at a quarter of the output size."""

FINER = 2
"""Pixels of these features along one side of a latent pixel."""
GROUP, MARGIN = 8, 2
"""Frames that features are worked out of together, and how many beside them, to each side, are heard of."""


class RecurrentGuide(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Bidirectional propagation of features (BasicVSR: Chan et al., CVPR 2021, section 3.2) over degraded frames.

    A state goes back from the last frame to the first, another forth that hears of the first; each is warped by the
    flow between the degraded frames, and forgotten where that shows nothing. Ends with zeros: starts as no guide.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, width: int = 64, depth: int = 2, channels: int = 64) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, width, 3, padding=1), nn.LeakyReLU(0.1))
        self.back, self.forth = _cell(2 * width, width, depth), _cell(3 * width, width, depth)
        self.tell = nn.Conv2d(2 * width, channels, 1)
        nn.init.zeros_(self.tell.weight)
        nn.init.zeros_(self.tell.bias)  # type: ignore[arg-type]

    def forward(self, degraded: Float[Tensor, "batch time 3 height width"], motion: Motion) -> Recalled:
        """Degraded frames at output size, sides multiples of 8, and their motion, to what is recalled of them."""
        return torch.stack(list(self.recalled(degraded.unbind(1), motion.unbind(1))), dim=1)

    def recalled(self, frames: Sequence[Tensor], fields: Sequence[Tensor]) -> Iterator[Tensor]:
        """The same frame by frame: (batch, 3, height, width) each, and their motion, to what is recalled of each."""
        backs: list[Tensor] = []
        for frame, field in zip(reversed(frames), reversed(fields), strict=True):
            seen = self.look(centred(frame))  # twice, rather than to hold it of all frames
            later = moved(backs[-1], field[:, 3:]) if backs else torch.zeros_like(seen)
            backs.append(self.back(torch.cat([seen, later], dim=1)))
        state: Tensor | None = None
        for frame, field in zip(frames, fields, strict=True):
            seen, back = self.look(centred(frame)), backs.pop()
            earlier = torch.zeros_like(seen) if state is None else moved(state, field[:, :3])
            state = self.forth(torch.cat([seen, back, earlier], dim=1))
            yield self.tell(torch.cat([back, state], dim=1))


def _cell(inner: int, width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, width, 3, padding=1), nn.LeakyReLU(0.1), blocks(width, depth))


def moved(state: Tensor, field: Tensor) -> Tensor:
    """A neighbour's state, brought onto a frame by the ``field`` towards it (n, 3, h, w), zero where it is not seen."""
    fine = F.interpolate(field.float(), state.shape[-2:], mode="bilinear", align_corners=False)
    return warp(state, FINER * fine[:, :2]) * fine[:, 2:].to(state.dtype)


Entry = dict[str, Tensor]


def in_groups(entries: Iterator[Entry], recall: Callable[[Sequence[Entry]], Sequence[Tensor]]) -> Iterator[Entry]:
    """Every entry with what is ``recalled`` of it, group by group: what a frame is told does not depend on where in
    the shot, at the start of which group, the entries begin, but for the first group."""
    for held, group in with_neighbours(entries, GROUP, MARGIN, MARGIN):
        for entry, told in zip(held[group.start : group.stop], recall(held)[group.start :], strict=False):
            yield entry | {"recalled": told}
