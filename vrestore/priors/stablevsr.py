"""StableVSR: the x4 upscaler's UNet with a ControlNet that sees the neighbour's clean picture, brought into place.

Rota, Buzzelli and van de Weijer, "Enhancing Perceptual Quality in Video Super-Resolution through Temporally-Consistent
Detail Synthesis using Diffusion Models", ECCV 2024. For folders in the layout of ``claudiom4sir/StableVSR``. Within a
window it is their frame-wise bidirectional sampling: at every level the frames follow one another, each with a look at
the one before it, and the direction turns from level to level. What differs:

- A chain runs through a window, not through the whole clip, so that memory stays constant; predictions are fused where
  windows overlap. A window as long as the clip gives their sampling.
- Motion is a classical flow at the source's size; theirs is RAFT on enlarged frames.
- The deterministic sampler (DDIM) is the default; at fidelity 0 it draws the noise of theirs (DDPM).
- The network's warp was trained with an error that shifts a picture by up to half a pixel; ``warp`` says which to use.

The composition agrees with the same diffusers modules put together by hand on small random networks; the published
weights were not run with this code.
"""

from collections.abc import Iterable, Iterator
from itertools import tee
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers import ControlNetModel
from torch import Tensor

from vrestore.errors import PriorError
from vrestore.flow import luma8, warp
from vrestore.prior import Conditioning, PriorFacts
from vrestore.prior_options import PriorOptions
from vrestore.priors.folder import NETWORK, load_network, weights_of
from vrestore.priors.motion import Grid, motions
from vrestore.priors.stable import Parts, StablePrior
from vrestore.sampling import Ladder
from vrestore.shapes import Flow, Frame, Frames, Latents, Times, Windows


class StableVSRPrior(StablePrior):
    """Enlarges the frames of a window one after another, four times."""

    options: ClassVar[frozenset[str]] = StablePrior.options | {"control_scale", "warp"}
    guidance: ClassVar[float] = 1.0
    beside: ClassVar[int] = 3
    licence: ClassVar[str] = "MIT (claudiom4sir/StableVSR), after weights under CreativeML Open RAIL++-M"

    def __init__(self, facts: PriorFacts, parts: Parts, options: PriorOptions, device: torch.device) -> None:
        super().__init__(facts, parts, options, device)
        self._forward: dict[float, bool] = {}
        self._warp = warp if options.warp == "exact" else trained_warp

    @classmethod
    def own_facts(cls, factor: int) -> dict[str, Any]:
        """What the folder's settings do not say."""
        return {
            "name": "stablevsr",
            "window": 2,
            "per_frame_levels": False,
            "conditionings": frozenset({"source", "motion"}),
            "together": 1,
            "scale": factor,
            "usual_steps": 50,
            # As for the x4 upscaler, and half of its UNet for the ControlNet, which was not measured.
            "call_bytes": 96_000,
            "frame_bytes": 68_000,
        }

    @classmethod
    def weights_of(cls, folder: Path, options: PriorOptions) -> list[Path]:
        """As its base, and the ControlNet's."""
        return [*super().weights_of(folder, options), *weights_of(folder / "controlnet", NETWORK)]

    @classmethod
    def _controlnet(cls, folder: Path, options: PriorOptions, dtype: torch.dtype) -> ControlNetModel | None:
        return load_network(ControlNetModel, folder / "controlnet", dtype)

    def ladder(self, steps: int) -> Ladder:
        """As its base; `predict` then goes forward in time at the noisiest level, backward at the next, and so on."""
        ladder = super().ladder(steps)
        self._forward = {time: (steps - level) % 2 == 0 for level, time in enumerate(ladder.time) if level}
        return ladder

    def conditions(self, frames: Iterable[Frame]) -> Iterator[dict[str, Tensor]]:
        """As its base, and ``motion`` (6, h, w) to the frame before and after, see `vrestore.priors.motion.motions`."""
        ours, theirs = tee(frame.to(self.device) for frame in frames)
        factor = self.facts.spatial_factor
        pictures = (luma8(F.avg_pool2d(frame[None].float(), factor)[0]) for frame in theirs)
        for entry, motion in zip(super().conditions(ours), motions(pictures, Grid(per_latent=1)), strict=True):
            yield entry | {"motion": motion.to(self.device)}

    def predict(self, latents: Windows, times: Times, conditioning: Conditioning, attend: object = None) -> Windows:
        """Clean latents; all frames of a window must stand at one level of the last `ladder`."""
        self._refuse(attend)
        given = {name: value.to(self.device) for name, value in conditioning.items()}
        with torch.inference_mode():
            rows = [
                self._chain(latents[i].to(self.device), times[i], {name: value[i] for name, value in given.items()})
                for i in range(len(latents))
            ]
        return torch.stack(rows)

    def _chain(self, z: Latents, times: Tensor, conditioning: Conditioning) -> Latents:
        """One window, frame by frame in the direction of its level."""
        time = float(times[0])
        if time not in self._forward or bool((times != times[0]).any()):
            raise PriorError(f"{self.facts.name} takes one level of its ladder for a window, not {times.tolist()}")
        forward = self._forward[time]
        found: dict[int, Tensor] = {}
        before: int | None = None
        for i in range(len(z)) if forward else range(len(z) - 1, -1, -1):
            one = slice(i, i + 1)
            here = {name: value[one] for name, value in conditioning.items()}
            flow = here["motion"][:, :2] if forward else here["motion"][:, 3:5]
            control = None if before is None else self._brought(found[before], flow)
            found[i], before = self._clean(z[one], times[one].to(self.device), here, control), i
        return torch.cat([found[i] for i in range(len(z))])

    def _brought(self, neighbour: Latents, flow: Flow) -> Frames:
        """The neighbour's picture, in [-1, 1], where this frame has it; ``flow`` (1, 2, h, w) in latent pixels."""
        factor = self.facts.spatial_factor
        fine = F.interpolate(flow.float(), scale_factor=factor, mode="bilinear", align_corners=False) * factor
        return self._warp(self._rgb(neighbour), fine)

    def _input(self, z: Latents, conditioning: Conditioning) -> Tensor:
        return torch.cat([z, conditioning["source"].float() * 2 - 1], dim=1)


def trained_warp(features: Tensor, flow: Tensor) -> Tensor:
    """The backward warp that StableVSR's weights were trained with: (n, c, h, w) by (n, 2, h, w) in pixels.

    Positions are scaled as if the corners of the grid were pixel centres and read as if they were not: zero flow
    moves the picture by half a pixel outwards at its edges. Outside it is zero (grey).
    """
    h, w = features.shape[-2:]
    y = torch.arange(h, device=flow.device, dtype=torch.float32)[:, None] + flow[:, 1].float()
    x = torch.arange(w, device=flow.device, dtype=torch.float32) + flow[:, 0].float()
    grid = torch.stack([2 * x / max(w - 1, 1) - 1, 2 * y / max(h - 1, 1) - 1], dim=-1)
    sampled = F.grid_sample(features.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled.to(features.dtype)
