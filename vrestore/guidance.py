"""Guidance: pure functions that move a prediction of the clean latents (or frames) to where it should be."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vrestore.errors import ConfigError
from vrestore.shapes import AnyLatents

Operator = Callable[[Tensor], Tensor]


def restoration(
    x0: AnyLatents, z_input: AnyLatents, time: float | Float[Tensor, " time"], *, weight: float, power: float = 1.0
) -> AnyLatents:
    """Pull the prediction towards the input, less and less on the way to clean: x0 + weight t^power (z_input - x0).

    Yu et al., "Scaling Up to Excellence" (SUPIR), CVPR 2024, restoration-guided sampling.

    Args:
        x0: predicted clean latents.
        z_input: latents of the degraded input.
        time: t / T in [0, 1], for all frames or one per frame.
        weight: in [0, 1]; 0 leaves the prediction.
        power: at least 0; higher frees the last steps more.
    """
    if not (0 <= weight <= 1 and power >= 0):
        raise ConfigError(f"Restoration guidance has weight {weight} and power {power}; use [0, 1] and 0 or more.")
    pull = weight * torch.as_tensor(time, dtype=x0.dtype, device=x0.device) ** power
    return x0 + (pull.view(-1, 1, 1, 1) if pull.ndim else pull) * (z_input - x0)


def classifier_free(conditional: AnyLatents, unconditional: AnyLatents, scale: float) -> AnyLatents:
    """unconditional + scale (conditional - unconditional); Ho and Salimans, 2022, eq. 6 with scale = 1 + w.

    A scale of 1 is the conditional prediction, to the last bit.
    """
    if scale == 1:
        return conditional
    return unconditional + scale * (conditional - unconditional)


def project(
    x0: Float[Tensor, "*x"],
    observed: Float[Tensor, "*y"],
    forward: Operator,
    back: Operator,
    *,
    strength: float = 1.0,
    iterations: int = 1,
) -> Float[Tensor, "*x"]:
    """Make a prediction agree with what was observed through a known operator A: x0 + strength B(observed - A x0).

    With B the pseudo-inverse of A one iteration is the projection on {x: A x = observed}: Wang, Yu and Zhang, "DDNM",
    ICLR 2023, algorithm 1. With another back-projection (Irani and Peleg, 1991) or ``strength`` times the adjoint it
    converges there with the iterations, as long as the operator ``1 - strength A B`` contracts.

    Args:
        x0: predicted clean frames or latents.
        observed: what A makes of the true ones.
        forward: A.
        back: B, from the shape of ``observed`` to that of ``x0``.
        strength: in (0, 2); 1 is the full step.
        iterations: 0 or more.
    """
    if not 0 < strength < 2 or iterations < 0:
        raise ConfigError(
            f"A projection has strength {strength} and {iterations} iterations; use (0, 2) and 0 or more."
        )
    for _ in range(iterations):
        x0 = x0 + strength * back(observed - forward(x0))
    return x0


def data_consistent(
    x0: Float[Tensor, "*x"],
    observed: Float[Tensor, "*y"],
    forward: Operator,
    adjoint: Operator,
    *,
    weight: float | Float[Tensor, "*w"],
    tolerance: float = 1e-3,
    iterations: int = 30,
) -> Float[Tensor, "*x"]:
    """The x that explains what was observed and stays near a prediction: argmin |A x - observed|^2 + weight |x - x0|^2.

    Conjugate gradients (Hestenes and Stiefel, 1952) on (A^T A + weight) d = A^T (observed - A x0), x = x0 + d. It is
    the data step of plug-and-play restoration (Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser
    Prior", TPAMI 2021) and of diffusion solvers (Chung, Lee and Ye, "Decomposed Diffusion Sampler", ICLR 2024).

    Args:
        x0: prediction of the clean picture.
        observed: what A made of the true one.
        forward: A, linear.
        adjoint: A^T, exactly: with anything else the iterations do not converge.
        weight: above 0: how much the prediction is believed beside the observation, everywhere or place by place.
        tolerance: of the residual, relative to its start.
        iterations: at most, 0 or more.
    """
    least = float(weight.min()) if isinstance(weight, Tensor) else weight
    if not (least > 0 and tolerance >= 0 and iterations >= 0):
        raise ConfigError(
            f"Data consistency has weight {least}, tolerance {tolerance} and {iterations} iterations; use a positive "
            "weight, 0 or more, and 0 or more."
        )
    found = torch.zeros_like(x0)
    residual = adjoint(observed - forward(x0))
    direction, energy = residual, residual.square().sum()
    enough = tolerance**2 * energy
    for _ in range(iterations):
        if bool(energy <= enough):
            break
        image = adjoint(forward(direction)) + weight * direction
        step = energy / (direction * image).sum()
        found, residual = found + step * direction, residual - step * image
        last, energy = energy, residual.square().sum()
        direction = residual + energy / last * direction
    return x0 + found
