"""Pictures between two frames: from flow alone, or by a bridge from there, trusted where flow is in doubt.

Optical flow makes the picture where both frames show a place and agree; a network is asked for the rest (flow first,
diffusion where it must: Zhang et al., "EDEN", CVPR 2025, find diffusion to add little on easy motion).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from vrestore.flow import Between, between, dense_fine, flow_pair
from vrestore.prior import Conditioning, Prior, PriorFacts
from vrestore.priors.embedded import EmbeddedPrior
from vrestore.priors.motion import aligned_between, motion_of_between
from vrestore.priors.networkless import CALL_BYTES, FACTOR, NetworklessPrior
from vrestore.shapes import Frame, Frames, Latents

TRUST = 0.5
"""How far flow is believed where both frames agree: 1 is wholly, 0 gives the network the whole picture. With a denoiser
of its own, on six real clips 0, 0.5 and 1 gave 30.38, 30.38 and 30.37 dB, flows off by 1.834, 1.833 and 1.838 px."""
EQUAL = 4 / 255
"""Difference up to which two frames show the same thing in a place, a codec's noise included."""
COMPANY, SURE = 4, 6
"""Pixels of 3x3 that are equal in an overlay, and at its edges: one alone may be so by chance, yet strokes are thin."""
EDGE = 24 / 255
"""Contrast within 3x3 pixels, in both frames, of an overlay's edges; without, what is flat and moves would be one."""
EDGE_REACH = 4
"""Pixels from an edge up to which there is an overlay; deeper inside, flow finds for itself that nothing moves."""
MOVES_PX = 1.0
"""Motion from which on a place counts as moving."""
REACH = 4
"""Part of the picture's shorter side over which an overlay's surroundings reach, to each side."""
MOSTLY = 0.5
"""Share of the surroundings that moves around an overlay."""


@runtime_checkable
class BetweenPrior(Prior, Protocol):
    """A prior for pictures between two frames. Frames themselves are context: their `conditions` are those of one."""

    def between(self, made: Between) -> dict[str, Tensor]:
        """The conditioning of a picture between two frames: ``degraded`` is what flow makes of them."""
        ...


def trusted(network: Frames, blend: Frames, agreement: Tensor) -> Frames:
    """The one place where flow and network meet: the network's part grows with the doubt in flow."""
    return blend + (1 - TRUST * agreement) * (network - blend)


class Gap:
    """Two successive frames, (3, height, width), and every picture between them. Motion is found once."""

    def __init__(self, left: Frame, right: Frame) -> None:
        self._left, self._right = left, right
        self._flows = flow_pair(left, right, dense_fine)
        self._overlay = overlay(left, right, self._flows.forward, self._flows.backward)

    def at(self, time: float) -> Between:
        """The picture at a time in (0, 1), overlays where they are in both frames."""
        made = between(self._left, self._right, self._flows, time)
        lies = self._overlay
        if not bool(lies.any()):
            return made
        still = [torch.where(lies, frame[None].float(), of) for frame, of in zip(
            (self._left, self._right), (made.from_left, made.from_right), strict=True)]  # fmt: skip
        return replace(
            made,
            blend=torch.where(lies, (1 - time) * still[0] + time * still[1], made.blend),
            from_left=still[0],
            from_right=still[1],
            to_left=made.to_left.masked_fill(lies, 0),
            to_right=made.to_right.masked_fill(lies, 0),
            seen_left=made.seen_left.masked_fill(lies, 1),
            seen_right=made.seen_right.masked_fill(lies, 1),
            agreement=made.agreement.masked_fill(lies, 1),
        )


