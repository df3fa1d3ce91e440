"""Chroma that was enlarged is brought back to its own codes."""

import numpy as np
import pytest

from vrestore.video.colour import unsample, upsample


@pytest.mark.parametrize(("factor", "site"), [(2, 0.0), (2, 0.5), (2, 1.0), (4, 0.0), (4, 0.5)])
@pytest.mark.parametrize("size", [4, 7, 63, 95, 193, 389, 1001])
def test_enlarged_codes_come_back(factor, site, size):
    codes = np.random.default_rng(0).integers(0, 65536, (-(-size // factor), 3)).astype(np.float32)
    for axis, plane in ((0, codes), (1, np.ascontiguousarray(codes.T))):
        large = upsample(plane, axis, factor, site, size)
        np.testing.assert_allclose(unsample(large, axis, factor, site), plane, atol=0.25)


def test_one_sample_and_no_factor():
    plane = np.float32([[7, 9]])
    np.testing.assert_array_equal(unsample(plane, 0, 2, 0.5), plane)
    assert unsample(plane, 1, 1, 0.5) is plane


def test_what_is_no_enlargement_comes_as_close_as_it_can():
    noise = np.random.default_rng(0).random((64, 3), np.float32)
    found = unsample(noise, 0, 2, 0.0)
    error = noise - upsample(found, 0, 2, 0.0, 64)
    for change in np.random.default_rng(1).normal(size=(20, *found.shape)).astype(np.float32):
        other = noise - upsample(found + 0.1 * change, 0, 2, 0.0, 64)
        assert np.square(error).sum() < np.square(other).sum()
