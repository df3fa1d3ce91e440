"""Noise depends on its place alone, and is standard normal."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import ConfigError
from vrestore.noise import noise, philox


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # known answers of the authors' library, Random123
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers(counter, key, words):
    assert tuple(int(w[0]) for w in philox(tuple(np.array([c], np.uint64) for c in counter), key)) == words


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.integers(1, 9))
def test_a_part_is_the_crop_of_the_whole(data, seed, frame, level, channels):
    height, width = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 40))
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    whole = noise(seed, frame, level, (channels, height, width))
    part = noise(seed, frame, level, (max(1, channels - 1), height - y, width - x), (y, x))
    assert torch.equal(part, whole[: max(1, channels - 1), y:, x:])


def test_every_number_of_the_place_counts():
    shape = (5, 6, 7)
    variants = [(0, 0, 0), (1, 0, 0), (1 << 32, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 1, 0)]
    numbers = torch.cat([noise(*place, shape).flatten() for place in variants])
    assert len(numbers.unique()) == len(numbers)


def test_it_is_standard_normal():
    count = 16 * 60 * 106 * 8
    z = torch.stack([noise(7, frame, 3, (16, 60, 106)) for frame in range(8)]).double()
    assert z.dtype == torch.float64
    assert noise(7, 0, 3, (16, 60, 106)).dtype == torch.float32
    # Moments within five of their standard errors: mean 0, variance 1, skewness 0, kurtosis 3.
    for power, expected, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs(float((z**power).mean()) - expected) < 5 * math.sqrt(variance / count)
    # Kolmogorov-Smirnov distance to the normal distribution; 1.95 / sqrt(n) is passed once in a thousand.
    ordered = z.flatten().sort().values
    steps = torch.arange(1, count + 1, dtype=torch.float64) / count
    assert float((torch.special.ndtr(ordered) - steps).abs().max()) < 1.95 / math.sqrt(count)


def test_neighbours_are_independent():
    z = torch.stack([noise(7, frame, level, (8, 40, 50)) for frame in (0, 1) for level in (0, 1)]).double()
    z = z.view(2, 2, 8, 40, 50)
    pairs = [(z.narrow(d, 0, z.shape[d] - 1), z.narrow(d, 1, z.shape[d] - 1)) for d in range(5)]
    for a, b in pairs:
        assert abs(float((a * b).mean())) < 5 / math.sqrt(a.numel())
        assert abs(float((a**2 * b**2).mean()) - 1) < 5 * math.sqrt(8 / a.numel())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0, 0, (1, 1, 1)), "seed -1"),
        ((1 << 64, 0, 0, (1, 1, 1)), "seed"),
        ((0, -1, 0, (1, 1, 1)), "frame -1"),
        ((0, 0, 65536, (1, 1, 1)), "level 65536; use 0 to 65535"),
        ((0, 0, 0, (1, 1, 1), (-1, 0)), "origin y -1"),
    ],
)
def test_places_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        noise(*arguments)
