"""Runs of a head without a source: a plan of latents from noise, and the frames of it written as they become final."""

import logging
from collections.abc import Iterator
from pathlib import Path

from vrestore import engine
from vrestore.checkpoint import JobFolder
from vrestore.clock import Clock
from vrestore.errand import Errand, described, prepare
from vrestore.errors import ConfigError
from vrestore.executor import State
from vrestore.extras import Output, join_all
from vrestore.making import Makes, MakingPlan, MakingResult
from vrestore.making_walk import MakingWalk
from vrestore.plan import outline
from vrestore.prior import Generative
from vrestore.report import MakeOptions, Progress
from vrestore.segments import write_at_once, write_segments
from vrestore.shapes import OutputFrame
from vrestore.video.output import at_once, output_bytes
from vrestore.walk import Restored, Walk

log = logging.getLogger(__name__)

__all__ = ["made", "make", "plan_making"]


def plan_making(task: Makes, output: Path | str, options: MakeOptions | None = None) -> MakingPlan:
    """What `make` would do. Reads what is given; loads no prior and writes nothing. Raises as `make`."""
    return described(prepare(task, Path(output), options or MakeOptions()))


def made(task: Makes) -> Iterator[OutputFrame]:
    """The frames (3, height, width) in [0, 1], in order, each as soon as it is final; nothing is written."""
    clock = Clock()
    walk = _walk(prepare(task, None, MakeOptions()), clock)
    for group in walk.ticks():
        for one in group:
            yield one.frame


def make(task: Makes, output: Path | str, options: MakeOptions | None = None) -> MakingResult:
    """Make a video. On any error nothing is left under the output's name.

    Raises:
        VRestoreError: see `vrestore.errors`. An interrupted job goes on with ``options.resume``.
    """
    clock, options = Clock(), options or MakeOptions()
    with clock.stage("inspect"):
        errand = prepare(task, Path(output), options)
    count = _Count(errand, clock, options)
    if options.told is not None:
        options.told(described(errand))
    outputs = (Output("", errand.output, errand.score.size, errand.encoding),) if errand.encoding else ()
    if at_once(errand.output):
        write_at_once(_frames(errand, clock, count), outputs, errand.target, count)
        return count.result()
    folder = JobFolder(errand.output, errand.asked(), {"batch": errand.score.batch})
    if options.resume:
        found = folder.finished(output_bytes(errand.output))
        if found is not None:
            log.warning("%s is done already, with these settings; leave --resume out to make it anew", errand.output)
            return MakingResult(**found)
        folder.resume()
    else:
        folder.start()
    count.begin(folder.state.frames)
    try:
        if count.frames < errand.frames:
            enough = engine.segment_frames(errand.score.size)
            walks = _walks(errand, clock, folder)
            write_segments(walks, outputs, errand.target, folder, count, enough=enough, total=errand.frames)
        with clock.stage("write"):
            join_all(outputs, [folder], errand.target)
    except BaseException:
        folder.leave()
        raise
    folder.remove()
    return count.result(folder)


def _walk(errand: Errand, clock: Clock) -> MakingWalk:
    with clock.stage("load"):
        prior = errand.prior.load(errand.device, errand.dtype)
    if not isinstance(prior, Generative):
        raise ConfigError(f"the prior {prior.facts.name} makes nothing anew; name another one")
    return MakingWalk(errand.score, prior, clock)


def _walks(errand: Errand, clock: Clock, folder: JobFolder) -> Iterator[tuple[int, Walk]]:
    """The one walk, from where the folder stands."""
    walk = _walk(errand, clock)
    if folder.state.checkpoint is not None:
        walk.restore(State(folder.tensors(), folder.state.meta))
    yield 0, walk


def _frames(errand: Errand, clock: Clock, count: "_Count") -> Iterator[Restored]:
    walk = _walk(errand, clock)
    for group in walk.ticks():
        yield from group
    count.peak = walk.executor.store.peak


class _Count:
    """See `vrestore.segments.Count`."""

    def __init__(self, errand: Errand, clock: Clock, options: MakeOptions) -> None:
        self.clock = clock
        self.frames = self.peak = self._before = 0
        self.consistency_sum_db = 0.0
        self._errand, self._tell = errand, options.progress

    def begin(self, frames: int) -> None:
        """Take up the count of an earlier run."""
        self.frames = self._before = frames
        self._tell_caller()

    def add(self, restored: Restored) -> None:
        """Count a finished frame, and tell the caller."""
        self.frames += 1
        self._tell_caller()

    def _tell_caller(self) -> None:
        if self._tell is not None:
            self._tell(Progress(self.frames, self._errand.frames, self.clock.total(), "generate"))

    def result(self, folder: JobFolder | None = None) -> MakingResult:
        """The report."""
        errand, seconds = self._errand, self.clock.total()
        height, width = errand.score.size
        costs, new = outline(errand.score.plan), self.frames - self._before
        return MakingResult(
            output=str(errand.output),
            frames=self.frames,
            fps=str(errand.score.fps),
            width=width,
            height=height,
            plan=errand.plan_name,
            steps=errand.score.plan.levels,
            calls=costs.calls,
            critical_path=costs.critical_path,
            seconds=seconds,
            seconds_per_frame=seconds / new if new else 0.0,
            shares=self.clock.shares(),
            peak_live_latents=self.peak,
            bytes=output_bytes(errand.output) if folder else 0,
            job=folder.digest if folder else "",
        )
