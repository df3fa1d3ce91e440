"""A run prepared: what is asked of which input, checked before anything is computed, and what it would cost."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vrestore.device import free_bytes, resolve_device, resolve_dtype
from vrestore.errors import ConfigError, PriorError, UnsupportedMediaError
from vrestore.extras import Output, choose_extras
from vrestore.job import Job
from vrestore.mapping import Maps
from vrestore.memory import FREE_SHARE, SMALLEST_TILE, plan_memory
from vrestore.needs import needs_of, steps_of
from vrestore.priors import PriorSource, prior_of
from vrestore.report import JobPlan, RunOptions
from vrestore.retime import drafted, plain_parts, retimed_parts
from vrestore.settings import values_of
from vrestore.span import frame_span
from vrestore.task import Edits, Measures, Retimes, Task, TaskConfig, seen_size
from vrestore.video import VideoInfo, open_reader, probe
from vrestore.video.output import AnyEncoding, check_output, choose_output
from vrestore.video.y4m import is_pipe, local_input

log = logging.getLogger(__name__)
MEASURED, MEASURED_FRAMES = 3, 15
"""Windows, and frames of each, that a head may measure its input on."""


def plan_job(task: Task, input: Path | str, output: Path | str, options: RunOptions) -> JobPlan:
    """What `run` would do. Reads the input to find its shots; loads no prior and writes nothing."""
    with local_input(input, output) as path:
        return replace(_described(prepare(task, path, output, options)), input=str(input))


def _described(job: Job) -> JobPlan:
    warn_of_memory(job)
    plans = list(job.plans())
    tiles, target = len(job.tiles or (None,)), job.target
    needs, memory, factor = job.needs, job.memory, job.facts.spatial_factor
    return JobPlan(
        input=str(job.info.path),
        output=str(job.output),
        input_size=(job.info.width, job.info.height),
        output_size=(job.size[1], job.size[0]),
        frames=job.span[1] - job.span[0],
        fps=str(job.info.fps),
        shots=tuple((shot.start, shot.stop) for shot in job.shots),
        output_frames=job.frames,
        output_fps=str(target.fps),
        windows=sum(plan.calls for plan in plans) // (tiles * job.needs.steps),
        window=memory.window,
        overlap=memory.overlap,
        calls=sum(plan.calls for plan in plans),
        tiles=tiles,
        tile=None if memory.tile is None else memory.tile * factor,
        batch=memory.batch,
        live_latents=max(plan.live_bound for plan in plans),
        live_bytes=needs.live_bytes(memory),
        call_bytes=needs.call_bytes(memory),
        frame_bytes=needs.frame_bytes,
        peak_bytes=needs.peak_bytes(memory),
        free_bytes=free_bytes(job.device),
        codec=f"{job.encoding.codec} {job.encoding.pix_fmt}" if job.encoding else "nothing",
        device=str(job.device),
        dtype=str(job.dtype).removeprefix("torch."),
    )


def prepare(task: Task, input: Path | str, output: Path | str | None, options: RunOptions) -> Job:
    """Everything that can be wrong with a request is found here, before anything is computed or written.

    Without ``output`` nothing is going to be written.
    """
    device = resolve_device(task.config.device)
    config = task.config
    dtype = resolve_dtype(config.dtype, device)
    wanted = task.retiming() if isinstance(task, Retimes) else None
    info = _in_whole_pictures(probe(input, options.formats.rate(fps=wanted is None)), options.deinterlace)
    size = task.output_size(info.height, info.width)
    prior = _found(config, between=wanted is not None)
    if isinstance(task, Maps):
        task.checked(prior)
    elif hasattr(prior.adapter, "nearer_is_larger"):
        raise PriorError(f"the prior {config.prior!r} makes depth, and nothing else; name another one")
    if isinstance(task, Edits):
        task.checked(info, prior.facts)
    prior.check(steps_of(prior, config), (info.height, info.width), seen_size(task, info.height, info.width))
    span = frame_span(info, options.start, options.end)
    target = Path("") if output is None else Path(output)
    encoding: AnyEncoding | None = None
    extras: tuple[Output, ...] = ()
    if output is not None:
        shown = info if wanted is None else drafted(wanted, info, span)
        count = span[1] - span[0] if wanted is None else shown.frames
        encoding = _encoding(task, shown, target, size, (span[0], span[0] + count), options)
        if isinstance(task, Edits):
            extras = choose_extras(task.beside(*size, prior.facts), shown, target, span, options)
    if wanted and options.shots:
        raise ConfigError(f"shots are given, but {task.name} makes other times and looks for them; leave them out")
    measured: dict[str, Any] = {}
    if isinstance(task, Measures):
        task = task.measured(_windows(info, span))
        prior = _found(task.config, between=False)
        asked = values_of(config)
        measured = {name: value for name, value in values_of(task.config).items() if value != asked[name]}
    timeline, parts = retimed_parts(wanted, info, span) if wanted else (None, plain_parts(info, span, options.shots))
    needs = needs_of(task, info, size, parts, encoding, prior, device)
    if "window" in options.held:
        needs = replace(needs, keep_window=True)
    memory = plan_memory(free_bytes(device), needs)
    return Job(
        task, info, target, size, span, parts, encoding, needs, memory, prior, device, dtype, extras,
        options.first_shot, timeline, measured,
    )  # fmt: skip


def _windows(info: VideoInfo, span: tuple[int, int]) -> Iterator[Iterator[torch.Tensor]]:
    """A few windows of neighbouring frames, evenly spread over a span, for a head that measures."""
    length = min(MEASURED_FRAMES, span[1] - span[0])
    places = {span[0] + round((span[1] - span[0] - length) * (k + 0.5) / MEASURED) for k in range(MEASURED)}
    for place in sorted(places):
        with open_reader(info) as reader:
            yield (torch.from_numpy(frame.rgb) for frame in reader.frames(place, place + length))


def _encoding(
    task: Task, shown: VideoInfo, output: Path, size: tuple[int, int], span: tuple[int, int], options: RunOptions
) -> AnyEncoding:
    """How the output is encoded, whose facts are those of ``shown``; what forbids to write it is found here."""
    choose = task.encoding if isinstance(task, Maps) else choose_output
    encoding = choose(shown, output, size, span, options.formats)
    check_output(shown, output, span, options.formats, overwrite=options.overwrite)
    if is_pipe(output) and options.resume:
        raise ConfigError("a run that writes to stdout cannot be resumed; leave --resume out, or write a file")
    return encoding


def _found(config: TaskConfig, *, between: bool) -> PriorSource:
    """The prior; PriorError if it is not of the kind that the head needs."""
    name, source = config.prior, prior_of(config)
    if between and not hasattr(source.adapter, "between"):
        raise PriorError(
            f"the prior {name!r} does not make what is between two frames; name one that does, such as flow"
        )
    if not between and hasattr(source.adapter, "between"):
        raise PriorError(f"the prior {name!r} makes what is between two frames, and nothing else; name another one")
    return source


def warn_of_memory(job: Job) -> None:
    """Say where less was planned than asked for, and where even that may not fit."""
    free, peak = free_bytes(job.device), job.needs.peak_bytes(job.memory)
    have = f"{free / 2**20:.0f} MiB of memory are free on {job.device}"
    if peak > free * FREE_SHARE:
        log.warning(
            "%s, and this run takes about %.0f MiB: it may run out; end other programs, or give a smaller --window "
            "(%d) or --tile (at least %d)", have, peak / 2**20, job.memory.window, SMALLEST_TILE,
        )  # fmt: skip
    elif job.memory.window < job.needs.window and job.memory.window < job.needs.frames:
        log.warning("%s: windows of %d frames instead of %d", have, job.memory.window, job.needs.window)


def _in_whole_pictures(info: VideoInfo, deinterlace: bool | None) -> VideoInfo:
    """The input with the choice made of what becomes of fields."""
    if info.interlaced and deinterlace is None:
        raise UnsupportedMediaError(
            f"{info.path} is interlaced: its frames are two fields of different times. Allow --deinterlace to make "
            "whole pictures of them, at the same rate, or --no-deinterlace to restore them as they are"
        )
    if info.is_still and deinterlace:
        raise ConfigError(f"{info.path} is a picture; --deinterlace is for videos, leave it out")
    return replace(info, deinterlace=bool(deinterlace))
