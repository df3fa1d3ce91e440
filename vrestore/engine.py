"""The engine: a video, its shots, their latents, the executor, and a video again. It knows tasks, but never a head."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import torch

from vrestore.checkpoint import JobFolder, JobState
from vrestore.clock import Clock
from vrestore.errors import ResumeError
from vrestore.executor import State
from vrestore.extras import are_there, join_all
from vrestore.job import Job, shrunk
from vrestore.mapping import Maps
from vrestore.memory import MemoryPlan
from vrestore.plan import SnippetsPlan
from vrestore.preparing import plan_job, prepare, warn_of_memory
from vrestore.prior import Prior
from vrestore.priors.guided import guided, unguided
from vrestore.report import RunOptions, RunResult
from vrestore.retime import Part
from vrestore.segments import write_at_once, write_segments
from vrestore.shapes import Frame
from vrestore.tally import Tally
from vrestore.task import Direction, Edits, Prepares, Scene, Task
from vrestore.video import DecodedFrame, open_reader
from vrestore.video.mux import Trim
from vrestore.video.output import at_once, output_bytes
from vrestore.video.y4m import local_input
from vrestore.walk import Restored, ShotWalk, Walk

log = logging.getLogger(__name__)

__all__ = ["join_parts", "plan_job", "run", "shots_of", "stream"]


SEGMENT_FRAMES = 48
"""Frames after which a segment of output is closed and a checkpoint taken, at the next end of a tick."""
SEGMENT_PIXELS = 100_000_000
"""The same in output pixels, which counts for large pictures: they take long. Segments follow from the size alone, not
from the time: a lossy codec starts anew with each, and a run on another day must give the same bits."""
SHORTEST_SEGMENT = 8
"""Frames; shorter ones would cost a lossy codec much of its efficiency."""


def stream(task: Task, input: Path | str, options: RunOptions | None = None) -> Iterator[Restored]:
    """Restored frames of a video in order, each as soon as it is final; nothing is written."""
    with local_input(input, None) as path:
        job = prepare(task, path, None, options or RunOptions())
        warn_of_memory(job)
        yield from _in_order(job, Tally(job, Clock(), RunOptions()))


def _in_order(job: Job, tally: Tally) -> Iterator[Restored]:
    """Restored frames, each once; where memory runs out, those that are left with a smaller plan."""
    given = 0
    while True:
        try:
            for restored in _from(job, tally, given):
                yield restored
                given += 1
            return
        except Exception as error:
            job = tally.job = shrunk(job, error)


def _from(job: Job, tally: Tally, first: int) -> Iterator[Restored]:
    """Restored frames from output frame ``first`` on; its shot is walked from the shot's start."""
    skipped, number = first, 0
    while number < len(job.parts) - 1 and skipped >= job.parts[number].shown:
        skipped -= job.parts[number].shown
        number += 1
    for _, walk in _walks(job, _load(job, tally.clock), tally.clock, JobState(shot=number)):
        for restored in walk.ticks():
            for one in restored:
                if skipped == 0:
                    yield one
                skipped = max(0, skipped - 1)
        tally.peak = max(tally.peak, walk.executor.store.peak)


def run(task: Task, input: Path | str, output: Path | str, options: RunOptions | None = None) -> RunResult:
    """Restore ``input`` to ``output``. On any error nothing is left under the output's name.

    Raises:
        VRestoreError: see `vrestore.errors`. An interrupted job goes on with ``options.resume``.
    """
    with local_input(input, output) as path:
        return replace(_run(task, path, output, options or RunOptions()), input=str(input))


def _run(task: Task, input: Path, output: Path | str, options: RunOptions) -> RunResult:
    clock = Clock()
    with clock.stage("inspect"):
        job = prepare(task, input, output, options)
    tally = Tally(job, clock, options)
    folder = JobFolder(job.output, job.asked(), asdict(job.memory))
    found = folder.finished(output_bytes(job.output)) if options.resume and are_there(job.extras) else None
    if found is not None:
        log.warning("%s is done already, of this input with these settings; leave --resume out to make it anew", output)
        return RunResult(**found)
    if job.encoding is None or at_once(job.output):
        warn_of_memory(job)
        _run_at_once(job, tally)
        return tally.result(folder)
    if options.resume:
        folder.resume()
        job = replace(job, memory=MemoryPlan(**folder.plan))
    else:
        folder.start()
    warn_of_memory(job)
    tally.go_on(folder.state)
    try:
        _run_within_memory(job, folder, tally)
        if not options.join:
            return tally.result()
        with clock.stage("write"):
            join_all(job.outputs, [folder], job.target, **_trim(job, folder.state))
    except BaseException:
        folder.leave()
        raise
    folder.remove()
    return tally.result(folder)


