"""The memory of a run: the window, tile and batch that fit into what is free, and less where it was too much.

What changes the bits of a result, window and tile, depends on the machine only where the machine is too small: a run is
planned for `CALL_BUDGET` first, and for less only if that is not free.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch

from vrestore.plan import Tile, WindowsPlan, split
from vrestore.prior import PriorFacts

CALL_BUDGET = 2 << 30
"""Working memory in bytes that one call of the prior may take before the picture is cut into tiles."""
FREE_SHARE = 0.8
"""Part of the free memory that is planned for: estimates are rough, and others want some too."""
TILE_OVERLAP = 128
"""Output pixels that neighbouring tiles share: beyond the reach of the prior's convolutions that matters."""
SMALLEST_TILE = 128
"""Output pixels; below, almost all of a tile would be overlap."""
BANK_BYTES = 1 << 30
"""What is kept at most of the attention of frames that many windows look at. SD 1.5 with a ControlNet at 512x512,
guided, takes 56 MB a level in half precision."""
MOST_BATCH = 8
"""Calls made together at most: more gain nothing on a GPU, and any more than one gains nothing on a CPU."""

_SHORT_OF_MEMORY = re.compile(
    r"out of memory|not enough memory|can't allocate memory|insufficient memory|bad_alloc", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What of a run decides how much memory it takes."""

    window: int
    overlap: int
    tile: int | None
    """Side of a tile in latent pixels; None: the whole picture."""
    batch: int
    """Calls of the prior made together."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What is asked for, and what decides the memory that it takes."""

    facts: PriorFacts
    latent: tuple[int, int]
    """(h, w) of the padded picture's latents."""
    source_pixels: int
    frames: int
    """Of the longest shot."""
    steps: int
    window: int
    overlap: int
    tile: int | None
    """As asked for, in output pixels."""
    fixed_bytes: int
    """What does not depend on the plan: weights, and the encoder of the output."""
    keep_window: bool
    """Whether the window was asked for, and is not made shorter."""
    batches: bool
    """Whether the device gains from calls made together."""
    passes: int = 1
    """How many times the ladder is walked, one after the other."""
    held_bytes: int = 0
    """What a head holds of a frame under way."""
    live: int | None = None
    """Frames under way at most, where they do not go in windows."""
    apart: bool = False
    """Whether windows that only touch are walked one after the other."""
    degraded: bool = True
    """Whether the degraded pictures of the frames under way are held."""
    crossed: bool = False
    """Whether all windows look at one frame, whose attention is kept, and at the last one of the window before."""

    def tiles(self, plan: MemoryPlan) -> tuple[Tile, ...] | None:
        """The tiles of a plan, in latent pixels; None: the whole picture."""
        if plan.tile is None:
            return None
        overlap = min(TILE_OVERLAP // self.facts.spatial_factor, plan.tile // 2) // self._coarse * self._coarse
        return split(*self.latent, plan.tile, overlap)

    def live_latents(self, plan: MemoryPlan) -> int:
        """Frames under way at most."""
        if self.live is not None:
            return self.live
        order: Literal["apart", "wavefront"] = "apart" if self.apart and plan.overlap == 0 else "wavefront"
        live = WindowsPlan(self.frames, plan.window, plan.overlap, self.steps, order=order).live_bound
        return min(self.passes * live, self.frames)

    def live_bytes(self, plan: MemoryPlan) -> int:
        """Memory of the frames under way, of those that are looked ahead at, and of what later windows look at."""
        h, w = self.latent
        # latents and motion; the degraded picture (in half precision); the source
        per_frame = (4 * (2 * self.facts.latent_channels + 6) + self.facts.told_bytes) * h * w
        if self.degraded:
            per_frame += 6 * h * w * self.facts.spatial_factor**2
        per_frame += 12 * self.source_pixels + self.held_bytes
        lingering = 4 * self.passes * 2 * self.steps * self.facts.latent_channels * h * w * self.crossed
        return (self.live_latents(plan) + 1 + self.facts.ahead) * per_frame + lingering + self.bank_bytes

    @property
    def bank_bytes(self) -> int:
        """Memory of the attention of frames that many windows look at."""
        h, w = self.latent
        return min(BANK_BYTES, self.crossed * self.passes * self.steps * self.facts.bank_bytes * h * w)

    def call_bytes(self, plan: MemoryPlan) -> int:
        """Working memory of one call of the prior."""
        h, w = (min(side, plan.tile or side) for side in self.latent)
        return self.facts.call_bytes * self._together(plan.window) * h * w

    @property
    def frame_bytes(self) -> int:
        """Working memory of encoding or decoding a frame, whole: it is not cut into the plan's tiles."""
        h, w = (min(side, self.facts.frame_tile or side) for side in self.latent)
        return self.facts.frame_bytes * h * w

    def peak_bytes(self, plan: MemoryPlan) -> int:
        """What a run takes at most beside what the process holds already. An estimate."""
        work = max(plan.batch * self.call_bytes(plan), self.frame_bytes)
        return self.fixed_bytes + self.live_bytes(plan) + work

    @cached_property
    def _coarse(self) -> int:
        """Sides and overlaps of tiles are multiples of so many latent pixels."""
        return max(1, self.facts.size_multiple // self.facts.spatial_factor)

    def plans(self) -> Iterator[MemoryPlan]:
        """Plans from the best to the smallest: smaller tiles first, as far as they help, then shorter windows."""
        for window, overlap in self._windows():
            for tile in self._edges(window):
                plan = MemoryPlan(window=window, overlap=overlap, tile=tile, batch=1)
                yield plan
                if self.call_bytes(plan) <= self.frame_bytes:
                    break

    def _edges(self, window: int) -> Iterator[int | None]:
        """Sides of tiles in latent pixels, from the best to the smallest; None is the whole picture."""
        if self.tile is not None:
            yield self._edge(self.tile / self.facts.spatial_factor)
            return
        whole, smallest = max(self.latent), SMALLEST_TILE / self.facts.spatial_factor
        area = CALL_BUDGET / (self.facts.call_bytes * self._together(window))
        edge = float(whole) if self.latent[0] * self.latent[1] <= area else min(math.sqrt(area), whole - 1.0)
        while edge > smallest:
            yield self._edge(edge)
            edge *= math.sqrt(0.5)
        yield self._edge(smallest)

    def _windows(self) -> Iterator[tuple[int, int]]:
        """Windows and overlaps, from what was asked for down to what the prior was trained on."""
        yield self.window, self.overlap
        shortest = min(self.window, self.facts.window)
        window = min(self.window, self.frames)
        while not self.keep_window and window > shortest:
            window = max(window // 2, shortest)
            yield window, min(self.overlap * window // self.window, window - 1)

    def _together(self, window: int) -> int:
        """Frames that a call works on at once."""
        return min(window, self.frames, self.facts.together or window)

    def _edge(self, edge: float) -> int | None:
        side = max(self._coarse, int(edge) // self._coarse * self._coarse)
        return None if side >= max(self.latent) else side


def plan_memory(free: int, needs: Needs) -> MemoryPlan:
    """The best plan whose estimated peak stays within `FREE_SHARE` of ``free`` bytes; the smallest if none does.

    The window stays what was asked for as long as any tile fits with it; what was asked for by name stays anyway.
    """
    limit = free * FREE_SHARE
    plans = list(needs.plans())
    fits = next((plan for plan in plans if needs.peak_bytes(plan) <= limit), None)
    return plans[-1] if fits is None else _batched(fits, needs, limit)


def _batched(plan: MemoryPlan, needs: Needs, limit: float) -> MemoryPlan:
    if not needs.batches:
        return plan
    together = len(needs.tiles(plan) or (None,)) * needs.steps
    fits = [replace(plan, batch=n) for n in range(1, min(MOST_BATCH, together) + 1)]
    return max((p for p in fits if needs.peak_bytes(p) <= limit), key=lambda p: p.batch)


def smaller(plan: MemoryPlan, needs: Needs) -> MemoryPlan | None:
    """What to try where ``plan`` ran out of memory: no batch, then tiles of half the side; None if nothing is left.

    The window stays: frames that are under way have been predicted in it.
    """
    if plan.batch > 1:
        return replace(plan, batch=1)
    coarse = max(1, needs.facts.size_multiple // needs.facts.spatial_factor)
    smallest = max(coarse, SMALLEST_TILE // needs.facts.spatial_factor // coarse * coarse)
    side = plan.tile or max(needs.latent)
    if side <= smallest:
        return None
    return replace(plan, tile=max(smallest, side // 2 // coarse * coarse))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the machine or of a device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    native = isinstance(error, RuntimeError) or type(error).__module__.startswith("cv2")
    return native and _SHORT_OF_MEMORY.search(str(error)) is not None
