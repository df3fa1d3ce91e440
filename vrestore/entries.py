"""What is held of a frame while it is under way, in the order of the plan: frames as they come, or keys and what lies
between them."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vrestore.clock import Clock
from vrestore.conditioning import given
from vrestore.flow import Between, warp
from vrestore.prior import Prior
from vrestore.priors.interpolation import BetweenPrior, Gap
from vrestore.shapes import Frame, OutputFrame
from vrestore.task import Direction, Scene, Seen
from vrestore.timeline import Slot
from vrestore.video import Beside, DecodedFrame

Padded = Callable[[Frame], OutputFrame]
"""The degraded frame of a source frame, of a size that the prior takes."""


@dataclass(frozen=True)
class Entry:
    """Little that is as large as the output."""

    source: Frame
    """The source frame; of a picture between two, what flow makes of them."""
    pts: int | None
    """Output time; None: not shown."""
    beside: Beside | None
    conditioning: dict[str, Tensor]
    """``degraded`` in half precision."""
    passes: bool = False
    """Whether the source frame is the output, untouched."""


def _held(conditioning: dict[str, Tensor]) -> dict[str, Tensor]:
    return conditioning | {"degraded": conditioning["degraded"].half()}


def restored(
    frames: Iterator[DecodedFrame], prior: Prior, padded: Padded, clock: Clock, *, seed: int, first: int
) -> Iterator[Entry]:
    """Every source frame, to be restored. ``first``: position of the first of them in the whole video."""
    waiting: deque[tuple[Tensor, int, Beside | None]] = deque()

    def degraded() -> Iterator[Frame]:
        for decoded in frames:
            with clock.stage("prepare"):
                source = torch.from_numpy(decoded.rgb)
                picture = padded(source)
            waiting.append((source, decoded.pts, decoded.beside))
            yield picture

    for frame, conditioning in enumerate(prior.conditions(degraded()), first):
        source, pts, beside = waiting.popleft()
        more = given(prior.facts, source, conditioning["degraded_latents"], seed=seed, frame=frame)
        yield Entry(source, pts, beside, _held(conditioning | more))


def directed(entries: Iterator[Entry], direction: Direction, scene: Scene, first: int) -> Iterator[Entry]:
    """Entries with what a head says of their frames. ``first``: position of the first of them in the whole video."""
    waiting: deque[Entry] = deque()

    def seen() -> Iterator[Seen]:
        for index, entry in enumerate(entries, first):
            waiting.append(entry)
            yield Seen(index, entry.pts or 0, entry.source, entry.conditioning)

    for more in direction.conditions(scene, seen()):
        entry = waiting.popleft()
        yield replace(entry, conditioning=entry.conditioning | more)


def retimed(
    slots: Iterator[Slot], frames: Iterator[DecodedFrame], prior: BetweenPrior, padded: Padded
) -> Iterator[Entry]:
    """The slots of a shot from a key on, each with what it shows; source frames that no slot needs are passed over.

    ``frames`` from that key's source frame on, counted as the slots count them. Two of them are held at a time.
    """
    left: tuple[int, Entry] | None = None
    waiting: list[Slot] = []
    for slot in slots:
        if slot.right is not None:
            waiting.append(slot)
            continue
        if left is not None and slot.left == left[0]:
            entry = left[1]  # held
        else:
            entry = _key(next(frame for frame in frames if frame.index == slot.left), prior, padded)
        if left is not None and waiting:
            yield from _gap(waiting, left[1], entry, prior, padded)
            waiting = []
        yield replace(entry, pts=slot.pts)
        left = slot.left, entry


def _key(frame: DecodedFrame, prior: Prior, padded: Padded) -> Entry:
    source = torch.from_numpy(frame.rgb)
    (conditioning,) = prior.conditions(iter([padded(source)]))
    return Entry(source, None, frame.beside, _held(conditioning), passes=True)


def _gap(slots: list[Slot], left: Entry, right: Entry, prior: BetweenPrior, padded: Padded) -> Iterator[Entry]:
    gap = Gap(padded(left.source).to(prior.device), padded(right.source).to(prior.device))
    height, width = left.source.shape[-2:]
    for slot in slots:
        made = gap.at(float(slot.time))
        picture = made.blend[0, :, :height, :width].cpu()
        beside = carried(made, left.beside, right.beside)
        yield Entry(picture, slot.pts, beside, _held(prior.between(made)))


def carried(made: Between, left: Beside | None, right: Beside | None) -> Beside | None:
    """What lies beside two frames, brought to the time between them like the pictures; what one lacks is zero."""
    planes = {}
    for name in ("alpha", "outside"):
        sides = [None if side is None else getattr(side, name) for side in (left, right)]
        shape = next((side.shape for side in sides if side is not None), None)
        if shape is None:
            continue
        height, width = shape[-2:]
        total = torch.zeros(1, *shape[:-2], height, width).view(1, -1, height, width)
        for side, flow, share in zip(sides, (made.to_left, made.to_right), (made.share, 1 - made.share), strict=True):
            if side is not None:
                here = torch.from_numpy(side).view(1, -1, height, width)
                seen = share[..., :height, :width].cpu()
                total += seen * warp(here, flow[..., :height, :width].cpu())
        planes[name] = total.view(shape).numpy()
    return Beside(**planes) if planes else None
