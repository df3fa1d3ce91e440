"""Keyframe plans: what is between two keys is predicted with both as clean context, in memory that stays constant."""

import json
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import PlanError
from vrestore.executor import Executor, State
from vrestore.noise import noise
from vrestore.plan import KeyframesPlan, is_call, split, validate
from vrestore.sampling import bridge_euler, bridge_ladder

few = settings(max_examples=50, deadline=None)


@st.composite
def arguments(draw):
    """Gaps between keys, steps, and the tiles of a picture of 5x7."""
    gaps = draw(st.lists(st.integers(1, 5), max_size=20))
    return {"gaps": gaps, "levels": draw(st.integers(1, 4)), "tile": draw(st.sampled_from([None, 3, 4]))}


def build(gaps, levels, tile=None):
    keys = np.cumsum([0, *gaps])
    return KeyframesPlan(int(keys[-1]) + 1, keys, levels, tile and split(5, 7, tile, tile // 2))


def simulate(plan):
    """Run the plan in plain words; returns the most frames held."""
    level = {}
    handed_out, most, read_last = 0, 0, {}
    ticks = list(plan.ticks())
    for tick, steps in enumerate(ticks):
        for step in steps:
            read_last |= dict.fromkeys(step.frames.tolist(), tick)
    keys = set(plan.keys.tolist())
    first_final = {}
    for tick, steps in enumerate(ticks):
        after = {}
        for step in steps:
            for n, before, to, weight in zip(step.frames, step.level, step.to, step.weight, strict=True):
                level.setdefault(int(n), 0 if n in keys else plan.levels)
                assert level[int(n)] == before
                assert (to, weight) == ((before, 0) if n in keys else (before - 1, 1))
                after[int(n)] = int(to)
        level |= after
        first_final |= {n: tick for n, at in level.items() if at == 0 and n not in first_final}
        most = max(most, sum(first_final.get(n, tick) + plan.keep >= tick for n in level))
        while handed_out in first_final:
            handed_out += 1
        assert all(first_final[n] + plan.keep >= read_last[n] for n in first_final)
    assert handed_out == plan.frames
    assert set(level.values()) == {0}
    return most


@few
@given(arguments())
def test_every_frame_between_keys_passes_every_level_beside_them(drawn):
    plan = build(**drawn)
    validate(plan)
    assert simulate(plan) <= plan.live_bound <= plan.frames
    calls = [step for steps in plan.ticks() for step in steps if is_call(step, plan)]
    assert len(calls) == plan.calls
    for step in calls:
        left, frame, right = step.frames.tolist()
        assert left < frame < right
        assert plan.given(left)
        assert plan.given(right)
        assert not any(plan.given(n) for n in range(left + 1, right))


def toy_prior(steps, latents):
    """Not linear; a frame sees its keys."""
    return [torch.tanh(z + 0.3 * z.mean(0, keepdim=True)) for z in latents]


def first_latent(frame):
    return noise(0, frame, 100, (2, 5, 7))


def executor(plan, **options):
    ladder = bridge_ladder(plan.levels, spread=0.5)

    def solver(frame, z, x0, level, to):
        return bridge_euler(ladder, z, x0, level, to, noise(1, frame, to, tuple(z.shape)), strength=1.0)

    return Executor(plan, **({"predict": toy_prior, "start": first_latent, "solver": solver} | options))


@settings(max_examples=30, deadline=None)
@given(arguments(), st.integers(1, 5), st.data())
def test_the_executor_leaves_keys_and_resumes_to_the_same_bits(drawn, batch, data):
    plan = build(**drawn)
    whole = executor(plan)
    expected = dict(whole.run())
    assert list(expected) == list(range(plan.frames))
    assert whole.store.peak <= plan.live_bound
    assert all(torch.equal(expected[n], first_latent(n)) for n in plan.keys.tolist())
    stop = data.draw(st.integers(0, sum(1 for _ in plan.ticks())))
    first = executor(plan, batch=batch)
    done = [pair for finished in islice(first.ticks(), stop) for pair in finished]
    state = first.state()
    second = executor(plan)
    second.restore(State(state.tensors, json.loads(json.dumps(state.meta))))
    done += second.run()
    assert [n for n, _ in done] == list(range(plan.frames))
    assert all(torch.equal(latent, expected[n]) for n, latent in done)


def test_keys_alone_ask_the_prior_for_nothing():
    def refuse(steps, latents):
        raise AssertionError

    plan = build([1] * 30, 4)
    run = executor(plan, predict=refuse)
    assert [n for n, _ in run.run()] == list(range(31))
    assert run.store.peak <= plan.live_bound < 12


def test_output_streams_and_memory_is_constant():
    for gaps in (20, 2000):
        run = executor(build([2] * gaps, 1), start=lambda n: torch.full((1, 1, 1), n / 4000))
        finished = next(run.ticks())
        assert [n for n, _ in finished] == [0, 1, 2]
        list(run.ticks())
        assert run.store.peak == 5


@pytest.mark.parametrize("keys", [[], [0, 2], [1, 3], [0, 2, 2, 3], [0, 3, 2]])
def test_impossible_keys_are_refused(keys):
    with pytest.raises(PlanError, match="Keys must ascend from 0 to 3"):
        KeyframesPlan(4, np.array(keys, int), 1)


@pytest.mark.parametrize(("arguments", "message"), [((4, [0, 3], 0), "0 levels"), ((4, [0, 3], 1, ()), "empty")])
def test_impossible_plans_are_refused(arguments, message):
    frames, keys, *rest = arguments
    with pytest.raises(PlanError, match=message):
        KeyframesPlan(frames, np.array(keys), *rest)
