"""The noise that a sequence starts from, frame by frame: independent, or alike between frames in one of several ways.

A source is a function of the absolute frame. What is random in it comes from counters (`vrestore.noise`), so a frame
has the same noise in every window, tile and batch and after a resume. All but `Inverted` and `AnalyticStart` are
standard normal in each frame, exactly, and differ in how frames belong together.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vrestore.errors import ConfigError
from vrestore.noise import noise, philox
from vrestore.sampling import Ladder
from vrestore.shapes import Latent

NoiseSource = Callable[[int], Latent]
"""Noise (channels, h, w) of an absolute frame, float32."""
Shape = tuple[int, int, int]

_SHARED, _STEPS, _PARTS, _NEW, _ORDER = 65534, 65533, 65532, 65531, 65530
"""Levels of the noises here, beyond those of any ladder: a shared one, those of a progression, of a warp, of orders."""


@dataclass(frozen=True)
class Independent:
    """Each frame its own noise, that of ``level`` in `vrestore.noise`."""

    seed: int
    shape: Shape
    level: int

    def __call__(self, frame: int) -> Latent:
        """Noise of a frame."""
        return noise(self.seed, frame, self.level, self.shape)


@dataclass(frozen=True)
class Rescheduled:
    """The noise of the first window again and again, shuffled within groups: FreeNoise (Qiu et al., ICLR 2024), 3.2.

    Frames ``i .. i + group - 1`` have the noises of the group a window before, in another order.

    Args:
        source: noise of the first ``window`` frames.
        seed: of the orders.
        window: frames that have noise of their own, a multiple of ``group``.
        group: frames that are shuffled among themselves.

    Raises:
        ConfigError: a window that is not a positive multiple of a positive group.
    """

    source: NoiseSource
    seed: int
    window: int = 16
    group: int = 4

    def __post_init__(self) -> None:
        if self.group < 1 or self.window < self.group or self.window % self.group:
            raise ConfigError(
                f"Noise cannot be rescheduled by a window of {self.window} in groups of {self.group}; use a multiple."
            )

    def origin(self, frame: int) -> int:
        """The frame of the first window that has the same noise."""
        while frame >= self.window:
            group, place = divmod(frame, self.group)
            frame = (group * self.group - self.window) + _order(self.seed, group, self.group)[place]
        return frame

    def __call__(self, frame: int) -> Latent:
        """Noise of a frame."""
        return self.source(self.origin(frame))


@dataclass(frozen=True)
class Shared:
    """A share of the noise is common to all frames: the mixed noise of PYoCo (Ge et al., ICCV 2023), equation 4.

    ``share`` in [0, 1] is the correlation of any two frames. 1: the same noise everywhere, as in RollingDepth.
    """

    source: NoiseSource
    seed: int
    shape: Shape
    share: float

    def __post_init__(self) -> None:
        _check_share("share", self.share)

    def __call__(self, frame: int) -> Latent:
        """Noise of a frame."""
        common = noise(self.seed, 0, _SHARED, self.shape)
        if self.share == 1:
            return common
        return math.sqrt(self.share) * common + math.sqrt(1 - self.share) * self.source(frame)


@dataclass(frozen=True)
class Progressive:
    """Each frame's noise goes on from the last one's: the progressive noise of PYoCo (Ge et al., ICCV 2023), eq. 5.

    The autoregression x[n] = a x[n - 1] + sqrt(1 - a^2) e[n], written as a sum of the last `reach` e, so that any frame
    is had without those before it. Frames j apart correlate by `correlation`, which is a^j but for the cut.

    Args:
        seed, shape: of the noise.
        share: a, in [0, 1).
    """

    seed: int
    shape: Shape
    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ConfigError(f"The share of a progressive noise is {self.share}; use 0 or more, below 1.")

    @cached_property
    def reach(self) -> int:
        """Frames whose e enter a frame, so many that the rest would count for less than a thousandth; at most 256."""
        return 1 if self.share == 0 else min(256, 1 + math.ceil(math.log(1e-3) / math.log(self.share)))

    def correlation(self, apart: int) -> float:
        """Of two frames."""
        a, k = self.share, self.reach
        return 0.0 if apart >= k else a**apart * (1 - a ** (2 * (k - apart))) / (1 - a ** (2 * k))

    def __call__(self, frame: int) -> Latent:
        """Noise of a frame."""
        a, k = self.share, self.reach
        parts = (a**i * noise(self.seed, frame + k - 1 - i, _STEPS, self.shape) for i in range(k))
        total = next(parts)
        for part in parts:
            total = total + part
        return total * math.sqrt((1 - a * a) / (1 - a ** (2 * k)))


@dataclass
class Warped:
    """Noise that moves with the picture and stays white: Go-with-the-Flow (Burgert et al., CVPR 2025).

    Every latent pixel is ``parts`` x ``parts`` finer ones, independent standard normals whose sum over ``parts`` is its
    noise (Chang et al., "How I Warped Your Noise", ICLR 2024, equation 8). From frame to frame a fine pixel goes where
    the flow takes it. Each is used once at most, and where none arrives there is a new one: so what comes out is again
    exactly white, whatever the flow.

    Args:
        seed, shape: of the noise.
        flow: for a frame, (2, h, w), where its latent pixels were in the frame before: (x, y) offsets, latent pixels.
        first: frame at which the chain begins, the first of a shot.
        parts: fine pixels along the side of a latent pixel.
        renewal: share of new noise in each frame, in [0, 1]: the degradation of section 3.3.
    """

    seed: int
    shape: Shape
    flow: Callable[[int], Float[Tensor, "2 h w"]]
    first: int = 0
    parts: int = 4
    renewal: float = 0.0
    _at: int | None = field(default=None, init=False, repr=False)
    _fine: np.ndarray = field(default_factory=lambda: np.empty(0), init=False, repr=False)

    def __post_init__(self) -> None:
        _check_share("renewal", self.renewal)

    def __call__(self, frame: int) -> Latent:
        """Noise of a frame; those between the last one asked for, or the first of all, and this one are gone through.

        Raises:
            ConfigError: a frame before the first.
        """
        if frame < self.first:
            raise ConfigError(f"The noise is warped from frame {self.first} on; there is none of frame {frame}.")
        if self._at is None or frame < self._at:
            self._at, self._fine = self.first, self._new(self.first)
        while self._at < frame:
            self._at += 1
            self._fine = self._moved(self._at)
        c, h, w = self.shape
        k = self.parts
        moved = torch.from_numpy(self._fine.reshape(c, h, k, w, k).sum((2, 4), dtype=np.float64) / k).float()
        if not self.renewal:
            return moved
        new, old = self.renewal, 1 - self.renewal
        return (old * moved + new * noise(self.seed, frame, _NEW, self.shape)) / math.hypot(old, new)

    def _new(self, frame: int) -> np.ndarray:
        c, h, w = self.shape
        return noise(self.seed, frame, _PARTS, (c, h * self.parts, w * self.parts)).numpy()

    def _moved(self, frame: int) -> np.ndarray:
        k, fresh = self.parts, self._new(frame)
        c, height, width = fresh.shape
        x, y = (np.repeat(np.repeat(part, k, 0), k, 1) for part in self.flow(frame).detach().cpu().double().numpy())
        column = np.floor(np.arange(width) + k * x + 0.5).astype(int)
        row = np.floor(np.arange(height)[:, None] + k * y + 0.5).astype(int)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        places = np.flatnonzero(inside)
        sources, once = np.unique((row * width + column).ravel()[places], return_index=True)
        out = fresh.reshape(c, -1).copy()
        out[:, places[once]] = self._fine.reshape(c, -1)[:, sources]
        return out.reshape(c, height, width)


@dataclass(frozen=True)
class CoherentTail:
    """A new frame's slow part is that of the frame before it: Ouroboros-Diffusion (Chen et al., AAAI 2025), eq. 5.

    Args:
        source: of the rest of the noise.
        held: what the frame before is at that moment, or None where there is none.
        cutoff: frequency below which the frame before has its say, as a share of the highest, in [0, 1].
    """

    source: NoiseSource
    held: Callable[[int], Latent | None]
    cutoff: float = 0.25

    def __post_init__(self) -> None:
        _check_share("cutoff", self.cutoff)

    def __call__(self, frame: int) -> Latent:
        """Noise of a frame."""
        fresh = self.source(frame)
        before = self.held(frame - 1) if frame else None
        if before is None:
            return fresh
        h, w = fresh.shape[-2:]
        frequency = torch.hypot(2 * torch.fft.fftfreq(h)[:, None], 2 * torch.fft.fftfreq(w))
        mixed = torch.where(frequency <= self.cutoff, torch.fft.fft2(before.to(fresh)), torch.fft.fft2(fresh))
        out: Latent = torch.fft.ifft2(mixed).real
        return out


@dataclass(frozen=True)
class Inverted:
    """Latents that an inversion found, mixed with noise: BIVDiff (Shi et al., CVPR 2024), equation 4.

    ``share`` in [0, 1]: of the variance that is the inversion's.
    """

    latents: NoiseSource
    source: NoiseSource
    share: float = 1.0

    def __post_init__(self) -> None:
        _check_share("share", self.share)

    def __call__(self, frame: int) -> Latent:
        """Start of a frame."""
        found = self.latents(frame)
        if self.share == 1:
            return found
        return math.sqrt(self.share) * found + math.sqrt(1 - self.share) * self.source(frame).to(found)


@dataclass(frozen=True)
class AnalyticStart:
    """A start below the noisiest level, as near to what the forward process has there as a normal law can be.

    Its mean is ``alpha mean``, its variance ``alpha^2 variance + sigma^2``: Zhao et al., "Identifying and Solving
    Conditional Image Leakage in Image-to-Video Diffusion Model", NeurIPS 2024, proposition 1.

    Args:
        source: standard normal noise.
        ladder, level: where the start is.
        mean: of the clean latents of a frame, as the condition lets one expect them.
        variance: of the clean latents about that mean.
    """

    source: NoiseSource
    ladder: Ladder
    level: int
    mean: NoiseSource
    variance: float

    def __post_init__(self) -> None:
        if self.variance < 0:
            raise ConfigError(f"The variance of the latents is {self.variance}; use 0 or more.")

    def __call__(self, frame: int) -> Latent:
        """Start of a frame."""
        alpha, sigma = self.ladder.alpha[self.level], self.ladder.sigma[self.level]
        mean = self.mean(frame)
        return alpha * mean + math.sqrt(alpha**2 * self.variance + sigma**2) * self.source(frame).to(mean)


@lru_cache(maxsize=4096)
def _order(seed: int, group: int, size: int) -> tuple[int, ...]:
    """A permutation that depends on its arguments alone."""
    counter = (np.arange(size, dtype=np.uint64), np.uint64(0), np.uint64(group), np.uint64(_ORDER << 16))
    words = philox(tuple(np.broadcast_arrays(*counter)), (seed & 0xFFFFFFFF, seed >> 32))
    return tuple(np.argsort(words[0], kind="stable").tolist())


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} is {value}; use 0 to 1.")
