"""Ladders, which say what a level means, and solvers, which move latents from one level to another.

A solver is a pure function of the latents, the clean latents that a prior predicts (x0), and the levels before and
after; it keeps no state. Levels are integers, one for all latents or one per frame. A frame whose level does not
change comes back untouched, to the last bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vrestore.errors import ConfigError
from vrestore.shapes import AnyLatents, Latent, Levels

Kind = Literal["bridge", "flow", "ddim", "lcm"]


@dataclass(frozen=True)
class Ladder:
    """What levels 0..T mean. On level i a latent is ``alpha[i] * clean + sigma[i] * end`` (+ noise of a bridge)."""

    kind: Kind
    """bridge: ``end`` is the degraded latent. flow, ddim, lcm: ``end`` is standard normal noise."""
    time: tuple[float, ...]
    """What the prior is told. bridge and flow: in [0, 1]; ddim and lcm: the training timestep."""
    alpha: tuple[float, ...]
    """Share of the clean latent, falling from (almost) 1 at level 0."""
    sigma: tuple[float, ...]
    """Share of the end point, rising from (almost) 0 at level 0."""
    spread: float = 0.0
    """Deviation scale of a bridge: between its ends it holds noise of deviation ``spread * sqrt(alpha * sigma)``."""
    mixed: bool = False
    """Whether a run starts between the degraded latent and the end point, not at the end point itself."""
    scaling: float = 10.0
    """By how much a consistency model (lcm) scales timesteps where it blends its answer with what it was given."""

    @property
    def levels(self) -> int:
        """T, the noisiest level."""
        return len(self.time) - 1


def bridge_ladder(steps: int, spread: float = 0.0) -> Ladder:
    """A bridge from the degraded latents (t = 1) to the clean ones (t = 0), at equal steps of t.

    Brownian bridge: Li et al., "BBDM", CVPR 2023, section 3.1, with the variance ``spread² t (1 - t)``; ``spread`` 0 is
    the straight line.
    """
    _check_steps(steps)
    if spread < 0:
        raise ConfigError(f"A bridge cannot have the spread {spread}; use 0 or more.")
    t = tuple(i / steps for i in range(steps + 1))
    return Ladder("bridge", t, tuple(1 - x for x in t), t, spread)


def flow_ladder(steps: int, shift: float = 1.0) -> Ladder:
    """Rectified flow from noise (t = 1), the times moved towards it: t = shift u / (1 + (shift - 1) u).

    Liu et al., "Flow Straight and Fast", ICLR 2023; shift: Esser et al., "Scaling Rectified Flow Transformers",
    ICML 2024, eq. 23.
    """
    _check_steps(steps)
    if not shift > 0:
        raise ConfigError(f"A flow cannot have the shift {shift}; use a positive number, 1 for equal steps.")
    u = tuple(i / steps for i in range(steps + 1))
    t = tuple(shift * x / (1 + (shift - 1) * x) for x in u)
    return Ladder("flow", t, tuple(1 - x for x in t), t)


def ddim_ladder(
    steps: int,
    alphas_cumprod: Sequence[float] | Float[Tensor, " train"],
    spacing: Literal["leading", "trailing", "linspace"] = "trailing",
    *,
    offset: int = 0,
    clean: bool = True,
) -> Ladder:
    """Levels among the timesteps that a variance-preserving prior was trained on.

    Args:
        steps: T, 1 to the number of training timesteps.
        alphas_cumprod: of each training timestep, from the least noisy, in (0, 1] ([0, 1) at the last).
        spacing: as in Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", WACV 2024, table 2.
        offset: added to the timesteps of "leading".
        clean: level 0 is free of noise. Otherwise it has the noise of training timestep 0, as an inversion needs,
            which cannot leave an exactly clean level.
    """
    products = [float(x) for x in alphas_cumprod]
    count = len(products)
    _check_steps(steps, count)
    if spacing == "leading":
        timesteps = [i * (count // steps) + offset for i in range(steps)]
    elif spacing == "trailing":
        timesteps = [round((i + 1) * count / steps) - 1 for i in range(steps)]
    else:
        timesteps = [round(i * (count - 1) / max(steps - 1, 1)) for i in range(steps)]
    if not (timesteps[0] >= 0 and timesteps[-1] < count):
        raise ConfigError(f"offset {offset} moves timesteps outside 0 to {count - 1}.")
    on_levels = [1.0 if clean else products[0]] + [products[t] for t in timesteps]
    time = (0.0, *(float(t) for t in timesteps))
    return Ladder("ddim", time, tuple(x**0.5 for x in on_levels), tuple((1 - x) ** 0.5 for x in on_levels))


def lcm_ladder(
    steps: int,
    alphas_cumprod: Sequence[float] | Float[Tensor, " train"],
    *,
    original: int = 50,
    strength: float = 1.0,
    scaling: float = 10.0,
) -> Ladder:
    """Levels of a latent consistency model, among the timesteps that it was distilled on.

    Luo et al., "Latent Consistency Models", 2023, algorithm 3; the levels and defaults are those of diffusers'
    ``LCMScheduler``.

    Args:
        steps: T, at most ``int(original * strength)``.
        alphas_cumprod: as in `ddim_ladder`.
        original: timesteps of the distillation, evenly spaced.
        strength: part of the ladder that is walked; below 1 a run starts from the degraded latent with noise.
        scaling: of timesteps, in `lcm`.
    """
    products = [float(x) for x in alphas_cumprod]
    _check_steps(original, len(products))
    among = int(original * strength)
    _check_steps(steps, among)
    skip = len(products) // original
    # evenly from the noisiest on
    timesteps = sorted((among - i * among // steps) * skip - 1 for i in range(steps))
    on_levels = [1.0] + [products[t] for t in timesteps]
    time = (0.0, *(float(t) for t in timesteps))
    alpha, sigma = tuple(x**0.5 for x in on_levels), tuple((1 - x) ** 0.5 for x in on_levels)
    return Ladder("lcm", time, alpha, sigma, mixed=strength < 1, scaling=scaling)


def interpolate(
    ladder: Ladder, clean: AnyLatents, end: AnyLatents, level: int | Levels, noise: AnyLatents | None = None
) -> AnyLatents:
    """Latents at a level between a clean latent and the ladder's end point: the forward process of all kinds.

    ``noise``: standard normal, for a bridge with a spread; ``None`` leaves it out.
    """
    alpha, sigma = _at(ladder, ladder.alpha, level, clean), _at(ladder, ladder.sigma, level, clean)
    mixed = alpha.to(clean.dtype) * clean + sigma.to(clean.dtype) * end
    if noise is not None and ladder.spread:
        mixed = mixed + (ladder.spread * (alpha * sigma).sqrt()).to(clean.dtype) * noise
    return mixed


def start(ladder: Ladder, degraded: Latent, noise: Callable[[int], Latent]) -> Latent:
    """The latent with which a run begins, at the ladder's noisiest level.

    The degraded latent itself on a bridge; noise on a flow or a DDIM ladder, mixed with the degraded latent where the
    ladder says so (Meng et al., "SDEdit", ICLR 2022).

    Args:
        ladder: of the prior.
        degraded: latent of the degraded frame.
        noise: standard normal noise of the frame, of the shape of ``degraded``, by level.
    """
    end = degraded if ladder.kind == "bridge" else noise(ladder.levels).to(degraded)
    return interpolate(ladder, degraded, end, ladder.levels) if ladder.mixed else end


def advance(
    ladder: Ladder, z: Latent, x0: Latent, level: int, to: int, noise: Callable[[int], Latent], *, freedom: float = 0.0
) -> Latent:
    """One step of the solver that the ladder's kind asks for.

    ``freedom`` in [0, 1]: share of the noise that a stochastic sampler of that kind would draw, none in the last step.
    A flow draws none at all; consistency models know no other way and draw all of it. ``noise`` as in `start`, asked
    only where it is drawn.
    """
    if ladder.kind == "flow":
        return flow_euler(ladder, z, x0, level, to)
    if ladder.kind == "lcm":
        return lcm(ladder, z, x0, level, to, noise(to).to(z) if to > 0 else None)
    free = freedom if to > 0 else 0.0
    drawn = noise(to).to(z) if free else None
    if ladder.kind == "bridge":
        return bridge_euler(ladder, z, x0, level, to, drawn, strength=free)
    return ddim(ladder, z, x0, level, to, drawn, eta=free)


def ddim(
    ladder: Ladder,
    z: AnyLatents,
    x0: AnyLatents,
    level: int | Levels,
    to: int | Levels,
    noise: AnyLatents | None = None,
    *,
    eta: float = 0.0,
) -> AnyLatents:
    """Song, Meng and Ermon, "Denoising Diffusion Implicit Models", ICLR 2021, eq. 12 and 16.

    ``eta`` 0 is deterministic and runs upwards too (inversion, from a ladder that is not ``clean``); 1 is DDPM.

    Raises:
        ConfigError: a ladder of another kind; noise missing or wanted on the way up; an exactly clean level left.
    """
    _check_kind(ladder, "ddim")
    _check_noise(level, to, noise, eta)
    a, b = (_at(ladder, ladder.alpha, i, z) for i in (level, to))
    s, r = (_at(ladder, ladder.sigma, i, z) for i in (level, to))
    _check_leaves_noise(s, level, to)
    fresh = eta * (r / s) * (1 - (a / b) ** 2).clamp(min=0).sqrt() if eta else torch.zeros_like(s)  # eq. 16
    keep = (r**2 - fresh**2).clamp(min=0).sqrt() / s
    moved = (b - keep * a).to(z.dtype) * x0 + keep.to(z.dtype) * z  # eq. 12, with eps = (z - a x0) / s
    if noise is not None and eta:
        moved = moved + fresh.to(z.dtype) * noise
    return _keep_still(z, moved, level, to)


DATA_DEVIATION = 0.5
"""Of clean latents, as consistency models assume it."""


def lcm(
    ladder: Ladder,
    z: AnyLatents,
    x0: AnyLatents,
    level: int | Levels,
    to: int | Levels,
    noise: AnyLatents | None = None,
) -> AnyLatents:
    """One step of multistep consistency sampling: the consistency function, then new noise up to level ``to``.

    Song et al., "Consistency Models", ICML 2023, algorithm 1, with the boundary conditions of appendix C; Luo et al.,
    "Latent Consistency Models", 2023. Level 0 is the consistency function itself, without noise.

    Raises:
        ConfigError: a ladder of another kind; noise missing; a step upwards; level 0 left.
    """
    _check_kind(ladder, "lcm")
    _check_noise(level, to, noise, float(bool((torch.as_tensor(to) > 0).any())))
    s, t = (_at(ladder, values, level, z) for values in (ladder.sigma, ladder.time))
    b, r = (_at(ladder, values, to, z) for values in (ladder.alpha, ladder.sigma))
    _check_leaves_noise(s, level, to)
    scaled = t * ladder.scaling
    skip = DATA_DEVIATION**2 / (scaled**2 + DATA_DEVIATION**2)
    out = scaled / (scaled**2 + DATA_DEVIATION**2).sqrt()
    moved = b.to(z.dtype) * (out.to(z.dtype) * x0 + skip.to(z.dtype) * z)
    if noise is not None:
        moved = moved + r.to(z.dtype) * noise
    return _keep_still(z, moved, level, to)


def undone(ladder: Ladder, z: AnyLatents, tried: AnyLatents, x0: AnyLatents, level: int, to: int) -> AnyLatents:
    """Where a deterministic step down that ends at ``z`` began, by what the prior says of a guess at that place.

    The step is that of `ddim`, `flow_euler` or `bridge_euler` from level ``to`` to ``level``. If ``tried`` is the
    place itself, it comes back: so inversion is to find a fixed point (Pan et al., "Effective Real Image Editing with
    Accelerated Iterative Diffusion Inversion", ICCV 2023). The first guess, ``z`` itself, gives DDIM inversion as it is
    commonly done. Level 0 may be clean.

    Args:
        ladder: of another kind than lcm, whose steps draw noise.
        z: at ``level``.
        tried: a guess at level ``to``.
        x0: the clean latents behind ``tried``, told to be at level ``to``.
        level: where the step ends.
        to: where it began, noisier than ``level``.

    Raises:
        ConfigError: a ladder of consistency models; ``to`` not above ``level``.
    """
    if ladder.kind == "lcm":
        raise ConfigError("A ladder of consistency models cannot be climbed; invert with a DDIM ladder.")
    if to <= level:
        raise ConfigError(f"Level {to} is not above {level}; an inversion climbs.")
    a, b = (_at(ladder, ladder.alpha, i, z) for i in (level, to))
    s, r = (_at(ladder, ladder.sigma, i, z) for i in (level, to))
    if ladder.kind != "ddim":
        return z + ((r - s) / r).to(z.dtype) * (tried - x0)
    end = (tried - b.to(z.dtype) * x0) / r.to(z.dtype)
    return (b / a).to(z.dtype) * z + (r - s * b / a).to(z.dtype) * end


def flow_euler(ladder: Ladder, z: AnyLatents, x0: AnyLatents, level: int | Levels, to: int | Levels) -> AnyLatents:
    """One Euler step of the rectified flow, z + (s - t) v with v = (z - x0) / t.

    Liu et al., "Flow Straight and Fast", ICLR 2023, the v of eq. 1. Runs upwards too, but not from t = 0.

    Raises:
        ConfigError: a ladder of another kind; an exactly clean level left.
    """
    _check_kind(ladder, "flow")
    t, s = (_at(ladder, ladder.sigma, i, z) for i in (level, to))
    _check_leaves_noise(t, level, to)
    return _keep_still(z, x0 + (s / t).to(z.dtype) * (z - x0), level, to)


def bridge_euler(
    ladder: Ladder,
    z: AnyLatents,
    x0: AnyLatents,
    level: int | Levels,
    to: int | Levels,
    noise: AnyLatents | None = None,
    *,
    strength: float = 0.0,
) -> AnyLatents:
    """One step of the bridge from t to s: its law at s, given its end x0 at 0 and z at t.

    z_s = x0 + (s / t) (z - x0) + strength spread sqrt(s (t - s) / t) noise: the Brownian bridge between these ends, as
    in Li et al., "BBDM", CVPR 2023, section 3.2. ``strength`` 0 is deterministic, 1 keeps the bridge's noise.

    Raises:
        ConfigError: a ladder of another kind; noise missing or wanted on the way up; an exactly clean level left.
    """
    _check_kind(ladder, "bridge")
    _check_noise(level, to, noise, strength * ladder.spread)
    t, s = (_at(ladder, ladder.sigma, i, z) for i in (level, to))
    _check_leaves_noise(t, level, to)
    moved = x0 + (s / t).to(z.dtype) * (z - x0)
    if noise is not None and strength and ladder.spread:
        deviation = strength * ladder.spread * (s * (t - s) / t).clamp(min=0).sqrt()
        moved = moved + deviation.to(z.dtype) * noise
    return _keep_still(z, moved, level, to)


def _at(ladder: Ladder, values: tuple[float, ...], level: int | Levels, like: Tensor) -> Tensor:
    """What a level means, float64, shaped to multiply ``like``: a scalar, or (time, 1, 1, 1)."""
    index = torch.as_tensor(level, device="cpu")
    if bool((index < 0).any()) or bool((index > ladder.levels).any()):
        raise ConfigError(f"Level {level} is not on the ladder; use 0 to {ladder.levels}.")
    means = torch.tensor(values, dtype=torch.float64)[index].to(like.device)
    return means if isinstance(level, int) else means.view(-1, 1, 1, 1)


def _keep_still(z: Tensor, moved: Tensor, level: int | Levels, to: int | Levels) -> Tensor:
    """``z`` where the level stays, ``moved`` elsewhere."""
    still = torch.as_tensor(level, device=z.device) == torch.as_tensor(to, device=z.device)
    return torch.where(still.view(-1, 1, 1, 1) if still.ndim else still, z, moved)


def _check_steps(steps: int, most: int | None = None) -> None:
    if steps < 1 or (most is not None and steps > most):
        raise ConfigError(
            f"A ladder cannot have {steps} steps; use 1 or more" + (f", at most {most}." if most else ".")
        )


def _check_kind(ladder: Ladder, kind: Kind) -> None:
    if ladder.kind != kind:
        raise ConfigError(f"This solver walks a {kind} ladder, not a {ladder.kind} ladder.")


def _check_noise(level: int | Levels, to: int | Levels, noise: Tensor | None, amount: float) -> None:
    if amount and noise is None:
        raise ConfigError("A stochastic step needs noise; pass it, or set eta or strength to 0.")
    if amount and bool((torch.as_tensor(to) > torch.as_tensor(level)).any()):
        raise ConfigError(f"A step upwards, from level {level} to {to}, takes no noise; set eta or strength to 0.")


def _check_leaves_noise(sigma: Tensor, level: int | Levels, to: int | Levels) -> None:
    """At an exactly clean level z says nothing about the noise, so no solver can leave it."""
    moves = (torch.as_tensor(level) != torch.as_tensor(to)).to(sigma.device)
    if bool(((sigma.flatten() == 0) & moves).any()):
        raise ConfigError(
            f"Level {level} holds no noise and cannot be left for {to}; use a ladder whose level 0 is not clean."
        )
