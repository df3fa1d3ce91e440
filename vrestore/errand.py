"""A run without a source before it starts: what is asked, checked, and what it will cost."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from vrestore.checkpoint import fingerprint
from vrestore.device import free_bytes, resolve_device, resolve_dtype
from vrestore.ends import frames_of, latents_of, places_of, read_ends
from vrestore.errors import ConfigError, OutputError
from vrestore.making import Given, Makes, MakingPlan
from vrestore.making_walk import Score
from vrestore.memory import FREE_SHARE, MOST_BATCH
from vrestore.padding import padded_size
from vrestore.plan import Outline, outline
from vrestore.plans import plan_for, usual_plan
from vrestore.prior_options import generation_options
from vrestore.priors import PriorSource, find_prior
from vrestore.prompts import Timeline
from vrestore.report import MakeOptions
from vrestore.video import ColorTags, VideoInfo, probe
from vrestore.video.formats import Formats, rate_of
from vrestore.video.output import AnyEncoding, at_once, check_output, choose_output, first_number
from vrestore.video.sequence import Pattern, sequence_files
from vrestore.video.y4m import is_pipe

log = logging.getLogger(__name__)

WEIGHTS_SHARE = 0.6
"""Part of a device's free memory that weights may take."""
PICTURE_BYTES = 24
"""Of a frame on its way to the encoder, per pixel: twice three channels in float32."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Errand:
    """What is known of a run before the prior is loaded."""

    task: Makes
    output: Path
    target: VideoInfo
    """Facts of the output's times and colours."""
    encoding: AnyEncoding | None
    """None where nothing is written."""
    prior: PriorSource
    score: Score
    plan_name: str
    frames: int
    """Of the output."""
    given: int
    """Latents that are given."""
    files: tuple[Path, ...]
    """What the result depends on."""
    costs: Outline
    device: torch.device
    dtype: torch.dtype

    @property
    def latent(self) -> tuple[int, int]:
        """Latent (h, w)."""
        height, width = padded_size(self.score.size, self.prior.facts.size_multiple)
        return height // self.prior.facts.spatial_factor, width // self.prior.facts.spatial_factor

    def call_bytes(self, batch: int) -> int:
        """Working memory of so many calls made together."""
        facts, (h, w) = self.prior.facts, self.latent
        return batch * facts.call_bytes * min(self.score.plan.window, facts.together or self.score.plan.window) * h * w

    @property
    def frame_bytes(self) -> int:
        """Working memory of a frame that is encoded or decoded."""
        facts = self.prior.facts
        h, w = (min(side, facts.frame_tile or side) for side in self.latent)
        return facts.frame_bytes * h * w

    @property
    def live_bytes(self) -> int:
        """Memory of the latents under way, and of the frames of one on their way out."""
        h, w = self.latent
        pixels = self.score.size[0] * self.score.size[1]
        frames = PICTURE_BYTES * self.prior.facts.temporal_factor * pixels
        return 4 * self.costs.live * self.prior.facts.latent_channels * h * w + frames

    def peak_bytes(self, batch: int) -> int:
        """Estimated: what the run takes at most beside the program."""
        away = generation_options(self.prior.options).offload and self.device.type != "cpu"
        weights = 0 if away else sum(path.stat().st_size for path in self.prior.weights())
        return weights + self.live_bytes + max(self.call_bytes(batch), self.frame_bytes)

    def asked(self) -> dict[str, Any]:
        """What a checkpoint belongs to."""
        return {
            "task": self.task.name,
            "weights": [fingerprint(path) for path in self.prior.weights()],
            "files": [fingerprint(path) for path in self.files],
            **{name: value for name, value in asdict(self.task.config).items() if name not in ("download", "batch")},
            "frames": self.frames,
            "fps": str(self.score.fps),
            "size": list(self.score.size),
            "plan": self.plan_name,
            "device": str(self.device),
            "dtype": str(self.dtype),
            "encoding": asdict(self.encoding) if self.encoding else None,
        }


