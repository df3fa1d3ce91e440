"""One shot through a prior of depth: snippets of source frames in, one registered map for each frame out.

The shot is walked twice. First every snippet is made and registered with the others, and the registered maps, at the
size of the prior's answer, go to a temporary file (where they are refined, they go through it once more); then, their
range known, they are read one by one. Memory does not grow with the shot; a place on disk of one map for each frame,
and where maps are refined of one latent, does. A run that is resumed in the middle of a shot makes
its maps again, from the shot's first frame on: the same ones.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vrestore.clock import Clock
from vrestore.depth_finish import Finish, Range
from vrestore.depth_refine import Refining
from vrestore.errors import PriorError
from vrestore.executor import Executor, State
from vrestore.flow import luma8
from vrestore.noise import noise
from vrestore.parallax import Complete, with_parallax
from vrestore.plan import RefinementPlan, SnippetsPlan, Step
from vrestore.prior import Conditioning, Prior
from vrestore.registration import Map, Rolling
from vrestore.sampling import Ladder, advance
from vrestore.shapes import Latent
from vrestore.spool import Spool
from vrestore.steadying import steadied
from vrestore.store import RamStore, Store
from vrestore.video import DecodedFrame
from vrestore.walk import Restored

BINS = 4096
"""Of the histogram by which a shot's range is found, over what maps can be."""
LOW, HIGH = -4.0, 5.0


@dataclass
class Place:
    """Where a walk stands, as the engine asks for it."""

    store: Store
    batch: int = 1
    handed_out: int = 0


