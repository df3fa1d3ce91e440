"""Steps of a plan as calls of a prior: what it is told of the frames, cut into tiles, and less at once where memory is
short."""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vrestore.clock import Clock
from vrestore.executor import Executor
from vrestore.memory import is_out_of_memory
from vrestore.plan.steps import Step, Tile
from vrestore.prior import Conditioning, Prior
from vrestore.sampling import Ladder

log = logging.getLogger(__name__)


class Calls:
    """What an `Executor` asks for predictions.

    Args:
        prior: asked.
        ladder: what levels mean to it.
        conditioning: of a position of the shot.
        clock: of the run.
    """

    def __init__(self, prior: Prior, ladder: Ladder, conditioning: Callable[[int], Conditioning], clock: Clock) -> None:
        self._prior, self._ladder, self._conditioning, self._clock = prior, ladder, conditioning, clock
        self.executor: Executor | None = None
        """Whose batches become smaller where memory runs out."""

    def predict(self, steps: Sequence[Step], latents: Sequence[Tensor]) -> Sequence[Tensor]:
        """A call of the prior; where memory runs out, one for each half of the batch, and batches of half from then on.

        A batch changes no more than the rounding of a result, so nothing need be done again.
        """
        rows = [[self._cut(self._conditioning(int(p)), step.tile) for p in step.frames] for step in steps]
        try:
            return self._call(steps, latents, rows)
        except Exception as error:
            if len(steps) == 1 or not is_out_of_memory(error):
                raise
        half = (len(steps) + 1) // 2
        if self.executor is not None and half < self.executor.batch:
            log.warning("memory ran out: %d calls of the prior together from now on", half)
            self.executor.batch = half
        return [*self.predict(steps[:half], latents[:half]), *self.predict(steps[half:], latents[half:])]

    def _call(
        self, steps: Sequence[Step], latents: Sequence[Tensor], rows: Sequence[Sequence[Conditioning]]
    ) -> Sequence[Tensor]:
        gathered = {
            name: _unpacked(torch.stack([torch.stack([frame[name] for frame in row]) for row in rows]))
            for name in self._prior.facts.conditionings
        }
        times = torch.tensor([[self._ladder.time[level] for level in step.level] for step in steps])
        with self._clock.stage("denoise"):
            found = self._prior.predict(torch.stack(list(latents)), times, gathered, steps[0].attend)
        return list(found)

    def _cut(self, conditioning: Conditioning, tile: Tile | None) -> Conditioning:
        if tile is None:
            return conditioning
        base = conditioning["degraded_latents"].shape[-1]
        return {  # what is no picture, such as a text, belongs to every part
            name: _part(value, value.shape[-1] // base, tile) if value.ndim == 3 else value
            for name, value in conditioning.items()
            if name in self._prior.facts.conditionings
        }


def _part(value: Tensor, factor: int, tile: Tile) -> Tensor:
    height, width = len(tile.weight_y) * factor, len(tile.weight_x) * factor
    return value[..., tile.y * factor : tile.y * factor + height, tile.x * factor : tile.x * factor + width]


def _unpacked(value: Tensor) -> Tensor:
    """Pictures that are held in 8 bits, in [0, 1]."""
    return value.float() / 255 if value.dtype == torch.uint8 else value
