"""Depth of a video's shots as a control of edits: made by the depth prior beside the edit, normalised over the shot."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import torch
from torch import Tensor

from vrestore.clock import Clock
from vrestore.depth_finish import Finish, Range, sees, unit
from vrestore.depth_walk import DepthWalk
from vrestore.device import resolve_dtype
from vrestore.errors import PriorError
from vrestore.plan import SnippetsPlan
from vrestore.prior import Prior
from vrestore.priors import PriorSource, find_prior
from vrestore.registration import Map
from vrestore.shapes import Frame
from vrestore.steadying import REACH
from vrestore.video import VideoInfo, open_reader

DEPTH = "depth"
"""Name of the control, and of the embedded prior that makes it."""
BLOCK = 32
"""Frames that are registered together: few, because an edit needs the memory."""


def depth_prior(name: str = DEPTH) -> PriorSource:
    """The prior of depth by name or folder, its files looked for. PriorError: it is missing, or makes no depth."""
    source = find_prior(name)
    if not hasattr(source.adapter, "nearer_is_larger"):
        raise PriorError(f"the prior {name!r} makes no depth; name one that does, such as {DEPTH}")
    source.weights()
    return source


@dataclass(frozen=True)
class DepthMaps:
    """Makes the maps of a video's shots, each when its first one is asked for; the video is read once more for it.

    White is near, black far: all but a hundredth of a shot's values at either end. Memory does not grow with the shot.
    """

    info: VideoInfo
    source: PriorSource
    device: torch.device
    seed: int = 0

    @cached_property
    def _prior(self) -> Prior:
        return self.source.load(self.device, resolve_dtype("auto", self.device))

    def shot(self, first: int, frames: int) -> Iterator[Frame]:
        """Of the frames from ``first`` on, in order: (3, height, width) in [0, 1], of the size of the video."""
        height, width = self.info.height, self.info.width

        def picture(found: Map, whole: Range, seen: Tensor | None) -> Tensor:
            large = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
            return torch.from_numpy(unit(large, *whole.usual)).expand(3, -1, -1)

        finish = Finish(
            size=sees(self.source, height, width),
            picture=picture,
            block=BLOCK,
            parallax=True,
            steady=REACH,
            nearer=self.source.adapter.nearer_is_larger(self.source.folder),
        )
        plan = SnippetsPlan(frames, levels=self.source.facts.usual_steps, mirror=True)
        with open_reader(self.info) as reader:
            own = reader.frames(first, first + frames)
            for made in DepthWalk(self._prior, plan, own, Clock(), finish, seed=self.seed).ticks():
                yield from (one.frame for one in made)