def overlay(left: Frame, right: Frame, forward: Tensor, backward: Tensor) -> Tensor:
    """Where both frames show the same thing while most around it moves: logos, subtitles. bool (1, 1, height, width).

    A still background is none, so that what moves in front of it is not lost: there most around stands still.
    """
    equal = ((left - right).abs().amax(0) <= EQUAL)[None, None]
    company = 9 * F.avg_pool2d(equal.float(), 3, stride=1, padding=1) + 0.5
    moving = torch.maximum(forward.norm(dim=1, keepdim=True), backward.norm(dim=1, keepdim=True)) > MOVES_PX
    side = 2 * (min(left.shape[-2:]) // REACH) + 1
    around = cv2.blur(moving[0, 0].float().cpu().numpy(), (side, side), borderType=cv2.BORDER_REFLECT)
    lies = equal & (company > COMPANY) & torch.from_numpy(around > MOSTLY).to(equal.device)
    sure = lies & (company > SURE) & (_contrast(left).minimum(_contrast(right)) > EDGE)
    near = F.max_pool2d(sure.float(), 2 * EDGE_REACH + 1, stride=1, padding=EDGE_REACH) > 0
    return lies & near


def _contrast(frame: Frame) -> Tensor:
    """Largest less smallest brightness within 3x3 pixels, (1, 1, height, width)."""
    grey = frame.float().mean(0)[None, None]
    return F.max_pool2d(grey, 3, stride=1, padding=1) + F.max_pool2d(-grey, 3, stride=1, padding=1)


class InterpolationPrior(EmbeddedPrior):
    """The embedded networks, trained to make the picture between two frames from what flow makes of them."""

    facts = replace(EmbeddedPrior.facts, name="interpolation", window=3, reach=1, group=1, ahead=1, told_bytes=0)

    def conditions(self, frames: Iterable[Frame]) -> Iterator[dict[str, Tensor]]:
        """Of each frame ``degraded``, ``degraded_latents`` and ``motion``, which is none: frames are context."""
        for frame in (frame.to(self.device) for frame in frames):
            latents = self.encode(frame[None])[0]
            yield {"degraded": frame, "degraded_latents": latents, "motion": latents.new_zeros(6, *latents.shape[-2:])}

    def between(self, made: Between) -> dict[str, Tensor]:
        """As of a frame, with motion to both sides; ``aligned`` and ``agreement`` (in half precision) for `decode`."""
        return {
            "degraded": made.blend[0],
            "degraded_latents": self.encode(made.blend)[0],
            "motion": motion_of_between(made),
            "aligned": aligned_between(made).half(),
            "agreement": made.agreement[0].half(),
        }

    def surroundings(
        self, before: Conditioning | None, here: Conditioning, after: Conditioning | None
    ) -> dict[str, Tensor]:
        """What `between` has found already; nothing of a frame itself."""
        frame = here["degraded"]
        aligned, agreement = here.get("aligned"), here.get("agreement")
        none = frame.new_zeros(1, *frame.shape[-2:], dtype=torch.float32)
        return {
            "aligned": none.expand(6, -1, -1) if aligned is None else aligned.float(),
            "agreement": none if agreement is None else agreement.float(),
        }

    def decode(self, latents: Latents, conditioning: Conditioning) -> Frames:
        """Latents to frames, trusted where flow is in doubt."""
        network = super().decode(latents, conditioning)
        blend, agreement = (conditioning[name].to(network) for name in ("degraded", "agreement"))
        return trusted(network, blend, agreement)


class FlowPrior(NetworklessPrior):
    """No network: what flow makes of two frames is the answer."""

    facts = PriorFacts(
        name="flow",
        licence="Apache-2.0",
        window=3,
        per_frame_levels=True,
        latent_channels=1,
        spatial_factor=FACTOR,
        temporal_factor=1,
        size_multiple=FACTOR,
        conditionings=frozenset({"degraded_latents"}),
        call_bytes=CALL_BYTES,
        frame_bytes=13_000,  # measured: 10,500 for motion, warping and mixing, and 1,500 for the frames
    )

    @classmethod
    def from_pretrained(cls, folder: Path | None, device: torch.device, dtype: torch.dtype) -> "FlowPrior":
        """There is nothing to load."""
        return cls(device)

    def decode(self, latents: Latents, conditioning: Conditioning) -> Frames:
        """What flow has made."""
        return conditioning["degraded"].float()

    def conditions(self, frames: Iterable[Frame]) -> Iterator[dict[str, Tensor]]:
        """Of each frame ``degraded``, itself, and ``degraded_latents``."""
        for frame in frames:
            yield {"degraded": frame.to(self.device), "degraded_latents": self.encode(frame[None])[0]}

    def between(self, made: Between) -> dict[str, Tensor]:
        """``degraded``, what flow makes, and ``degraded_latents``."""
        return {"degraded": made.blend[0], "degraded_latents": self.encode(made.blend)[0]}
