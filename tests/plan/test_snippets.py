"""Plans of snippets: every frame in several, each complete in itself; and refinement, whose dilation falls."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import PlanError
from vrestore.executor import Executor
from vrestore.plan import RefinementPlan, SnippetsPlan, split, validate
from vrestore.plan.snippets import capped
from vrestore.sampling import bridge_euler, bridge_ladder

few = settings(max_examples=25, deadline=None)
dilations = st.sampled_from([(1,), (1, 25), (1, 10, 25), (4,), (2, 3)])


@few
@given(st.integers(1, 60), dilations, st.integers(1, 4), st.integers(1, 2), st.integers(1, 5), st.booleans())
def test_every_slot_is_walked_once_and_every_frame_is_shown(pictures, dilations, length, levels, together, tiled):
    tiles = split(5, 7, 4, 2) if tiled else None
    plan = SnippetsPlan(pictures, dilations, length, levels, tiles, together)
    validate(plan)
    steps = [step for tick in plan.ticks() for step in tick]
    assert len(steps) == plan.calls == len(plan.snippets) * levels * (len(tiles) if tiles else 1)
    assert {plan.source(slot) for slot in range(plan.frames)} == set(range(pictures))
    for step in steps:
        shown = [plan.source(int(slot)) for slot in step.frames]
        assert len(shown) == min(length, pictures)
        assert len(set(np.diff(shown))) <= 1  # one dilation
    last = plan.snippets[:, -1]
    assert (np.diff(last) >= 0).all()
    assert plan.reach == (plan.snippets[:, -1] - plan.snippets[:, 0]).max()


@pytest.mark.parametrize(
    ("pictures", "dilations", "calls"), [(100, (1, 25), 148), (100, (1, 10, 25), 228), (1, (1, 25), 1), (3, (1, 25), 1)]
)
def test_calls_are_those_of_the_method(pictures, dilations, calls):
    assert SnippetsPlan(pictures, dilations).calls == calls


@few
@given(st.integers(1, 60), dilations, st.integers(1, 4))
def test_a_frame_is_seen_from_both_sides(pictures, dilations, length):
    plan = SnippetsPlan(pictures, dilations, length, mirror=True)
    sides = [set() for _ in range(pictures)]
    for slot in range(plan.frames):
        sides[plan.source(slot)].add(plan.mirrored(slot))
        assert plan.mirrored(slot) == plan.mirrored(slot - slot % plan.window)  # a snippet as a whole
        assert not SnippetsPlan(pictures, dilations, length).mirrored(slot)
    if length == 1 or pictures <= length:
        assert not plan.mirrors
        assert sides == [{False}] * pictures
    else:
        assert all(one == {False, True} for one in sides[1:-1])


def test_dilations_are_capped_in_short_clips():
    assert capped((1, 10, 25), 1, 3) == (1,)
    assert capped((1, 25), 5, 3) == (1,)
    assert capped((1, 25), 12, 3) == (1, 3)
    assert capped((1, 10, 25), 60, 3) == (1, 10, 19)
    assert capped((1, 10, 25), 78, 3) == (1, 10, 25)
    assert capped((25,), 100, 3) == (1, 25)


@pytest.mark.parametrize("wrong", [{"pictures": 0}, {"levels": 0}, {"together": 0}, {"length": 0}, {"dilations": ()},
                                   {"dilations": (0, 1)}, {"tiles": ()}])  # fmt: skip
def test_impossible_plans_are_refused(wrong):
    with pytest.raises(PlanError):
        SnippetsPlan(**({"pictures": 9} | wrong))


def test_memory_does_not_grow_with_the_shot():
    assert SnippetsPlan(3000, together=2).live_bound == SnippetsPlan(60, together=2).live_bound == 6
    assert RefinementPlan(3000, 10).live_bound == RefinementPlan(300, 10).live_bound < 120


@few
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 7), st.integers(1, 4))
def test_refinement_is_valid_and_its_dilation_falls(pictures, levels, dilation, length):
    plan = RefinementPlan(pictures, levels, dilation, length)
    validate(plan)
    assert list(plan.dilations) == sorted(plan.dilations, reverse=True)
    if length > 1 and pictures > 2 * length * dilation and levels >= dilation:
        assert (plan.dilations[0], plan.dilations[-1]) == (dilation, 1)


def test_refinement_has_the_dilations_of_its_authors():
    assert RefinementPlan(100, 10, 6).dilations == (6, 5, 5, 4, 4, 3, 3, 2, 2, 1)


def test_refinement_equals_a_sweep_level_by_level():
    frames, levels = 17, 4
    plan, ladder = RefinementPlan(frames, levels, 3), bridge_ladder(levels)
    start = torch.randn(frames, 2, 3, 3, generator=torch.Generator().manual_seed(0))

    def predict(z):
        return torch.tanh(z + 0.3 * z.mean(0, keepdim=True))

    z = start
    for i, dilation in enumerate(plan.dilations):
        total, count = torch.zeros_like(z), torch.zeros(frames)
        for first in range(frames - 2 * dilation):
            place = torch.arange(3) * dilation + first
            total[place] += predict(z[place])
            count[place] += 1
        fused = total / count[:, None, None, None]
        z = torch.stack([bridge_euler(ladder, a, b, levels - i, levels - i - 1) for a, b in zip(z, fused, strict=True)])

    run = Executor(
        plan,
        lambda steps, latents: [predict(one) for one in latents],
        lambda frame: start[frame],
        lambda frame, a, b, level, to: bridge_euler(ladder, a, b, level, to),
    )
    found = torch.stack([latent for _, latent in run.run()])
    assert torch.allclose(found, z, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"pictures": 0}, {"levels": 0}, {"dilation": 0}, {"length": 0}])
def test_impossible_refinements_are_refused(wrong):
    with pytest.raises(PlanError):
        RefinementPlan(**({"pictures": 9, "levels": 2} | wrong))
