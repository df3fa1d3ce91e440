"""What any image prior lacks: agreement of neighbouring frames. Training-free, on the predicted clean latents.

Motion of a frame is a field (6, h, w) at latent size: flow (dx, dy, in latent pixels) and visibility in [0, 1] towards
the previous frame, then the same towards the next. Frames follow one another; nothing is asked of those outside.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vrestore.errors import ConfigError
from vrestore.gather import Warp
from vrestore.shapes import Latents

MOST_SHARE = 0.5
"""Share of the neighbour at strength 1: what Upscale-A-Video uses."""
STEP = 1 / 8
"""Step of the motion guidance at strength 1: the inverse of the steepest curvature that its energy has where motion
takes pixels one to one. A frame between two neighbours then keeps half of itself."""

Motions = Float[Tensor, "time 6 h w"]


def propagate(x0: Latents, motion: Motions, *, strength: float) -> Latents:
    """Carry predictions along the motion, backward through the frames and then forward over what that gave.

    Zhou et al., "Upscale-A-Video", CVPR 2024, flow-guided recurrent latent propagation: where the neighbour shows the
    place, half of it is the neighbour's. A place that is seen all the time becomes a mean over time with shares that
    fall by half from frame to frame; what is hidden, or comes from outside the picture, stays as predicted.

    Args:
        x0: predicted clean latents of frames that follow one another.
        motion: of each of them.
        strength: in [0, 1]; at 1 the neighbour has `MOST_SHARE`, at 0 the prediction comes back, to the last bit.
    """
    _check(strength, "propagation")
    if strength == 0 or len(x0) == 1:
        return x0
    share, found = MOST_SHARE * strength, list(x0.split(1))
    order = range(len(x0))
    for frames, step, side in ((reversed(order[:-1]), 1, motion[:, 3:]), (order[1:], -1, motion[:, :3])):
        for i in frames:
            warp = Warp(side[i : i + 1, :2])
            trust = share * side[i : i + 1, 2:] * warp.inside()
            found[i] = found[i] + trust.to(x0) * (warp.apply(found[i + step]) - found[i])
    return torch.cat(found)


def disagreement(x0: Latents, motion: Motions) -> tuple[Tensor, Latents]:
    """Warping error between neighbouring predictions, and its gradient, in closed form.

    E = 1/2 sum over frames i and both neighbours n of |M r|^2, r = W x0[n] - x0[i], with warp W and visibility M from
    i to n; dE/dx0[i] = -M^2 r, dE/dx0[n] = W^T M^2 r. Yang et al., "Motion-Guided Latent Diffusion" (MGLD), ECCV 2024,
    the warping error of their motion-guided loss, squared here where they take absolute values: its gradient is exact
    without automatic differentiation, and vanishes with the error.
    """
    gradient, energy = torch.zeros_like(x0), x0.new_zeros(())
    for here, there, side in (
        (slice(None, -1), slice(1, None), motion[:-1, 3:]),
        (slice(1, None), slice(None, -1), motion[1:, :3]),
    ):
        warp = Warp(side[:, :2])
        trust = (side[:, 2:] * warp.inside()).to(x0).square()
        error = warp.apply(x0[there]) - x0[here]
        energy = energy + (trust * error.square()).sum() / 2
        gradient[here] -= trust * error
        gradient[there] += warp.adjoint(trust * error)
    return energy, gradient


def motion_guidance(x0: Latents, motion: Motions, *, strength: float) -> Latents:
    """Move predictions down the gradient of their `disagreement`: MGLD's guidance, all frames at once.

    ``strength`` in [0, 1]: 1 is a step of `STEP`, half of what could overshoot; 0 leaves the prediction, to the last
    bit. Gentler than `propagate`: a frame hears only its neighbours, and both of them alike.
    """
    _check(strength, "motion_guidance")
    if strength == 0 or len(x0) == 1:
        return x0
    return x0 - STEP * strength * disagreement(x0, motion)[1]


def _check(strength: float, name: str) -> None:
    if not 0 <= strength <= 1:
        raise ConfigError(f"{name} is {strength}; give a number from 0 (off) to 1")