def shots_of(task: Task, input: Path | str, options: RunOptions) -> tuple[tuple[int, int], ...]:
    """The shots of what would be restored, as ``options.shots`` takes them. Reads the input, writes nothing.

    A head that makes other times looks for shots itself: all is one.
    """
    job = prepare(task, input, None, options)
    return (job.span,) if job.timeline else tuple((part.shot.start, part.shot.stop) for part in job.parts)


def join_parts(
    task: Task, input: Path | str, output: Path | str, parts: Sequence[Path], options: RunOptions
) -> RunResult:
    """Join what runs without ``options.join`` have left in the job folders of ``parts`` (their outputs, in order).

    Raises:
        ResumeError: a part is incomplete.
        VRestoreError: as `run`.
    """
    clock = Clock()
    with clock.stage("inspect"):
        job = prepare(task, input, output, options)
    folders = [JobFolder.standing(part) for part in parts]
    states = [folder.state for folder in folders]
    whole = JobState(frames=sum(state.frames for state in states), first_pts=states[0].first_pts)
    whole.consistency_sum_db = sum(state.consistency_sum_db for state in states)
    if job.encoding is None or whole.frames != job.frames:
        raise ResumeError(f"the parts of {job.output} hold {whole.frames} frames of {job.frames}")
    tally = Tally(job, clock, options)
    tally.go_on(whole)
    with clock.stage("write"):
        join_all(job.outputs, folders, job.info, **_trim(job, whole))
    return tally.result()


def _run_at_once(job: Job, tally: Tally) -> None:
    """A still, or a pipe: frames are written as they come, and nothing can be resumed."""
    if job.encoding is None:
        return
    write_at_once(_in_order(job, tally), job.outputs, job.target, tally)


def _run_within_memory(job: Job, folder: JobFolder, tally: Tally) -> None:
    """Run what is left; where memory runs out, go back to the last checkpoint and on from there with a smaller plan.

    So a segment is made by one plan, and a job that is killed afterwards resumes to the same bits. What was finished
    before, perhaps hours of it, stays: tiles change a picture by less than one sees.
    """
    while True:
        tally.job = job
        try:
            _run_segments(job, folder, tally)
            return
        except Exception as error:
            job = shrunk(job, error)
        folder.again(asdict(job.memory))
        tally.go_on(folder.state)


def _run_segments(job: Job, folder: JobFolder, tally: Tally) -> None:
    """Restore and encode what ``folder`` does not hold yet, a checkpoint at the end of every segment."""
    state = folder.state
    if state.frames == job.frames:
        return
    walks = _walks(job, _load(job, tally.clock), tally.clock, state, folder)
    write_segments(walks, job.outputs, job.target, folder, tally, enough=segment_frames(job.size), total=job.frames)


