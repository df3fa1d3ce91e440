"""A run without a source before it starts: what is asked, checked, and what it will cost."""

import logging
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from vrestore.checkpoint import fingerprint
from vrestore.device import free_bytes, resolve_device, resolve_dtype
from vrestore.ends import checked_video, end_of, fitted, picture_of
from vrestore.errors import ConfigError, OutputError
from vrestore.making import Given, Makes, MakingConfig, MakingPlan
from vrestore.making_walk import Score
from vrestore.memory import FREE_SHARE, MOST_BATCH
from vrestore.padding import padded_size
from vrestore.plan import Outline, outline
from vrestore.plans import latent_frames, plan_for, usual_plan
from vrestore.prior import MadeOf, PriorFacts
from vrestore.prior_options import generation_options
from vrestore.priors import PriorSource, find_prior
from vrestore.prompts import Timeline
from vrestore.report import MakeOptions
from vrestore.shapes import Frame
from vrestore.video import ColorTags, VideoInfo, probe
from vrestore.video.formats import rate_of
from vrestore.video.output import AnyEncoding, at_once, check_output, choose_output
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
            "files": [fingerprint(path) for path in self.task.files()],
            **{name: value for name, value in asdict(self.task.config).items() if name not in ("download", "batch")},
            "frames": self.frames,
            "fps": str(self.score.fps),
            "size": list(self.score.size),
            "plan": self.plan_name,
            "device": str(self.device),
            "dtype": str(self.dtype),
            "encoding": asdict(self.encoding) if self.encoding else None,
        }


