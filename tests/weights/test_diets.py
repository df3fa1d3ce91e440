"""What the diets make of a clip: reductions, exposures, and what lies between two frames."""

import numpy as np
import pytest
import torch

from vrestore.degradation import Resize, to_uint8
from vrestore.flow import between, flow_pair
from vrestore.priors.motion import aligned_between
from vrestore.weights.recipe.arrays import opened
from vrestore.weights.recipe.batch import clip_motion, frames_of, packed_motion, unit
from vrestore.weights.recipe.diets import DIETS, deblurring, interpolation
from vrestore.weights.recipe.diets.deblurring import longer_exposure
from vrestore.weights.recipe.diets.restoration import (
    CHAINS,
    degrade_clean,
    degrade_real,
    degrade_soft,
    enlarge,
    enlarge_part,
    noisy,
)
from vrestore.weights.recipe.footage import footage_clips
from vrestore.weights.recipe.textures import TextureBank
from vrestore.weights.recipe.world import WorldConfig, expose, render_exposed


def moving(frames=5, speed=3, size=64):
    """A texture that pans by ``speed`` pixels a frame: (frames, 3, size, size)."""
    coarse = torch.from_numpy(np.random.default_rng(2).random((1, 1, 8, 20), np.float32))
    wide = torch.nn.functional.interpolate(coarse, (size, size * 5 // 2), mode="bicubic")[0].clamp(0, 1)
    grey = [wide[:, :, 10 + speed * i : 10 + speed * i + size] for i in range(frames)]
    return torch.stack(grey).expand(-1, 3, -1, -1).contiguous()


def test_a_restoration_pool_holds_the_clean_reduction_and_several_chains(pool, data, pool_config):
    variants = 1 + CHAINS
    assert pool["sharp"].shape == (13, 6, 3, 64, 64)
    assert pool["low"].shape == (13, variants, 6, 3, 16, 16)
    assert pool["motion"].shape == (13, variants, 6, 6, 16, 16)
    first = footage_clips(data / "clips", 6, 64)[0]
    rng = np.random.default_rng([pool_config.seed, 0])
    clip = frames_of(first)
    low = degrade_clean(clip), *(degrade_real(clip, rng) for _ in range(CHAINS))
    np.testing.assert_array_equal(pool["sharp"][0], first.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(pool["low"][0], torch.stack(low))
    for variant in range(variants):
        expected = packed_motion(clip_motion(enlarge(low[variant], 64)))
        np.testing.assert_array_equal(pool["motion"][0, variant], expected)
    assert not pool["motion"][:, :, 0, :3].any()  # no neighbour there
    assert not pool["motion"][:, :, -1, 3:].any()


def test_restoration_windows_are_short_and_long(pool):
    diet, rng = DIETS["restoration"], np.random.default_rng(0)
    assert {diet.draw(pool, rng, 32, 0.5, 18).sharp.shape[:2] for _ in range(12)} == {(6, 3), (3, 6)}
    assert {diet.draw(pool, rng, 32, 0.5, 6).sharp.shape[:2] for _ in range(12)} == {(2, 3), (1, 6)}


def test_whole_windows_are_as_long_as_clips(pool):
    found = DIETS["restoration"].draw(pool, np.random.default_rng(0), 32, 0.5, 21, whole=True)
    assert found.sharp.shape[:2] == (21 // pool["sharp"].shape[1], pool["sharp"].shape[1])


def test_the_soft_reduction_lies_between_pixels_so_that_centres_agree():
    ramp = (torch.arange(64) / 64).expand(1, 3, 64, 64)
    low = degrade_soft(ramp, 1.6)
    assert low.shape == (1, 3, 16, 16)
    centres = 255 * (4 * torch.arange(16) + 1.5) / 64
    assert (low[0, 0, 8, 4:-4] - centres[4:-4]).abs().max() <= 0.51
    spot = torch.zeros(1, 3, 64, 64)
    spot[..., 29:31, 29:31] = 1
    sizes = [int(degrade_soft(spot, sigma).amax()) for sigma in (0.5, 1.2, 2.0)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("levels", [1.0, 3.0])
def test_added_noise_is_of_its_deviation_and_new_in_every_frame(levels):
    low = np.full((4, 3, 40, 40), 128, np.uint8)
    found = noisy(low, levels, np.random.default_rng(0))
    error = found.astype(float) - 128
    assert found.dtype == np.uint8
    assert error.mean() == pytest.approx(0, abs=0.1)
    assert error.std() == pytest.approx(np.hypot(levels, np.sqrt(1 / 12)), rel=0.05)  # and rounding
    assert abs(np.corrcoef(error[0].ravel(), error[1].ravel())[0, 1]) < 0.1


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
    assert torch.allclose(enlarge_part(low, y, x, 32), whole[..., y : y + 32, x : x + 32], atol=1e-6)


def test_a_rendered_exposure_is_the_mean_of_its_instants(data, pool_config, monkeypatch):
    """What the pool holds as blurred is the light of the sharp world, added up over the shutter's time."""
    monkeypatch.setattr(deblurring, "SHARP", 0.0)
    bank, seed = TextureBank(data / "stills"), 7
    found = DIETS["deblurring"].rendered(np.random.default_rng(seed), bank, pool_config)
    rng = np.random.default_rng(seed)
    rng.random()  # whether there is blur
    world = WorldConfig(size=64, frames=6, speed=deblurring.SPEED)
    sharp, _ = render_exposed(rng, bank, world, rng.uniform(*deblurring.SHUTTERS), deblurring.SUB_FRAMES)
    np.testing.assert_array_equal(found["sharp"], to_uint8(sharp))
    assert found["blurred"].shape == found["sharp"].shape


def test_an_exposure_of_footage_is_that_of_its_motion():
    """It pans by three pixels a frame: with three instants in the whole time of a frame, one pixel apart."""
    clip = moving()
    found = longer_exposure(clip, 1.0, 3)
    expected = expose(torch.stack([clip[i].roll(-d, dims=-1) for i in range(1, 4) for d in (-1, 0, 1)]), 3)
    inner = (..., slice(12, -12), slice(12, -12))
    assert (found - expected)[inner].abs().mean() < 0.005
    assert (clip[1:-1] - expected)[inner].abs().mean() > 0.005


@pytest.mark.parametrize("count", [3, 5])
def test_means_of_frames_lie_around_their_middle(count, pool_config, monkeypatch):
    monkeypatch.setattr(deblurring, "SHARP", 0.0)
    monkeypatch.setattr(deblurring, "AVERAGED", {count: 1.0})
    clip = (moving(16, 1).permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    found = DIETS["deblurring"].filmed(np.random.default_rng(1), clip, pool_config)
    starts = [i for i in range(16) if np.array_equal(found["sharp"][0], clip[i].transpose(2, 0, 1))]
    (first,) = starts
    frames = frames_of(clip)
    expected = expose(frames[first - count // 2 : first + count // 2 + 1], count)
    assert (unit(found["blurred"])[0] - expected[0]).abs().mean() < 0.02
    assert found["blurred"].shape == found["sharp"].shape == (6, 3, 64, 64)


def test_longer_strides_show_more_blur(pool_config, monkeypatch):
    monkeypatch.setattr(deblurring, "SHARP", 0.0)
    monkeypatch.setattr(deblurring, "AVERAGED", {3: 0.0})
    monkeypatch.setattr(deblurring, "SHUTTERS", (0.99, 1.0))
    clip = (moving(16, 2).permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    lost = []
    for stride in deblurring.STRIDES:
        monkeypatch.setattr(deblurring, "STRIDES", (stride,))
        found = DIETS["deblurring"].filmed(np.random.default_rng(4), clip, pool_config)
        lost.append(np.abs(found["sharp"].astype(int) - found["blurred"])[..., 12:-12].mean())
    assert lost[1] > 1.3 * lost[0]


def test_sharp_footage_stays_sharp(pool_config, monkeypatch):
    monkeypatch.setattr(deblurring, "SHARP", 1.0)
    clip = (moving(16).permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    found = DIETS["deblurring"].filmed(np.random.default_rng(3), clip, pool_config)
    np.testing.assert_array_equal(found["sharp"], clip[:6].transpose(0, 3, 1, 2))
    assert np.abs(found["blurred"].astype(int) - found["sharp"]).mean() < 4  # noise and codec at most


def test_a_triplet_holds_what_flow_makes_of_it(pool_folders):
    pool = opened(pool_folders["interpolation"])
    made = {name: unit(pool[name][2, 0]) for name in interpolation.PICTURES}
    lies_between = made["blend"]
    for side in ("from_left", "from_right"):
        assert (made[side] - lies_between).abs().mean() < 0.1
    crop = (..., slice(12, -12), slice(12, -12))
    assert (made["blend"] - made["sharp"])[crop].abs().mean() < 0.02
    assert (made["left"] - made["sharp"])[crop].abs().mean() > 0.02


def test_interpolation_is_tested_on_every_second_frame():
    clip = moving(7)
    ((batch, start), *rest) = DIETS["interpolation"].tests({"pan": clip})["every second"]
    assert len(rest) == 2
    assert batch.keys == (0, 2)
    assert torch.equal(batch.sharp[0], clip[:3])
    assert torch.allclose(batch.degraded[0, 1].clamp(0, 1), start[0])
    assert (start[0] - clip[1])[:, 12:-12, 12:-12].abs().mean() < 0.01
    assert batch.aligned.shape == (1, 3, 6, 64, 64)
    assert not batch.aligned[:, [0, 2]].any()


def test_restoration_is_tested_from_bicubic():
    clip = moving(3)
    found = DIETS["restoration"].tests({"pan": clip})
    assert set(found) == {"clean", "soft", "real"}
    ((batch, start),) = found["clean"]
    low = Resize((64, 64), (16, 16)).apply(clip)
    expected = Resize((16, 16), (64, 64)).apply((low.clamp(0, 1) * 255).round() / 255)
    assert torch.allclose(start, expected, atol=1e-5)
    assert torch.equal(batch.degraded[0], start)


def test_what_lies_beside_is_told_from_the_blend():
    clip = moving(3)
    made = between(clip[0], clip[2], flow_pair(clip[0], clip[2]), 0.5)
    beside = aligned_between(made)
    assert beside.shape == (6, 64, 64)
    assert torch.allclose(beside[:3] + made.blend[0], made.from_left[0], atol=1e-6)
