"""The embedded restoration prior: the project's own small latent video bridge, in diffusers' folder layout."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import tee
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from vrestore.errors import PriorError
from vrestore.prior import Conditioning, PriorFacts
from vrestore.priors.embedded_nets import LATENT_FACTOR, BridgeVideoDenoiser, GuidedAutoencoder, brought
from vrestore.priors.folder import Network, load_network, part_folder
from vrestore.priors.motion import fine_motions
from vrestore.priors.recurrent import GROUP, MARGIN, RecurrentGuide, in_groups
from vrestore.sampling import Ladder, bridge_ladder
from vrestore.shapes import Frame, Frames, Latents, Times, Windows

DECODE_TOGETHER = 2
"""Frames decoded in one call: more gain nothing on a CPU and cost memory at full size."""


class EmbeddedPrior:
    """A bridge from degraded latents to clean ones: one step is faithful, more trade fidelity for sharpness.

    The autoencoder and the denoiser see the degraded frame enlarged to output size: one prior serves every scale. With
    a guide, the decoder also hears of frames farther away than both neighbours.
    """

    facts = PriorFacts(
        name="embedded",
        licence="Apache-2.0",
        window=6,
        per_frame_levels=True,
        latent_channels=16,
        spatial_factor=LATENT_FACTOR,
        temporal_factor=1,
        size_multiple=2 * LATENT_FACTOR,
        conditionings=frozenset({"degraded", "degraded_latents", "motion"}),
        call_bytes=7_000,  # measured in float32 on a CPU: 6,150, and 770 for the inputs while they are gathered
        reach=GROUP + 1,
        group=GROUP,
        ahead=GROUP + MARGIN,
        told_bytes=584,  # 512 are recalled, 72 the cells of motion beyond one for a latent pixel
        frame_bytes=33_000,  # measured likewise: 42,000 for a group of frames that a guide looks at, of which 10,000
        # are counted as frames ahead (half in bfloat16); decoding 16,500, and 2,300 for what it is given
    )

    def __init__(
        self,
        vae: GuidedAutoencoder,
        unet: BridgeVideoDenoiser,
        device: torch.device,
        dtype: torch.dtype,
        guide: RecurrentGuide | None = None,
    ) -> None:
        self.device, self.dtype = device, dtype
        self._vae, self._unet = self._ready(vae), self._ready(unet)
        self._guide = None if guide is None else self._ready(guide)

    @classmethod
    def from_pretrained(cls, folder: Path, device: torch.device, dtype: torch.dtype) -> "EmbeddedPrior":
        """Load ``vae``, ``unet`` and, if it is there, ``guide``, of the folder or shared. Never downloads.

        Raises:
            PriorError: they are not there or do not fit.
        """
        vae = load_network(GuidedAutoencoder, part_folder(folder, "vae"), torch.float32)
        unet = load_network(BridgeVideoDenoiser, part_folder(folder, "unet"), torch.float32)
        guide = None
        if (told := part_folder(folder, "guide")).is_dir():
            guide = load_network(RecurrentGuide, told, torch.float32)
        return cls(vae, unet, device, dtype, guide)

    def ladder(self, steps: int) -> Ladder:
        """Even steps along the bridge, time 1 (degraded) to 0 (clean)."""
        return bridge_ladder(steps, spread=float(self._unet.config.bridge_noise))

    def encode(self, frames: Frames) -> Latents:
        """Frames in [0, 1] to latents, root mean square over channels below 1, on the prior's device."""
        with torch.inference_mode(), self._precision():
            return self._vae.encode(self._images(frames)).float()

    def decode(self, latents: Latents, conditioning: Conditioning) -> Frames:
        """Latents to frames, not clamped, with a look at ``degraded``, ``aligned`` and, with a guide, ``recalled``."""
        names = ("degraded", "aligned") if self._guide is None else ("degraded", "aligned", "recalled")
        whole = (latents, *(conditioning[name] for name in names))
        with torch.inference_mode(), self._precision():
            parts = zip(*(x.split(DECODE_TOGETHER) for x in whole), strict=True)
            return torch.cat([self._vae.decode(*(self._images(x) for x in part)).float() for part in parts])

    def conditions(self, frames: Iterable[Frame]) -> Iterator[dict[str, Tensor]]:
        """Of each frame of a shot ``degraded`` (3, H, W), ``degraded_latents`` (C, h, w), ``motion`` (6, H / 4,
        W / 4) and, with a guide, ``recalled`` (channels, H / 4, W / 4): then it reads a group ahead."""
        entries = self._apart(frames)
        return entries if self._guide is None else in_groups(entries, self._recalled)

    def _apart(self, frames: Iterable[Frame]) -> Iterator[dict[str, Tensor]]:
        ours, theirs = tee(frame.to(self.device) for frame in frames)
        for frame, motion in zip(ours, fine_motions(theirs), strict=True):
            yield {
                "degraded": frame,
                "degraded_latents": self.encode(frame[None])[0],
                "motion": motion.to(self.device),
            }

    def _recalled(self, entries: Sequence[Conditioning]) -> Sequence[Tensor]:
        """Of frames that follow one another, in half precision: (channels, height / 4, width / 4) each."""
        assert self._guide is not None
        frames, fields = ([entry[name][None] for entry in entries] for name in ("degraded", "motion"))
        with torch.inference_mode(), self._precision():
            return [told[0].half() for told in self._guide.recalled(frames, fields)]

    def surroundings(
        self, before: Conditioning | None, here: Conditioning, after: Conditioning | None
    ) -> dict[str, Tensor]:
        """``aligned`` (6, H, W): what both neighbours, brought into place, show differently."""
        frame, motion = here["degraded"].float(), here["motion"]
        sides = ((before, motion[:3]), (after, motion[3:]))
        parts = [
            torch.zeros_like(frame)
            if side is None
            else brought(side["degraded"].float()[None], frame[None], field[None])[0]
            for side, field in sides
        ]
        return {"aligned": torch.cat(parts)}

    def predict(self, latents: Windows, times: Times, conditioning: Conditioning, attend: object = None) -> Windows:
        """Clean latents; ``attend`` must be None, there is no attention to direct."""
        if attend is not None:
            raise PriorError(f"the embedded prior has no attention, but a step asks for {attend!r}; use a plan without")
        degraded = conditioning["degraded"]
        images = rearrange(self._images(degraded.flatten(0, 1)), "(b t) c h w -> b t c h w", t=degraded.shape[1])
        with torch.inference_mode(), self._precision():
            start, motion = conditioning["degraded_latents"], conditioning["motion"]
            return self._unet(latents, times.to(self.device), start, images, motion).float()

    def _images(self, frames: Tensor) -> Tensor:
        return frames.to(self.device, torch.float32).contiguous(memory_format=torch.channels_last)

    def _ready(self, network: Network) -> Network:
        return network.to(device=self.device, memory_format=torch.channels_last).eval()

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
