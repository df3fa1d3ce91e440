"""Evidence that is made worse: what the prior says and what is true stay, and so does what is not misled."""

import numpy as np
import pytest

from vrestore.parallax import LEAST
from vrestore.weights.recipe import depth_misled as worse

SIZE = (48, 72)


@pytest.fixture
def planes():
    """Evidence without sense, each kind of it in its range."""
    random = np.random.default_rng(5)
    made = random.random((2, 8, *SIZE), np.float32)
    made[:, worse.SURER] *= 5
    return made


@pytest.mark.parametrize("seed", range(12))
def test_what_the_prior_says_stays_and_all_is_in_its_range(planes, seed):
    before = planes.copy()
    likely = np.full(2, 0.9, np.float32)
    found, moves = worse.misled(np.random.default_rng(seed), planes, likely)
    assert np.array_equal(planes, before)
    assert np.array_equal(found[:, worse.FIRST], before[:, worse.FIRST])
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found[:, worse.LUMA].min() >= 0
    assert found[:, worse.LUMA].max() <= 1
    assert found[:, worse.FOUND].min() >= min(LEAST, before[:, worse.FOUND].min())
    assert found[:, worse.SURER].min() >= 0
    assert (moves <= likely).all()
    again, _ = worse.misled(np.random.default_rng(seed), planes, likely)
    assert np.array_equal(found, again)


def test_where_nothing_can_be_followed_flow_is_less_sure_and_says_something_else(planes):
    before = planes.copy()
    worse.bared(np.random.default_rng(1), planes)
    lost = planes[:, worse.TRUSTED] < 0.5 * before[:, worse.TRUSTED]
    kept = planes[:, worse.TRUSTED] > 0.99 * before[:, worse.TRUSTED]
    assert lost.mean() > 0.1
    assert kept.mean() > 0.1
    assert (planes[:, worse.SURER][lost] < before[:, worse.SURER][lost]).all()
    for place in (worse.FOUND, worse.SAYS):
        change = np.abs(planes - before)[:, place]
        assert change[lost].mean() > 5 * change[kept].mean()


def test_what_moves_by_itself_is_one_thing_and_as_surely_followed(planes):
    before = planes.copy()
    worse.moved(np.random.default_rng(2), planes)
    change = np.abs(planes - before)
    assert 0.005 < (change[:, worse.SAYS] > 0.1).mean() < 0.5
    assert np.array_equal(planes[:, worse.SURER], before[:, worse.SURER])
    assert change[:, worse.ODD][change[:, worse.SAYS] < 1e-3].max() < 0.1


def test_a_camera_at_rest_tells_nothing(planes, monkeypatch):
    monkeypatch.setattr(worse, "RESTS", 1.0)
    found, moves = worse.misled(np.random.default_rng(3), planes, np.ones(2, np.float32))
    assert np.array_equal(found[:, worse.FOUND], planes[:, worse.FIRST])
    assert not found[:, worse.SURER].any()
    assert moves.max() <= 0.3
