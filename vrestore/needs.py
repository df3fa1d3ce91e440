"""What a run will need of memory, told before its prior is loaded."""

from collections.abc import Sequence

import torch

from vrestore.mapping import Maps
from vrestore.memory import Needs
from vrestore.padding import padded_size
from vrestore.plan import CrossedPlan, KeyframesPlan, WindowsPlan
from vrestore.priors import PriorSource
from vrestore.retime import Part
from vrestore.task import Edits, Prepares, Task, TaskConfig, seen_size
from vrestore.video import VideoInfo
from vrestore.video.output import AnyEncoding

CODEC_BYTES = {"ffv1": 100, "libx264": 200}
"""What an encoder holds, in bytes per output pixel: measured 83 (FFV1), 230 and less (H.264); others 300 to 580."""
OTHER_CODEC_BYTES = 500


def needs_of(
    task: Task,
    info: VideoInfo,
    size: tuple[int, int],
    parts: Sequence[Part],
    encoding: AnyEncoding | None,
    prior: PriorSource,
    device: torch.device,
) -> Needs:
    """Of a job on parts of an input, written with an encoding (None: not written)."""
    config, steps = task.config, steps_of(prior, task.config)
    # frames of an image prior touch only where they are guided by one another; windows would repeat their overlaps
    crosses = isinstance(task, Edits) and task.crosses()
    alone = prior.facts.window == 1 and config.propagation == config.motion_guidance == 0 and not crosses
    touching = crosses and prior.facts.window == 1 and config.overlap == TaskConfig.overlap  # nothing to fuse
    height, width = padded_size(seen_size(task, info.height, info.width), prior.facts.size_multiple)
    fixed = sum(path.stat().st_size for path in prior.weights())
    if encoding is not None and device.type == "cpu":  # elsewhere encoders take of another memory
        fixed += CODEC_BYTES.get(encoding.codec, OTHER_CODEC_BYTES) * size[0] * size[1]
    if isinstance(task, Prepares):
        fixed += task.prepared_bytes(info.height, info.width)
    if isinstance(task, Maps):
        return _of_maps(task, info, parts, prior, steps, fixed, device)
    plan = task.plan(WindowsPlan(1, 1, 0, 1), prior.facts) if isinstance(task, Edits) else None
    between = [KeyframesPlan(part.length, part.keys, steps) for part in parts if part.length and part.keys is not None]
    return Needs(
        facts=prior.facts,
        latent=(height // prior.facts.spatial_factor, width // prior.facts.spatial_factor),
        source_pixels=info.width * info.height if device.type == "cpu" and not isinstance(task, Edits) else 0,
        frames=max(part.length for part in parts),
        steps=steps,
        window=3 if between else 1 if alone else config.window,
        overlap=0 if between or alone or touching else config.overlap,
        tile=config.tile,
        fixed_bytes=fixed,
        held_bytes=task.held_bytes(*size, prior.facts) if isinstance(task, Edits) else 0,
        passes=task.passes() if isinstance(task, Edits) else 1,
        keep_window=bool(between) or config.window != TaskConfig.window,
        batches=device.type != "cpu",
        live=max((one.live_bound for one in between), default=None),
        apart=isinstance(task, Edits),
        degraded=not isinstance(task, Edits) or "degraded" in prior.facts.conditionings,
        crossed=isinstance(plan, CrossedPlan),
    )


def _of_maps(
    task: Maps, info: VideoInfo, parts: Sequence[Part], prior: PriorSource, steps: int, fixed: int, device: torch.device
) -> Needs:
    size, factor = task.seen_size(prior, info.height, info.width), prior.facts.spatial_factor
    frames = max(part.length for part in parts)
    plan = task.plan(frames, steps, None, 1)
    return Needs(
        facts=prior.facts,
        latent=(size[0] // factor, size[1] // factor),
        source_pixels=0,
        frames=frames,
        steps=steps,
        window=plan.window,
        overlap=0,
        tile=task.config.tile,
        fixed_bytes=fixed + task.held_bytes(prior, info.height, info.width),
        held_bytes=0,
        keep_window=True,
        batches=device.type != "cpu",
        live=plan.live_bound + plan.reach + 1,
    )


def steps_of(prior: PriorSource, config: TaskConfig) -> int:
    """Sampling steps: those asked for, or those that the prior is made for."""
    return config.steps or prior.facts.usual_steps