def prepare(task: Makes, output: Path | None, options: MakeOptions) -> Errand:
    """Everything that can be wrong with a request is found here, before a prior is loaded or anything is written.

    Without ``output`` nothing is going to be written.
    """
    config, given = task.config, task.given()
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, device)
    prior = _from_noise_alone(find_prior(config.prior, task.options()))
    video = None if given.video is None else probe(given.video, options.formats.rate(fps=False))
    fps = rate_of(config.fps) if config.fps else video.fps if video else Fraction(prior.facts.usual_fps)
    if "rate" in prior.takes:
        prior = replace(prior, options=replace(generation_options(prior.options), rate=round(fps)))
    prior = _that_fits(prior, device)
    facts, steps = replace(prior.facts, name=config.prior), config.steps or prior.facts.usual_steps
    prompts = _prompts(task, prior, fps, given)
    size, ends = read_ends(config, given, facts, prior.adapter.made_of, video)
    prior.check(steps, size, size)
    known, frames = len(ends.start), frames_of(config, facts, ends)
    latents = latents_of(frames, ends.hidden, facts)
    places = places_of(known, ends, latents, facts)
    if len(places) == latents:
        raise ConfigError(f"frames is {frames}, and all of them are given; ask for more")
    name = config.plan or usual_plan(facts)
    plan = plan_for(name, latents, facts, steps, window=config.window, known=places, parallel=config.parallel)
    if prompts is not None:
        _check_prompts(prompts, frames, fps)
    target = _target(video, size, frames, fps)
    files = _files(task, given, video)
    if output is not None and video is not None:
        options = replace(options, formats=_numbered_on(options.formats, output, video))
    encoding = None if output is None else _encoding(target, output, files, options, prior)
    score = Score(
        plan=plan, size=size, fps=fps, seed=config.seed, noise=(config.noise, config.noise_share), prompts=prompts,
        start=ends.start, end=ends.end, hidden=ends.hidden, picture=ends.picture,
    )  # fmt: skip
    errand = Errand(
        task=task, output=output or Path(), target=target, encoding=encoding, prior=prior, score=score, plan_name=name,
        frames=frames, given=len(places), files=files, costs=outline(plan), device=device, dtype=dtype,
    )  # fmt: skip
    return replace(errand, score=replace(score, batch=config.batch or _batch(errand)))


def described(errand: Errand) -> MakingPlan:
    """The plan of a run, for people and machines; warns where memory may run out."""
    score, costs, free = errand.score, errand.costs, free_bytes(errand.device)
    peak, (height, width) = errand.peak_bytes(score.batch), score.size
    if peak > free * FREE_SHARE:
        log.warning(
            "%.0f MiB of memory are free on %s, and this run takes about %.0f MiB: it may run out; end other programs, "
            "or give a smaller size or --window (%d)", free / 2**20, errand.device, peak / 2**20, score.plan.window,
        )  # fmt: skip
    return MakingPlan(
        output=str(errand.output),
        width=width,
        height=height,
        frames=errand.frames,
        fps=str(score.fps),
        codec=f"{errand.encoding.codec} {errand.encoding.pix_fmt}" if errand.encoding else "nothing",
        prior=errand.task.config.prior,
        steps=score.plan.levels,
        plan=errand.plan_name,
        window=min(score.plan.window, score.plan.frames),
        latents=score.plan.frames,
        given=errand.given,
        calls=costs.calls,
        calls_per_frame=costs.calls_per_frame,
        critical_path=costs.critical_path,
        live_latents=costs.live,
        memory=costs.memory,
        batch=score.batch,
        live_bytes=errand.live_bytes,
        call_bytes=errand.call_bytes(score.batch),
        frame_bytes=errand.frame_bytes,
        peak_bytes=peak,
        free_bytes=free,
        device=str(errand.device),
        dtype=str(errand.dtype).removeprefix("torch."),
    )


def _from_noise_alone(prior: PriorSource) -> PriorSource:
    """The prior without a ControlNet, and with all of its noise: there is no picture that either would be of."""
    if "controlnet" not in prior.takes:
        return prior
    return replace(prior, options=replace(prior.options, controlnet="none", strength=1.0))


