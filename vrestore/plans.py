"""Plans by name, fitted to what a prior can do, or refused before anything is loaded."""

from collections.abc import Iterable
from typing import Literal, get_args

from vrestore.errors import ConfigError
from vrestore.plan import DiagonalPlan, HierarchyPlan, Plan, WindowsPlan
from vrestore.prior import PriorFacts

PlanName = Literal["keyframes", "diagonal", "chunks", "windows"]
"""keyframes: from coarse to fine; diagonal: later frames noisier; chunks: one after the other; windows: overlapping."""


def latent_frames(frames: int, facts: PriorFacts) -> int:
    """Latents of so many frames. A prior that folds time has one of the first frame and one of every few more.

    Raises:
        ConfigError: no whole number of latents; names the next lengths that are.
    """
    factor = facts.temporal_factor
    if frames < 1 or (frames - 1) % factor:
        below = max(0, (frames - 1) // factor) * factor + 1
        raise ConfigError(
            f"frames is {frames}; the prior {facts.name} makes {factor} k + 1 of them: give {below} or {below + factor}"
        )
    return (frames - 1) // factor + 1


def usual_plan(facts: PriorFacts) -> PlanName:
    """The plan where none is asked for.

    Keyframes, for priors that can have clean frames beside noisy ones. Latents of several frames each are no video any
    more when some are left out, so there the sequence is made chunk by chunk.
    """
    if not facts.per_frame_levels or facts.window < 3:
        return "windows"
    return "keyframes" if facts.temporal_factor == 1 else "chunks"


def plan_for(
    name: str,
    frames: int,
    facts: PriorFacts,
    steps: int,
    *,
    window: int | None = None,
    known: Iterable[int] = (),
    parallel: bool = True,
) -> Plan:
    """A plan of the latent frames of a sequence.

    Args:
        name: one of `PlanName`.
        frames: latents, at least 1.
        facts: of the prior that shall run it.
        steps: levels.
        window: frames of a call; left out: what the prior was trained on.
        known: latents that are given; for chunks and diagonal those at the start.
        parallel: of keyframes: all windows of a depth at once, rather than as far as the output needs them.

    Raises:
        ConfigError: an unknown name, a window beyond what the prior knows, or a plan that it cannot run.
    """
    if name not in get_args(PlanName):
        raise ConfigError(f"there is no plan {name!r}; give one of {', '.join(get_args(PlanName))}")
    size, given = window or facts.window, frozenset(known)
    if not 1 <= size <= facts.window:
        raise ConfigError(f"window is {size}; the prior {facts.name} knows 1 to {facts.window} frames together")
    if not facts.per_frame_levels and (given or (name != "windows" and frames > size)):
        what = "a given frame" if name == "windows" else f"the plan {name}"
        raise ConfigError(
            f"{what} needs frames at different levels in one call, which the prior {facts.name} cannot have; use the "
            "plan windows without given frames, or another prior"
        )
    if frames > size < 3 and name != "windows":
        raise ConfigError(
            f"the plan {name} needs calls of 3 frames or more; the window is {size}: use the plan windows"
        )
    if name == "windows":
        if given:
            raise ConfigError("the plan windows knows no given frames; use the plan keyframes")
        return WindowsPlan(frames, size, size // 2, steps)
    if name == "keyframes":
        order: Literal["parallel", "streaming"] = "parallel" if parallel else "streaming"
        return HierarchyPlan(frames, size, steps, order=order, known=given)
    prefix = len(given)
    if given != frozenset(range(prefix)):
        raise ConfigError(
            f"the plan {name} can start from given frames, but not meet any later; use the plan keyframes"
        )
    if name == "chunks":
        return DiagonalPlan(frames, steps, max(1, size // 2), steps, history=size - max(1, size // 2), prefix=prefix)
    chunk = max(1, size // 4)
    under_way = max(1, (size - chunk) // chunk)
    return DiagonalPlan(frames, steps, chunk, -(-steps // under_way), history=chunk, prefix=prefix)
