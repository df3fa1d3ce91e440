"""Motion between neighbouring degraded frames, from a classical flow: what temporal layers align by."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vrestore.flow import SMALLEST, Between, Finder, FlowArray, Luma, dense, dense_fine, luma8, visible
from vrestore.shapes import Frame

FLOW_FACTOR = 2
"""The flow is computed at half the output size: at x4 that is twice the size of the input."""
PER_LATENT = 4
"""Flow pixels along one side of a latent pixel."""
FINE = 2
"""Cells of the embedded prior's fields along one side of a latent pixel: one for each pixel that is reduced by four."""


def flow_picture(frame: Frame) -> Luma:
    """8-bit luma (height / 2, width / 2) of a degraded frame, as the flow sees it."""
    return luma8(F.avg_pool2d(frame[None].float(), FLOW_FACTOR)[0])


@dataclass(frozen=True)
class Grid:
    """Where fields of motion are given.

    ``per_latent``: flow pixels along one side of a latent pixel; ``fine``: cells of a field along it, a divisor of
    that; ``find``: the flow from one picture to another.
    """

    per_latent: int = PER_LATENT
    fine: int = 1
    find: Finder = dense

    def none(self, picture: Luma) -> Tensor:
        """The field towards a neighbour that does not exist: nothing visible, (3, rows, columns)."""
        rows, columns = (side // self.per_latent * self.fine for side in picture.shape)
        return torch.zeros(3, rows, columns)

    def between(self, first: Luma, second: Luma) -> tuple[Tensor, Tensor]:
        """Motion from one flow picture to the other, and back: two fields (3, rows, columns).

        Each holds flow (dx, dy, in latent pixels) and visibility in [0, 1].
        """
        if min(first.shape) < SMALLEST:
            return self.none(first), self.none(second)
        forward, backward = self.find(first, second), self.find(second, first)
        return self._field(forward, backward), self._field(backward, forward)

    def _field(self, forward: FlowArray, backward: FlowArray) -> Tensor:
        parts = [forward / self.per_latent, visible(forward, backward)[..., None]]
        field = torch.from_numpy(np.concatenate(parts, axis=-1).astype(np.float32))
        rows, columns = (side // self.per_latent * self.per_latent for side in forward.shape[:2])
        field = field[:rows, :columns]  # whole latent pixels, however fine
        return F.avg_pool2d(rearrange(field, "h w c -> 1 c h w"), self.per_latent // self.fine)[0]


FINE_GRID = Grid(fine=FINE, find=dense_fine)
"""That of the embedded prior."""


def motions(pictures: Iterable[Luma], grid: Grid) -> Iterator[Tensor]:
    """Of every flow picture in turn its motion to both neighbours, (6, rows, columns), previous first.

    Reads one ahead.
    """
    stream = iter(pictures)
    here = next(stream, None)
    if here is None:
        return
    to_previous = grid.none(here)
    for following in stream:
        to_next, back = grid.between(here, following)
        yield torch.cat([to_previous, to_next])
        here, to_previous = following, back
    yield torch.cat([to_previous, grid.none(here)])


def fine_motions(frames: Iterable[Frame]) -> Iterator[Tensor]:
    """Of every degraded frame its motion as the embedded prior has it, in latent pixels: (6, rows / 4, columns / 4)."""
    return motions((flow_picture(frame) for frame in frames), FINE_GRID)


def coarse(motion: Float[Tensor, "batch channels rows columns"], size: tuple[int, int]) -> Tensor:
    """Fields at a latent's size (rows, columns), of as fine ones or finer: the mean of the cells in a latent pixel."""
    return motion if motion.shape[-2:] == size else F.adaptive_avg_pool2d(motion.float(), size)


def motion_of_between(made: Between) -> Tensor:
    """Motion of a picture between two frames to both of them, (6, h, w) at latent size, sides multiples of 8."""
    size = FLOW_FACTOR * PER_LATENT
    fields = [made.to_left / size, made.seen_left, made.to_right / size, made.seen_right]
    return F.avg_pool2d(torch.cat(fields, dim=1), size)[0]


def aligned_between(made: Between) -> Tensor:
    """What the two frames, brought to the time between them, show differently from their blend: (6, height, width)."""
    return torch.cat([made.from_left - made.blend, made.from_right - made.blend], dim=1)[0]
