"""The training pool and its batches: functions of seed and data, with motion that fits the pictures."""

from itertools import product

import numpy as np
import pytest
import torch

from vrestore.degradation import Resize, to_uint8
from vrestore.flow import warp
from vrestore.weights.recipe import pool as recipe
from vrestore.weights.recipe.pool import Pool, batch_at, build_pool, clip_motion, degrade_clean, degrade_real, enlarge
from vrestore.weights.recipe.world import TextureBank, WorldConfig, footage_clips, render_clip

ARRAYS = ("sharp", "low", "motion")


def flat_batches(pool, seed, first, count, crop=32):
    found = [batch_at(pool, seed, step, crop, 0.45) for step in range(first, first + count)]
    return [(b.sharp, b.degraded, b.motion) for b in found]


def same(one, two):
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_the_pool_is_a_function_of_seed_and_data(data, pool_folder, pool_config, tmp_path):
    """Rendered again, in a process of its own, it has the same bytes."""
    said = []
    build_pool(tmp_path, data, pool_config, 1, said.append)
    for name in ARRAYS:
        assert (tmp_path / f"{name}.bin").read_bytes() == (pool_folder / f"{name}.bin").read_bytes()
    assert said == ["made 0 of 3", "pool of 3 clips, 1 of them footage"]


def test_shapes_and_contents(pool, data, pool_config):
    assert pool.sharp.shape == (3, 6, 3, 64, 64)
    assert pool.low.shape == (3, 2, 6, 3, 16, 16)
    assert pool.motion.shape == (3, 2, 6, 6, 8, 8)
    world, bank = WorldConfig(size=64, frames=6), TextureBank(data / "stills")
    for index in range(pool_config.clips):
        rng = np.random.default_rng([pool_config.seed, index])
        clip = render_clip(rng, bank, world)
        low = degrade_clean(clip), degrade_real(clip, rng)
        np.testing.assert_array_equal(pool.sharp[index], to_uint8(clip))
        np.testing.assert_array_equal(pool.low[index], torch.stack(low))
        for variant in range(2):
            np.testing.assert_array_equal(pool.motion[index, variant], clip_motion(enlarge(low[variant], 64)))
    (footage,) = footage_clips(data / "clips", world)
    np.testing.assert_array_equal(pool.sharp[2], footage.transpose(0, 3, 1, 2))
    assert not pool.motion[:, :, 0, :3].any()  # no neighbour there
    assert not pool.motion[:, :, -1, 3:].any()
    assert pool.motion[2, 0, 1:, 2].mean() > 0.5 * recipe.MOTION_UNIT


def test_another_seed_is_another_pool(pool, data):
    bank, world = TextureBank(data / "stills"), WorldConfig(size=64, frames=6)
    clip = render_clip(np.random.default_rng([4, 0]), bank, world)
    assert not np.array_equal(pool.sharp[0], to_uint8(clip))


def test_an_open_pool_cannot_be_written(pool):
    with pytest.raises(ValueError, match="read-only"):
        pool.sharp[0] = 0


def test_the_clean_reduction_is_bicubic():
    clip = torch.rand(2, 3, 32, 48)
    assert torch.equal(degrade_clean(clip), to_uint8(Resize((32, 48), (8, 12)).apply(clip)))


@pytest.mark.parametrize("seed", range(5))
def test_the_full_chain_keeps_what_is_there(seed):
    """A quarter of the size, the same from the same seed, and still the same picture: blur and codec keep its means."""
    clip = torch.nn.functional.interpolate(torch.rand(3, 3, 4, 4), size=(64, 64), mode="bicubic").clamp(0, 1)
    low = degrade_real(clip, np.random.default_rng(seed))
    assert (low.shape, low.dtype) == ((3, 3, 16, 16), torch.uint8)
    assert torch.equal(degrade_real(clip, np.random.default_rng(seed)), low)
    assert not torch.equal(degrade_real(clip, np.random.default_rng(seed + 50)), low)
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    difference = (low.float() / 255 - degrade_clean(clip).float() / 255) * luma
    assert difference.sum(1).mean().abs() < 0.03


@pytest.mark.parametrize(("y", "x"), [(0, 0), (8, 24), (32, 0), (32, 32), (16, 8)])
def test_an_enlarged_part_is_a_part_of_the_enlarged(y, x):
    low = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    whole = enlarge(torch.from_numpy(low), 64)
    assert torch.allclose(recipe._enlarge_part(low, y, x, 32), whole[..., y : y + 32, x : x + 32], atol=1e-6)


def aligned(frames, motion):
    """Each frame's two neighbours, warped onto it where they are visible: (time, 2, 3, h, w)."""
    outside = torch.zeros_like(frames[:1])
    earlier = warp(torch.cat([outside, frames[:-1]]), motion[:, 0:2]) * motion[:, 2:3]
    later = warp(torch.cat([frames[1:], outside]), motion[:, 3:5]) * motion[:, 5:6]
    return torch.stack([earlier, later], dim=1)


@pytest.mark.parametrize("choose", list(product([False, True], repeat=4)))
def test_augmented_motion_fits_the_augmented_pictures(choose):
    """Align, then mirror, transpose or reverse: the same as mirror, transpose or reverse, then align."""
    frames, motion = torch.rand(3, 3, 6, 9), torch.randn(3, 6, 6, 9)
    motion[:, [2, 5]] = torch.rand(3, 2, 6, 9)
    before = aligned(frames, motion)
    sharp, degraded, moved = recipe._augment(frames, 1 - frames, motion.clone(), np.array(choose))
    assert torch.equal(degraded, 1 - sharp)
    expected, *_ = recipe._augment(before.flatten(1, 2), before.flatten(1, 2), motion.clone(), np.array(choose))
    expected = expected.unflatten(1, (2, 3))
    if choose[3]:
        expected = expected.flip(1)  # what was earlier is later now
    assert torch.allclose(aligned(sharp, moved), expected, atol=1e-4)


def test_a_batch_depends_on_seed_and_step_alone(pool_folder):
    run = flat_batches(Pool.open(pool_folder), 5, 0, 6)
    late = flat_batches(Pool.open(pool_folder), 5, 3, 3)
    assert all(same(one, two) for one, two in zip(run[3:], late, strict=True))
    other = flat_batches(Pool.open(pool_folder), 6, 0, 6)
    assert not any(same(one, two) for one, two in zip(run, other, strict=True))
    assert not same(run[0], run[1])


def test_batches_hold_crops_in_range(pool):
    shapes, own, mirrored = set(), 0.0, 0.0
    for sharp, degraded, motion in flat_batches(pool, 0, 0, 12):
        shapes.add(sharp.shape[:2])
        assert sharp.shape == degraded.shape == (*sharp.shape[:2], 3, 32, 32)
        assert motion.shape == (*sharp.shape[:2], 6, 4, 4)
        assert 0 <= sharp.min() < sharp.max() <= 1
        assert -0.3 < degraded.min() < degraded.max() < 1.3
        own += (sharp - degraded).abs().mean()
        mirrored += (sharp.flip(-1) - degraded).abs().mean()
        assert motion[:, :, [2, 5]].min() >= 0
        assert motion[:, :, [2, 5]].max() <= 1
    assert shapes == {(6, 3), (3, 6)}
    assert own < 0.6 * mirrored  # they belong together
