"""The procedural world: a function of the seed, in range, with smooth motion and true exposure."""

import cv2
import numpy as np
import pytest
import torch

from vrestore.errors import ConfigError
from vrestore.weights.recipe import footage, world
from vrestore.weights.recipe.footage import footage_clips
from vrestore.weights.recipe.textures import KINDS, TextureBank
from vrestore.weights.recipe.world import WorldConfig, expose, instants, render_exposed, render_scene

SMALL = WorldConfig(size=32, frames=4)


@pytest.fixture(scope="module")
def bank(data):
    return TextureBank(data / "stills")


def render(bank, seed, shutter=0.0, sub=1):
    return render_exposed(np.random.default_rng(seed), bank, SMALL, shutter, sub)


@pytest.mark.parametrize("seed", range(6))
def test_a_clip_depends_on_the_seed(bank, seed):
    sharp, exposed = render(bank, seed, 0.5, 3)
    for clip in (sharp, exposed):
        assert clip.shape == (4, 3, 32, 32)
        assert clip.dtype == torch.float32
        assert clip.min() >= 0  # false for a value that is not a number, too
        assert clip.max() <= 1
    torch.rand(1)
    assert torch.equal(render(bank, seed, 0.5, 3)[1], exposed)
    assert not torch.equal(render(bank, seed + 100, 0.5, 3)[1], exposed)


def test_things_move_smoothly(bank):
    """A short time after, the same scene is nearly the same; a still scene is exactly the same."""
    near, far, still = [], [], []
    for seed in range(8):
        scene = render_scene(np.random.default_rng(seed), bank, SMALL, np.array([0, 0, 1e-3, 1]))
        still.append((scene[1] - scene[0]).abs().max())
        near.append((scene[2] - scene[0]).abs().mean())
        far.append((scene[3] - scene[0]).abs().mean())
    assert max(still) == 0
    assert 0 < max(near) < 2e-3
    assert np.mean(far) > 20 * np.mean(near)


def test_instants_lie_evenly_around_each_frame():
    times = instants(4, 0.6, 3).reshape(4, 3)
    np.testing.assert_allclose(times.mean(1), np.arange(4) - 1.5, atol=1e-12)
    np.testing.assert_allclose(np.diff(times, axis=1), 0.2)
    np.testing.assert_allclose(instants(2, 0.0, 1), [-0.5, 0.5])


def test_exposure_is_the_mean_in_linear_light():
    pictures = torch.zeros(6, 3, 2, 2)
    pictures[2] = 1  # a flash during the last third of the first frame
    pictures[3:] = 0.25  # the second frame is still
    pictures[0, 0, 0, 0] = -1e-8
    first, second = expose(pictures, 3)
    assert torch.allclose(first, torch.full((3, 2, 2), (1 / 3) ** (1 / 2.2)))
    assert torch.allclose(second, torch.full((3, 2, 2), 0.25))


@pytest.mark.parametrize("seed", range(3))
def test_an_exposed_clip_is_the_light_of_its_scene(bank, seed):
    """At any shutter the scene is the same: its sharp instants do not change."""
    pictures = render_scene(np.random.default_rng(seed), bank, SMALL, instants(4, 0.7, 5))
    sharp, exposed = render(bank, seed, 0.7, 5)
    assert torch.equal(exposed, expose(pictures, 5).clamp(0, 1))
    still, same = render(bank, seed)
    assert torch.allclose(sharp, still, atol=1e-5)
    assert torch.allclose(same, still, atol=1e-5)


def test_highlights_outshine_white_and_leave_streaks(bank, monkeypatch):
    monkeypatch.setattr(world, "HIGHLIGHTS", 1.0)
    seed = next(s for s in range(50) if render_scene(np.random.default_rng(s), bank, SMALL, np.zeros(1)).max() > 1.2)
    assert render_scene(np.random.default_rng(seed), bank, SMALL, np.zeros(1)).max() <= world.BRIGHTEST


