"""Overlapping windows whose frames also attend to others: an anchor and where the window before ended, or each other.

The windows, their order and what moves are those of `WindowsPlan`; each step gets a directive to the prior's attention,
and frames outside the window that the directive names come along as context, at the level of the call.

In a wavefront the anchor is far ahead of later windows. There is one trajectory of it all the same: its latent at each
level stays readable until the last window has passed that level (`lingers`), so no more latents are held than there are
levels, however long the video is, and a saved run holds them too. Of windows that do not overlap the last frame of the
one before lingers alike, and then they can be walked one by one: held are a window and the levels of two frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from vrestore.errors import PlanError
from vrestore.plan.attend import Consistent, CrossWindow, InTime, Subject
from vrestore.plan.steps import Step
from vrestore.plan.windows import WindowsPlan


class Directed:
    """What plans that tell the attention of their windows have in common: all but their steps and what those hold."""

    windows: WindowsPlan

    @property
    def window(self) -> int:
        """Frames of a window."""
        return self.windows.window

    @property
    def live_bound(self) -> int:
        """That of the windows."""
        return self.windows.live_bound

    @property
    def frames(self) -> int:
        """Length of the latent sequence."""
        return self.windows.frames

    @property
    def levels(self) -> int:
        """T, the noisiest level."""
        return self.windows.levels

    @property
    def start_level(self) -> int:
        """T, or 0 for an inversion."""
        return self.windows.start_level

    @property
    def end_level(self) -> int:
        """0, or T for an inversion."""
        return self.windows.end_level

    @property
    def keep(self) -> int:
        """0: a final frame is read, if at all, at levels that it has left."""
        return self.windows.keep

    @property
    def picture(self) -> tuple[int, int] | None:
        """Latent (height, width) that the tiles cover."""
        return self.windows.picture

    @property
    def calls(self) -> int:
        """Windows times ladder steps times tiles; where frames are seen alone, a prior makes more of them."""
        return self.windows.calls

    def given(self, frame: int) -> bool:
        """No frame is."""
        return False


@dataclass(frozen=True)
class CrossedPlan(Directed):
    """The plan of editing: `windows`, with cross-window attention.

    Args:
        windows: where the windows lie, their levels, order and tiles.
        anchor: the frame that all frames of the shot attend to, in the first window; None: there is none.
        previous: whether frames attend to the last frame of the window before.
        last: whether they attend to the last frame of their own.
        downsampling: from which downsampling of the latents on; see `CrossWindow`.

    Raises:
        PlanError: the anchor is not in the first window, or nothing is attended to.
    """

    windows: WindowsPlan
    anchor: int | None = 0
    previous: bool = True
    last: bool = True
    downsampling: int = 2

    def __post_init__(self) -> None:
        length = self.windows.cover.length
        if self.anchor is not None and not 0 <= self.anchor < length:
            raise PlanError(f"The anchor {self.anchor} is not in the first window; use 0 to {length - 1}.")
        if self.anchor is None and not (self.previous or self.last):
            raise PlanError("Frames attend to nothing but themselves; use a plan of windows.")
        CrossWindow(downsampling=self.downsampling)  # raises PlanError

    @property
    def window(self) -> int:
        """Frames of a window, the anchor and the last frame before."""
        anchor = self.anchor is not None and not self._whole
        return self.windows.window + anchor + self._apart

    @property
    def live_bound(self) -> int:
        """That of the windows, the anchor's levels, and a frame at each level between two windows that only touch."""
        anchor = self.anchor is not None and self.lingers(self.anchor) > 0
        return self.windows.live_bound + self.levels * (anchor + (self._apart and not self._sweep))

    def lingers(self, frame: int) -> int:
        """Ticks for which later windows read a frame at a level that it has left."""
        cover = self.windows.cover
        if self._sweep:
            return 0
        ticks = 0
        if frame == self.anchor:
            last = min(frame // cover.stride, cover.count - 1)  # the last window that it is a frame of
            ticks = self.windows.positions - 1 - min(last, self.windows.positions - 1)
        follows = (frame + 1) // cover.stride
        touches = self._apart and (frame + 1) % cover.stride == 0 and follows < cover.count
        return self._pace * max(ticks, int(touches and cover.start(follows) > frame))

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        """Those of the windows, with context."""
        for steps in self.windows.ticks():
            yield tuple(self._crossed(step) for step in steps)

    @property
    def _sweep(self) -> bool:
        return self.windows.order == "sweep"

    @property
    def _pace(self) -> int:
        """Ticks from a level of a window to the same one of the next."""
        return self.levels if self.windows.order == "apart" else 1

    @property
    def _whole(self) -> bool:
        """Whether one window holds everything."""
        return self.windows.cover.count == 1

    @property
    def _apart(self) -> bool:
        """Whether there are windows that do not reach back to the last frame of the one before."""
        return self.previous and self.windows.overlap == 0 and not self._whole

    def _crossed(self, step: Step) -> Step:
        cover, first = self.windows.cover, int(step.frames[0])
        wanted = [self.anchor, self._before(first), first + cover.length - 1 if self.last else None]
        others = [frame for frame in dict.fromkeys(wanted) if frame is not None]
        outside = [frame for frame in others if not first <= frame < first + cover.length]
        place = {frame: i for i, frame in enumerate([*range(first, first + cover.length), *outside])}
        alone = [frame for frame in others if frame in outside or frame == self.anchor]
        attend = CrossWindow(
            alone=tuple(place[frame] for frame in alone),
            together=tuple(place[frame] for frame in others if frame not in alone),
            context=tuple(place[frame] for frame in outside),
            once=tuple(place[frame] for frame in outside if frame != self.anchor),
            downsampling=self.downsampling,
        )
        if not outside:
            return replace(step, attend=attend)
        still = np.full(len(outside), step.level[0])
        return replace(
            step,
            frames=np.append(step.frames, outside),
            level=np.append(step.level, still),
            to=np.append(step.to, still),
            weight=np.append(step.weight, np.zeros(len(outside))),
            attend=attend,
        )

    def _before(self, first: int) -> int | None:
        """The last frame of the window before the one that starts at a frame."""
        cover = self.windows.cover
        if not self.previous or first == 0:
            return None
        return cover.start(-(-first // cover.stride) - 1) + cover.length - 1


@dataclass(frozen=True)
class DirectedPlan(Directed):
    """Windows whose calls all have one directive, or one at the noisier levels and another at the others.

    So runs FreeNoise, with calls of many frames and `WindowedTime`, and FreeLong, with `SpectralTime` in the first half
    of the levels and `WindowedTime` in the others.

    Args:
        windows: where the windows lie, their levels, order and tiles.
        attend: the directive.
        later: that of the levels up to ``turn``; None: they have none.
        turn: 0: all levels have the first one.

    Raises:
        PlanError: a turn outside the levels.
    """

    windows: WindowsPlan
    attend: InTime | Subject
    later: InTime | Subject | None = None
    turn: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.turn <= self.windows.levels:
            raise PlanError(f"The directive cannot change at level {self.turn}; use 0 to {self.windows.levels}.")

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        """Those of the windows."""
        for steps in self.windows.ticks():
            yield tuple(
                replace(step, attend=self.attend if step.level[0] > self.turn else self.later) for step in steps
            )


@dataclass(frozen=True)
class ConsistentPlan(Directed):
    """Windows whose frames also attend to a share of the tokens of all others in the window.

    Args:
        windows: where the windows lie, their levels, order and tiles.
        share: of the tokens of each other frame, above 0 to 1.
        seed: of the draw.
        downsampling: from which downsampling of the latents on; see `Consistent`.

    Raises:
        PlanError: a share or a downsampling that cannot be.
    """

    windows: WindowsPlan
    share: float = 0.5
    seed: int = 0
    downsampling: int = 2

    def __post_init__(self) -> None:
        Consistent((), 0, self.share, self.seed, self.downsampling)  # raises PlanError

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        """Those of the windows. What is drawn depends on frames and level, so no two windows are one batch."""
        for steps in self.windows.ticks():
            yield tuple(replace(step, attend=self._drawn(step)) for step in steps)

    def _drawn(self, step: Step) -> Consistent:
        return Consistent(tuple(step.frames.tolist()), int(step.level[0]), self.share, self.seed, self.downsampling)
