"""Control maps: of the frame's own size, what they show, and that they hold still in time."""

import cv2
import numpy as np
import pytest
import torch

from vrestore.controls import AHEAD, CONTROLS, control_maps
from vrestore.controls_learned import LEARNED
from vrestore.errors import ConfigError

WEIGHTLESS = [name for name in CONTROLS if name not in LEARNED]


@pytest.fixture
def clip(clips):
    """Frames that move, odd sizes."""
    return torch.from_numpy(clips.scene(10, (57, 83)).astype(np.float32) / 255).permute(0, 3, 1, 2)


def maps_of(names, frames, **more):
    begin = more.pop("begin", 0)
    return torch.stack(list(control_maps(names, **more).shot(iter(frames), begin)))


def square(level=0.8, ground=0.2):
    """A bright square on dark ground, (1, 3, 64, 96)."""
    picture = torch.full((1, 3, 64, 96), ground)
    picture[..., 16:48, 32:64] = level
    return picture


@pytest.mark.parametrize("name", WEIGHTLESS)
def test_a_map_has_the_size_of_the_frame(name, clip):
    """Odd as it is; nothing is rounded to a multiple of anything."""
    found = maps_of([name], clip)
    assert found.shape == clip.shape
    assert found.dtype == clip.dtype
    assert 0 <= found.min() < found.max() <= 1


@pytest.mark.parametrize("name", WEIGHTLESS)
def test_a_still_shot_has_still_maps(name, clip):
    """A new shot, another run, another length ahead: the same to the bit."""
    still = clip[:1].expand(AHEAD + 3, -1, -1, -1)
    found = maps_of([name], still)
    assert all(torch.equal(one, found[0]) for one in found)
    assert torch.equal(found, maps_of([name], still))


@pytest.mark.parametrize("name", ["sobel", "softedge", "lineart"])
def test_what_a_map_is_measured_by_holds_for_the_shot(name, clip):
    """A flash later in the shot changes its own map only; measured frame by frame all would look alike."""
    changed = clip.clone()
    changed[AHEAD + 1] = (changed[AHEAD + 1] - 0.5) / 8 + 0.5
    before, after = maps_of([name], clip), maps_of([name], changed)
    others = [i for i in range(len(clip)) if i != AHEAD + 1]
    assert torch.equal(before[others], after[others])
    assert after[AHEAD + 1].mean() < 0.5 * before[AHEAD + 1].mean()


def test_maps_of_a_resumed_shot_are_those_of_a_whole_one(clip):
    """Frames that are made already are only looked at."""
    names = ["softedge", "canny", "shuffle"]
    whole, resumed = maps_of(names, clip, seed=3), maps_of(names, clip, seed=3, begin=6)
    assert torch.equal(whole[6:], resumed[6:])
    assert not resumed[:6].any()


def test_few_frames_are_read_ahead(clip):
    for names, ahead in ((["canny", "shuffle", "tile"], 1), (["canny", "lineart"], AHEAD)):
        read = []
        stream = control_maps(names).shot(read.append(i) or frame for i, frame in enumerate(clip))
        for i, _ in enumerate(stream):
            assert len(read) <= max(i + 1, ahead)
        assert len(read) == len(clip)
    assert list(control_maps(["lineart"]).shot(iter(()))) == []


def test_several_maps_stand_one_after_another(clip):
    names = ["canny", "tile", "luma"]
    together = maps_of(names, clip[:2])
    assert together.shape == (2, 9, 57, 83)
    for i, name in enumerate(names):
        assert torch.equal(together[:, 3 * i : 3 * i + 3], maps_of([name], clip[:2]))


def test_canny_is_that_of_controlnet(clip):
    picture = (clip[0] * 255).round().byte().permute(1, 2, 0).numpy()
    expected = torch.from_numpy(cv2.Canny(picture, 100, 200)).float() / 255
    assert torch.equal(maps_of(["canny"], clip[:1])[0, 0], expected)
    assert set(maps_of(["canny"], square()).unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("name", ["canny", "sobel", "softedge"])
def test_edges_are_where_the_square_ends(name):
    found = maps_of([name], square())[0, 0]
    edge = torch.zeros(64, 96, dtype=torch.bool)
    edge[14:50, 30:66] = True
    edge[18:46, 34:62] = False
    assert found[edge].amax() == 1
    assert found[~edge].amax() < 0.2
    assert found[30, 30:34].amax() > 0.9


def test_a_flat_picture_has_no_edges():
    """Also with the noise of a camera: it is not made as bright as edges."""
    noisy = 0.5 + 0.002 * torch.randn(AHEAD, 3, 64, 96)
    for name in ("canny", "sobel", "softedge", "lineart"):
        assert maps_of([name], noisy).mean() < 0.1


def test_lineart_is_dark_lines_in_light():
    picture = torch.full((1, 3, 64, 96), 0.9)
    picture[..., 30:32, 10:80] = 0.1
    found = maps_of(["lineart"], picture)[0, 0]
    assert found[30:32, 20:70].amin() > 0.4
    assert found[40:].amax() < 0.1
    inverted = maps_of(["lineart"], 1 - picture)[0, 0]
    assert inverted[30:32, 20:70].amax() < 0.1


def test_blur_and_luma_leave_something_out(clip):
    checks = (torch.arange(64)[:, None] + torch.arange(96)) % 2
    fine = checks.float().expand(1, 3, -1, -1)
    assert maps_of(["blur"], fine)[0, :, 8:-8, 8:-8].std() < 0.05
    red = torch.zeros(1, 3, 8, 8)
    red[:, 0] = 1
    assert torch.allclose(maps_of(["luma"], red), torch.tensor(0.299))


def test_the_shuffle_displaces_and_its_seed_counts(clip):
    one, other = (maps_of(["shuffle"], clip[:2], seed=seed) for seed in (1, 2))
    assert not torch.allclose(one, other, atol=0.05)
    assert not torch.allclose(one, clip[:2], atol=0.05)
    assert one.amin() >= clip[:2].amin() - 1e-6
    x = torch.linspace(0, 1, 83).expand(1, 3, 57, -1)
    assert maps_of(["shuffle"], x).std() > 0.15  # it reaches all parts


def test_a_name_that_there_is_not():
    with pytest.raises(ConfigError, match=r"there is no control 'edges'; give canny, sobel, .* or a video of your own"):
        control_maps(["canny", "edges"])
