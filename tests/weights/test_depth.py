"""The world with depth and what depth is trained on: geometry that is known, pools that resume, losses that fall."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import ConfigError
from vrestore.weights import locate
from vrestore.weights.recipe import depth
from vrestore.weights.recipe.depth_build import Builder, Lamp
from vrestore.weights.recipe.depth_examples import Examples, Mirror, Readout
from vrestore.weights.recipe.depth_film import as_filmed
from vrestore.weights.recipe.depth_furniture import Piece
from vrestore.weights.recipe.depth_pool import (
    DepthPoolConfig,
    build_depth_pool,
    make_clip,
    open_depth_pool,
    unit_disparity,
)
from vrestore.weights.recipe.depth_scenes import SCENES, filmed
from vrestore.weights.recipe.depth_world import Ball, Camera, Scene, Surface, Texture, render
from vrestore.weights.recipe.editing import shared_autoencoder
from vrestore.weights.recipe.textures import TextureBank

SMALL = DepthPoolConfig(clips=4, frames=3, height=32, width=48, seed=5)
SIZE = (48, 64)
AHEAD = Camera.looking(np.zeros(3), np.zeros(3), 1.0)


def plain(value):
    return Texture.of(np.full((16, 16, 3), value, np.uint8))


def wall(depth, value, half=100.0):
    """Facing the camera."""
    return Surface(
        np.array([-half, -half, depth]), np.array([2 * half, 0, 0]), np.array([0, 2 * half, 0]), plain(value)
    )


def seen(surfaces=(), balls=(), camera=AHEAD, **more):
    pictures, near = render(Scene(surfaces, balls, plain(7), **more), [camera], [0.0], SIZE)
    return pictures[0], near[0]


def test_a_wall_is_as_far_as_it_is():
    picture, near = seen([wall(4, 200)])
    assert np.allclose(near, 0.25)
    assert (picture == 200).all()


def test_what_is_nearer_hides_what_is_behind_in_any_order():
    for surfaces in ([wall(2, 50, 0.2), wall(4, 200)], [wall(4, 200), wall(2, 50, 0.2)]):
        picture, near = seen(surfaces)
        assert np.allclose(near[24, 32], 0.5)
        assert (picture[24, 32] == 50).all()
        assert np.allclose(near[0, 0], 0.25)
    # half a width of 0.2 at depth 2, with a focal length of one width: 0.1 of the width to either side
    assert (near > 0.375).mean() == pytest.approx(4 * 0.1 * 0.1 * SIZE[1] / SIZE[0], rel=0.15)


def test_the_ground_rises_to_the_horizon():
    ground = Surface(np.array([-500.0, 1, 0]), np.array([1000.0, 0, 0]), np.array([0, 0, 1000.0]), plain(90))
    _, near = seen([ground])
    rows = (np.arange(SIZE[0]) + 0.5 - SIZE[0] / 2) / SIZE[1]
    assert np.allclose(near[26:, 32], rows[26:], atol=1e-3)  # height 1: one over depth is the ray's slope
    assert (near[:23] == 0).all()


def test_a_ball_is_nearest_in_its_middle():
    ball = Ball(np.array([0, 0, 3.0]), np.full(3, 0.5), plain(120), np.array([0, 0, -1.0]))
    _, near = seen(balls=[ball])
    assert near.max() == pytest.approx(1 / 2.5, rel=2e-3)
    assert near[24, 32] == pytest.approx(near.max(), rel=1e-3)
    assert near[2, 2] == 0


def test_cameras_move_and_turn():
    left = Camera.looking(np.array([0, 0, 1.0]), np.zeros(3), 1.0)
    assert np.allclose(seen([wall(4, 9)], camera=left)[1], 1 / 3)
    turned = Camera.looking(np.zeros(3), np.array([0.3, 0, 0]), 1.0)
    _, near = seen([wall(4, 9)], camera=turned)
    assert near[24, 0] > near[24, -1]  # looking to the right, the wall comes nearer at the left
    rolled = Camera.looking(np.zeros(3), np.array([0, 0, 0.7]), 1.0)
    assert np.allclose(seen([wall(4, 9)], camera=rolled)[1], 0.25)


def test_fog_hides_what_is_far():
    clear, _ = seen([wall(50, 10)])
    foggy, _ = seen([wall(50, 10)], fog=0.1, fog_colour=(1.0, 1.0, 1.0))
    assert clear.max() <= 10
    assert foggy.min() > 240


def test_small_versions_of_a_texture_are_used_where_it_is_far():
    checked = np.indices((64, 64)).sum(0) % 2 * 255
    texture = Texture.of(np.repeat(checked[..., None], 3, -1).astype(np.uint8))
    u = v = np.full((1, 2), 0.37, np.float32)
    assert set(np.unique(texture.look(u, v, np.full((1, 2), 1 / 64)))) != {127}
    assert np.abs(texture.look(u, v, np.full((1, 2), 8 / 64)).astype(int) - 127).max() <= 1


@pytest.fixture(scope="module")
def bank(data):
    return TextureBank(data / "stills")


@pytest.mark.parametrize("turned", [0.0, np.pi / 2])
def test_one_sees_between_the_legs_of_a_table(bank, turned):
    build = Builder(np.random.default_rng(0), bank, [Lamp(np.array([0, -2.0, 0]), 1.0)], 0.5, [], [], [])
    table = Piece(build, np.array([0, 0.5, 3.0]), turned)
    assert np.allclose(table.place(0.0, 0.0, -1.0), [-np.sin(turned), 0.5, 3 - np.cos(turned)])
    table.legs(1.0, 1.0, 1.0)
    wide = 256
    _, near = render(Scene([*build.surfaces, wall(8, 200)], [], plain(7)), [AHEAD], [0.0], (48, wide))
    left, right = (wide * (0.5 + sign * 0.5 / np.array([2.5, 3.5])) for sign in (-1, 1))
    row = near[0, 24]
    assert row[int(left[0]) + 1] == row[int(right[0]) - 1] == pytest.approx(1 / 2.5, rel=0.02)
    assert row[int(left[1]) + 1] == row[int(right[1]) - 1] == pytest.approx(1 / 3.5, rel=0.02)
    assert np.allclose(row[int(left[1]) + 8 : int(right[1]) - 8], 1 / 8)


def test_a_clip_is_filmed_by_one_camera():
    ramp = np.linspace(20, 230, 48 * 64 * 3).reshape(1, 48, 64, 3).astype(np.uint8)
    shown = [as_filmed(np.random.default_rng(seed), np.repeat(ramp, 2, 0)) for seed in range(12)]
    for first, second in shown:
        assert first.dtype == np.uint8
        assert np.abs(first.mean((0, 1)) - second.mean((0, 1))).max() < 1.5  # but for noise, the same
    levels = [clip.mean() for clip in shown]
    assert max(levels) > 1.5 * min(levels)


@pytest.mark.parametrize("kind", SCENES, ids=lambda kind: kind.make.__name__)
def test_every_kind_of_scene_is_seen(kind, bank):
    rng = np.random.default_rng(3)
    scene, place, _ = kind.make(rng, bank)
    pictures, near = render(scene, [Camera.looking(place, np.zeros(3), 0.8)], [0.0], SIZE)
    assert pictures.shape == (1, *SIZE, 3)
    assert np.isfinite(near).all()
    assert near.min() >= 0
    assert near.max() < 9


def test_views_are_of_something(bank):
    scene, cameras, times = filmed(np.random.default_rng(1), bank, 3)
    assert len(cameras) == len(times) == 3
    _, near = render(scene, cameras, times, SIZE)
    low, high = np.percentile(near, [2, 98])
    assert high > 1.2 * max(low, 1e-3)


@pytest.fixture(scope="module")
def pool(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("depth") / "pool"
    build_depth_pool(folder, data, SMALL, lambda text: None)
    return folder


def test_a_pool_is_a_function_of_its_seed_and_goes_on(pool, data, bank):
    pictures, near = open_depth_pool(pool)
    assert pictures.shape == (4, 3, 32, 48, 3)
    again = make_clip(bank, SMALL, 2)
    assert np.array_equal(again[0], pictures[2])
    assert np.allclose(again[1], near[2].astype(np.float32), rtol=2e-3)
    facts = json.loads((pool / "pool.json").read_text())
    (pool / "pool.json").write_text(json.dumps(facts | {"done": 2}))
    assert len(open_depth_pool(pool)[0]) == 2
    build_depth_pool(pool, data, SMALL, lambda text: None)
    assert len(open_depth_pool(pool)[0]) == 4
    with pytest.raises(ConfigError, match="holds another pool"):
        build_depth_pool(pool, data, DepthPoolConfig(seed=6), lambda text: None)
    with pytest.raises(ConfigError, match="no pool in"):
        open_depth_pool(pool / "none")


def test_inverse_depth_in_units_of_a_clip():
    near = np.linspace(1, 3, 5001, dtype=np.float32).reshape(1, 1, -1)
    found = unit_disparity(near)
    assert np.allclose(np.percentile(found, [2, 98]), [-1, 1], atol=1e-3)
    assert np.allclose(unit_disparity(3 * near), found, atol=1e-5)


def test_latents_are_made_once_and_the_map_is_read_off_them(pool, tmp_path):
    vae = shared_autoencoder()
    examples = Examples(pool, tmp_path, vae)
    first = examples.latents(0)
    assert first.shape == (3, 2, 16, 4, 6)
    examples._vae = None  # what is kept needs no autoencoder
    assert torch.equal(examples.latents(0), first)
    examples._vae = vae
    readout = Readout(examples)
    found = readout(examples.latents(1)[:, 1])
    target, near = examples.maps(1)
    assert found.shape == target.shape == (3, 16, 24)
    assert target[1, 2, 3] == pytest.approx(float(examples.target(1)[1, 4:6, 6:8].mean()), abs=2e-3)
    assert near[2, 5, 7] == pytest.approx(float(examples.near(1)[2, 10:12, 14:16].mean()), rel=2e-3)
    assert (found - target).abs().mean() < 0.5 * (target - target.mean()).abs().mean()


def test_examples_at_half_the_size(pool, tmp_path):
    vae = shared_autoencoder()
    whole, half = (Examples(pool, tmp_path / str(n), vae, n) for n in (1, 2))
    assert half.latents(0).shape == (3, 2, 16, 2, 3)
    assert half.near(0)[1, 2, 3] == pytest.approx(whole.near(0)[1, 4:6, 6:8].mean(), rel=1e-5)
    assert half.pictures(0)[1, 2, 3, 1] == pytest.approx(whole.pictures(0)[1, 4:6, 6:8, 1].mean(), rel=1e-5)


def test_mirrored_latents_are_told_by_those_of_the_picture(pool, tmp_path):
    examples = Examples(pool, tmp_path, shared_autoencoder())
    mirror = Mirror(examples)
    found = mirror(examples.latents(1))
    for kind in (0, 1):
        true = examples.mirrored(1, kind)
        assert (found[:, kind] - true).square().mean() < 0.25 * true.var()
        assert (found[:, kind] - true).square().mean() < 0.5 * (examples.latents(1)[:, kind] - true).square().mean()


def test_training_lowers_the_loss_and_a_run_without_weights_at_noise_ignores_it(pool, tmp_path):
    vae = shared_autoencoder()
    losses = depth.Seeing(Examples(pool, tmp_path, vae))
    model = depth.DepthNetwork((16, 32))
    picture = losses.examples.latents(0)[:, 0]
    with torch.no_grad():
        a, b = (model(picture, torch.randn_like(picture), torch.full((3,), 999)) for _ in range(2))
    assert torch.equal(a, b)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    totals = []
    for step in range(14):
        parts = losses(model, np.random.default_rng([0, step % 2]), step)
        total = torch.stack(list(parts.values())).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert np.mean(totals[-2:]) < 0.9 * np.mean(totals[:2])


def test_training_goes_on_from_what_was_exported(tmp_path):
    torch.manual_seed(0)
    model = depth.DepthNetwork((16, 32)).eval()
    picture, times = torch.randn(2, 16, 4, 6), torch.full((2,), 999)
    expected = model(picture, picture, times, 2).detach()
    depth.export(model, tmp_path)
    index, ours = (json.loads((folder / "model_index.json").read_text()) for folder in (tmp_path, locate("depth")))
    assert index == {name: value for name, value in ours.items() if name != "completion"}  # trained after it
    again = depth.load(tmp_path)
    assert all(weight.dtype == torch.float32 for weight in again.parameters())
    assert torch.allclose(again.eval()(picture, picture, times, 2), expected, atol=2e-3)


@settings(max_examples=10, deadline=None)
@given(keep=st.floats(0, 1))
def test_weights_are_mixed_with_those_before(keep):
    networks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        networks.append(depth.DepthNetwork((16, 32)))
    mixed, new, old = networks
    depth.mix(mixed, old, keep)
    for weight, a, b in zip(*(network.parameters() for network in (mixed, new, old)), strict=True):
        torch.testing.assert_close(weight, (1 - keep) * a + keep * b, atol=1e-6, rtol=1e-5)


def test_maps_are_judged_up_to_a_scale_and_a_shift():
    near = np.random.default_rng(0).uniform(0.1, 1, (2, 9, 9)).astype(np.float32)
    assert depth.scores(3 * near - 1, near) == pytest.approx((0, 1), abs=1e-5)
    assert depth.scores(np.zeros_like(near), near)[0] > 0.3


def test_the_loss_is_of_parts_of_what_is_true_up_to_a_scale_and_a_shift():
    near = torch.from_numpy(np.random.default_rng(0).uniform(0.2, 1, (2, 3, 9, 9)).astype(np.float32))
    assert depth.relative(30 * near - 5, near) < 1e-3
    flat = depth.relative(torch.zeros_like(near), near)
    assert 0.2 < flat < 1
    other = near.clone()
    other[0, 0, 0, 0] = 0  # the sky, of which nothing is asked
    assert depth.relative(30 * near - 5, other) < 1e-3
    found = torch.randn(near.shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    depth.relative(found, near).backward()
    assert found.grad.abs().max() > 0
