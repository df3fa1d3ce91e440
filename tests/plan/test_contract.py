"""What every plan must do: cover all, keep its promises, and run to the same bits however it is run."""

import json
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import PlanError
from vrestore.executor import Executor, State
from vrestore.noise import noise
from vrestore.plan import (
    BandsPlan,
    CutsPlan,
    DiagonalPlan,
    GridsPlan,
    HierarchyPlan,
    WindowsPlan,
    is_call,
    outline,
    split,
    validate,
)
from vrestore.plan.families import autoregressive, diffusion_forcing, fifo, nuwa_xl, pa_vdm, rolling_forcing
from vrestore.sampling import bridge_euler, bridge_ladder

FAMILIES = ("windows", "diagonal", "held", "parts", "hierarchy", "streaming", "cuts", "grids", "bands")
PICTURE = (3, 4)


def cut(tile):
    return tile and split(*PICTURE, tile, 1)


@st.composite
def plans(draw, families=FAMILIES):
    """A thunk: plans are built outside the strategy, as the shape checker draws random numbers."""
    family = draw(st.sampled_from(families))
    window = draw(st.integers(3, 7))
    frames = draw(st.one_of(st.integers(1, 40), st.sampled_from([1, window - 1, 2 * window + 1, 5 * window + 1])))
    levels = draw(st.integers(1, 4))
    overlap = draw(st.integers(1, window - 1))
    tiles = draw(st.sampled_from([None, None, 2]))
    prefix = draw(st.integers(0, frames - 1)) if draw(st.booleans()) else 0
    line = {"chunk": draw(st.integers(1, 5)), "pace": draw(st.integers(0, levels)), "prefix": prefix}
    history, held = draw(st.integers(0, 9)), draw(st.integers(0, levels - 1))
    known = frozenset(draw(st.sets(st.integers(0, frames - 1), max_size=3))) if draw(st.booleans()) else frozenset()
    ratio = draw(st.one_of(st.none(), st.integers(2, window - 1)))
    return {
        "windows": lambda: WindowsPlan(frames, window, overlap, levels, tiles=cut(tiles)),
        "diagonal": lambda: DiagonalPlan(frames, levels, history=history, **line, tiles=cut(tiles)),
        "held": lambda: DiagonalPlan(frames, levels, history=history, held=held, **line, tiles=cut(tiles)),
        "parts": lambda: DiagonalPlan(frames, levels, part=window, **line, tiles=cut(tiles)),
        "hierarchy": lambda: HierarchyPlan(frames, window, levels, overlap, ratio, "parallel", known, tiles=cut(tiles)),
        "streaming": lambda: HierarchyPlan(
            frames, window, levels, overlap, ratio, "streaming", known, tiles=cut(tiles)
        ),
        "cuts": lambda: CutsPlan(frames, window, overlap, levels, seed=frames, tiles=cut(tiles)),
        "grids": lambda: GridsPlan(frames, window, levels, seed=frames, tiles=cut(tiles)),
        "bands": lambda: BandsPlan(frames, window, overlap, levels, tiles=cut(tiles)),
    }[family]


def simulate(plan):
    """Run the plan in plain words, with every read and write; returns the most frames that are held at once."""
    ticks = list(plan.ticks())
    last_read = {n: tick for tick, steps in enumerate(ticks) for step in steps for n in step.frames.tolist()}
    level, shares, first_read = {}, {}, {}
    passed = {n: [] for n in range(plan.frames)}
    for tick, steps in enumerate(ticks):
        for step in steps:
            area = 1 if step.tile is None else step.tile.area / (PICTURE[0] * PICTURE[1])
            columns = [values.tolist() for values in (step.frames, step.level, step.to, step.weight)]
            for n, before, to, weight in zip(*columns, strict=True):
                first_read.setdefault(n, tick)
                assert level.setdefault(n, 0 if plan.given(n) else plan.levels) == before
                assert (to == before) == (weight == 0)
                if weight:
                    shares[n, before, to] = shares.get((n, before, to), 0) + weight * area
        for n, before, to in [move for move, share in shares.items() if abs(share - 1) < 1e-9]:
            del shares[n, before, to]
            level[n] = to
            passed[n].append((before, to))
    assert not shares
    for n, moves in passed.items():
        assert moves == ([] if plan.given(n) else [(i, i - 1) for i in range(plan.levels, 0, -1)])
    return max(sum(first_read[n] <= tick <= last_read[n] for n in level) for tick in range(len(ticks)))