class DepthWalk:
    """Makes the maps of a shot; ``frames`` are all of its frames, ``begin`` the first whose map is still wanted."""

    def __init__(
        self,
        prior: Prior,
        plan: SnippetsPlan,
        frames: Iterator[DecodedFrame],
        clock: Clock,
        finish: Finish,
        *,
        seed: int,
        begin: int = 0,
    ) -> None:
        self._prior, self._plan, self._frames, self._clock, self._finish = prior, plan, frames, clock, finish
        self._seed, self._begin = seed, begin
        self._complete: Complete | None = getattr(prior, "complete", None) if finish.corrected else None
        self._ladder = prior.ladder(plan.levels)
        self._seen: dict[int, list[Latent]] = {}  # of a frame, and mirrored where the plan mirrors
        self._next = 0
        self._times: list[int] = []
        self._sources: Spool | None = None
        self._maps: Spool | None = None
        self._latents: Spool | None = None
        self._lumas: Spool | None = None
        self._histogram = np.zeros(BINS, np.int64)
        self._extent = (np.inf, -np.inf)
        self.executor = Place(RamStore(prior.device), handed_out=begin)

    def ticks(self) -> Iterator[Iterator[Restored]]:
        """Finished frames, one in a group; the first when all of the shot has been seen."""
        try:
            yield from self._finished()
        finally:
            for spool in (self._maps, self._sources, self._latents, self._lumas):
                if spool is not None:
                    spool.file.close()

    def _finished(self) -> Iterator[Iterator[Restored]]:
        self._register()
        if self._plan.refinement is not None:
            self._refine(self._plan.refinement)
        if self._finish.watched and self._plan.pictures > 1:
            self._watch()
        whole = self._range()
        for frame in range(self._begin, self._plan.pictures):
            with self._clock.stage("finish"):
                source = None
                if self._sources is not None:
                    source = torch.from_numpy(self._sources.get(frame).astype(np.float32) / 255)
                picture = self._finish.picture(self._map(frame), whole, source)
            self.executor.handed_out = frame + 1
            yield iter([Restored(picture, picture, self._times[frame])])

    def state(self) -> State:
        """Nothing: what is left is made anew."""
        return State({}, {})

    def restore(self, state: State) -> None:
        """Nothing to do: where to begin is known."""

    def _register(self) -> None:
        """All snippets through the prior, and their maps, registered, into the file."""
        rolling = Rolling(self._plan.reach, block=self._finish.block, align=self._finish.align)
        run = Executor(
            self._plan.alone,
            self._predict,
            self._start,
            self._solve,
            store=self.executor.store,
            batch=self.executor.batch,
        )
        width, maps = self._plan.window, list[np.ndarray]()
        for slot, latent in run.run():
            with self._clock.stage("reconstruct"):
                answer = self._prior.decode(latent[None], {})[0, 0].float().cpu().numpy()
            mirrored = self._plan.mirrored(slot)
            answer = answer[:, ::-1] if mirrored else answer
            maps.append(answer if self._finish.nearer else -answer)
            if len(maps) == width:
                frames = self._plan.snippets[slot // width]
                with self._clock.stage("register"):
                    self._keep(rolling.add(frames, np.stack(maps), int(mirrored)))
                self._forget(int(frames[-1]))
                maps.clear()
        with self._clock.stage("register"):
            self._keep(rolling.close())

    def _refine(self, plan: RefinementPlan) -> None:
        """The maps once more through the prior, in place of those in the file."""
        low, high = self._extent
        told = partial(self._told, shown=self._latent)
        refining = Refining(self._prior, plan, told, self._noise, low, high, self._finish.nearer)
        self._replace(lambda first: refining.maps(first.get, self.executor.batch))

    def _watch(self) -> None:
        """The maps corrected by parallax, and averaged along the motion, in place of those in the file."""
        lumas, count, finish = self._lumas, self._plan.pictures, self._finish
        if lumas is None:
            raise PriorError("no frame of the shot has been seen")
        if finish.corrected:
            low, high = self._range().usual
            self._replace(lambda first: with_parallax(first.get, lumas.get, count, low, high, self._complete))
        if finish.steady:
            self._replace(lambda first: steadied(first.get, lumas.get, count, finish.steady))

    def _replace(self, made: Callable[[Spool], Iterator[Map]]) -> None:
        first, self._maps = self._maps, None
        if first is None:
            raise PriorError("the prior gave no map of the shot")
        self._histogram, self._extent = np.zeros(BINS, np.int64), (np.inf, -np.inf)
        with first.file, self._clock.stage("register"):
            self._keep(enumerate(made(first)))

    def _keep(self, settled: Iterator[tuple[int, Map]]) -> None:
        for _, found in settled:
            self._maps = self._maps or Spool(self._finish.size, "<f4")
            self._maps.put(found)
            self._histogram += np.histogram(found, BINS, (LOW, HIGH))[0]
            self._extent = (min(self._extent[0], float(found.min())), max(self._extent[1], float(found.max())))

    def _map(self, frame: int) -> Map:
        if self._maps is None:
            raise PriorError("the prior gave no map of the shot")
        return self._maps.get(frame)

    def _range(self) -> Range:
        share = np.cumsum(self._histogram) / max(1, self._histogram.sum())
        edges = np.linspace(LOW, HIGH, BINS + 1)
        low, high = (float(edges[np.searchsorted(share, part)]) for part in (0.01, 0.99))
        return Range(*self._extent, (max(low, self._extent[0]), min(max(high, low + 1e-3), self._extent[1])))

    def _forget(self, last: int) -> None:
        """Latents of frames that no later snippet shows: those that end later begin later."""
        for frame in [one for one in self._seen if one < last - self._plan.reach]:
            del self._seen[frame]

    def _latent(self, frame: int) -> Latent:
        """The latent of a source frame, reading up to it."""
        while frame >= self._next:
            decoded = next(self._frames)
            with self._clock.stage("prepare"):
                small = cv2.resize(
                    decoded.rgb.transpose(1, 2, 0), self._finish.size[::-1], interpolation=cv2.INTER_AREA
                )
                picture = torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1), np.float32))
            with self._clock.stage("encode"):
                sides = [picture, picture.flip(-1)] if self._plan.mirrors else [picture]
                seen = [one["degraded_latents"] for one in self._prior.conditions(iter(sides))]
            if self._finish.watched:
                self._lumas = self._lumas or Spool(self._finish.size, "u1")
                self._lumas.put(luma8(picture))
            self._seen[self._next] = seen
            if self._plan.refined:
                self._latents = self._latents or Spool(tuple(seen[0].shape), "<f4")
                self._latents.put(seen[0].float().cpu().numpy())
            self._times.append(decoded.pts)
            if self._finish.with_source:
                self._sources = self._sources or Spool(decoded.rgb.shape, "u1")
                self._sources.put(np.rint(decoded.rgb * 255))
            self._next += 1
        if frame not in self._seen and self._latents is not None:
            return torch.from_numpy(self._latents.get(frame).copy()).to(self._prior.device)
        return self._seen[frame][0]

    def _shown(self, slot: int) -> Latent:
        """The latent of a picture as a snippet shows it."""
        frame = self._plan.source(slot)
        latent = self._latent(frame)
        return self._seen[frame][1] if self._plan.mirrored(slot) else latent

    def _start(self, slot: int) -> Latent:
        like = self._latent(self._plan.source(slot))
        return self._noise(like, self._ladder.levels).to(like)

    def _noise(self, like: Latent, level: int) -> Latent:
        """The same for every frame: what differs between them is then the frames' doing."""
        channels, height, width = like.shape
        return noise(self._seed, 0, level, (channels, height, width))

    def _predict(self, steps: Sequence[Step], latents: Sequence[Tensor]) -> Sequence[Tensor]:
        return self._told(steps, latents, self._ladder, self._shown)

    def _told(
        self, steps: Sequence[Step], latents: Sequence[Tensor], ladder: Ladder, shown: Callable[[int], Latent]
    ) -> Sequence[Tensor]:
        """What the prior makes of latents, beside those of the pictures at their positions."""
        seen = [torch.stack([_cut(shown(int(slot)), step) for slot in step.frames]) for step in steps]
        conditioning: Conditioning = {"degraded_latents": torch.stack(seen)}
        times = torch.tensor([[ladder.time[level] for level in step.level] for step in steps])
        with self._clock.stage("denoise"):
            return list(self._prior.predict(torch.stack(list(latents)), times, conditioning))

    def _solve(self, slot: int, z: Latent, x0: Latent, level: int, to: int) -> Latent:
        return advance(self._ladder, z, x0, level, to, lambda at: self._noise(z, at))


def _cut(latent: Latent, step: Step) -> Float[Tensor, "channels rows columns"]:
    tile = step.tile
    if tile is None:
        return latent
    return latent[:, tile.y : tile.y + len(tile.weight_y), tile.x : tile.x + len(tile.weight_x)]
