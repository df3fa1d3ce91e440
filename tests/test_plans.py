"""Plans by name: what a prior can run, and what it is refused, before anything is loaded."""

from dataclasses import replace

import pytest

from vrestore.errors import ConfigError
from vrestore.plan import DiagonalPlan, HierarchyPlan, WindowsPlan, outline, validate
from vrestore.plans import latent_frames, plan_for
from vrestore.prior import PriorFacts

FACTS = PriorFacts(
    name="some", licence="none", window=16, per_frame_levels=True, latent_channels=4, spatial_factor=8,
    temporal_factor=1, size_multiple=8, conditionings=frozenset(), call_bytes=1, frame_bytes=1,
)  # fmt: skip
SCALAR = replace(FACTS, name="scalar", per_frame_levels=False)


@pytest.mark.parametrize("window", [None, 3, 7])
@pytest.mark.parametrize("frames", [1, 5, 16, 17, 100])
@pytest.mark.parametrize(
    ("name", "kind"),
    [("keyframes", HierarchyPlan), ("diagonal", DiagonalPlan), ("chunks", DiagonalPlan), ("windows", WindowsPlan)],
)
def test_every_name_gives_a_plan_within_the_window(name, kind, frames, window):
    plan = plan_for(name, frames, FACTS, 10, window=window)
    assert isinstance(plan, kind)
    assert plan.window <= (window or 16)
    assert plan.frames == frames
    validate(plan)


def test_what_is_given_stays():
    first_and_last = plan_for("keyframes", 50, FACTS, 4, known=[0, 49])
    continued = plan_for("chunks", 50, FACTS, 4, known=range(20))
    for plan, count in ((first_and_last, 2), (continued, 20)):
        validate(plan)
        assert sum(plan.given(n) for n in range(50)) == count
    assert outline(continued).live < 50


@pytest.mark.parametrize("name", ["keyframes", "diagonal", "chunks"])
def test_a_prior_of_one_level_is_refused_what_it_cannot_run(name):
    with pytest.raises(
        ConfigError, match=f"the plan {name} needs .* the prior scalar cannot have; use the plan windows"
    ):
        plan_for(name, 17, SCALAR, 4)
    with pytest.raises(ConfigError, match="scalar cannot have"):
        plan_for("windows", 17, SCALAR, 4, known=[0])
    assert plan_for("windows", 17, SCALAR, 4).calls == 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plan_for("any", 5, FACTS, 2), "no plan 'any'; give one of keyframes, diagonal, chunks, windows"),
        (lambda: plan_for("windows", 5, FACTS, 2, window=17), "window is 17; the prior some knows 1 to 16"),
        (lambda: plan_for("windows", 5, FACTS, 2, known=[0]), "use the plan keyframes"),
        (lambda: plan_for("chunks", 5, FACTS, 2, known=[4]), "not meet any later; use the plan keyframes"),
        (lambda: plan_for("keyframes", 5, FACTS, 2, window=2), "3 frames or more; the window is 2"),
        (lambda: latent_frames(80, replace(FACTS, temporal_factor=4)), r"4 k \+ 1 of them: give 77 or 81"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_latents_of_frames():
    folded = replace(FACTS, temporal_factor=4)
    assert [latent_frames(n, folded) for n in (1, 5, 81)] == [1, 2, 21]
    assert latent_frames(80, FACTS) == 80