@settings(max_examples=60, deadline=None)
@given(plans())
def test_promises_are_kept(make):
    plan = make()
    validate(plan)
    assert simulate(plan) <= plan.live_bound <= plan.frames
    ticks = list(plan.ticks())
    calls = [[step for step in steps if is_call(step, plan)] for steps in ticks]
    cost = outline(plan)
    assert (cost.calls, cost.critical_path) == (sum(map(len, calls)), sum(map(bool, calls)))
    assert max(len(step.frames) for steps in ticks for step in steps) <= plan.window
    assert all(step.weight.any() for steps in calls for step in steps), "a call that moves nothing"


def toy_prior(steps, latents):
    """Not linear; every frame sees the window, its place in it, and its own level."""
    out = []
    for step, z in zip(steps, latents, strict=True):
        place = torch.arange(len(z)).view(-1, 1, 1, 1)
        level = torch.from_numpy(step.level).view(-1, 1, 1, 1)
        out.append(torch.tanh(0.9 * z + 0.1 * z.mean((0, 2, 3), keepdim=True) + 0.05 * torch.sin(place) * level))
    return out


def first_latent(frame):
    return noise(0, frame, 100, (2, *PICTURE))


def executor(plan, batch=1):
    ladder = bridge_ladder(plan.levels, spread=0.5)

    def solver(frame, z, x0, level, to):
        return bridge_euler(ladder, z, x0, level, to, noise(1, frame, to, tuple(z.shape)), strength=1.0)

    return Executor(plan, toy_prior, first_latent, solver, batch=batch)


@settings(max_examples=25, deadline=None)
@given(plans(FAMILIES[1:]), st.integers(1, 5), st.data())
def test_batches_and_a_resumed_run_change_no_bit(make, batch, data):
    plan = make()
    whole = executor(plan)
    expected = dict(whole.run())
    assert list(expected) == list(range(plan.frames))
    assert whole.store.peak <= plan.live_bound
    assert whole.store.live == 0
    assert all(torch.equal(expected[n], first_latent(n)) == plan.given(n) for n in range(plan.frames))
    stop = data.draw(st.integers(0, sum(1 for _ in plan.ticks())))
    first = executor(plan, batch)
    done = [pair for finished in islice(first.ticks(), stop) for pair in finished]
    state = first.state()
    second = executor(plan, batch)
    second.restore(State(state.tensors, json.loads(json.dumps(state.meta))))
    done += second.run()
    assert [n for n, _ in done] == list(range(plan.frames))
    assert all(torch.equal(latent, expected[n]) for n, latent in done)


@settings(max_examples=10, deadline=None)
@given(plans(("hierarchy",)))
def test_a_streaming_hierarchy_is_the_parallel_one(make):
    plan = make()
    parallel, streaming = (dict(executor(replace(plan, order=order)).run()) for order in ("parallel", "streaming"))
    assert all(torch.equal(parallel[n], streaming[n]) for n in range(plan.frames))


# ---- what each family is


