"""`validate` accepts every family of plans of the literature, and rejects each planted error by name."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import PlanError
from vrestore.plan import Step, WindowsPlan, split, validate


@dataclass(frozen=True)
class Listed:
    """A plan written out."""

    frames: int
    levels: int
    schedule: tuple[tuple[Step, ...], ...]
    window: int = 16
    start_level: int = -1
    end_level: int = 0
    keep: int = 0
    picture: tuple[int, int] | None = None
    live_bound: int = 10**6
    extra_calls: int = 0
    keys: frozenset[int] = frozenset()

    @property
    def calls(self) -> int:
        return sum(map(len, self.schedule)) + self.extra_calls

    def given(self, frame: int) -> bool:
        return frame in self.keys

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        return iter(self.schedule)


def step(frames, level, to, weight=1.0, tile=None, group="main"):
    frames = np.asarray(frames, int)
    filled = [np.broadcast_to(v, frames.shape).copy() for v in (level, to)]
    return Step(frames, *filled, np.broadcast_to(weight, frames.shape).astype(float), tile, group)


def listed(frames, levels, schedule, **facts):
    return Listed(frames, levels, tuple(map(tuple, schedule)), **({"start_level": levels} | facts))


def written_out(plan, **facts):
    return listed(plan.frames, plan.levels, plan.ticks(), window=plan.window, picture=plan.picture, **facts)


# ---- plans of other families, which the core must be able to express


def diagonal(frames, levels, chunk, pace, history):
    """level[n, g] = clip(T + pace * (n // chunk) - g, 0, T): FIFO, rolling forcing, autoregression."""
    schedule = []
    for g in range(levels + pace * ((frames - 1) // chunk)):
        before, after = (np.clip(levels + pace * (np.arange(frames) // chunk) - i, 0, levels) for i in (g, g + 1))
        active = np.flatnonzero(before != after)
        span = np.arange(max(0, active[0] - history), active[-1] + 1)
        schedule.append([step(span, before[span], after[span], (before != after)[span])])
    # A clean frame is read until the last active frame is more than `history` behind it.
    return listed(frames, levels, schedule, window=64, keep=pace * (history // chunk + 2) + levels)


def keyframes(frames, levels, stride):
    """Every stride-th frame first, then what lies between, with the finished keyframes as clean context."""
    keys = np.unique(np.r_[np.arange(0, frames, stride), frames - 1])
    schedule = [[step(keys, t, t - 1)] for t in range(levels, 0, -1)]
    spans = [np.arange(a, b + 1) for a, b in pairwise(keys) if b > a + 1]
    for t in range(levels, 0, -1):
        known = [np.isin(span, keys) for span in spans]
        schedule.append(
            [step(s, np.where(k, 0, t), np.where(k, 0, t - 1), ~k) for s, k in zip(spans, known, strict=True)]
        )
    return listed(frames, levels, schedule, window=64, keep=2 * levels)


def neighbours_as_context(frames, levels, size):
    """Windows without overlap that attend to frame 0 and the frame before, at their current level."""
    schedule = []
    for t in range(levels, 0, -1):
        tick = []
        for a in range(0, frames, size):
            core = np.arange(a, min(a + size, frames))
            context = np.setdiff1d([0, a - 1], [*core, -1])
            span = np.r_[context, core].astype(int)
            tick.append(step(span, t, np.where(np.isin(span, context), t, t - 1), ~np.isin(span, context)))
        schedule.append(tick)
    return listed(frames, levels, schedule)


def another_grid_each_level(frames, levels):
    schedule = []
    for t in range(levels, 0, -1):
        tiles = split(7, 9, tile=3 + t, overlap=t)
        schedule.append([step(range(frames), t, t - 1, 1.0, tile) for tile in tiles])
    return listed(frames, levels, schedule, picture=(7, 9))


def there_and_back(frames, levels):
    """Inversion, then sampling."""
    up = [[step(range(frames), t, t + 1)] for t in range(levels)]
    down = [[step(range(frames), t, t - 1)] for t in range(levels, 0, -1)]
    return listed(frames, levels, up + down, start_level=0)


GOOD = {
    "fifo": diagonal(30, 8, 1, 1, 4),
    "rolling forcing": diagonal(21, 5, 3, 1, 6),
    "autoregression": diagonal(20, 4, 4, 4, 8),
    "full sequence": diagonal(12, 5, 1, 0, 0),
    "keyframes": keyframes(23, 4, 5),
    "context at the same level": neighbours_as_context(30, 3, 8),
    "another grid each level": another_grid_each_level(4, 3),
    "there and back": there_and_back(5, 3),
    "two groups": listed(6, 1, [[step(range(6), 1, 0, 0.25, group="global"), step(range(6), 1, 0, 0.75)]]),
    "noise again": listed(2, 2, [[step([0, 1], a, b)] for a, b in [(2, 1), (1, 2), (2, 1), (1, 0)]]),
    "given keys": listed(
        5,
        2,
        [[step([0, 1, 2], [0, t, 0], [0, t - 1, 0], [0, 1, 0])] for t in (2, 1)] + [[step([3, 4], 0, 0, 0.0)]],
        keys=frozenset((0, 2, 3, 4)),
        keep=1,
        extra_calls=-1,
    ),
    "random partition": listed(4, 2, [[step([2, 0], t, t - 1), step([3, 1], t, t - 1)] for t in (2, 1)]),
    "snapshot within a tick": listed(2, 1, [[step([0], 1, 0), step([1, 0], 1, [0, 1], [1, 0])]]),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_families_of_the_literature_are_valid(name):
    validate(GOOD[name])


# ---- planted errors

TILES = split(4, 6, tile=4, overlap=2)
TWO = WindowsPlan(frames=6, window=4, overlap=2, levels=1)


def _dropped_tail():
    # The geometry of Gen-L-Video: (frames - window) % stride frames at the end are in no window.
    schedule = [
        [step(range(a, a + 16), t, t - 1, _even(50, 16, 8)[a : a + 16]) for a in range(0, 33, 8)] for t in (2, 1)
    ]
    return listed(50, 2, schedule)


def _even(frames, window, stride):
    count = np.zeros(frames)
    for a in range(0, frames - window + 1, stride):
        count[a : a + window] += 1
    return 1 / np.maximum(count, 1)


def _scaled_tail():
    # The last frames multiplied by a half, as in diffusers' FreeNoise.
    weight = np.where(np.arange(8) < 6, 1.0, 0.5)
    return listed(8, 1, [[step(range(8), 1, 0, weight)]])


BAD = {
    "dropped tail": (_dropped_tail(), "frame 48 of 50 is in no step"),
    "scaled tail": (_scaled_tail(), "shares of frame 6 on its way to level 0 add up to 0.5"),
    "weights above one": (listed(2, 1, [[step([0, 1], 1, 0, [1, 1.5])]]), "shares of frame 1 .* 1.5"),
    "a crumb too much": (listed(1, 1, [[step([0], 1, 0), step([0], 1, 0, 1e-9)]]), "shares of frame 0 .* must add up"),
    "twice the share": (listed(1, 1, [[step([0], 1, 0), step([0], 1, 0)]]), "shares of frame 0 .* 2"),
    "wrong level": (
        listed(1, 2, [[step([0], 2, 1)], [step([0], 2, 1)]]),
        "frame 0 is read at level 2, but it is at level 1",
    ),
    "too early": (listed(2, 2, [[step([0], 2, 1), step([0, 1], 1, 0)]]), "Tick 0, step 1: frame 0 is read at level 1"),
    "half complete": (
        listed(1, 2, [[step([0], 2, 1, 0.5)], [step([0], 1, 0, 0.5)]]),
        "frame 0 is read at level 1, but it is at level 2",
    ),
    "written context": (listed(2, 1, [[step([0, 1], 1, 0, [1, 0])]]), "frame 1 goes from level 1 to 0 with weight 0"),
    "weighted context": (listed(2, 1, [[step([0, 1], 1, [0, 1])]]), "frame 1 goes from level 1 to 1 with weight 1"),
    "disagreement": (
        listed(1, 2, [[step([0], 2, 1)], [step([0], 1, 0, 0.5), step([0], 1, 2, 0.5)]]),
        "moves to level 2, but another step moves it to 0",
    ),
    "level left out": (listed(1, 3, [[step([0], 3, 1)], [step([0], 1, 0)]]), "from level 3 to 1"),
    "inversion leaps": (listed(1, 2, [[step([0], 0, 2)]], start_level=0, end_level=2), "from level 0 to 2"),
    "above the ladder": (listed(1, 2, [[step([0], 2, 3)]]), "from level 2 to 3; levels are 0 to 2"),
    "unfinished": (listed(1, 2, [[step([0], 2, 1)]]), "frame 0 of 1 stays at level 1"),
    "read after release": (
        listed(2, 1, [[step([0], 1, 0)], [step([0, 1], [0, 1], 0, [0, 1])]]),
        r"Tick 1, step 0: frame 0 is read at level 0, but it is final and released",
    ),
    "moved after final": (
        listed(2, 1, [[step([0], 1, 0)], [step([0, 1], [0, 1], [1, 0])]], keep=1),
        "frame 0 is final, but moved again",
    ),
    "given and moved": (
        listed(2, 1, [[step([0, 1], [0, 1], [1, 0])]], keys=frozenset((0,))),
        "frame 0 is final, but moved again",
    ),
    "given and not at its level": (
        listed(2, 1, [[step([0, 1], 1, [1, 0], [0, 1])]], keys=frozenset((0,))),
        "frame 0 is read at level 1, but it is at level 0",
    ),
    "given and never brought up": (
        listed(2, 1, [[step([0], 1, 0)]], keys=frozenset((1,))),
        "frame 1 of 2 is in no step",
    ),
    "repeat": (listed(2, 1, [[step([0, 1, 0], 1, 0)]]), "appears twice"),
    "outside": (listed(2, 1, [[step([0, 1, 2], 1, 0)]]), "frames 0 to 2 reach outside the sequence, 0 to 1"),
    "negative frame": (listed(2, 1, [[step([-1, 0], 1, 0)]]), "frames -1 to 0 reach outside"),
    "too wide": (listed(4, 1, [[step(range(4), 1, 0)]], window=3), "has 4 frames; the plan's window allows 1 to 3"),
    "nothing": (listed(1, 1, [[step(range(0), 1, 0)]]), "0 frames"),
    "negative weight": (listed(1, 1, [[step([0], 1, 0, -1.0), step([0], 1, 0, 2.0)]]), "weight -1"),
    "weight not a number": (listed(1, 1, [[step([0], 1, 0, np.nan)]]), "weight nan"),
    "float levels": (
        listed(1, 1, [[replace(step([0], 1, 0), level=np.array([1.0]))]]),
        "level holds float64; it must hold signed integers",
    ),
    "ragged": (listed(2, 1, [[replace(step([0, 1], 1, 0), to=np.array([0]))]]), r"to has shape \(1,\)"),
    "too many held": (written_out(TWO, live_bound=3), "holds 4 frames, but the plan promises at most 3"),
    "wrong count": (written_out(TWO, extra_calls=1), "has 2 steps, but promises 3"),
    "missing tile": (
        listed(1, 1, [[step([0], 1, 0, 1.0, t) for t in TILES[:-1]]], picture=(4, 6)),
        "shares of frame 0 .* 0.5",
    ),
    "tiles that do not blend": (
        listed(1, 1, [[step([0], 1, 0, 1.0, t) for t in (TILES[0], replace(TILES[1], x=1))]], picture=(4, 6)),
        "at some latent pixel",
    ),
    "tile outside": (
        listed(1, 1, [[step([0], 1, 0, 1.0, t) for t in TILES]], picture=(4, 5)),
        "columns 2 to 6 of the tile reach outside the latent picture of 4x5",
    ),
    "tile without a picture": (listed(1, 1, [[step([0], 1, 0, 1.0, t) for t in TILES]]), "tile is given"),
    "picture without a tile": (listed(1, 1, [[step([0], 1, 0)]], picture=(4, 6)), "tile is missing"),
}


@pytest.mark.parametrize("name", BAD)
def test_planted_errors_are_named(name):
    plan, message = BAD[name]
    with pytest.raises(PlanError, match=message):
        validate(plan)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 30),
    st.integers(2, 8),
    st.integers(2, 4),
    st.booleans(),
    st.randoms(use_true_random=False),
    st.sampled_from(["drop", "repeat", "scale", "read", "write", "shift"]),
)
def test_no_change_of_a_single_step_goes_unseen(frames, window, levels, tiled, random, change):
    tiles = split(3, 5, tile=3, overlap=1) if tiled else None
    plan = WindowsPlan(frames, window, window // 2, levels, tiles)
    schedule = [list(steps) for steps in plan.ticks()]
    tick = random.randrange(len(schedule))
    index = random.randrange(len(schedule[tick]))
    old = schedule[tick][index]
    match change:
        case "drop":
            del schedule[tick][index]
        case "repeat":
            schedule[tick].insert(index, old)
        case "scale":
            schedule[tick][index] = replace(old, weight=old.weight * 0.9)
        case "read":
            schedule[tick][index] = replace(old, level=old.level - 1, to=old.to - 1)
        case "write":
            schedule[tick][index] = replace(old, to=old.level)
        case "shift":
            schedule[tick][index] = replace(old, frames=old.frames + 1)
    with pytest.raises(PlanError):
        validate(listed(frames, levels, schedule, window=window, picture=plan.picture))


def test_memory_does_not_grow_with_the_video():
    def peak_bytes(frames):
        plan = WindowsPlan(frames, window=16, overlap=0, levels=1)
        tracemalloc.start()
        validate(plan)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    # Python's own free lists fill slowly; a single entry kept for each frame would cost 300 kilobytes.
    assert peak_bytes(6_000) < peak_bytes(1_000) + 100_000
