"""What priors share that have no network: what they find is in the conditioning of a frame, their latents are empty."""

import torch
from torch import Tensor

from vrestore.prior import Conditioning, PriorFacts
from vrestore.sampling import Ladder, bridge_ladder
from vrestore.shapes import Frames, Latents, Times, Windows

FACTOR = 8
CALL_BYTES = 64


class NetworklessPrior:
    """The common part; a subclass says how frames are conditioned and read."""

    facts: PriorFacts

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def ladder(self, steps: int) -> Ladder:
        """A straight line, along which nothing moves."""
        return bridge_ladder(steps)

    def encode(self, frames: Frames) -> Latents:
        """Nothing: latents of zeros."""
        height, width = frames.shape[-2:]
        return torch.zeros(len(frames), 1, height // FACTOR, width // FACTOR, device=self.device)

    def surroundings(
        self, before: Conditioning | None, here: Conditioning, after: Conditioning | None
    ) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def predict(self, latents: Windows, times: Times, conditioning: Conditioning, attend: object = None) -> Windows:
        """The latents as they are."""
        return latents
