"""Frame blending: counted where it is there and only there, and undone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.blending import MOST, estimate_blending, evidence, matern, means, sampled
from vrestore.exposure import to_light, to_values
from vrestore.unblending import GROUP, REACH, least_variation, reach, unblended


def process(frames, pixels=2000, order=0.5, length=3.0, seed=0):
    """Light of pixels that change as a Matern process, about 25 code values around the middle."""
    factor = np.linalg.cholesky(matern(frames, length, order) + 1e-9 * np.eye(frames))
    return 0.22 + 0.045 * factor @ np.random.default_rng(seed).standard_normal((frames, pixels))


def rounded(light):
    return (np.round(255 * light.clip(0, 1) ** (1 / 2.2)) / 255) ** 2.2


@pytest.mark.parametrize("count", range(1, MOST + 1))
@pytest.mark.parametrize("order", [0.5, 1.5])
def test_blended_frames_are_counted(count, order):
    light = means(15, count) @ process(15 + count - 1, order=order)
    assert estimate_blending([rounded(light)]) == count


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999), order=st.sampled_from([0.5, 1.5, 2.5]), length=st.floats(0.5, 20))
def test_frames_that_were_not_blended_are_never_taken_for_blended(seed, order, length):
    assert estimate_blending([rounded(process(15, order=order, length=length, seed=seed))]) == 1


def test_a_cut_and_doubled_frames_are_no_blending():
    one, two = process(8, seed=1), process(7, seed=2)
    assert estimate_blending([rounded(np.concatenate([one, 0.5 + two]))]) == 1
    assert estimate_blending([rounded(np.repeat(process(8), 2, axis=0)[:15])]) == 1


def test_where_nothing_moves_or_little_is_seen_nothing_is_said():
    still = np.repeat(process(1), 15, axis=0)
    assert evidence(still) == {}
    assert evidence(process(MOST)) == {}
    assert estimate_blending([]) == estimate_blending([still]) == 1


def test_means_add_up_to_one_and_shift_by_a_frame():
    assert np.allclose(means(5, 3).sum(1), 1)
    assert np.array_equal(means(5, 3)[1, 1:], means(5, 3)[0, :-1])
    assert np.array_equal(means(4, 1), np.eye(4))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_edges_that_pass_come_back(count):
    """Pixels that jump now and then are what least variation is right for."""
    rng = np.random.default_rng(count)
    behind = np.cumsum((rng.random((30, 500)) < 0.08) * rng.normal(0, 40, (30, 500)), axis=0)
    seen = torch.from_numpy(means(30 - count + 1, count) @ behind).float()
    found = least_variation(seen - seen.mean(0), count, 0.05) + seen.mean(0)
    middle = slice(REACH * count, -REACH * count)
    wrong, blended = ((guess - torch.from_numpy(behind)[: len(guess)])[middle].abs().mean() for guess in (found, seen))
    assert wrong < 0.25 * blended


def film(frames, seed=0):
    torch.manual_seed(seed)
    return [0.1 + 0.8 * torch.rand(3, 12, 16) for _ in range(frames)]


@pytest.mark.parametrize("frames", [1, 2, GROUP - 1, GROUP, 3 * GROUP + 5])
def test_as_many_frames_come_out_whatever_their_number(frames):
    found = list(unblended(film(frames), 3))
    assert len(found) == frames
    assert all(frame.shape == (3, 12, 16) and 0 <= frame.min() <= frame.max() <= 1 for frame in found)


def test_what_stands_still_stays_as_it_is():
    still = film(1)[0]
    for frame in unblended([still] * 20, 5):
        torch.testing.assert_close(frame, still, atol=3e-4, rtol=0)


def test_a_frame_depends_on_no_more_than_its_reach_and_groups_begin_where_they_may():
    frames, count = film(6 * GROUP), 2
    whole, first = list(unblended(frames, count)), 2 * GROUP
    assert first >= reach(count) - GROUP
    late = list(unblended(frames[first:], count))
    start = reach(count) // GROUP * GROUP  # the first group that has all its frames before it
    for one, other in zip(whole[first + start :], late[start:], strict=True):
        assert torch.equal(one, other)


def test_the_light_is_blended_and_not_its_code_values():
    values = torch.stack(film(24))
    light = to_light(values).flatten(1).double().numpy()
    seen = to_values(torch.from_numpy(means(22, 3) @ light).float()).view(22, 3, 12, 16)
    assert np.allclose(sampled(seen[0]), (means(22, 3) @ light)[0].reshape(3, 12, 16)[1, ::4, ::4].ravel(), atol=1e-4)
