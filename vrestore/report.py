"""What goes into a run beside the task's settings, and what comes out: options, progress, plan, result."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from vrestore.settings import ONCE
from vrestore.video.formats import Formats

SHOTS_SHOWN = 12


@dataclass(frozen=True)
class Progress:
    """Frames finished of ``total``, seconds since the start, and what is being done."""

    done: int
    total: int
    elapsed_s: float
    stage: str


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run, which does not change what the prior makes of a frame.

    ``start`` and ``end`` (exclusive): a frame number ("120") or a time ("5.2s", "00:00:05.2"). ``deinterlace``: make
    whole pictures of interlaced frames, or not; without a word, interlaced input is refused. ``shots``: where shots
    begin and end (half-open ranges of frames that cover what is restored); without them they are looked for.
    ``held``: settings that were asked for by name and stay, also where memory is short, such as ``window``.
    ``first_shot``: the number that the first shot has for a head that speaks of shots.
    ``join=False`` leaves the finished pieces in the job folder, for `vrestore.engine.join_parts`.
    """

    start: str | None = None
    end: str | None = None
    deinterlace: bool | None = None
    resume: bool = field(default=False, metadata={ONCE: True})
    overwrite: bool = True
    shots: tuple[tuple[int, int], ...] | None = field(default=None, metadata={ONCE: True})
    first_shot: int = field(default=1, metadata={ONCE: True})
    join: bool = field(default=True, metadata={ONCE: True})
    held: frozenset[str] = field(default=frozenset(), metadata={ONCE: True})
    progress: Callable[[Progress], None] | None = None
    formats: Formats = field(default_factory=Formats)


@dataclass(frozen=True, kw_only=True)
class MakeOptions:
    """How to run a head without a source, which does not change what it makes. ``told`` hears the plan before it runs
    (a `vrestore.making.MakingPlan`)."""

    resume: bool = field(default=False, metadata={ONCE: True})
    overwrite: bool = True
    progress: Callable[[Progress], None] | None = None
    told: Callable[[Any], None] | None = None
    formats: Formats = field(default_factory=Formats)


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """What a run will do, known before it starts."""

    input: str
    output: str
    input_size: tuple[int, int]
    """(width, height)."""
    output_size: tuple[int, int]
    """(width, height)."""
    frames: int
    fps: str
    output_frames: int
    output_fps: str
    shots: tuple[tuple[int, int], ...]
    """Half-open ranges of frames; windows never cross their ends."""
    windows: int
    window: int
    """Frames that the prior sees together."""
    overlap: int
    """Frames that neighbouring windows share."""
    calls: int
    """Calls of the prior: windows x tiles x steps."""
    tiles: int
    tile: int | None
    """Side of a tile in output pixels."""
    batch: int
    """Calls made together."""
    live_latents: int
    """Most latents in memory at once."""
    live_bytes: int
    """Memory of those latents, with the frames that condition them."""
    call_bytes: int
    """Working memory of one call of the prior."""
    frame_bytes: int
    """Working memory of encoding or decoding a frame, which is not cut into tiles."""
    peak_bytes: int
    """Estimated: what the run takes at most beside the program itself."""
    free_bytes: int
    """Memory that is free on the device."""
    codec: str
    device: str
    dtype: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """A line per fact, for people."""
        width, height = self.output_size
        more = " ..." if len(self.shots) > SHOTS_SHOWN else ""
        side = "" if self.tile is None else f" of {self.tile} pixels"
        times = f", {self.output_frames} frames at {self.output_fps} fps"
        same = (self.output_frames, self.output_fps) == (self.frames, self.fps)
        return [
            f"input    {self.input}: {self.input_size[0]}x{self.input_size[1]}, {self.frames} frames at {self.fps} fps",
            f"output   {self.output}: {width}x{height}, {self.codec}{'' if same else times}",
            f"shots    {len(self.shots)}: {', '.join(f'{a}-{b - 1}' for a, b in self.shots[:SHOTS_SHOWN])}{more}",
            f"windows  {self.windows} of {self.window} frames, {self.overlap} shared, in {self.tiles} tile(s){side}: "
            f"{self.calls} calls of the prior, {self.batch} together",
            f"memory   about {mib(self.peak_bytes)} of {mib(self.free_bytes)} that are free: {self.live_latents} "
            f"latents alive, {mib(self.live_bytes)} with their frames; {mib(self.call_bytes)} a call, "
            f"{mib(self.frame_bytes)} a frame encoded or decoded",
            f"device   {self.device}, {self.dtype}",
        ]


def mib(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**20:.0f} MiB"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run did."""

    input: str
    output: str
    frames: int
    fps: str
    width: int
    height: int
    shots: int
    calls: int
    """Calls of the prior for the whole video."""
    seconds: float
    """Wall time of this run; of a resumed job, that of the last run."""
    seconds_per_megapixel: float
    """Wall time over the output megapixels made in it; 0 if all of them had been made before."""
    consistency_psnr_db: float
    """Mean PSNR-Y of the output degraded again against the input."""
    shares: dict[str, float]
    """Share of the wall time per stage: inspect (probe, shots, imports), load, decode, prepare (enlarge), encode (to
    latents, with the motion between frames), denoise, reconstruct (from latents), finish, write, engine (the rest)."""
    peak_live_latents: int
    bytes: int = 0
    """Size of the output; 0 if none was written, or to a pipe."""
    beside: dict[str, str] = field(default_factory=dict)
    """Files that were made beside the output, by what they show."""
    job: str = ""
    """Hash of what was asked of which input."""
    measured: dict[str, Any] = field(default_factory=dict)
    """Settings that were found in the input: to be given by hand where they are to stay."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)
