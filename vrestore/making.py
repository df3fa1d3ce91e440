"""The contract of a head without a source, and what is told of its runs: the counterpart of `vrestore.task`."""

from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

from vrestore.errors import ConfigError
from vrestore.plans import PlanName
from vrestore.prior_options import GenerationOptions
from vrestore.prompts import Timeline
from vrestore.report import mib
from vrestore.task import DTYPES, MOST_STEPS
from vrestore.video.formats import rate_of

MOST_FRAMES = 1 << 24
MOST_SIDE = 1 << 14
NoiseName = Literal["independent", "rescheduled", "shared", "progressive"]


@dataclass(frozen=True, kw_only=True)
class MakingConfig:
    """Settings that every head without a source has; the command line is made from the fields and their help."""

    frames: Annotated[int | None, "Frames to make; left out: as many as the prior sees together."] = None
    fps: Annotated[
        str | None,
        "Frames per second: 24, 23.976, 24000/1001; left out: of the video that goes on, or the prior's own.",
    ] = None
    width: Annotated[int | None, "Pixels; left out: that of what is given, or the prior's own."] = None
    height: Annotated[int | None, "Pixels; left out: that of what is given, or the prior's own."] = None
    plan: Annotated[
        PlanName | None,
        "How a long sequence is made. keyframes: from coarse to fine, so that what is seen stays the same; diagonal: "
        "later frames noisier; chunks: one after the other; windows: overlapping, at one level. Left out: keyframes, "
        "or what the prior can.",
    ] = None
    parallel: Annotated[
        bool, "Make all windows of a depth of keyframes together: fewest calls in sequence, all latents held."
    ] = False
    window: Annotated[int | None, "Latents that the prior sees together; left out: what it was trained on."] = None
    noise: Annotated[
        NoiseName,
        "What the frames start from: noise of their own; the same few noises again and again, shuffled (FreeNoise); "
        "noise with a share that is common to all, or that goes on from frame to frame (PYoCo).",
    ] = "independent"
    noise_share: Annotated[float, "0 to below 1: the share of shared or progressive noise."] = 0.5
    steps: Annotated[int | None, "Sampling steps; left out: what the prior is made for."] = None
    seed: Annotated[int, "Seed of the noise; the same settings and seed give the same frames."] = 0
    batch: Annotated[
        int | None, "Calls of the prior made together; left out: 1 on the CPU, elsewhere as many as fit, up to 8."
    ] = None
    prior: Annotated[
        str,
        "Name of the prior, or a folder in the layout of AnimateDiff, Stable Diffusion, Stable Video Diffusion or Wan.",
    ] = "generation"
    device: Annotated[str, "auto, cpu, cuda, cuda:0, mps ..."] = "auto"
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], "Precision of the prior; auto: the fastest one here."
    ] = "auto"

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        following = getattr(super(), "__post_init__", None)
        if following is not None:
            following()
        if self.fps is not None:
            rate_of(self.fps)
        for name, most in (("frames", MOST_FRAMES), ("width", MOST_SIDE), ("height", MOST_SIDE), ("steps", MOST_STEPS)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise ConfigError(f"{name} is {value}; give 1 to {most}")
        for name in ("window", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; give 1 or more")
        for name, allowed in (("plan", (None, *get_args(PlanName))), ("noise", get_args(NoiseName)), ("dtype", DTYPES)):
            if getattr(self, name) not in allowed:
                known = ", ".join(str(one) for one in allowed if one is not None)
                raise ConfigError(f"{name} is {getattr(self, name)!r}; give one of {known}")
        if not 0 <= self.noise_share < 1:
            raise ConfigError(f"noise_share is {self.noise_share}; give 0 or more, below 1")
        if not 0 <= self.seed < 1 << 64:
            raise ConfigError(f"seed is {self.seed}; give 0 to {(1 << 64) - 1}")
        if self.parallel and self.plan not in (None, "keyframes"):
            raise ConfigError(
                f"parallel is on, but plan is {self.plan}; give the plan keyframes, or leave parallel out"
            )


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the user gives of the sequence itself."""

    first: Path | None = None
    """A picture: its first frame."""
    last: Path | None = None
    """A picture: its last frame."""
    video: Path | None = None
    """What it goes on from."""
    context: int | None = None
    """Frames of the end of that which are seen; None: half of what the prior sees together."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files."""
        return tuple(path for path in (self.first, self.last, self.video) if path is not None)


@runtime_checkable
class Makes(Protocol):
    """A head that makes frames of nothing but what its settings say."""

    name: ClassVar[str]
    summary: ClassVar[str]
    config_type: ClassVar[type[MakingConfig]]

    @property
    def config(self) -> MakingConfig:
        """The settings, frozen."""
        ...

    def options(self) -> GenerationOptions:
        """What the prior is told."""
        ...

    def given(self) -> Given:
        """What is given of the sequence."""
        ...

    def script(self, fps: Fraction) -> Timeline | None:
        """Which prompts hold when; None: there are none. ConfigError or MissingInputError for a bad file."""
        ...

    def files(self) -> tuple[Path, ...]:
        """Files that the result depends on: a job goes on only with the same ones."""
        ...


@dataclass(frozen=True, kw_only=True)
class MakingPlan:
    """What a run will do, known before it starts and before the prior is loaded."""

    output: str
    width: int
    height: int
    frames: int
    fps: str
    codec: str
    prior: str
    steps: int
    plan: str
    window: int
    """Latents that the prior sees together at most."""
    latents: int
    """Of the whole sequence, those that are given included."""
    given: int
    """Latents that are there from the start: of pictures, and of the end of a video."""
    calls: int
    """Calls of the prior."""
    calls_per_frame: float
    """Calls for each latent."""
    critical_path: int
    """Calls that must wait for one another, however many are made together."""
    live_latents: int
    """Most latents in memory at once."""
    memory: str
    """streaming: frames are written while later ones are made; whole: every latent is held."""
    batch: int
    """Calls made together."""
    live_bytes: int
    """Memory of those latents."""
    call_bytes: int
    """Working memory of the calls made together."""
    frame_bytes: int
    """Working memory of encoding or decoding a frame."""
    peak_bytes: int
    """Estimated: what the run takes at most beside the program itself."""
    free_bytes: int
    """Memory that is free on the device."""
    device: str
    dtype: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """A line per fact, for people."""
        given = f", {self.given} of them given" if self.given else ""
        return [
            f"output   {self.output}: {self.width}x{self.height}, {self.frames} frames at {self.fps} fps, {self.codec}",
            f"plan     {self.plan}: {self.latents} latents{given}, at most {self.window} in a call, {self.steps} steps",
            f"calls    {self.calls} of the prior {self.prior} ({self.calls_per_frame:.3g} for each latent), "
            f"{self.critical_path} in sequence, {self.batch} together",
            f"memory   about {mib(self.peak_bytes)} of {mib(self.free_bytes)} that are free: {self.live_latents} "
            f"latents held at most ({self.memory}), {mib(self.live_bytes)}; {mib(self.call_bytes)} a call",
            f"device   {self.device}, {self.dtype}",
        ]


@dataclass(frozen=True, kw_only=True)
class MakingResult:
    """What a run did."""

    output: str
    frames: int
    fps: str
    width: int
    height: int
    plan: str
    steps: int
    calls: int
    """Calls of the prior for the whole output."""
    critical_path: int
    seconds: float
    """Wall time of this run; of a resumed job, that of the last run."""
    seconds_per_frame: float
    """Wall time over the frames made in it; 0 if all of them had been made before."""
    shares: dict[str, float]
    """Share of the wall time per stage: inspect (what is given, imports), load, encode (what is given), denoise,
    reconstruct (from latents), write, engine (the rest)."""
    peak_live_latents: int
    bytes: int = 0
    """Size of the output; 0 if it is a pipe."""
    job: str = ""
    """Hash of what was asked."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)