def test_a_held_camera_shakes(bank, monkeypatch):
    """Its path bends where an unshaken camera's does not."""
    monkeypatch.setattr(world, "SHAKEN", 1.0)
    shaken = [
        world._shaken(np.random.default_rng(s), world._motion(np.random.default_rng(s), 2.0, 0.0), 2.0)
        for s in range(9)
    ]
    still = [world._motion(np.random.default_rng(s), 2.0, 0.0) for s in range(9)]
    times = np.linspace(-2, 2, 41)

    def bend(motion):
        place = motion.inverse(times)[:, :, 2]
        return np.abs(np.diff(place, 2, axis=0)).mean()

    assert np.mean([bend(m) for m in shaken]) > 5 * np.mean([bend(m) for m in still])


def test_some_shapes_are_thin():
    filled = [float(world._shape(np.random.default_rng(s), 60, 25.0).mean()) for s in range(60)]
    assert min(filled) < 0.06
    assert max(filled) > 0.3


@pytest.mark.parametrize("size", [20, 100, 170])
def test_textures_fill_their_size(bank, size):
    rng = np.random.default_rng(0)
    for _ in range(60):  # every kind
        texture = bank.sample(rng, size)
        assert texture.shape == (3, size, size)
        assert texture.dtype == torch.float32
        assert texture.min() >= 0
        assert texture.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_texture_is_made(bank, kind, monkeypatch):
    monkeypatch.setitem(KINDS, kind, 1.0)
    for other in set(KINDS) - {kind}:
        monkeypatch.setitem(KINDS, other, 0.0)
    textures = [bank.sample(np.random.default_rng(s), 64) for s in range(4)]
    assert all(t.shape == (3, 64, 64) for t in textures)
    assert max(float(t.std()) for t in textures) > 0.05
    if kind == "repeated":
        periods = [any(torch.equal(t[..., p:], t[..., :-p]) for p in range(4, 32)) for t in textures]
        assert all(periods)


def test_small_photographs_are_mirrored(tmp_path):
    """Where every photograph is much smaller than asked for, it is still a texture."""
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "small.png"), picture)
    bank, rng = TextureBank(tmp_path), np.random.default_rng(0)
    assert all(bank.sample(rng, 100).shape == (3, 100, 100) for _ in range(20))


def test_no_photographs_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ConfigError, match=r"no photographs \(\*\.jpg, \*\.png\) in .*give a folder"):
        TextureBank(tmp_path)


def test_soft_footage_is_reduced(data):
    """It is as good as 64 pixels high, so it is made 64 pixels high; it pans 4 pixels a frame, twice as large."""
    (clip,) = footage_clips(data / "clips", 16, 64)
    assert clip.shape == (16, 64, 64, 3)
    assert clip.dtype == np.uint8
    moved = np.abs(clip[1, :, :-2].astype(int) - clip[0, :, 2:]).mean()
    assert moved < 3 < np.abs(clip[1].astype(int) - clip[0]).mean()


def noisy(frames, height, width):
    return [np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8) for i in range(frames)]


def test_sharp_footage_is_covered_by_crops_of_itself():
    frames = noisy(6, 64, 100)
    assert footage._sharp_enough(frames, 64) is frames
    crops = footage._crops(frames, 64)
    assert [crop.shape for crop in crops] == [(6, 64, 64, 3)] * 2
    assert np.array_equal(crops[0], np.stack(frames)[:, :, :64])
    assert np.array_equal(crops[1], np.stack(frames)[:, :, 36:])


def test_large_footage_is_halved():
    assert footage._sharp_enough(noisy(1, 150, 200), 64)[0].shape == (75, 100, 3)


def test_footage_without_enough_frames_or_pixels_is_left_out(data, tmp_path):
    assert len(footage_clips(data / "clips", 17, 64)) == 0
    assert len(footage_clips(data / "clips", 6, 160)) == 0
    assert len(footage_clips(tmp_path, 4, 32)) == 0
