"""A head and a prior that change nothing, to test everything around them: the real engine, files, times and resume.

``python tests/identity/identity_head.py identity in.mkv -o out.mkv`` is vrestore with this head. Tests in one process
call `install` first.
"""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F

import vrestore.priors
from vrestore.prior import PriorFacts
from vrestore.sampling import bridge_ladder
from vrestore.task import TaskConfig

FOLDER = Path(__file__).parent


class IdentityPrior:
    """Latents are means of 8x8 pixels; a prediction is its input; a decoded frame is the degraded one."""

    facts = PriorFacts(
        name="identity",
        licence="Apache-2.0",
        window=16,
        per_frame_levels=True,
        latent_channels=3,
        spatial_factor=8,
        temporal_factor=1,
        size_multiple=8,
        conditionings=frozenset({"degraded", "degraded_latents"}),
        call_bytes=100,
        frame_bytes=100,
    )

    def __init__(self, device):
        self.device = device

    @classmethod
    def from_pretrained(cls, folder, device, dtype):
        return cls(device)

    def ladder(self, steps):
        return bridge_ladder(steps, spread=0.0)

    def encode(self, frames):
        return F.avg_pool2d(frames, 8)

    def decode(self, latents, conditioning):
        return conditioning["degraded"]

    def surroundings(self, before, here, after):
        return {}

    def conditions(self, frames):
        for frame in frames:
            yield {"degraded": frame, "degraded_latents": self.encode(frame[None])[0]}

    def predict(self, latents, times, conditioning, attend=None):
        return latents


@dataclass(frozen=True, kw_only=True)
class IdentityConfig(TaskConfig):
    prior: Annotated[str, "Folder of the prior."] = str(FOLDER)
    fail_at: Annotated[int | None, "Source frame at which the head fails."] = None
    stop_at: Annotated[int | None, "Source frame at which the process stops until it is told to go on."] = None


class Identity:
    """Frames as they came."""

    name: ClassVar[str] = "identity"
    summary: ClassVar[str] = "Change nothing."
    config_type: ClassVar[type[TaskConfig]] = IdentityConfig

    def __init__(self, config=None):
        self.config = config or IdentityConfig()
        self._finished = 0

    def output_size(self, height, width):
        return height, width

    def degraded(self, source):
        return source

    def finish(self, restored, source, *, exact):
        self._finished += 1
        if self._finished - 1 == self.config.fail_at:
            raise RuntimeError("asked to fail")
        if self._finished - 1 == self.config.stop_at:
            os.kill(os.getpid(), signal.SIGSTOP)
        return source

    def consistency_db(self, output, source):
        return 100.0 if torch.equal(output, source) else 0.0


vrestore.priors.FAMILIES["IdentityPrior"] = "identity_head"  # also where a batch's worker imports the head


def install():
    """Make ``identity`` a head of this process."""
    import vrestore.cli

    sys.modules["identity_head"] = sys.modules[__name__]
    vrestore.cli.TASKS = {"identity": "identity_head:Identity"}


if __name__ == "__main__":
    install()
    sys.exit(vrestore.cli.main())