def segment_frames(size: tuple[int, int]) -> int:
    """Frames of a segment, at least, of an output of that (height, width)."""
    return min(SEGMENT_FRAMES, max(SHORTEST_SEGMENT, SEGMENT_PIXELS // (size[0] * size[1])))


def _load(job: Job, clock: Clock) -> Prior:
    config = job.task.config
    with clock.stage("load"):
        prior = job.prior.load(job.device, job.dtype)
    return guided(prior, propagation=config.propagation, guidance=config.motion_guidance)


def _walks(
    job: Job, prior: Prior, clock: Clock, state: JobState, folder: JobFolder | None = None
) -> Iterator[tuple[int, Walk]]:
    """A walk for every shot from where ``state`` stands, over one pass of the reader."""
    number, emitted = state.shot, state.emitted
    if emitted == job.parts[number].length:
        number, emitted = number + 1, 0
    batch, direction = job.memory.batch, _direction(job, prior, clock)
    # frames before the next one are neighbours to look at; what a head says of a frame may go by all before it
    from_start = direction is not None or isinstance(job.task, Maps)
    first = 0 if from_start else max(0, emitted - prior.facts.reach) // prior.facts.group * prior.facts.group
    looks = job.task.looks if isinstance(job.task, Prepares) else 0
    ahead = min(first, looks)
    # so many are under way in an edit that their pictures are not held: each is read again when it is finished
    with open_reader(job.info, keep=job.keep()) as reader, open_reader(job.info, keep=job.keep()) as later:
        source = _source(job, number, first - ahead)
        frames = _timed(reader.frames(source, job.span[1]), clock)
        again = None if direction is None else _timed(later.frames(source + emitted, job.span[1]), clock)
        for part in job.parts[number:]:
            own: Iterator[DecodedFrame] = islice(frames, part.shot.stop - source)
            if isinstance(job.task, Prepares) and looks:
                own = islice(_prepared(job.task, own, clock), ahead, None)
            source = part.shot.stop
            if part.length:
                scene = Scene(job.first_shot + number, emitted, part.length)
                walk = _mapped(job, prior, part, own, clock, emitted) or ShotWalk(
                    job.task,
                    prior,
                    job.plan(part.length, part.keys),
                    own,
                    clock,
                    shot_start=part.first,
                    exact=job.info.lossless,
                    first=first,
                    begin=emitted,
                    slots=job.slots(part, first),
                    edit=None if direction is None else (direction, scene),
                    again=again,
                )
                if emitted and folder is not None:
                    walk.restore(State(folder.tensors(), state.meta))
                walk.executor.batch = batch
                yield number, walk
                batch = walk.executor.batch  # less, where memory ran out
            deque(own, maxlen=0)  # what comes after the last that is needed
            first = emitted = ahead = 0
            number += 1


def _prepared(task: Prepares, frames: Iterator[DecodedFrame], clock: Clock) -> Iterator[DecodedFrame]:
    """Frames with the pictures that a head makes of them."""
    waiting: deque[DecodedFrame] = deque()

    def pictures() -> Iterator[Frame]:
        for frame in frames:
            waiting.append(frame)
            yield torch.from_numpy(frame.rgb)

    made = iter(task.prepared(pictures()))
    while True:
        with clock.stage("prepare"):
            picture = next(made, None)
        if picture is None:
            return
        yield replace(waiting.popleft(), rgb=picture.numpy())


def _mapped(
    job: Job, prior: Prior, part: Part, frames: Iterator[DecodedFrame], clock: Clock, begin: int
) -> Walk | None:
    """The walk of a head that makes maps."""
    plan = job.plan(part.length)
    if not isinstance(job.task, Maps) or not isinstance(plan, SnippetsPlan):
        return None
    size = (job.info.height, job.info.width)
    return job.task.walk(prior, plan, frames, clock, size=size, encoding=job.encoding, begin=begin)


def _direction(job: Job, prior: Prior, clock: Clock) -> Direction | None:
    """What a head that edits wants of the frames."""
    if not isinstance(job.task, Edits):
        return None
    with clock.stage("load"):
        return job.task.direct(unguided(prior), job.info, job.needs.steps)


def _source(job: Job, number: int, first: int) -> int:
    """The source frame at a position of a shot."""
    part = job.parts[number]
    slots = job.slots(part, first)
    return part.shot.start + first if slots is None else next(slots).left if part.length else part.shot.start


def _timed(frames: Iterable[DecodedFrame], clock: Clock) -> Iterator[DecodedFrame]:
    stream = iter(frames)
    while True:
        with clock.stage("decode"):
            frame = next(stream, None)
        if frame is None:
            return
        yield frame


def _trim(job: Job, state: JobState) -> Trim:
    """The kept part of the input's time, where that is not all: from its first frame to the one after its last."""
    marks: Trim = {}
    if job.timeline is not None:
        marks["slow"] = job.timeline.slow
        if job.span[0] > 0:
            marks["start_pts"] = job.timeline.start_pts
        if job.span[1] < job.info.frames:
            marks["stop_pts"] = job.timeline.end_pts
        return marks
    if job.span[0] > 0 and state.first_pts is not None:
        marks["start_pts"] = state.first_pts
    if job.span[1] < job.info.frames:
        with open_reader(job.info) as reader:
            marks["stop_pts"] = next(reader.frames(job.span[1], job.span[1] + 1)).pts
    return marks
