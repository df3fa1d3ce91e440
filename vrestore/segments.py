"""Finished frames into files: piece by piece with a checkpoint after each, or at once where nothing can be resumed."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from vrestore.checkpoint import JobFolder
from vrestore.clock import Clock
from vrestore.extras import Output, Writers
from vrestore.video import VideoInfo
from vrestore.walk import Restored, Walk


@runtime_checkable
class Count(Protocol):
    """What counts the frames of a run."""

    clock: Clock
    frames: int
    """Made so far."""
    peak: int
    """Most latents that were held."""
    consistency_sum_db: float

    def add(self, restored: Restored) -> None:
        """Count a finished frame."""
        ...


def write_segments(
    walks: Iterable[tuple[int, Walk]],
    outputs: Sequence[Output],
    target: VideoInfo,
    folder: JobFolder,
    count: Count,
    *,
    enough: int,
    total: int,
) -> None:
    """Make and encode what ``folder`` does not hold yet, a checkpoint at the end of every segment.

    Args:
        walks: numbers of shots, and what makes them, from where ``folder.state`` stands.
        outputs: files; the output itself first.
        target: of the output's times.
        folder: of the job.
        count: told of every frame.
        enough: frames after which a segment is closed, at the next end of a tick.
        total: frames of the whole output.
    """
    state = folder.state
    writer: Writers | None = None
    try:
        for number, walk in walks:
            for restored in walk.ticks():
                times = []
                for one in restored:
                    with count.clock.stage("write"):
                        writer = writer or Writers.segment(outputs, folder.segment(), target, count.frames)
                        writer.write(one)
                    count.add(one)
                    times.append(one.pts)
                state.add(number, times)
                state.emitted = walk.executor.handed_out
                if writer is not None and (writer.frames >= enough or count.frames == total):
                    with count.clock.stage("write"):
                        written = writer.close()
                        saved = walk.state()
                        state.consistency_sum_db = count.consistency_sum_db
                        folder.save(written, saved.tensors, saved.meta)
                    writer = None
            count.peak = max(count.peak, walk.executor.store.peak)
    except BaseException:
        if writer is not None:
            writer.abort()
        raise


def write_at_once(frames: Iterator[Restored], outputs: Sequence[Output], target: VideoInfo, count: Count) -> None:
    """A still, or a pipe: frames are written as they come, and nothing can be resumed."""
    writer = Writers.at_once(outputs, target)
    try:
        for one in frames:
            with count.clock.stage("write"):
                writer.write(one)
            count.add(one)
        writer.close()
    except BaseException:
        writer.abort()
        raise
