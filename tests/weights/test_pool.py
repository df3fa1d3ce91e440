"""Training pools and batches of every diet: functions of seed and data, with motion that fits the pictures."""

import json
import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from vrestore.errors import ConfigError
from vrestore.flow import warp
from vrestore.weights.recipe.arrays import diet_of, opened
from vrestore.weights.recipe.batch import MOTION_UNIT, Batch, augmented
from vrestore.weights.recipe.depth_pool import DepthPoolConfig, build_depth_pool, open_depth_pool
from vrestore.weights.recipe.diets import DIETS
from vrestore.weights.recipe.pool import build_pool

every_diet = pytest.mark.parametrize("name", DIETS)


def parts(batch):
    return [p for p in (batch.sharp, batch.degraded, batch.motion, batch.aligned) if p is not None]


def batches(folder, name, seed, first, count, crop=32):
    diet, pool = DIETS[name], opened(folder)
    rngs = [np.random.default_rng([seed, step]) for step in range(first, first + count)]
    return [diet.draw(pool, rng, crop, 0.45, diet.batch) for rng in rngs]


def same(one, two):
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(parts(one), parts(two), strict=True))


@every_diet
def test_a_pool_is_a_function_of_seed_and_data(name, data, pool_folders, pool_config, tmp_path):
    """Made again, by any number of processes, it has the same bytes."""
    said, jobs = [], {"restoration": 3, "deblurring": 1}.get(name, 0)
    build_pool(tmp_path / "again", data, DIETS[name], pool_config, jobs, said.append)
    files = sorted(p.name for p in pool_folders[name].iterdir())
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (pool_folders[name] / file).read_bytes()
    footage = 11 - DIETS[name].footage_frames
    count = 2 + footage
    assert said == [f"made {count} of {count}", f"pool of {count} clips, {footage} of them footage"]
    assert diet_of(tmp_path / "again", DIETS) == name


def test_a_pool_that_was_cut_off_is_used_and_goes_on(data, pool_folders, pool_config, tmp_path):
    """Clips that are not made yet are not drawn; and it becomes what it would have been."""
    pool = tmp_path / "pool"
    shutil.copytree(pool_folders["restoration"], pool)
    facts = json.loads((pool / "pool.json").read_text())
    (pool / "pool.json").write_text(json.dumps(facts | {"done": 5}))
    whole = opened(pool_folders["restoration"])
    for name, array in opened(pool, "r+").items():
        array[5:] = 0
        np.testing.assert_array_equal(opened(pool)[name], whole[name][:5])
    said = []
    build_pool(pool, data, DIETS["restoration"], pool_config, 0, said.append)
    assert len(said) == 2
    for name, array in opened(pool).items():
        np.testing.assert_array_equal(array, whole[name])
    with pytest.raises(ConfigError, match="holds another pool"):
        build_pool(pool, data, DIETS["restoration"], replace(pool_config, seed=9), 0, said.append)


def test_clips_with_depth_are_the_same_from_any_number_of_processes(data, tmp_path):
    config, said = DepthPoolConfig(clips=3, frames=2, height=24, width=32, seed=4), []
    for jobs in (0, 2):
        build_depth_pool(tmp_path / str(jobs), data, config, said.append, jobs)
    assert said == ["made 3 of 3"] * 2
    for one, two in zip(open_depth_pool(tmp_path / "0"), open_depth_pool(tmp_path / "2"), strict=True):
        np.testing.assert_array_equal(one, two)


def test_no_pool_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no pool in .*; make one first"):
        diet_of(tmp_path, DIETS)


@every_diet
def test_an_open_pool_cannot_be_written(name, pool_folders):
    with pytest.raises(ValueError, match="read-only"):
        opened(pool_folders[name])["sharp"][0] = 0


