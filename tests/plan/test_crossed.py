"""Windows whose frames attend to an anchor and to where the window before ended: what is read, at which level."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import PlanError
from vrestore.plan import (
    ConsistentPlan,
    CrossedPlan,
    DirectedPlan,
    SpectralTime,
    WindowedTime,
    WindowsPlan,
    split,
    validate,
)

few = settings(max_examples=60, deadline=None)


@st.composite
def settings_of_plans(draw, **fixed):
    window = draw(st.integers(1, 9))
    frames = draw(st.one_of(st.integers(1, 50), st.just(window), st.just(3 * window + 1)))
    overlap = draw(st.sampled_from([0, *range(window)]))
    drawn = {
        "frames": frames,
        "window": window,
        "overlap": overlap,
        "levels": draw(st.integers(1, 6)),
        "tiled": draw(st.booleans()),
        "order": draw(st.sampled_from(["wavefront", "sweep"] if overlap else ["wavefront", "sweep", "apart"])),
        "inverse": draw(st.booleans()),
        "anchor": draw(st.one_of(st.none(), st.integers(0, min(window, frames) - 1))),
        "previous": draw(st.booleans()),
    }
    return drawn | fixed


def build(arguments):
    names = ("frames", "window", "overlap", "levels", "order", "inverse")
    tiles = split(6, 7, 4, 1) if arguments["tiled"] else None
    windows = WindowsPlan(**{name: arguments[name] for name in names}, tiles=tiles)
    return CrossedPlan(windows, anchor=arguments["anchor"], previous=arguments["previous"])


@few
@given(settings_of_plans())
def test_every_geometry_is_valid(arguments):
    plan = build(arguments)
    validate(plan)
    assert plan.calls == plan.windows.calls
    assert (plan.start_level, plan.end_level) == (plan.windows.start_level, plan.windows.end_level)


@few
@given(settings_of_plans())
def test_a_window_has_its_frames_and_those_it_looks_at(arguments):
    plan = build(arguments)
    ends = [start + plan.windows.cover.length - 1 for start in plan.windows.starts]
    for steps, plain in zip(plan.ticks(), plan.windows.ticks(), strict=True):
        for step, without in zip(steps, plain, strict=True):
            frames, length = step.frames.tolist(), len(without.frames)
            assert frames[:length] == without.frames.tolist()
            assert (step.weight[:length] == without.weight).all()
            assert not step.weight[length:].any()
            assert len(set(step.level.tolist())) == 1
            attend = step.attend
            assert [frames[i] for i in attend.context] == frames[length:]
            number = plan.windows.starts.index(frames[0])
            wanted = {frames[length - 1]}
            if plan.anchor is not None:
                wanted.add(plan.anchor)
            if plan.previous and number:
                wanted.add(ends[number - 1])
            named = [frames[i] for i in (*attend.alone, *attend.together)]
            assert len(named) == len(set(named))
            assert set(named) == wanted
            assert {frames[i] for i in attend.alone} == {plan.anchor, *frames[length:]} - {None}
            assert len(frames) <= plan.window


@settings(max_examples=20, deadline=None)
@given(settings_of_plans())
def test_consistent_windows_name_their_frames_and_level(arguments):
    windows = build(arguments | {"anchor": None, "previous": False}).windows
    plan = ConsistentPlan(windows, share=0.25, seed=3)
    validate(plan)
    for steps in plan.ticks():
        for step in steps:
            assert step.attend.frames == tuple(step.frames.tolist())
            assert {step.attend.level} == set(step.level.tolist())
            assert (step.attend.share, step.attend.seed) == (0.25, 3)


@pytest.mark.parametrize("turn", [0, 2, 4])
def test_directives_turn_at_a_level(turn):
    """FreeLong: two bands at the noisier levels, windows at the others."""
    windows = WindowsPlan(70, 32, 8, 4)
    plan = DirectedPlan(windows, SpectralTime(), WindowedTime(), turn)
    validate(plan)
    assert (plan.calls, plan.live_bound, plan.window) == (windows.calls, windows.live_bound, 32)
    for steps in plan.ticks():
        for step in steps:
            assert step.attend == (SpectralTime() if step.level[0] > turn else WindowedTime())


def test_no_more_is_held_than_the_levels_of_the_anchor():
    for frames in (100, 1000):
        windows = WindowsPlan(frames, 16, 4, 10)
        assert CrossedPlan(windows).live_bound == windows.live_bound + 10
        assert CrossedPlan(windows, anchor=None).live_bound == windows.live_bound
    touching = WindowsPlan(100, 8, 0, 10)
    assert CrossedPlan(touching).live_bound == touching.live_bound + 20
    assert CrossedPlan(touching, previous=False).live_bound == touching.live_bound + 10
    assert CrossedPlan(WindowsPlan(100, 8, 0, 10, order="sweep")).live_bound == 100


def test_windows_walked_one_by_one_read_what_the_wavefront_reads_and_hold_little():
    """The same calls, in another order: every frame of context at the level of the call, whoever is ahead."""
    for frames in (40, 37, 8, 3):
        ways = [
            CrossedPlan(WindowsPlan(frames, 8, 0, 5, order=order, inverse=inverse))
            for order in ("wavefront", "apart")
            for inverse in (False, True)
        ]
        for wave, apart in (ways[::2], ways[1::2]):
            validate(apart)
            calls = [
                sorted(
                    (step.level[0].item(), tuple(step.frames.tolist()), tuple(step.weight.tolist()), step.attend)
                    for steps in plan.ticks()
                    for step in steps
                )
                for plan in (wave, apart)
            ]
            assert calls[0] == calls[1]
    for frames in (100, 1000):
        assert CrossedPlan(WindowsPlan(frames, 16, 0, 20, order="apart")).live_bound <= 32 + 2 * 20


def test_what_cannot_be_is_refused():
    windows = WindowsPlan(20, 8, 4, 2)
    with pytest.raises(PlanError, match="anchor 8 is not in the first window; use 0 to 7"):
        CrossedPlan(windows, anchor=8)
    with pytest.raises(PlanError, match="share 4 frames cannot be walked apart"):
        WindowsPlan(20, 8, 4, 2, order="apart")
    with pytest.raises(PlanError, match="nothing but themselves"):
        CrossedPlan(windows, anchor=None, previous=False, last=False)
    with pytest.raises(PlanError, match="downsampled 0 times"):
        CrossedPlan(windows, downsampling=0)
    with pytest.raises(PlanError, match="share of 2"):
        ConsistentPlan(windows, share=2.0)
    with pytest.raises(PlanError, match="change at level 3; use 0 to 2"):
        DirectedPlan(windows, WindowedTime(), turn=3)
