"""A run before it starts: what is asked of which input, checked, and what it will cost."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from vrestore.checkpoint import fingerprint
from vrestore.device import resolve_device, resolve_dtype
from vrestore.errors import ConfigError, UnsupportedMediaError
from vrestore.padding import padded_size
from vrestore.plan import Tile, WindowsPlan, split
from vrestore.prior import PriorFacts
from vrestore.priors import find_prior
from vrestore.report import JobPlan, RunOptions
from vrestore.task import Task
from vrestore.video import Keep, Shot, VideoInfo, detect_shots, open_reader, probe
from vrestore.video.output import AnyEncoding, check_output, choose_output
from vrestore.video.planes import has_alpha
from vrestore.video.sequence import sequence_files
from vrestore.video.y4m import is_pipe, local_input

TILE_OVERLAP = 128
"""Output pixels that neighbouring tiles share: beyond the reach of the prior's convolutions that matters."""
CALL_BUDGET = 2 << 30
"""Working memory in bytes that one call of the prior may take before the picture is cut into tiles."""
SMALLEST_TILE = 128
"""Output pixels; a window that does not fit the budget with this takes more."""


@dataclass(frozen=True)
class Job:
    """What is known of a run before the prior is loaded."""

    task: Task
    info: VideoInfo
    output: Path
    size: tuple[int, int]
    """(height, width) of the output."""
    span: tuple[int, int]
    """Frames of the input, half-open."""
    shots: tuple[Shot, ...]
    encoding: AnyEncoding | None
    """None where nothing is written."""
    tiles: tuple[Tile, ...] | None
    facts: PriorFacts
    device: torch.device
    dtype: torch.dtype

    def plan(self, frames: int) -> WindowsPlan:
        """The plan of a shot of so many frames."""
        config = self.task.config
        return WindowsPlan(frames, config.window, config.overlap, config.steps, self.tiles)

    def asked(self) -> dict[str, Any]:
        """What a checkpoint belongs to: the input's content, the weights, every setting, and the geometry they give."""
        weights = sorted(find_prior(self.task.config.prior).folder.rglob("*.safetensors"))
        return {
            "input": _fingerprint(self.info),
            "weights": [fingerprint(path) for path in weights],
            "task": self.task.name,
            **asdict(self.task.config),
            "device": str(self.device),
            "dtype": str(self.dtype),
            "frames": list(self.span),
            "fps": str(self.info.fps),
            "deinterlace": self.info.deinterlace,
            "size": list(self.size),
            "tiles": len(self.tiles or ()),
            "encoding": asdict(self.encoding) if self.encoding else None,
        }

    def keep(self) -> Keep:
        """What the reader gives beside the picture: what the output holds."""
        if self.encoding is None:
            return Keep()
        light = self.info.linear and self.encoding.codec != "exr"  # highlights of a scene are no superwhite
        return Keep(has_alpha(self.encoding.pix_fmt), "none" if light else self.encoding.outside)

    def latent_size(self) -> tuple[int, int]:
        """(h, w) of the padded picture's latents."""
        height, width = padded_size(self.size, self.facts.size_multiple)
        return height // self.facts.spatial_factor, width // self.facts.spatial_factor


def prepare(task: Task, input: Path | str, output: Path | str | None, options: RunOptions) -> Job:
    """Everything that can be wrong with a request is found here, before anything is computed or written.

    Without ``output`` nothing is going to be written.
    """
    config = task.config
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, device)
    info = _in_whole_pictures(probe(input, options.formats.rate()), options.deinterlace)
    size = task.output_size(info.height, info.width)
    facts = find_prior(config.prior).facts
    span = frame_span(info, options.start, options.end)
    target = Path("") if output is None else Path(output)
    encoding = None
    if output is not None:
        encoding = choose_output(info, target, size, span, options.formats)
        check_output(info, target, span, options.formats, overwrite=options.overwrite)
        if is_pipe(target) and options.resume:
            raise ConfigError("a run that writes to stdout cannot be resumed; leave --resume out, or write a file")
    shots = tuple(detect_shots(info, *span))
    tiles = _tiles(config.tile, _longest_call(config.window, shots), size, facts)
    return Job(task, info, target, size, span, shots, encoding, tiles, facts, device, dtype)


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


