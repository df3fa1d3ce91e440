from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import ConfigError
from vrestore.video import Shot, detect_shots


def scene(i, seed):
    """Planes of frame i of a scene: a textured picture that slides by a pixel a frame."""
    noise = np.random.default_rng(seed)
    coarse = noise.integers(30, 226, (12, 48), dtype=np.uint8)
    luma = np.kron(coarse, np.ones((8, 8), np.uint8))[:72, (i % 150) :][:, :128]
    chroma = [np.full((36, 64), value, np.uint8) for value in noise.integers(90, 166, 2)]
    return [luma, *chroma]


def film(lengths):
    """Plane function of a film of scenes of these lengths."""
    numbers = [(i, seed) for seed, length in enumerate(lengths) for i in range(length)]
    return lambda i: scene(*numbers[i])


def clip(make_clip, name, lengths):
    options = {"crf": "18", "preset": "ultrafast"}
    return make_clip(name, size=(72, 128), pts=range(sum(lengths)), pack=film(lengths), options=options)


@pytest.mark.parametrize("lengths", [(20,), (15, 15), (12, 30, 8, 10), (4, 12), (12, 4), (8, 4, 4, 8)])
def test_hard_cuts_are_found_at_their_frame(make_clip, lengths):
    edges = np.cumsum([0, *lengths]).tolist()
    expected = [Shot(a, b) for a, b in pairwise(edges)]
    assert detect_shots(clip(make_clip, "a.mp4", lengths)) == expected


def test_a_part_has_the_shots_of_the_part(make_clip):
    path = clip(make_clip, "a.mp4", (40, 20, 20))
    assert detect_shots(path, 35, 70) == [Shot(35, 40), Shot(40, 60), Shot(60, 70)]
    assert detect_shots(path, 45, 55) == [Shot(45, 55)]


def test_a_fade_through_black_is_a_boundary(make_clip):
    def fading(i):
        seed = 0 if i < 20 else 1
        light = abs(i - 20) / 20
        luma, *chroma = scene(i, seed)
        return [(16 + (luma - 16.0) * light).astype(np.uint8),
                *((128 + (plane - 128.0) * light).astype(np.uint8) for plane in chroma)]  # fmt: skip

    path = make_clip("a.mp4", size=(72, 128), pts=range(41), pack=fading)
    first, second = detect_shots(path)
    assert abs(first.stop - 20) <= 2
    assert (first.start, second.start, second.stop) == (0, first.stop, 41)


def test_motion_is_not_a_cut(make_clip):
    path = make_clip("a.mp4", size=(72, 128), pts=range(30), pack=lambda i: scene(4 * i, 3))
    assert detect_shots(path) == [Shot(0, 30)]


@given(bounds=st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted))
@settings(max_examples=12, deadline=None)
def test_shots_cover_any_range_once(shared, bounds):
    start, stop = bounds
    shots = detect_shots(shared, start, stop)
    covered = [frame for shot in shots for frame in range(shot.start, shot.stop)]
    assert covered == list(range(start, stop))


@pytest.fixture(scope="module")
def shared(tmp_path_factory, clip_tools):
    spec = clip_tools.Spec(size=(72, 128), pts=range(30), pack=film((13, 17)))
    return clip_tools.write_clip(tmp_path_factory.mktemp("shots") / "a.mp4", spec)


def test_a_range_outside(make_clip):
    with pytest.raises(ConfigError, match="which has 12"):
        detect_shots(make_clip("a.mp4"), 0, 14)
