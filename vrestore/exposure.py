"""Exposure: what an open shutter makes of a moving frame, as a linear operator with its exact adjoint.

The frame is seen at sub-instants of the exposure, each time moved along its own flow, and averaged, in linear light.
Times are in frame intervals from the middle of the exposure: a shutter of 360 degrees is open from -1/2 to 1/2.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vrestore.errors import ConfigError
from vrestore.flow import FlowPair
from vrestore.gather import Warp, doubled, doubled_adjoint
from vrestore.shapes import Flow

GAMMA = 2.2
"""Exponent between stored values and light."""
FEWEST, MOST = 7, 31
"""Sub-instants of an exposure, where their number is not given."""
STEP = 1.0
"""Largest way, in pixels, between two sub-instants that is aimed at."""

Picture = Float[Tensor, "channels height width"]


def to_light(values: Tensor) -> Tensor:
    """Stored values in [0, 1] to linear light."""
    return values.clamp(0, 1) ** GAMMA


def to_values(light: Tensor) -> Tensor:
    """Linear light in [0, 1] to stored values."""
    return light.clamp(0, 1) ** (1 / GAMMA)


class Exposure:
    """y = mean over the sub-instants of the frame brought there, and its adjoint. Without flows it is the identity.

    Frames are doubled before they are moved: between pixels a bilinear warp blurs as much as a short exposure does, and
    what is no motion blur would be undone with it.
    """

    def __init__(self, flows: list[Flow | None]) -> None:
        """From the flow of each sub-instant to the frame, (1, 2, height, width) in pixels; None is the frame itself."""
        if not flows:
            raise ConfigError("an exposure without a single instant shows nothing; give one flow or more")
        self._warps = [Warp(flow, halves=True) for flow in flows if flow is not None]
        self._unmoved = len(flows) - len(self._warps)
        self._ends = flows[0], flows[-1]

    @property
    def instants(self) -> int:
        """Sub-instants that are averaged."""
        return len(self._warps) + self._unmoved

    def length(self, like: Picture) -> Tensor:
        """Pixels that what is seen at a place moved by while it was seen, (height, width)."""
        first, last = (0.0 if flow is None else flow for flow in self._ends)
        way = last - first
        return like.new_zeros(like.shape[-2:]) if isinstance(way, float) else way.norm(dim=1)[0].to(like)

    def apply(self, x: Picture) -> Picture:
        """A x, of linear light."""
        total = self._unmoved * x[None]
        if self._warps:
            fine = doubled(x[None])
            for warp in self._warps:
                total += warp.apply(fine)
        return total[0] / self.instants

    def adjoint(self, y: Picture) -> Picture:
        """A^T y, with <A x, y> = <x, A^T y>."""
        total = self._unmoved * y[None]
        if self._warps:
            fine = self._warps[0].adjoint(y[None])
            for warp in self._warps[1:]:
                fine += warp.adjoint(y[None])
            total = total + doubled_adjoint(fine)
        return total[0] / self.instants


def exposure(
    before: FlowPair | None, after: FlowPair | None, shutter: float, *, instants: int | None = None
) -> Exposure:
    """The exposure of a frame from its motion since the frame before and to the frame after.

    Towards each neighbour motion is uniform; at the first and last frame of a shot it is taken to go on as it goes on
    the other side, and a still has none.

    Args:
        before: flow between the previous frame (left) and this one; None at the start of a shot.
        after: flow between this frame (left) and the next one; None at its end.
        shutter: share of the frame interval in [0, 1] during which it is open: degrees / 360.
        instants: sub-instants, evenly spread; as many as the motion asks for (an odd number) if not given.
    """
    if not 0 <= shutter <= 1:
        raise ConfigError(f"shutter is {shutter}; give 0 (closed at once) to 1 (open all the time, 360 degrees)")
    if instants is not None and instants < 1:
        raise ConfigError(f"an exposure of {instants} instants shows nothing; give 1 or more")
    count = _enough(before, after, shutter) if instants is None else instants
    times = [shutter * ((k + 0.5) / count - 0.5) for k in range(count)]
    return Exposure([_to_frame(before, after, time) for time in times])


def _enough(before: FlowPair | None, after: FlowPair | None, shutter: float) -> int:
    """Sub-instants, an odd number, that leave about a pixel between two of them for all but the fastest places."""
    flows = [side.backward for side in (before,) if side] + [side.forward for side in (after,) if side]
    if not flows or shutter == 0:
        return 1
    ways = torch.stack([flow.square().sum(1).sqrt().flatten() for flow in flows])
    fast = float(torch.sort(ways.flatten())[0][int(0.95 * (ways.numel() - 1))])
    return min(MOST, max(FEWEST, 2 * math.ceil(shutter * fast / STEP / 2) + 1))


def _to_frame(before: FlowPair | None, after: FlowPair | None, time: float) -> Flow | None:
    """Flow from a sub-instant to the frame: Jiang et al., "Super SloMo", CVPR 2018, eq. 4."""
    if abs(time) < 1e-9:
        return None
    towards, other = (after, before) if time > 0 else (before, after)
    t = abs(time)
    if towards is None:
        if other is None:
            return None
        return t * (other.backward if time > 0 else other.forward)  # goes on as it comes, or came as it goes on
    there, back = (towards.forward, towards.backward) if time > 0 else (towards.backward, towards.forward)
    return -(1 - t) * t * there + t**2 * back


def light_gain(light: Tensor, floor: float) -> Tensor:
    """How much a stored value changes with its light, d value / d light, at light of at least ``floor``."""
    return light.clamp(min=floor) ** (1 / GAMMA - 1) / GAMMA