def _longest_call(window: int, shots: Sequence[Shot]) -> int:
    """Frames that a call of the prior sees at most."""
    return min(window, max(shot.stop - shot.start for shot in shots))


def _fingerprint(info: VideoInfo) -> str:
    """The input's; of a sequence, that of all its pictures."""
    prints = [fingerprint(path) for path in sequence_files(info)]
    return prints[0] if len(prints) == 1 else hashlib.sha256("".join(prints).encode()).hexdigest()


def _tiles(tile: int | None, window: int, size: tuple[int, int], facts: PriorFacts) -> tuple[Tile, ...] | None:
    """Tiles in latent pixels: as asked for, else none as long as a call of the prior stays within its budget."""
    height, width = (side // facts.spatial_factor for side in padded_size(size, facts.size_multiple))
    coarse = facts.size_multiple // facts.spatial_factor
    if tile is None:
        if facts.call_bytes * window * height * width <= CALL_BUDGET:
            return None
        fits = int((CALL_BUDGET / (facts.call_bytes * window)) ** 0.5)
        edge = max(fits, SMALLEST_TILE // facts.spatial_factor)
    else:
        edge = tile // facts.spatial_factor
    overlap = min(TILE_OVERLAP // facts.spatial_factor, edge // 2)
    edge, overlap = edge // coarse * coarse, overlap // coarse * coarse
    return None if edge >= max(height, width) else split(height, width, edge, overlap)


def frame_span(info: VideoInfo, start: str | None, end: str | None) -> tuple[int, int]:
    """Frames from ``start`` up to ``end`` (exclusive), each a frame number or a time; ConfigError if that is empty."""
    first = 0 if start is None else _position(info, start)
    last = info.frames if end is None else min(_position(info, end), info.frames)
    if not 0 <= first < last:
        raise ConfigError(f"frames {first} to {last} of {info.frames} hold nothing; give a start before the end")
    return first, last


def _position(info: VideoInfo, text: str) -> int:
    """ "120" is a frame; "5.2s", "5.2", "01:05.2" and "00:01:05.2" are times from the first frame on."""
    if text.isdecimal():
        return int(text)
    try:
        seconds = Fraction(0)
        for part in text.removesuffix("s").split(":"):
            seconds = seconds * 60 + Fraction(part)
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"position {text!r} is neither a frame (120) nor a time (5.2s, 00:01:05.2)") from error
    if not info.vfr:
        return int(-(-seconds * info.fps // 1))  # the first frame at or after that time
    with open_reader(info, pace="fast") as reader:
        due = info.start_pts + seconds / info.time_base
        return next((frame.index for frame in reader.frames() if frame.pts >= due), info.frames)


def plan_job(task: Task, input: Path | str, output: Path | str, options: RunOptions) -> JobPlan:
    """What `run` would do. Reads the input to find its shots; loads no prior and writes nothing."""
    with local_input(input, output) as path:
        return replace(_described(prepare(task, path, output, options)), input=str(input))


def _described(job: Job) -> JobPlan:
    plans = [job.plan(shot.stop - shot.start) for shot in job.shots]
    live = max(plan.live_bound for plan in plans)
    h, w = job.latent_size()
    tile = job.tiles[0] if job.tiles else None
    area = len(tile.weight_y) * len(tile.weight_x) if tile else h * w
    pixels = h * w * job.facts.spatial_factor**2
    # latents and motion; the degraded picture (in half precision); the source
    per_frame = 4 * (2 * job.facts.latent_channels + 6) * h * w + 6 * pixels + 12 * job.info.width * job.info.height
    return JobPlan(
        input=str(job.info.path),
        output=str(job.output),
        input_size=(job.info.width, job.info.height),
        output_size=(job.size[1], job.size[0]),
        frames=job.span[1] - job.span[0],
        fps=str(job.info.fps),
        shots=tuple((shot.start, shot.stop) for shot in job.shots),
        windows=sum(plan.cover.count for plan in plans),
        calls=sum(plan.calls for plan in plans),
        tiles=len(job.tiles or (None,)),
        live_latents=live,
        live_bytes=(live + 2) * per_frame,
        call_bytes=job.facts.call_bytes * _longest_call(job.task.config.window, job.shots) * area,
        codec=f"{job.encoding.codec} {job.encoding.pix_fmt}" if job.encoding else "nothing",
        device=str(job.device),
        dtype=str(job.dtype).removeprefix("torch."),
    )