@every_diet
def test_a_batch_depends_on_seed_and_step_alone(name, pool_folders):
    run = batches(pool_folders[name], name, 5, 0, 6)
    late = batches(pool_folders[name], name, 5, 3, 3)
    assert all(same(one, two) for one, two in zip(run[3:], late, strict=True))
    other = batches(pool_folders[name], name, 6, 0, 6)
    assert not any(one.sharp.shape == two.sharp.shape and same(one, two) for one, two in zip(run, other, strict=True))
    assert not (run[0].sharp.shape == run[1].sharp.shape and same(run[0], run[1]))


@every_diet
def test_batches_hold_crops_in_range(name, pool_folders):
    own, mirrored = 0.0, 0.0
    for batch in batches(pool_folders[name], name, 0, 0, 12):
        sharp, degraded, motion = batch.sharp, batch.degraded, batch.motion
        assert sharp.shape == degraded.shape == (*sharp.shape[:2], 3, 32, 32)
        cells = 4 if name == "interpolation" else 8
        assert motion.shape == (*sharp.shape[:2], 6, cells, cells)
        assert 0 <= sharp.min() < sharp.max() <= 1
        assert -0.3 < degraded.min() < degraded.max() < 1.3
        own += (sharp - degraded).abs().mean()
        mirrored += (sharp.flip(-1) - degraded).abs().mean()
        assert motion[:, :, [2, 5]].min() >= 0
        assert motion[:, :, [2, 5]].max() <= 1
    assert own < 0.6 * mirrored  # they belong together


@every_diet
def test_keys_are_given_as_they_are(name, pool_folders):
    for batch in batches(pool_folders[name], name, 1, 0, 4):
        keys, wanted = list(batch.keys), [i for i in range(batch.sharp.shape[1]) if i not in batch.keys]
        assert torch.equal(batch.sharp[:, keys], batch.degraded[:, keys])
        assert not torch.equal(batch.sharp[:, wanted], batch.degraded[:, wanted])


def neighbours(batch):
    """Each frame's two neighbours, warped onto it where they are visible: (1, time, 6, h, w)."""
    frames, motion = batch.sharp[0], batch.motion[0]
    outside = torch.zeros_like(frames[:1])
    earlier = warp(torch.cat([outside, frames[:-1]]), motion[:, 0:2]) * motion[:, 2:3]
    later = warp(torch.cat([frames[1:], outside]), motion[:, 3:5]) * motion[:, 5:6]
    return torch.cat([earlier, later], dim=1)[None]


@pytest.mark.parametrize("choose", list(product([False, True], repeat=4)))
def test_augmented_motion_fits_the_augmented_pictures(choose):
    """Align, then mirror, transpose or reverse: the same as mirror, transpose or reverse, then align."""
    frames, motion = torch.rand(1, 3, 3, 6, 9), torch.randn(1, 3, 6, 6, 9)
    motion[:, :, [2, 5]] = torch.rand(1, 3, 2, 6, 9)
    before = Batch(frames, 1 - frames, motion, keys=(0,))
    found = augmented(Batch(frames, 1 - frames, motion.clone(), neighbours(before), (0,)), np.array(choose))
    assert torch.equal(found.degraded, 1 - found.sharp)
    assert torch.allclose(neighbours(found), found.aligned, atol=1e-4)
    assert found.keys == ((2,) if choose[3] else (0,))


def test_motion_in_a_pool_is_that_of_its_footage(pool_folders):
    """It pans by two pixels a frame: in the previous one everything lies a quarter of a latent pixel to the right."""
    for name in ("restoration", "deblurring"):
        pool = opened(pool_folders[name])
        stored = pool["motion"][0] if name == "deblurring" else pool["motion"][0, 0]
        moved = stored[1:-1, :2, 2:-2, 2:-2] / MOTION_UNIT
        assert np.median(moved[:, 0]) == pytest.approx(0.25, abs=0.05)
        assert np.median(moved[:, 1]) == pytest.approx(0, abs=0.05)
