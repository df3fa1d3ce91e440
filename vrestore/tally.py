"""What a run has done so far: counted, told to its caller, and reported at the end."""

from vrestore.checkpoint import JobFolder, JobState
from vrestore.clock import Clock
from vrestore.job import Job
from vrestore.report import Progress, RunOptions, RunResult
from vrestore.video.output import output_bytes
from vrestore.walk import Restored


class Tally:
    """Counts what a run has done, tells its caller, and reports at the end."""

    def __init__(self, job: Job, clock: Clock, options: RunOptions) -> None:
        self.clock = clock
        self.peak = self.frames = 0
        self.consistency_sum_db = 0.0
        self.job, self._tell = job, options.progress
        self._total = job.frames
        self._before: int | None = None

    def go_on(self, state: JobState) -> None:
        """Take up the count of an earlier run, or of a checkpoint of this one."""
        self._before = state.frames if self._before is None else self._before
        self.frames = state.frames
        self.consistency_sum_db = state.consistency_sum_db

    def add(self, restored: Restored) -> None:
        """Count a finished frame."""
        with self.clock.stage("finish"):
            self.consistency_sum_db += self.job.task.consistency_db(restored.frame, restored.source)
        self.frames += 1
        if self._tell is not None:
            self._tell(Progress(self.frames, self._total, self.clock.total(), "restore"))

    def result(self, folder: JobFolder | None = None) -> RunResult:
        """The report; of a complete output that of its job, by which a later run knows it."""
        job, seconds = self.job, self.clock.total()
        height, width = job.size
        pixels = (self.frames - (self._before or 0)) * height * width
        return RunResult(
            input=str(job.info.path),
            output=str(job.output),
            frames=self.frames,
            fps=str(job.target.fps),
            width=width,
            height=height,
            shots=len(job.shots),
            calls=sum(plan.calls for plan in job.plans()),
            seconds=seconds,
            seconds_per_megapixel=seconds / (pixels / 1e6) if pixels else 0.0,
            consistency_psnr_db=self.consistency_sum_db / self.frames,
            shares=self.clock.shares(),
            peak_live_latents=self.peak,
            bytes=output_bytes(job.output) if folder else 0,
            beside={extra.name: str(extra.path) for extra in job.extras},
            job=folder.digest if folder else "",
            measured=dict(job.measured),
        )