def test_the_formula_of_the_diagonal():
    """Levels before every tick, against the formula written out."""
    plan = DiagonalPlan(11, 6, chunk=2, pace=3, history=3)
    for g, (step,) in enumerate(plan.ticks()):
        whole = [np.clip(6 + 3 * (np.arange(11) // 2) - i, 0, 6) for i in (g, g + 1)]
        active = np.flatnonzero(whole[0] != whole[1])
        assert step.frames.tolist() == list(range(max(0, active[0] - 3), active[-1] + 1))
        assert step.level.tolist() == whole[0][step.frames].tolist()
        assert step.to.tolist() == whole[1][step.frames].tolist()


def test_a_held_history_is_noised_until_nothing_sees_it():
    plan = autoregressive(12, 4, chunk=3, history=3, held=1)
    seen = [(step.frames.tolist(), step.level.tolist()) for (step,) in plan.ticks()]
    assert seen[3] == ([0, 1, 2, 3, 4, 5], [1] * 3 + [4] * 3)
    history = [level for frames, levels in seen for n, level in zip(frames, levels, strict=True) if max(frames) - n > 2]
    assert set(history) == {1}
    assert plan.live_bound == 6


def test_parts_look_ahead():
    """Of every call the noisier half moves; the other half is cleaner, and stays (Kim et al., figure 4)."""
    plan = fifo(30, window=8, parts=2)
    steps = list(plan.ticks())[20]
    assert [step.frames.tolist() for step in steps] == [list(range(e - 8, e)) for e in (21, 17, 13, 9)]
    for step in steps:
        moves = step.to < step.level
        assert not moves[:4].any()
        assert (np.diff(step.level) == np.where(step.level[:-1] > 0, 1, np.diff(step.level))).all()
    assert plan.live_bound == 16 + 7


def test_every_depth_of_nuwa_xl_is_parallel():
    plan = nuwa_xl(65, window=5, levels=3)
    assert plan.strides == (16, 4, 1)
    ticks = list(plan.ticks())
    assert len(ticks) == plan.critical_path == 9
    assert [len(steps) for steps in ticks] == [1] * 3 + [4] * 3 + [16] * 3
    ends = ticks[6][3]
    assert (ends.frames.tolist(), ends.level.tolist()) == ([12, 13, 14, 15, 16], [0, 3, 3, 3, 0])


@pytest.mark.parametrize(("frames", "strides"), [(1, (1,)), (16, (1,)), (17, (2, 1)), (96, (9, 3, 1)), (1440, None)])
def test_strides_are_even(frames, strides):
    plan = HierarchyPlan(frames, 16, 2)
    assert plan.strides == (strides or plan.strides)
    assert plan.lanes[0].frames <= 16
    assert all(2 <= a // b <= 6 and a % b == 0 for a, b in zip(plan.strides, plan.strides[1:], strict=False))


def test_what_is_held_grows_with_the_logarithm_of_the_length_or_not_at_all():
    for frames in (2_000, 200_000):
        assert autoregressive(frames, 20, 8, 8).live_bound == 16
        assert pa_vdm(frames).live_bound == 35
        assert rolling_forcing(frames).live_bound == 21
        assert fifo(frames).live_bound == 79
        assert diffusion_forcing(frames, 10, 1, 6).live_bound < 30
    held = [HierarchyPlan(10**k, 16, 20, order="streaming").live_bound for k in (3, 4, 5, 6, 7)]
    assert all(0 < more - less < 1000 for less, more in pairwise(held))  # so much for ten times the length


def test_cuts_fall_elsewhere_at_every_level():
    plan = CutsPlan(40, 16, 8, 12, seed=1)
    cuts = [[int(step.frames[step.weight > 0][0]) for step in steps][1:] for steps in plan.ticks()]
    assert all(8 <= first <= 16 for first, *_ in cuts)
    assert len({first for first, *_ in cuts}) > 4
    assert cuts == [[int(s.frames[s.weight > 0][0]) for s in steps][1:] for steps in CutsPlan(40, 16, 8, 12, 1).ticks()]


def test_grids_take_frames_from_everywhere():
    plan = GridsPlan(40, 9, 6, attend="grid")
    groups = [[tuple(step.frames) for step in steps] for steps in plan.ticks()]
    assert all(sorted(n for group in level for n in group) == list(range(40)) for level in groups)
    assert len(set(groups[0]) | set(groups[1])) == 10
    assert {step.attend for steps in plan.ticks() for step in steps} == {"grid"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiagonalPlan(0, 2), "0 frames"),
        (lambda: DiagonalPlan(4, 0), "0 levels"),
        (lambda: DiagonalPlan(4, 2, chunk=0), "chunk 0; use 1 or more"),
        (lambda: DiagonalPlan(4, 2, pace=3), "pace 3; use 0 to 2"),
        (lambda: DiagonalPlan(4, 2, held=2), "held 2; use 0 to 1"),
        (lambda: DiagonalPlan(4, 2, prefix=4), "prefix 4; use 0 to 3"),
        (lambda: DiagonalPlan(4, 2, part=0), "part 0; use 1 or more"),
        (lambda: DiagonalPlan(4, 2, part=4, history=1), "no other history"),
        (lambda: DiagonalPlan(4, 2, tiles=()), "empty"),
        (lambda: HierarchyPlan(4, 2, 2), "window of 2"),
        (lambda: HierarchyPlan(9, 4, 2, overlap=0), "overlap by 0; use 1 to 3"),
        (lambda: HierarchyPlan(9, 4, 2, ratio=4), "ratio of 4"),
        (lambda: HierarchyPlan(9, 4, 2, known=frozenset([9])), "0 to 8"),
        (lambda: GridsPlan(9, 0, 2), "grid of 0"),
        (lambda: CutsPlan(9, 4, 4, 2), "overlap of 4"),
        (lambda: BandsPlan(9, 4, 4, 2), "overlap of 4"),
    ],
)
def test_impossible_plans_are_refused(make, message):
    with pytest.raises(PlanError, match=message):
        make()
