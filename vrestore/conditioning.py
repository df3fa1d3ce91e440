"""What the engine itself adds to a prior's conditioning, where the prior asks for it: the source frame, and noise."""

from torch import Tensor

from vrestore.noise import noise
from vrestore.padding import pad_to
from vrestore.prior import PriorFacts
from vrestore.shapes import Frame, Latent

CONDITION_LEVEL = 65535
"""Level of the noise that conditionings get: beyond all that a ladder can have, so that no latent has the same."""


def given(facts: PriorFacts, source: Frame, latent: Latent, *, seed: int, frame: int) -> dict[str, Tensor]:
    """Of a frame, what of ``source`` and ``noise`` the facts name.

    Args:
        facts: of the prior.
        source: as it was decoded; it is padded to the size that the prior takes.
        latent: latent of the degraded frame, whose shape the noise has.
        seed: of the noise.
        frame: absolute position in the video: so the noise is the same in every window, tile and run.
    """
    found: dict[str, Tensor] = {}
    if "source" in facts.conditionings:
        multiple = facts.size_multiple // (facts.scale or 1)
        found["source"] = pad_to(source, multiple).to(latent)
    if "noise" in facts.conditionings:
        channels, height, width = latent.shape
        found["noise"] = noise(seed, frame, CONDITION_LEVEL, (channels, height, width)).to(latent)
    return found
