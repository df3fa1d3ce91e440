"""The networks of the embedded prior: a guided autoencoder and a video denoiser with a level per frame.

Both are diffusers models (`ModelMixin`, `ConfigMixin`): they save to and load from diffusers' folder layout.
Sizes are kept small on purpose, they run on a CPU. Activations are leaky ReLU: un-normalised residual blocks with SiLU
stay in its linear region and learn no more than a sharpening filter.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vrestore.flow import warp
from vrestore.priors.motion import coarse
from vrestore.shapes import Frames, Latents, Times, Windows

LATENT_FACTOR = 8
"""Pixels of a frame along one side of a latent pixel."""

CORRECTION = 0.1
"""Scale of the networks' corrections: a step of the optimiser then moves them little, and high rates stay stable."""

Aligned = Float[Tensor, "frames 6 height width"]
"""Of each degraded frame, what its neighbours, brought into place, show differently: previous (3) and next (3)."""

Field = Float[Tensor, "frames 3 h w"]
"""Flow (dx, dy, in latent pixels) from a frame to a neighbour, and how visible the neighbour is, in [0, 1]."""

Motion = Float[Tensor, "batch time 6 field_rows field_columns"]
"""Per frame and cell, a latent pixel or a part of one: flow (dx, dy, in latent pixels) and visibility towards the
previous frame, then the same towards the next."""


class ResBlock(nn.Module):
    """Two convolutions around a leaky ReLU, optionally shifted by an embedding of the time."""

    def __init__(self, channels: int, embedding: int = 0) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)
        self.shift = nn.Linear(embedding, channels) if embedding else None
        with torch.no_grad():  # starts near the identity
            self.conv_out.weight.mul_(0.1)
            self.conv_out.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """x (n, channels, h, w); embedding (n, d) if the block was made with one."""
        h = self.conv_in(x)
        if self.shift is not None:
            h = h + self.shift(embedding)[:, :, None, None]
        return x + self.conv_out(F.leaky_relu(h, 0.1))


def centred(frames: Frames) -> Frames:
    """Frames in [0, 1] to about zero mean and unit deviation."""
    return (frames - 0.5) * 4


def blocks(channels: int, count: int) -> nn.Sequential:
    """``count`` residual blocks without embedding."""
    return nn.Sequential(*[ResBlock(channels) for _ in range(count)])


def bounded(latents: Latents) -> Latents:
    """Latents no larger than the encoder's can be: those of a greater root mean square are scaled down to it."""
    size = latents.square().mean(1, keepdim=True).sqrt()
    return latents / (size / 1.05).clamp(min=1)


class GuidedAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Frames to latents at an eighth of their size, and back with a look at the degraded frame.

    The decoder works at a quarter of the size, where the degraded frame enters through its own branch, so that fidelity
    is not capped by the latent bottleneck. Its answer is a correction to the degraded frame.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        latent_channels: int = 16,
        width: int = 64,
        latent_width: int = 96,
        decoder_blocks: int = 5,
        guide_blocks: int = 2,
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, width, 3, padding=1),
            blocks(width, 1),
            nn.Conv2d(width, latent_width, 3, stride=2, padding=1),
            blocks(latent_width, 2),
            nn.Conv2d(latent_width, latent_channels, 1),
        )
        with torch.no_grad():  # latents of unit size from the start: the bridge's noise is measured against them
            self.encoder[-1].weight.mul_(4)  # type: ignore[operator]
        self.guide = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(144, width, 3, padding=1), blocks(width, guide_blocks)
        )
        self.lift = nn.Sequential(
            nn.Conv2d(latent_channels, latent_width, 3, padding=1),
            blocks(latent_width, 2),
            nn.Conv2d(latent_width, width * 4, 1),
            nn.PixelShuffle(2),
        )
        self.merge = nn.Conv2d(2 * width, width, 3, padding=1)
        self.body = blocks(width, decoder_blocks)
        self.head = nn.Sequential(
            nn.Conv2d(width, width * 2, 3, padding=1),
            nn.PixelShuffle(2),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width // 2, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def encode(self, frames: Frames) -> Latents:
        """Frames in [0, 1], sides multiples of 8, to latents of at most unit size (root mean square over channels)."""
        free = self.encoder(centred(frames)).float()
        # a norm rather than a squashing function: that one saturates early in training and never comes back
        return free * (0.1 + free.square().mean(1, keepdim=True)).rsqrt()

    def decode(self, latents: Latents, guide: Frames, aligned: Aligned, recalled: Tensor | None = None) -> Frames:
        """Latents, the degraded frames at output size and what `align` makes of their neighbours, to frames.

        ``recalled``: what a `RecurrentGuide` says of them, (frames, width, height / 4, width / 4).
        """
        seen = self.guide(torch.cat([centred(guide), 4 * aligned], dim=1))
        if recalled is not None:
            seen = seen + recalled
        joined = torch.cat([self.lift(latents), seen], dim=1)
        return guide + CORRECTION * self.head(self.body(self.merge(joined)))


def time_features(times: Tensor, size: int = 64) -> Tensor:
    """Sines and cosines of a time in [0, 1] at ``size / 2`` frequencies from 1 to 1000: (n,) to (n, size)."""
    frequencies = torch.exp(torch.linspace(0, math.log(1000), size // 2, device=times.device))
    angles = times.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def brought(neighbour: Frames, here: Frames, field: Field) -> Frames:
    """A neighbour warped onto a frame, less the frame itself, where it is visible; zero elsewhere."""
    height, width = here.shape[-2:]
    fine = F.interpolate(field.float(), (height, width), mode="bilinear", align_corners=False)
    return (warp(neighbour, fine[:, :2] * LATENT_FACTOR) - here) * fine[:, 2:]


def align(degraded: Float[Tensor, "batch time 3 height width"], motion: Motion) -> Aligned:
    """Both neighbours of every frame of a window, brought onto it; zero where a neighbour lies outside the window."""
    outside, here = torch.zeros_like(degraded[:, :1]), degraded.flatten(0, 1)
    before, after = motion[:, :, :3].clone(), motion[:, :, 3:].clone()
    before[:, 0], after[:, -1] = 0, 0
    earlier = torch.cat([outside, degraded[:, :-1]], dim=1).flatten(0, 1)
    later = torch.cat([degraded[:, 1:], outside], dim=1).flatten(0, 1)
    return torch.cat([brought(earlier, here, before.flatten(0, 1)), brought(later, here, after.flatten(0, 1))], dim=1)


class AlignedMixing(nn.Module):
    """A temporal layer: features of both neighbours, warped by the flow between the degraded frames, join each frame.

    Where a neighbour is occluded, or lies outside the window, it contributes zeros. Starts as the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.neighbours = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.own = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, motion: Motion) -> Tensor:
        """x (batch * time, channels, h, w)."""
        time = motion.shape[1]
        frames = rearrange(x, "(b t) c h w -> b t c h w", t=time)
        outside = torch.zeros_like(frames[:, :1])
        earlier = torch.cat([outside, frames[:, :-1]], dim=1).flatten(0, 1)
        later = torch.cat([frames[:, 1:], outside], dim=1).flatten(0, 1)
        field = motion.flatten(0, 1)
        earlier = warp(earlier, field[:, 0:2]) * field[:, 2:3].to(x.dtype)
        later = warp(later, field[:, 3:5]) * field[:, 5:6].to(x.dtype)
        mixed = self.neighbours(torch.cat([earlier, later], dim=1)) + self.own(x)
        return x + self.out(F.leaky_relu(mixed, 0.1))


class BridgeVideoDenoiser(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Predicts clean latents from latents on the bridge to the degraded ones, with a time per frame (as FVDM has it).

    A two-level UNet over latent frames; temporal layers at the finer level align neighbours. Frames outside the window
    are never seen. ``bridge_noise`` is the sigma of the bridge that it was trained on.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        latent_channels: int = 16,
        width: int = 96,
        deep_width: int = 144,
        depth: Sequence[int] = (2, 3, 3),
        bridge_noise: float = 0.3,
    ) -> None:
        super().__init__()
        embedding = 128
        before, deep, after = depth
        self.embed = nn.Sequential(nn.Linear(64, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.look = nn.Sequential(nn.PixelUnshuffle(8), nn.Conv2d(192, width, 1))
        self.enter = nn.Conv2d(2 * latent_channels + width, width, 3, padding=1)
        self.before = nn.ModuleList([ResBlock(width, embedding) for _ in range(before)])
        self.mix_before = nn.ModuleList([AlignedMixing(width) for _ in range(before)])
        self.down = nn.Conv2d(width, deep_width, 3, stride=2, padding=1)
        self.deep = nn.ModuleList([ResBlock(deep_width, embedding) for _ in range(deep)])
        self.up = nn.Sequential(nn.Conv2d(deep_width, width * 4, 1), nn.PixelShuffle(2))
        self.join = nn.Conv2d(2 * width, width, 1)
        self.after = nn.ModuleList([ResBlock(width, embedding) for _ in range(after)])
        self.mix_after = nn.ModuleList([AlignedMixing(width) for _ in range(after - 1)])
        self.leave = nn.Conv2d(width, latent_channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(
        self,
        latents: Windows,
        times: Times,
        degraded_latents: Windows,
        degraded: Float[Tensor, "batch time 3 height width"],
        motion: Motion,
    ) -> Windows:
        """Clean latents. ``times``: 1 at the degraded end of the bridge, 0 at the clean end, one per frame."""
        batch, (h, w) = latents.shape[0], latents.shape[-2:]
        motion = coarse(motion.flatten(0, 1), (h, w)).unflatten(0, motion.shape[:2])
        embedding = self.embed(time_features(times.flatten()).to(latents.dtype))
        start = degraded_latents.flatten(0, 1)
        x = self.enter(torch.cat([latents.flatten(0, 1), start, self.look(centred(degraded.flatten(0, 1)))], dim=1))
        for block, mix in zip(self.before, self.mix_before, strict=True):
            x = mix(block(x, embedding), motion)
        skip, x = x, self.down(x)
        for block in self.deep:
            x = block(x, embedding)
        x = self.join(torch.cat([self.up(x), skip], dim=1))
        for i, block in enumerate(self.after):
            x = block(x, embedding)
            if i < len(self.mix_after):
                x = self.mix_after[i](x, motion)
        return rearrange(bounded(start + CORRECTION * self.leave(x).float()), "(b t) c h w -> b t c h w", b=batch)