def _that_fits(prior: PriorSource, device: torch.device) -> PriorSource:
    """The prior with its weights in the machine's memory, where they would take most of the device's own."""
    told = generation_options(prior.options)
    if "offload" not in prior.takes or told.offload is not None or device.type in ("cpu", "mps"):
        return prior
    weights = sum(path.stat().st_size for path in prior.weights())
    if weights <= WEIGHTS_SHARE * free_bytes(device):
        return prior
    log.warning("the weights take %.0f MiB: they stay in the machine's memory", weights / 2**20)
    return replace(prior, options=replace(told, offload=True))


def _prompts(task: Makes, prior: PriorSource, fps: Fraction, given: Given) -> Timeline | None:
    prompts, name = task.script(fps), task.config.prior
    if prior.adapter.made_of == "words":
        if prompts is None:
            raise ConfigError(f"nothing says what the prior {name} is to show; give --prompt or --timeline")
        return prompts
    if prompts is not None:
        raise ConfigError(f"the prior {name} sets a picture in motion and takes no prompts; leave them out")
    if given.first is None:
        raise ConfigError(f"the prior {name} sets a picture in motion; give one with --first")
    return None


def _check_prompts(prompts: Timeline, frames: int, fps: Fraction) -> None:
    """ConfigError where no prompt holds for a frame."""
    if not prompts.everywhere:
        for frame in range(frames):
            prompts.at(frame / fps)


def _target(video: VideoInfo | None, size: tuple[int, int], frames: int, fps: Fraction) -> VideoInfo:
    """Facts of the output: the colours of the video that goes on, or R'G'B' without a tag. It has no other streams."""
    plain = VideoInfo(
        path=Path(), width=size[1], height=size[0], frames=frames, fps=fps, time_base=1 / fps, start_pts=0,
        duration_s=float(frames / fps), codec="rawvideo", pix_fmt="rgb24", bit_depth=8, color=ColorTags(range=2),
        is_still=True,
    )  # fmt: skip
    if video is None:
        return plain
    same = {name: getattr(video, name) for name in ("codec", "pix_fmt", "bit_depth", "color", "sample_aspect", "hdr")}
    return replace(plain, **same, chromaticities=video.chromaticities)


def _encoding(
    target: VideoInfo, output: Path, files: Sequence[Path], options: MakeOptions, prior: PriorSource
) -> AnyEncoding:
    """How the output is encoded; what forbids to write it is found here."""
    formats = replace(options.formats, alpha=False)
    span = (0, target.frames)
    encoding = choose_output(target, output, (target.height, target.width), span, formats)
    check_output(target, output, span, formats, overwrite=options.overwrite)
    pattern, first = Pattern.of(output), first_number(target, span, formats)
    written = [output] if pattern is None else [pattern.file(first + n) for n in range(target.frames)]
    taken = {path.resolve() for path in files}.intersection(path.resolve() for path in written)
    if taken:
        raise OutputError(f"{min(taken)} is given as what it is to be made from; name another output with -o")
    if options.resume and at_once(output):
        raise ConfigError(f"{'stdout' if is_pipe(output) else output} cannot be resumed; leave --resume out")
    if options.resume and hasattr(prior.adapter, "decoder"):
        raise ConfigError(
            "the prior makes every frame with what it remembers of those before, which is not kept; leave --resume out"
        )
    return encoding


def _files(task: Makes, given: Given, video: VideoInfo | None) -> tuple[Path, ...]:
    """What the result depends on; of an image sequence all pictures."""
    others = (path for path in task.files() if path != given.video)
    return (*others, *(() if video is None else sequence_files(video)))


def _numbered_on(formats: Formats, output: Path, video: VideoInfo) -> Formats:
    """Where an image sequence goes on as one, its numbers go on, too."""
    if video.numbers is None or formats.first_number is not None or Pattern.of(output) is None:
        return formats
    return replace(formats, first_number=video.numbers[1] + 1)


def _batch(errand: Errand) -> int:
    """Calls made together: on an accelerator as many as fit, up to a few."""
    if errand.device.type == "cpu":
        return 1
    free = free_bytes(errand.device) * FREE_SHARE
    return max((n for n in range(1, MOST_BATCH + 1) if errand.peak_bytes(n) <= free), default=1)
