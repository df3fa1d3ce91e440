"""Tiles cover every latent pixel with weights that add up to one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import PlanError
from vrestore.plan import split

few = settings(max_examples=60, deadline=None)
sizes = st.integers(1, 70)


@few
@given(sizes, sizes, st.integers(1, 24), st.data())
def test_weights_are_a_partition_of_unity(height, width, tile, data):
    overlap = data.draw(st.integers(0, tile - 1))
    total = np.zeros((height, width))
    for t in split(height, width, tile, overlap):
        ramp = np.outer(t.weight_y, t.weight_x)
        assert ramp.shape == (min(tile, height), min(tile, width))
        assert ramp.min() > 0
        assert t.area == pytest.approx(ramp.sum(), rel=1e-12)
        view = total[t.y : t.y + ramp.shape[0], t.x : t.x + ramp.shape[1]]
        assert view.shape == ramp.shape, "a tile reaches outside the picture"
        view += ramp
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-12)


def test_a_small_picture_is_one_tile():
    (only,) = split(5, 7, tile=8, overlap=4)
    assert (only.y, only.x, only.weight_y, only.weight_x) == (0, 0, (1.0,) * 5, (1.0,) * 7)


def test_the_ramp_is_a_raised_cosine():
    left, right = split(4, 14, tile=8, overlap=2)
    rise = np.sin(np.pi / 2 * np.array([0.25, 0.75])) ** 2
    np.testing.assert_allclose(left.weight_x, [1] * 6 + [*rise[::-1]], atol=1e-15)
    np.testing.assert_allclose(right.weight_x, [*rise] + [1] * 6, atol=1e-15)


def test_the_last_tile_is_shifted_back_and_blends_over_all_it_shares():
    first, last = split(8, 9, tile=8, overlap=2)
    assert (first.x, last.x) == (0, 1)
    assert all(a < b for a, b in zip(last.weight_x, last.weight_x[1:6], strict=False))
    assert first.weight_x[0] == last.weight_x[-1] == 1


@pytest.mark.parametrize(("height", "tile", "overlap"), [(0, 4, 1), (4, 0, 0), (4, 4, 4), (4, 4, -1)])
def test_impossible_tilings_are_refused(height, tile, overlap):
    with pytest.raises(PlanError):
        split(height, 8, tile, overlap)
