"""Prompts over time: files and their errors, and mixtures that add up whatever the timeline is."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrestore.errors import ConfigError, MissingInputError
from vrestore.prompts import Moment, Span, Timeline, read_prompts

TENTHS = st.integers(0, 80).map(lambda n: Fraction(n, 10))


@st.composite
def tracks(draw, shot=None):
    """Spans of one shot that do not overlap, with gaps or without, the last perhaps without an end."""
    edges = sorted(draw(st.sets(TENTHS, min_size=2, max_size=7)))
    spans = [
        Span(draw(st.sampled_from("abc")), Moment(start), Moment(stop), shot)
        for start, stop in pairwise(edges)
        if draw(st.booleans())
    ]
    return [*spans, *([Span("z", Moment(edges[-1]), None, shot)] if draw(st.booleans()) else [])]


@given(st.tuples(tracks(), tracks(1), tracks(2)), TENTHS, TENTHS, st.integers(1, 3), TENTHS)
def test_weights_add_up_to_one(spans, transition, time, shot, since):
    timeline = Timeline([span for track in spans for span in track], "default", transition=transition)
    mixture = timeline.at(time, shot, max(Fraction(0), time - since))
    assert sum(weight for _, weight in mixture) == pytest.approx(1)
    assert all(weight > 0 for _, weight in mixture)
    assert {text for text, _ in mixture} <= set(timeline.texts)
    assert len({text for text, _ in mixture}) == len(mixture)


@given(tracks(), TENTHS)
def test_without_transition_one_prompt_holds(spans, time):
    ((text, weight),) = Timeline(spans, "default").at(time)
    holding = [s.text for s in spans if s.start.seconds <= time and (s.stop is None or time < s.stop.seconds)]
    assert weight == 1
    assert [text] == (holding or ["default"])


@given(tracks(), st.integers(1, 30), TENTHS, st.integers(1, 10))
def test_weights_change_no_faster_than_the_transition(spans, length, time, later):
    """Away from the first frame, where there is nothing before to mix with."""
    transition, step = Fraction(length, 10), Fraction(later, 100)
    timeline = Timeline(spans, "default", transition=transition)
    time += transition / 2
    before, after = (dict(timeline.at(t)) for t in (time, time + step))
    for text in before.keys() | after.keys():
        assert abs(before.get(text, 0) - after.get(text, 0)) <= step / transition + 1e-9


def test_a_transition_is_linear_around_the_boundary():
    timeline = Timeline([Span("a", stop=Moment(Fraction(4))), Span("b", Moment(Fraction(4)))], transition=2)
    assert timeline.at(2.9) == (("a", 1.0),)
    for time, share in ((3.5, 0.25), (4, 0.5), (4.5, 0.75)):
        assert dict(timeline.at(time)) == pytest.approx({"a": 1 - share, "b": share})
    assert timeline.at(5) == (("b", 1.0),)


def test_a_shot_of_its_own_wins_and_counts_from_its_cut():
    spans = [Span("all"), Span("own", Moment(Fraction(1)), Moment(Fraction(2)), shot=2)]
    timeline = Timeline(spans, "default")
    assert timeline.at(11.5, shot=2, cut=10) == (("own", 1.0),)
    assert timeline.at(12, shot=2, cut=10) == (("all", 1.0),)
    assert timeline.at(11.5, shot=3, cut=10) == (("all", 1.0),)


def test_nothing_is_mixed_across_a_cut():
    spans = [Span("before", stop=Moment(Fraction(4))), Span("after", Moment(Fraction(4)))]
    timeline = Timeline(spans, transition=2)
    assert timeline.at(4, shot=2, cut=4) == (("after", 1.0),)
    assert len(timeline.at(4, shot=1, cut=0)) == 2


def test_an_end_is_not_mixed_with_nothing():
    timeline = Timeline([Span("a", stop=Moment(Fraction(4)))], transition=2)
    assert timeline.at(3.9) == (("a", 1.0),)
    with pytest.raises(ConfigError, match=r"^no prompt holds at 4 s, in shot 1; give one .* --prompt"):
        timeline.at(4)


def test_a_file(tmp_path):
    file = tmp_path / "prompts.toml"
    file.write_text(
        'transition = 0.5\n[[prompt]]\ntext = "dusk"\nto = "00:00:02:12"\n'
        '[[prompt]]\ntext = "night"\nfrom = "2.5s"\nto = "01:00"\n[[prompt]]\nshot = 2\ntext = "snow"\n'
    )
    script = read_prompts(file)
    assert script.transition == Fraction(1, 2)
    assert [(s.text, s.start, s.stop, s.shot) for s in script.spans] == [
        ("dusk", Moment(Fraction(0)), Moment(Fraction(2), 12), None),
        ("night", Moment(Fraction(5, 2)), Moment(Fraction(60)), None),
        ("snow", Moment(Fraction(0)), None, 2),
    ]
    timeline = script.timeline("day", Fraction(24))  # 12 frames are half a second
    assert timeline.texts == ("day", "dusk", "night", "snow")
    assert dict(timeline.at(2.5)) == pytest.approx({"dusk": 0.5, "night": 0.5})
    assert timeline.at(61) == (("day", 1.0),)


WRONG = [
    ("[[prompt]]\ntext = 3\n", "line 2: text is 3; give what"),
    ("[[prompt]]\n", "line 1: text is None; give what"),
    ('\n[[prompt]]\ntext = " "\n', "line 3: text is ' '; give"),
    ('[[prompt]]\ntext = "a"\n\n[[prompt]]\ntext = "b"\nfrom = "soon"\n', "line 6: from is 'soon'; give seconds"),
    ('[[prompt]]\ntext = "a"\nto = -1\n', "line 3: to is -1; give seconds"),
    ('[[prompt]]\ntext = "a"\nto = true\n', "line 3: to is True; give seconds"),
    ('[[prompt]]\ntext = "a"\nshot = 0\n', "line 3: shot is 0; give a number from 1"),
    ('[[prompt]]\ntext = "a"\ncolour = "red"\n', "line 3: colour is no key of a prompt; keys are text, from, to, shot"),
    ('speed = 2\n[[prompt]]\ntext = "a"\n', "line 1: speed is no key here"),
    ('transition = "long"\n[[prompt]]\ntext = "a"\n', "line 1: transition is 'long'; give 0 or more"),
    ("transition = 1\n", "holds no prompts; give at least one"),
    ("prompt = 3\n", "holds no prompts"),
    ('[[prompt]]\ntext = "a\n', "is not valid TOML: .*line 2"),
]


@pytest.mark.parametrize(("content", "message"), WRONG)
def test_errors_name_the_line_and_what_is_allowed(tmp_path, content, message):
    file = tmp_path / "prompts.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=rf"prompts\.toml.*{message}"):
        read_prompts(file).timeline(None, Fraction(25))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[[prompt]]\ntext = "a"\nfrom = 3\nto = 3\n', r"line 1: the prompt 'a' holds from 3 s to 3 s; give an end"),
        (
            '[[prompt]]\ntext = "a"\nto = 3\n[[prompt]]\ntext = "b"\nfrom = 2\n',
            r"line 4: the prompt 'b' begins at 2 s, but 'a' holds to 3 s; let one end",
        ),
        (
            '[[prompt]]\ntext = "a"\n[[prompt]]\ntext = "b"\nfrom = 2\n',
            r"line 3: the prompt 'b' begins at 2 s, but 'a' holds to the end",
        ),
    ],
)
def test_spans_that_cannot_be_are_named(tmp_path, content, message):
    file = tmp_path / "prompts.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_prompts(file).timeline(None, Fraction(25))


def test_a_file_that_is_not_there_or_is_none(tmp_path):
    with pytest.raises(MissingInputError, match="does not exist; give a TOML file of prompts"):
        read_prompts(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="is no file of prompts"):
        read_prompts(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        read_prompts(tmp_path / "bytes.toml")


def test_a_transition_below_zero_is_refused():
    with pytest.raises(ConfigError, match="transition is -1; give 0 or more seconds"):
        Timeline(transition=-1)
