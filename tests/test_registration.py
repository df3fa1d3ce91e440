"""Co-alignment on made data: known scales, shifts and outliers come back, whole or block by block."""

import numpy as np
import pytest

from vrestore.errors import ConfigError
from vrestore.plan import SnippetsPlan
from vrestore.registration import Affine, Rolling, register, register_by_descent, sampled

POINTS = 144


def made(frames, *, noise=0.02, outliers=0.0, dilations=(1, 25), seed=0):
    """True maps (frames, points), the plan's snippets of them under random scales and shifts, and what undoes these."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0, 1, POINTS)
    true = np.stack([base * np.exp(0.3 * np.sin(i / 40)) + 0.2 * np.sin(i / 30 + 5 * base) for i in range(frames)])
    snippets = SnippetsPlan(frames, dilations).snippets
    scale = np.exp(rng.normal(0, 0.35, len(snippets)))
    shift = rng.normal(0, 0.3, len(snippets))
    seen = true[snippets] + noise * rng.standard_normal((*snippets.shape, POINTS))
    wrong = rng.random(seen.shape) < outliers
    seen[wrong] = rng.uniform(-1, 2, wrong.sum())
    seen = (seen - shift[:, None, None]) / scale[:, None, None]
    return true, snippets, seen.astype(np.float32), Affine(scale, shift)


def spread_of_scales(found, true):
    """Standard deviation of the logarithm: 0 where all are right up to one common factor."""
    return float(np.std(np.log(found.scale / true.scale)))


def merged(samples, snippets, found, frames):
    values = found.scale[:, None, None] * samples + found.shift[:, None, None]
    total, count = np.zeros((frames, samples.shape[2])), np.zeros((frames, 1))
    np.add.at(total, snippets.ravel(), values.reshape(-1, samples.shape[2]))
    np.add.at(count, snippets.ravel(), 1)
    return total / count


def error(maps, true):
    """Mean absolute error after one scale and shift for all, over the mean."""
    rows = np.stack([maps.ravel(), np.ones(maps.size)], 1)
    fitted = rows @ np.linalg.lstsq(rows, true.ravel(), rcond=None)[0]
    return float(np.abs(fitted - true.ravel()).mean() / np.abs(true).mean())


def test_without_noise_the_answer_is_exact():
    true, snippets, samples, undo = made(40, noise=0.0)
    found = register(samples, snippets)
    assert spread_of_scales(found, undo) < 1e-5
    assert error(merged(samples, snippets, found, 40), true) < 1e-5
    assert abs(np.log(found.scale).mean()) < 1e-9
    assert abs(found.shift.mean()) < 1e-9


@pytest.mark.parametrize(("outliers", "most"), [(0.0, 0.01), (0.05, 0.015), (0.2, 0.03)])
def test_outliers_do_not_move_it(outliers, most):
    _, snippets, samples, undo = made(50, outliers=outliers)
    found = register(samples, snippets)
    assert spread_of_scales(found, undo) < most
    # of no use where nothing is done
    assert spread_of_scales(Affine.none(len(snippets)), undo) > 0.3


def test_scales_do_not_drift_over_a_long_clip():
    _, snippets, samples, undo = made(120, noise=0.1, seed=3)
    ratio = np.log(register(samples, snippets).scale / undo.scale)
    slope = np.polyfit(np.arange(len(ratio)) / len(ratio), ratio, 1)[0]
    assert abs(slope) < 0.06


def descended(samples, snippets):
    return register_by_descent(samples, snippets, iterations=150, rate=2e-2)


def test_descent_agrees_with_the_closed_form():
    true, snippets, samples, _ = made(10, noise=0.01, dilations=(1, 2))
    closed, slow = (merged(samples, snippets, f(samples, snippets), 10) for f in (register, descended))
    alone = merged(samples, snippets, Affine.none(len(snippets)), 10)
    assert error(closed, true) < 0.015
    assert error(closed, true) <= error(slow, true) < 0.5 * error(alone, true)


def test_what_is_held_keeps_its_scale():
    _, snippets, samples, undo = made(40)
    held = Affine(undo.scale[:30] * 2, undo.shift[:30] * 2 + 1)
    found = register(samples, snippets, held=held)
    assert np.allclose(found.scale[:30], held.scale, atol=1e-4)
    assert np.allclose(found.shift[:30], held.shift, atol=1e-4)
    assert np.allclose(found.scale[30:], 2 * undo.scale[30:], rtol=0.03)
    assert np.allclose(found.shift[30:], 2 * undo.shift[30:] + 1, atol=0.05)


def test_snippets_that_share_nothing_stay_as_they_are():
    found = register(np.random.default_rng(0).random((2, 3, 20)).astype(np.float32), np.arange(6).reshape(2, 3))
    assert np.array_equal(found.scale, [1, 1])
    assert np.array_equal(found.shift, [0, 0])


def test_flat_maps_do_no_harm():
    _, snippets, samples, _ = made(20, dilations=(1, 4))
    samples[7] = 0.5
    found = register(samples, snippets)
    assert np.isfinite(found.scale).all()
    assert np.isfinite(found.shift).all()


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ConfigError, match="not finite"):
        register(np.full((2, 1, 4), np.nan, np.float32), np.zeros((2, 1), int))


def rolled(rolling, snippets, samples):
    """Everything that comes out: maps in order of frames, and after how many snippets each came."""
    maps, when = [], []
    for k, (frames, values) in enumerate(zip(snippets, samples, strict=True)):
        for frame, found in rolling.add(frames, values.reshape(-1, 12, 12)):
            assert frame == len(maps)
            maps.append(found.ravel())
            when.append(k)
    for frame, found in rolling.close():
        assert frame == len(maps)
        maps.append(found.ravel())
        when.append(len(snippets))
    return np.stack(maps), when


def test_blocks_are_as_good_as_the_whole():
    true, snippets, samples, _ = made(110, outliers=0.05, dilations=(1, 10))
    whole = error(merged(samples, snippets, register(samples, snippets), 110), true)
    blocks, when = rolled(Rolling(20, block=25, margin=8, points=POINTS), snippets, samples)
    assert error(blocks, true) < 1.03 * whole
    ends = snippets[:, -1]
    assert all(ends[min(k, len(ends) - 1)] - n <= 25 + 20 + 8 for n, k in enumerate(when))


def test_blocks_are_merged_without_alignment_where_that_is_asked_for():
    _, snippets, samples, _ = made(20, dilations=(1, 4))
    maps, _ = rolled(Rolling(8, align=False), snippets, samples)
    assert np.allclose(maps, merged(samples, snippets, Affine.none(len(snippets)), 20), atol=1e-3)


def test_a_short_clip_is_one_block_and_equals_the_whole():
    _, snippets, samples, _ = made(30, dilations=(1, 5))
    maps, _ = rolled(Rolling(10, points=POINTS), snippets, samples)
    inner = samples.reshape(*samples.shape[:2], 12, 12)[..., 2:-2, 2:-2].reshape(*samples.shape[:2], -1)
    whole = merged(samples, snippets, register(inner, snippets), 30)
    assert np.allclose(maps, whole, atol=2e-3)


def test_memory_does_not_grow_with_the_clip():
    def most(frames):
        _, snippets, samples, _ = made(frames, dilations=(1, 6))
        rolling, held = Rolling(12, block=16, margin=4, points=40), 0
        for place, values in zip(snippets, samples, strict=True):
            for _ in rolling.add(place, values.reshape(-1, 12, 12)):
                pass
            held = max(held, len(rolling.snippets))
        return held

    assert most(90) <= most(50) <= 2 * (16 + 2 * 12 + 4 + 2)


def test_one_frame_alone():
    rolling = Rolling(0)
    assert not list(rolling.add(np.array([0]), np.full((1, 4, 4), 0.25, np.float32)))
    ((frame, found),) = rolling.close()
    assert frame == 0
    assert np.allclose(found, 0.25, atol=1e-3)


def test_impossible_blocks_are_refused():
    with pytest.raises(ConfigError, match="a block of 0 frames"):
        Rolling(3, block=0)


def test_kinds_count_alike():
    rolling = Rolling(0, align=False)
    for value, kind in ((0.1, 0), (0.2, 0), (0.6, 1)):
        assert not list(rolling.add(np.zeros(1, int), np.full((1, 8, 8), value, np.float32), kind))
    ((_, found),) = rolling.close()
    assert np.allclose(found, (0.15 + 0.6) / 2, atol=1e-3)


def test_a_frame_without_a_snippet_is_an_error():
    rolling = Rolling(2)
    list(rolling.add(np.array([1, 2]), np.zeros((2, 4, 4), np.float32)))
    with pytest.raises(ConfigError, match="no snippet shows frame 0"):
        list(rolling.close())


def test_points_lie_on_a_grid_within_the_border():
    maps = np.arange(2 * 40 * 60, dtype=np.float32).reshape(2, 40, 60)
    found = sampled(maps, 100)
    assert found.shape == (2, 126)
    assert np.isin(found, maps[:, 2:-2, 2:-2]).all()
    assert sampled(maps[:, :3, :3], 100).shape == (2, 9)
