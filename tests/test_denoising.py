"""Noise averaged away along the motion: gone where neighbours show the same, and nothing else with it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.denoising import REACH, denoised
from vrestore.errors import ConfigError

SIZE = (48, 64)


def error(found, truth):
    return float((found - truth)[..., 4:-4, 4:-4].square().mean())


@pytest.fixture
def film(clips):
    """film(frames) -> a pan over something like a photograph, in [0, 1]."""
    return lambda frames, seed=0: torch.from_numpy(clips.scene(frames, SIZE, seed)).permute(0, 3, 1, 2) / 255


def noisy(frames, deviation=8.0):
    """With independent noise, of a deviation in 8-bit levels."""
    return frames + deviation / 255 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))


def cleaned(frames, strength=1.0):
    return torch.stack(list(denoised(frames, strength)))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 2))
def test_as_many_frames_come_out_within_what_went_in(count, height, width, strength):
    frames = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))
    found = cleaned(frames, strength)
    assert found.shape == frames.shape
    assert found.isfinite().all()
    assert torch.equal(cleaned(frames, 0.0), frames)


@pytest.mark.parametrize("frames", [1, 6])
def test_what_does_not_change_stays(film, frames):
    still = film(1).expand(frames, -1, -1, -1)
    torch.testing.assert_close(cleaned(still), still, atol=1e-6, rtol=0)


def test_a_picture_that_stands_still_becomes_a_mean(film):
    """Of up to seven frames: a seventh of the noise, if every neighbour counted as much as the frame itself."""
    still = film(1).expand(2 * REACH + 1, -1, -1, -1)
    left = error(cleaned(noisy(still), 2.0)[REACH], still[0]) / error(noisy(still)[REACH], still[0])
    assert 1 / 7 < left < 1 / 4


def test_noise_goes_along_the_motion(film):
    truth = film(9)
    left = error(cleaned(noisy(truth)), truth) / error(noisy(truth), truth)
    assert left < 0.5
    plain = torch.stack([noisy(truth)[max(0, i - 1) : i + 2].mean(0) for i in range(9)])
    assert error(cleaned(noisy(truth)), truth) < error(plain, truth)


def test_what_only_one_frame_shows_stays(film):
    """A frame of something else among others is no noise."""
    frames = film(7)
    frames[3] = film(1, seed=5)[0]
    found = cleaned(frames)
    assert error(found[3], frames[3]) < 0.02 * error(frames[2], frames[3])
    assert error(found[2], frames[2]) < 0.02 * error(frames[2], frames[3])


def test_a_frame_depends_on_its_neighbours_alone(film):
    """So a run that goes on reads no more of what came before."""
    frames = noisy(film(12))
    whole = cleaned(frames)
    for begin in (2, 5):
        part = cleaned(frames[begin:])
        assert torch.equal(part[REACH:], whole[begin + REACH :])
    assert not np.array_equal(cleaned(frames[5:])[0], whole[5])


def test_frames_come_before_all_have_been_read(film):
    read = []

    def frames():
        for frame in film(12):
            read.append(frame)
            yield frame

    next(iter(denoised(frames(), 1.0)))
    assert len(read) == REACH + 1


def test_less_than_nothing_is_refused(film):
    with pytest.raises(ConfigError, match=r"^denoise is -1.0; give 0 or more"):
        next(denoised(film(1), -1.0))