@dataclass(frozen=True, kw_only=True)
class _Ends:
    """What is given, read."""

    start: tuple[Frame, ...] = ()
    end: Frame | None = None
    hidden: int = 0
    picture: Frame | None = None


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
    size, ends = _read(config, given, facts, prior.adapter.made_of, video)
    prior.check(steps, size, size)
    known, frames = len(ends.start), _frames(config, given, facts, ends)
    latents = _latents(frames, ends.hidden, facts)
    places = _places(known, ends, latents, facts)
    if len(places) == latents:
        raise ConfigError(f"frames is {frames}, and all of them are given; ask for more")
    name = config.plan or usual_plan(facts)
    plan = plan_for(name, latents, facts, steps, window=config.window, known=places, parallel=config.parallel)
    if prompts is not None:
        _check_prompts(prompts, frames, fps)
    target = _target(video, size, frames, fps)
    encoding = None if output is None else _encoding(target, output, given, options, prior)
    score = Score(
        plan=plan, size=size, fps=fps, seed=config.seed, noise=(config.noise, config.noise_share), prompts=prompts,
        start=ends.start, end=ends.end, hidden=ends.hidden, picture=ends.picture,
    )  # fmt: skip
    errand = Errand(
        task=task, output=output or Path(), target=target, encoding=encoding, prior=prior, score=score, plan_name=name,
        frames=frames, given=len(places), costs=outline(plan), device=device, dtype=dtype,
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


def _read(
    config: MakingConfig, given: Given, facts: PriorFacts, made_of: MadeOf, video: VideoInfo | None
) -> tuple[tuple[int, int], _Ends]:
    """The (height, width) of the output, and what is given, of that size."""
    first, last = (None if path is None else picture_of(path) for path in (given.first, given.last))
    own = [(one.shape[-2], one.shape[-1]) for one in (first, last) if one is not None]
    if video is not None:
        own = [(video.height, video.width)]
        for name, side, wanted in (("height", video.height, config.height), ("width", video.width, config.width)):
            if wanted not in (None, side):
                raise ConfigError(f"{name} is {wanted}, but {video.path} has {side}; leave it out")
    size = _size(config, own[0] if own else None, facts)
    sides = [
        None if one is None or path is None else fitted(one, size, path)
        for one, path in ((first, given.first), (last, given.last))
    ]
    if sides[1] is not None and facts.temporal_factor > 1:
        raise ConfigError(
            f"a last picture is given, but a latent of the prior {facts.name} holds {facts.temporal_factor} frames; "
            "leave --last out, or name another prior"
        )
    if made_of == "picture":
        return size, _Ends(picture=sides[0], end=sides[1])
    start = () if sides[0] is None else (sides[0],)
    if video is None:
        return size, _Ends(start=start, end=sides[1])
    half = max(1, (config.window or facts.window) // 2)
    wanted = given.context or (half - 1) * facts.temporal_factor + 1
    hidden = checked_video(video, facts.temporal_factor, wanted)
    return size, _Ends(start=tuple(end_of(video, hidden)), end=sides[1], hidden=hidden)


def _size(config: MakingConfig, own: tuple[int, int] | None, facts: PriorFacts) -> tuple[int, int]:
    """(height, width): as asked; what is left out from what is given, in its shape, or the prior's own."""
    usual = own or facts.usual_size
    if config.height is not None and config.width is not None:
        return config.height, config.width
    if usual is None:
        raise ConfigError(f"the prior {facts.name} does not say which size it is made for; give --width and --height")
    height, width = usual
    if config.height is not None:
        return config.height, max(1, round(width * config.height / height)) if own else width
    if config.width is not None:
        return max(1, round(height * config.width / width)) if own else height, config.width
    return usual


def _frames(config: MakingConfig, given: Given, facts: PriorFacts, ends: _Ends) -> int:
    """Frames to make: those asked for, or as many as fit into one call with what is given."""
    if config.frames is not None:
        return config.frames
    factor, window = facts.temporal_factor, min(config.window or facts.window, facts.window)
    if ends.hidden:
        return factor * max(1, window - (ends.hidden - 1) // factor - 1)
    return 1 + factor * (window - 1)


def _latents(frames: int, hidden: int, facts: PriorFacts) -> int:
    """Latents of the frames that are made and those before them; ConfigError if that is no whole number."""
    factor = facts.temporal_factor
    if hidden and frames % factor:
        below = frames // factor * factor
        allowed = f"{below} or {below + factor}" if below else f"{factor}"
        raise ConfigError(
            f"frames is {frames}; going on from a video the prior {facts.name} makes {factor} k of them: give {allowed}"
        )
    return latent_frames(frames + hidden, facts)


def _places(known: int, ends: _Ends, latents: int, facts: PriorFacts) -> frozenset[int]:
    """Places of the latents that are given."""
    start = range(min(latents, (known - 1) // facts.temporal_factor + 1 if known else 0))
    return frozenset((*start, *((latents - 1,) if ends.end is not None else ())))


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


def _encoding(target: VideoInfo, output: Path, given: Given, options: MakeOptions, prior: PriorSource) -> AnyEncoding:
    """How the output is encoded; what forbids to write it is found here."""
    formats = replace(options.formats, alpha=False)
    span = (0, target.frames)
    encoding = choose_output(target, output, (target.height, target.width), span, formats)
    check_output(target, output, span, formats, overwrite=options.overwrite)
    for path in given.paths:
        if output.exists() and path.exists() and output.samefile(path):
            raise OutputError(f"{output} is given as what it is to be made from; name another output with -o")
    if options.resume and at_once(output):
        raise ConfigError(f"{'stdout' if is_pipe(output) else output} cannot be resumed; leave --resume out")
    if options.resume and hasattr(prior.adapter, "decoder"):
        raise ConfigError(
            "the prior makes every frame with what it remembers of those before, which is not kept; leave --resume out"
        )
    return encoding


def _batch(errand: Errand) -> int:
    """Calls made together: on an accelerator as many as fit, up to a few."""
    if errand.device.type == "cpu":
        return 1
    free = free_bytes(errand.device) * FREE_SHARE
    return max((n for n in range(1, MOST_BATCH + 1) if errand.peak_bytes(n) <= free), default=1)
