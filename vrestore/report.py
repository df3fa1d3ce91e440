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

    ``start`` and ``end`` (exclusive): a frame number ("120") or a time ("5.2s", "00:00:05.2").
    """

    start: str | None = None
    end: str | None = None
    resume: bool = field(default=False, metadata={ONCE: True})
    overwrite: bool = True
    progress: Callable[[Progress], None] | None = None
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
    shots: tuple[tuple[int, int], ...]
    """Half-open ranges of frames; windows never cross their ends."""
    windows: int
    calls: int
    """Calls of the prior: windows x tiles x steps."""
    tiles: int
    live_latents: int
    """Most latents in memory at once."""
    live_bytes: int
    """Memory of those latents, with the frames that condition them."""
    call_bytes: int
    """Working memory of one call of the prior."""
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
        return [
            f"input    {self.input}: {self.input_size[0]}x{self.input_size[1]}, {self.frames} frames at {self.fps} fps",
            f"output   {self.output}: {width}x{height}, {self.codec}",
            f"shots    {len(self.shots)}: {', '.join(f'{a}-{b - 1}' for a, b in self.shots[:SHOTS_SHOWN])}{more}",
            f"windows  {self.windows} in {self.tiles} tile(s): {self.calls} calls of the prior",
            f"memory   {self.live_latents} latents alive, {self.live_bytes / 2**20:.0f} MiB with their frames; "
            f"{self.call_bytes / 2**20:.0f} MiB a call",
            f"device   {self.device}, {self.dtype}",
        ]


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

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)
