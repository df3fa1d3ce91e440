"""Sources of noise: standard normal in each frame, alike between frames exactly as they say, the same whoever asks."""

import math

import numpy as np
import pytest
import torch

from vrestore.errors import ConfigError
from vrestore.noise import noise
from vrestore.noise_sources import (
    AnalyticStart,
    CoherentTail,
    Independent,
    Inverted,
    Progressive,
    Rescheduled,
    Shared,
    Warped,
)
from vrestore.sampling import ddim_ladder

SHAPE = (8, 24, 30)
COUNT = math.prod(SHAPE)
PLAIN = Independent(5, SHAPE, 20)


def drift(frame):
    """One and a half pixels to the right, and a zoom that tears holes."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 30), indexing="ij")
    return torch.stack([1.5 + 2 * x, 3 * y * (1 + frame % 2)])


SOURCES = {
    "independent": lambda: PLAIN,
    "rescheduled": lambda: Rescheduled(PLAIN, 3, 8, 4),
    "shared": lambda: Shared(PLAIN, 5, SHAPE, 0.3),
    "same": lambda: Shared(PLAIN, 5, SHAPE, 1.0),
    "progressive": lambda: Progressive(5, SHAPE, 0.8),
    "warped": lambda: Warped(5, SHAPE, drift),
    "warped, renewed": lambda: Warped(5, SHAPE, drift, renewal=0.5),
    "coherent tail": lambda: CoherentTail(PLAIN, lambda n: noise(9, n, 3, SHAPE), 0.4),
}


def correlation(a, b):
    return float((a.double() * b.double()).mean())


@pytest.mark.parametrize("name", SOURCES)
def test_every_frame_is_white_and_the_same_whoever_asks(name):
    """Mean, variance, and neighbours in the picture, each within five of its standard errors."""
    source = SOURCES[name]()
    forwards = [source(n).clone() for n in range(12)]
    backwards = [SOURCES[name]()(n) for n in (11, 3)]
    assert torch.equal(backwards[0], forwards[11])
    assert torch.equal(backwards[1], forwards[3])
    for z in (forwards[0], forwards[7], forwards[11]):
        assert (z.shape, z.dtype) == (SHAPE, torch.float32)
        error = 5 / math.sqrt(COUNT)
        assert abs(float(z.mean())) < error
        assert abs(float(z.var()) - 1) < error * math.sqrt(2)
        assert abs(float((z**4).mean()) - 3) < error * math.sqrt(96)
        for shifted in (z.roll(1, 2), z.roll(1, 1), z.roll(1, 0), z.roll((1, 1), (1, 2))):
            assert abs(correlation(z, shifted)) < error


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("independent", lambda k: 0),
        ("shared", lambda k: 0.3),
        ("same", lambda k: 1),
        ("progressive", Progressive(0, SHAPE, 0.8).correlation),
    ],
)
def test_frames_correlate_as_they_say(name, expected):
    source = SOURCES[name]()
    for apart in (1, 3, 10):
        found = np.mean([correlation(source(n), source(n + apart)) for n in (0, 40)])
        assert found == pytest.approx(expected(apart), abs=5 / math.sqrt(COUNT))


def test_a_progression_is_the_autoregression():
    source = Progressive(0, SHAPE, 0.8)
    assert source.correlation(1) == pytest.approx(0.8, abs=1e-5)
    assert source.correlation(5) == pytest.approx(0.8**5, abs=1e-5)
    a, b, c = (source(n).double() for n in (7, 8, 9))
    assert correlation(a, c - 0.8 * b) == pytest.approx(0, abs=5 / math.sqrt(COUNT))


def test_rescheduled_noise_is_the_first_window_shuffled_in_groups():
    source = Rescheduled(PLAIN, 3, window=8, group=4)
    origins = [source.origin(n) for n in range(400)]
    assert origins[:8] == list(range(8))
    for start in range(8, 400, 4):
        assert {origins[n] for n in range(start, start + 4)} == {origins[n] for n in range(start - 8, start - 4)}
    orders = [tuple(o - min(origins[s : s + 4]) for o in origins[s : s + 4]) for s in range(0, 400, 4)]
    assert len(set(orders)) > 15
    assert torch.equal(source(399), PLAIN(origins[399]))


def test_warped_noise_goes_with_the_picture():
    """A pan by whole pixels carries the noise along exactly; by half a pixel it keeps half of each."""
    still = Warped(0, SHAPE, lambda n: torch.zeros(2, 24, 30))
    assert torch.equal(still(5), Warped(0, SHAPE, drift)(0))
    pan = Warped(0, SHAPE, lambda n: torch.tensor([2.0, -1.0]).view(2, 1, 1).expand(2, 24, 30))
    assert torch.equal(pan(1)[:, 1:, :-2], pan(0)[:, :-1, 2:])
    half = Warped(0, SHAPE, lambda n: torch.tensor([0.5, 0.0]).view(2, 1, 1).expand(2, 24, 30))
    before, after = half(0)[:, :, 1:-1], half(1)[:, :, 1:-1]
    assert correlation(before, after) == pytest.approx(0.5, abs=5 / math.sqrt(COUNT))


def test_renewal_takes_as_much_as_it_says():
    """(1 - r) old + r new, of unit variance."""
    source = Warped(0, SHAPE, lambda n: torch.zeros(2, 24, 30), renewal=0.25)
    kept = Warped(0, SHAPE, lambda n: torch.zeros(2, 24, 30))(0)
    assert correlation(source(4), kept) == pytest.approx(0.75 / math.hypot(0.75, 0.25), abs=5 / math.sqrt(COUNT))


def test_the_tail_has_the_slow_part_of_the_frame_before():
    held = {n: noise(9, n, 3, SHAPE) for n in range(4)}
    source = CoherentTail(PLAIN, held.get, 0.4)
    frequency = torch.hypot(2 * torch.fft.fftfreq(24)[:, None], 2 * torch.fft.fftfreq(30))
    slow = frequency <= 0.4
    found, before, fresh = (torch.fft.fft2(z) for z in (source(3), held[2], PLAIN(3)))
    assert torch.allclose(found[:, slow], before[:, slow], atol=1e-3)
    assert torch.allclose(found[:, ~slow], fresh[:, ~slow], atol=1e-3)
    assert torch.equal(source(0), PLAIN(0))
    assert torch.equal(source(9), PLAIN(9))


def test_an_inversion_keeps_its_share():
    found = noise(8, 0, 0, SHAPE)
    assert Inverted(lambda n: found, PLAIN)(3) is found
    mixed = Inverted(lambda n: found, PLAIN, 0.25)(3)
    assert correlation(mixed, found) == pytest.approx(0.5, abs=5 / math.sqrt(COUNT))
    assert float(mixed.var()) == pytest.approx(1, abs=5 * math.sqrt(2 / COUNT))


def test_an_analytic_start_has_the_moments_of_the_forward_process():
    ladder = ddim_ladder(10, (torch.linspace(1, 0.1, 1000).cos() ** 2).flip(0).tolist())
    mean = torch.linspace(-1, 1, 30).expand(SHAPE)
    start = AnalyticStart(PLAIN, ladder, 7, lambda n: mean, 0.5)
    clean = [mean + math.sqrt(0.5) * noise(1, n, 0, SHAPE) for n in range(6)]
    forward = torch.stack([ladder.alpha[7] * x + ladder.sigma[7] * noise(2, n, 0, SHAPE) for n, x in enumerate(clean)])
    found = torch.stack([start(n) for n in range(6)])
    error = 5 / math.sqrt(6 * COUNT)
    assert float((found - forward).mean()) == pytest.approx(0, abs=error * 1.5)
    centre = ladder.alpha[7] * mean
    assert float((found - centre).var()) == pytest.approx(float((forward - centre).var()), rel=3 * error)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rescheduled(PLAIN, 0, 10, 4), "window of 10 in groups of 4"),
        (lambda: Shared(PLAIN, 0, SHAPE, 1.5), "share is 1.5"),
        (lambda: Progressive(0, SHAPE, 1.0), "1.0; use 0 or more"),
        (lambda: Warped(0, SHAPE, drift, renewal=-1.0), "renewal is -1.0"),
        (lambda: Warped(0, SHAPE, drift, first=4)(3), "from frame 4 on"),
        (lambda: CoherentTail(PLAIN, lambda n: None, 2.0), "cutoff is 2.0"),
        (lambda: AnalyticStart(PLAIN, ddim_ladder(2, [0.9, 0.1]), 1, PLAIN, -1.0), "variance of the latents is -1.0"),
    ],
)
def test_impossible_sources_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
