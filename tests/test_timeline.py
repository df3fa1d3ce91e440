"""Which frame, or which place between two, every output time shows; in exact arithmetic."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.timeline import MOST_REPEATS, Retiming, Timeline

RATES = [Fraction(24), Fraction(60), Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25, 2)]
few = settings(max_examples=150, deadline=None)


def steady(wanted, frames, rate, **more):
    """A timeline of a constant rate."""
    rate = Fraction(rate)
    return Timeline(wanted, range(frames + 1), unit=1 / rate, rate=rate, **({"start": Fraction(0)} | more))


def shown(timeline, first, stop):
    """(left, right, time, seconds) of what is shown."""
    return [
        (slot.left, slot.right, slot.time, slot.pts * timeline.time_base)
        for slot in timeline.slots(first, stop)
        if slot.pts is not None
    ]


def check_sequence(slots):
    """What the plan needs: between neighbouring keys lies only what is between these two, in order."""
    keys = [i for i, slot in enumerate(slots) if slot.right is None]
    assert keys[0] == 0
    assert keys[-1] == len(slots) - 1
    assert [slot.pts for slot in slots if slot.pts is not None] == sorted({s.pts for s in slots} - {None})
    for a, b in pairwise(keys):
        times = [slot.time for slot in slots[a + 1 : b]]
        assert times == sorted(set(times))
        assert all(0 < time < 1 for time in times)
        assert {(slot.left, slot.right) for slot in slots[a + 1 : b]} <= {(slots[a].left, slots[b].left)}
        assert slots[a].left <= slots[b].left
    for i, slot in enumerate(slots):  # a key that is not shown is there for a neighbour
        if slot.pts is None:
            assert any(0 <= j < len(slots) and slots[j].right is not None for j in (i - 1, i + 1))


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_a_factor_gives_so_many_frames_of_the_same_duration(factor):
    timeline = steady(Retiming(factor=factor), 5, 25)
    found = shown(timeline, 0, 5)
    assert len(found) == timeline.frames == 5 * factor
    assert timeline.rate == 25 * factor
    assert [seconds for *_, seconds in found] == [Fraction(n, 25 * factor) for n in range(5 * factor)]
    for n, (left, right, time, _) in enumerate(found):
        frame, part = divmod(n, factor)
        inside = part > 0 and frame < 4  # after the last frame it is held
        assert (left, right, time) == ((frame, frame + 1, Fraction(part, factor)) if inside else (frame, None, 0))
    assert timeline.end_pts * timeline.time_base == Fraction(1, 5)


def test_a_cut_is_not_crossed():
    timeline = steady(Retiming(factor=2), 6, 25)
    assert [found[:2] for found in shown(timeline, 0, 3)] == [
        (0, None),
        (0, 1),
        (1, None),
        (1, 2),
        (2, None),
        (2, None),
    ]
    assert shown(timeline, 3, 6)[0] == (3, None, 0, Fraction(3, 25))


@pytest.mark.parametrize(
    ("source", "target", "frames"),
    [
        (24, 60, 25),
        (Fraction(30), Fraction(24000, 1001), 8),
        (60, 24, 4),
        (Fraction(24000, 1001), 60, 26),
        (25, 25, 10),
    ],
)
def test_any_rate_from_any_rate(source, target, frames):
    timeline = steady(Retiming(rate=Fraction(target)), 10, source)
    found = shown(timeline, 0, 10)
    assert len(found) == frames == timeline.frames
    for n, (left, right, time, seconds) in enumerate(found):
        assert seconds == n / Fraction(target)
        place = seconds * source
        assert left == place // 1
        assert (right, time) == ((left + 1, place % 1) if place % 1 and left < 9 else (None, 0))


def test_24_to_60_passes_every_second_frame():
    found = shown(steady(Retiming(rate=Fraction(60)), 9, 24), 0, 9)
    assert [left for left, right, *_ in found if right is None] == [0, 2, 4, 6, 8, 8, 8]
    assert {time for *_, time, _ in found} == {Fraction(n, 5) for n in range(5)}


def test_slow_motion_keeps_the_rate():
    timeline = steady(Retiming(slow=Fraction(4)), 3, 25, start=Fraction(1))
    found = shown(timeline, 0, 3)
    assert timeline.rate == 25
    assert [seconds for *_, seconds in found] == [1 + Fraction(n, 25) for n in range(12)]
    assert [time for *_, time, _ in found] == [Fraction(n % 4, 4) if n < 8 else 0 for n in range(12)]
    assert timeline.source_s == Fraction(3, 25)


def test_a_variable_rate_is_divided_alike():
    timeline = Timeline(
        Retiming(factor=2), [0, 40, 50, 100], unit=Fraction(1, 1000), rate=Fraction(30), start=Fraction(0), vfr=True
    )
    assert timeline.vfr
    assert [seconds * 1000 for *_, seconds in shown(timeline, 0, 3)] == [0, 20, 40, 45, 50, 75]


def test_a_variable_rate_becomes_constant():
    """Times are known to half a millisecond: 33 is a thirtieth of a second."""
    timeline = Timeline(
        Retiming(rate=Fraction(30)), [0, 33, 67, 167, 200], unit=Fraction(1, 1000), rate=Fraction(20),
        start=Fraction(0), vfr=True,
    )  # fmt: skip
    assert not timeline.vfr
    found = shown(timeline, 0, 4)
    assert [seconds for *_, seconds in found] == [Fraction(n, 30) for n in range(6)]
    assert [(left, right) for left, right, *_ in found] == [(0, None), (1, None), (2, None), (2, 3), (2, 3), (3, None)]
    assert [float(time) for *_, time, _ in found[3:5]] == pytest.approx([1 / 3, 2 / 3], abs=0.01)


def test_repeats_are_seen_through():
    """12 pictures in 24 frames: what repeats a frame gives way to what is half way to the next one."""
    timeline = steady(Retiming(factor=2), 6, 24, repeated=[0, 1, 0, 1, 0, 1])
    found = shown(timeline, 0, 6)
    assert [(left, right, time) for left, right, time, _ in found[:8]] == [
        (left, None if part == 0 else left + 2, Fraction(part, 4)) for left in (0, 2) for part in range(4)
    ]
    assert [(left, right) for left, right, *_ in found[8:]] == [(4, None), (4, 5), (5, None), (5, None)]
    kept = steady(Retiming(factor=2, repeats=False), 6, 24, repeated=[0, 1, 0, 1, 0, 1])
    assert shown(kept, 0, 6) == shown(steady(Retiming(factor=2), 6, 24), 0, 6)


def test_a_picture_that_stands_still_stays():
    still = MOST_REPEATS + 1
    timeline = steady(Retiming(factor=2), still + 3, 24, repeated=[0] + [1] * still + [0, 0])
    assert [found[:3] for found in shown(timeline, 0, still + 3)] == [
        found[:3] for found in shown(steady(Retiming(factor=2), still + 3, 24), 0, still + 3)
    ]


@st.composite
def cases(draw):
    frames = draw(st.integers(1, 25))
    vfr = draw(st.booleans())
    gaps = draw(st.lists(st.integers(1, 90), min_size=frames, max_size=frames))
    factor = draw(st.one_of(st.none(), st.integers(2, 5)))
    rate = None if factor else draw(st.one_of(st.none(), st.sampled_from(RATES)))
    return {
        "wanted": Retiming(
            factor, rate, Fraction(1) if factor else draw(st.sampled_from([Fraction(1), Fraction(5, 2)]))
        ),
        "times": [sum(gaps[:n]) + 7 for n in range(frames + 1)] if vfr else range(frames + 1),
        "vfr": vfr,
        "rate": draw(st.sampled_from(RATES)),
        "start": Fraction(draw(st.integers(0, 5000)), 1000),
        "repeated": draw(st.lists(st.integers(0, 1), min_size=frames, max_size=frames)),
        "origin": draw(st.integers(0, 3)),
        "cut": draw(st.integers(1, frames)),
    }


@few
@given(cases())
def test_every_output_time_shows_what_lies_there(case):
    cut = case.pop("cut")
    unit = Fraction(1, 1000) if case["vfr"] else 1 / case["rate"]
    timeline = Timeline(**case, unit=unit)
    times, origin = case["times"], case["origin"]
    seconds = [case["start"] + (time - times[0]) * unit for time in times]
    edges = [(origin, origin + cut)] + [(origin + cut, origin + len(times) - 1)] * (cut < len(times) - 1)
    output = []
    for first, stop in edges:
        slots = list(timeline.slots(first, stop))
        if slots:
            check_sequence(slots)
        for slot in slots:
            assert first <= slot.left < stop
            assert slot.right is None or first <= slot.left < slot.right < stop
            if slot.pts is None:
                continue
            output.append(slot.pts)
            source = case["start"] + (slot.pts * timeline.time_base - case["start"]) / case["wanted"].slow
            begin = seconds[slot.left - origin]
            if slot.right is None:
                last = slot.left == stop - 1
                assert abs(source - begin) <= unit / 2 or (last and begin < source)
            else:
                assert begin + slot.time * (seconds[slot.right - origin] - begin) == source
            if source in seconds[first - origin : stop - origin] and slot.right is not None:
                assert case["repeated"][seconds.index(source)]  # only repeats give way
    assert len(output) == timeline.frames
    assert output == sorted(set(output))
    assert output[0] == timeline.start_pts
    assert output[-1] < timeline.end_pts
