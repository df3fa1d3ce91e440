"""The invariants of window plans, checked by a plain simulation that shares no code with the library's own checks."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import PlanError
from vrestore.plan import WindowsPlan, split, validate

few = settings(max_examples=50, deadline=None)


@st.composite
def settings_of_plans(draw, **fixed):
    """Arguments for :func:`build`; plans are built outside the strategy, as the shape checker draws random numbers."""
    window = draw(st.integers(1, 10))
    tile = draw(st.integers(2, 7))
    drawn = {
        "frames": draw(st.one_of(st.integers(1, 60), st.just(window), st.just(3 * window + 1))),
        "window": window,
        "overlap": draw(st.integers(0, window - 1)),
        "levels": draw(st.integers(1, 6)),
        "tiling": draw(
            st.one_of(st.none(), st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(tile), st.just(tile // 2)))
        ),
        "order": draw(st.sampled_from(["wavefront", "sweep"])),
        "inverse": draw(st.booleans()),
    }
    return drawn | fixed


def build(arguments):
    rest = {name: value for name, value in arguments.items() if name != "tiling"}
    return WindowsPlan(**rest, tiles=None if arguments["tiling"] is None else split(*arguments["tiling"]))


def simulate(plan):
    """Run the plan on exact per-pixel sums; returns (most frames held, frames in the order in which they finish)."""
    picture = plan.picture or (1, 1)
    level = np.full(plan.frames, plan.start_level)
    started = np.zeros(plan.frames, bool)
    done = np.zeros(plan.frames, bool)
    sums: dict[int, np.ndarray] = {}
    finished, held = [], 0
    direction = 1 if plan.inverse else -1
    for steps in plan.ticks():
        assert steps
        for step in steps:
            assert (level[step.frames] == step.level).all(), "read at a level that is not complete"
            assert not done[step.frames].any()
            assert (step.to == step.level + direction).all()
            assert (step.weight > 0).all()
            started[step.frames] = True
            for n, weight in zip(step.frames, step.weight, strict=True):
                total = sums.setdefault(int(n), np.zeros(picture))
                if step.tile is None:
                    total += weight
                else:
                    y, x = step.tile.y, step.tile.x
                    ramp = np.outer(step.tile.weight_y, step.tile.weight_x)
                    total[y : y + ramp.shape[0], x : x + ramp.shape[1]] += weight * ramp
        held = max(held, int((started & ~done).sum()))
        for n in [n for n, total in sums.items() if np.allclose(total, 1, rtol=0, atol=1e-12)]:
            del sums[n]
            level[n] += direction
            if level[n] == plan.end_level:
                done[n] = True
                finished.append(n)
    assert not sums, "shares that do not add up to one"
    assert done.all(), "a frame was left behind"
    return held, finished


@few
@given(settings_of_plans())
def test_every_frame_passes_every_level_once_with_shares_of_one(arguments):
    plan = build(arguments)
    held, finished = simulate(plan)
    assert sorted(finished) == list(range(plan.frames))
    assert held <= plan.live_bound <= plan.frames
    if plan.order == "wavefront":
        assert finished == sorted(finished)


@few
@given(settings_of_plans())
def test_validate_agrees_and_the_facts_are_true(arguments):
    plan = build(arguments)
    validate(plan)
    ticks = list(plan.ticks())
    assert len(ticks) == plan.critical_path
    assert sum(map(len, ticks)) == plan.calls
    assert max(len(step.frames) for steps in ticks for step in steps) <= plan.window


@few
@given(settings_of_plans(order="wavefront"))
def test_the_wavefront_makes_the_calls_of_the_sweep(arguments):
    plan = build(arguments)

    def calls(p):
        keys = ((tuple(s.frames), tuple(s.level), tuple(s.to), tuple(s.weight), s.tile) for t in p.ticks() for s in t)
        return Counter(keys)

    assert calls(plan) == calls(build(arguments | {"order": "sweep"}))


@few
@given(settings_of_plans(order="wavefront", tiling=None))
def test_a_window_takes_a_step_when_its_turn_comes(arguments):
    plan = build(arguments)
    last = plan.cover.count - 1
    for tick, steps in enumerate(plan.ticks()):
        for step in steps:
            k = plan.starts.index(step.frames[0])
            position = k - 1 if k == last and plan.cover.shift else k
            ladder_step = abs(plan.start_level - int(step.level[0]))
            assert tick == position + (plan.reach + 1) * ladder_step


@pytest.mark.parametrize(
    ("frames", "window", "overlap", "levels", "inside", "between"),
    # `between` ticks as measured for the design: 312 latents for 20 steps, 56 for 4.
    [(2000, 16, 8, 20, 320, 312), (3000, 16, 8, 20, 320, 312), (2000, 16, 8, 4, 64, 56), (2001, 16, 8, 4, 65, 57)],
)
def test_live_latents_are_few_and_the_bound_is_tight(frames, window, overlap, levels, inside, between):
    plan = WindowsPlan(frames, window, overlap, levels)
    done_to, started_to, most_inside, most_between = 0, 0, 0, 0
    for steps in plan.ticks():
        started_to = max(started_to, max(int(s.frames[-1]) + 1 for s in steps))
        most_inside = max(most_inside, started_to - done_to)
        for step in steps:
            if step.to[0] == 0:  # the next window to finish starts where this one's share of the frames ends
                k = -(-int(step.frames[0]) // (window - overlap))
                done_to = plan.starts[k + 1] if k + 1 < len(plan.starts) else frames
        most_between = max(most_between, started_to - done_to)
    assert (most_inside, most_between) == (inside, between)
    assert plan.live_bound == inside


@given(st.integers(1, 40), st.data())
@few
def test_the_live_bound_does_not_grow_with_the_video(window, data):
    overlap = data.draw(st.integers(0, window - 1))
    levels = data.draw(st.integers(1, 30))
    stride = window - overlap
    frames = 10_000 * stride + data.draw(st.integers(0, 50))
    bound = WindowsPlan(frames, window, overlap, levels).live_bound
    assert WindowsPlan(frames + 1_000_000 * stride, window, overlap, levels).live_bound == bound
    assert bound < (-(-window // stride)) * (levels - 1) * stride + window + stride


def test_one_level_streams_one_window_at_a_time():
    ticks = list(WindowsPlan(frames=41, window=16, overlap=8, levels=1).ticks())
    assert [[int(step.frames[0]) for step in steps] for steps in ticks] == [[0], [8], [16], [24, 25]]


def test_a_long_plan_starts_at_once():
    plan = WindowsPlan(frames=10**12, window=16, overlap=8, levels=20)
    first = list(islice(plan.ticks(), 3))
    assert [int(steps[0].frames[0]) for steps in first] == [0, 8, 16]
    assert plan.live_bound == 320


@pytest.mark.parametrize(
    ("frames", "starts", "lengths"),
    [(1, (0,), 1), (5, (0,), 5), (16, (0,), 16), (17, (0, 1), 16), (24, (0, 8), 16), (25, (0, 8, 9), 16)],
)
def test_short_sequences_and_the_shifted_last_window(frames, starts, lengths):
    plan = WindowsPlan(frames, window=16, overlap=8, levels=3)
    assert plan.starts == starts
    assert {len(step.frames) for steps in plan.ticks() for step in steps} == {lengths}
    simulate(plan)


def test_weights_are_triangular_and_exact():
    first, second = (steps[0].weight for steps in WindowsPlan(6, window=4, overlap=2, levels=1).ticks())
    # Triangles 1 2 2 1 at 0 and at 2: frame 2 has heights 2 and 1, frame 3 has 1 and 2.
    np.testing.assert_allclose(first, [1, 1, 2 / 3, 1 / 3], rtol=1e-15)
    np.testing.assert_allclose(second, [1 / 3, 2 / 3, 1, 1], rtol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, "extent is 0"),
        ({"window": 0, "overlap": 0}, "size 0"),
        ({"overlap": 8}, "overlap of 8"),
        ({"overlap": -1}, "overlap of -1"),
        ({"levels": 0}, "0 levels"),
        ({"tiles": ()}, "empty"),
    ],
)
def test_impossible_plans_are_refused(arguments, message):
    with pytest.raises(PlanError, match=message):
        WindowsPlan(**({"frames": 20, "window": 8, "overlap": 4, "levels": 2} | arguments))
