"""Editing: prompts over time, masks, maps and files beside the output, on a small random prior."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vrestore import edit
from vrestore.errors import ConfigError, OutputError
from vrestore.metrics import psnr_y
from vrestore.padding import pad_to
from vrestore.priors import prior_of
from vrestore.report import RunOptions
from vrestore.tasks.editing import Editing, EditingConfig
from vrestore.video import open_reader

ROOT = Path(__file__).parents[2]
SIZE = (24, 40)


def made(settings, source, **more):
    return torch.stack(list(Editing(**settings | more).stream(source, RunOptions())))


def autoencoded(settings, source):
    """What is left of the frames by the autoencoder alone."""
    with open_reader(source) as reader:
        frames = torch.stack([torch.from_numpy(frame.rgb) for frame in reader.frames()])
    prior = prior_of(EditingConfig(**settings)).load(torch.device("cpu"), torch.float32)
    padded = torch.stack([pad_to(frame, prior.facts.size_multiple) for frame in frames])
    return prior.decode(prior.encode(padded), {})[..., : SIZE[0], : SIZE[1]].clamp(0, 1)


def db(a, b):
    return float(-10 * torch.log10((a - b).square().mean().clamp(min=1e-10)))


def test_the_prompt_counts_and_nothing_else_changes_with_it(settings, film):
    stone, again, noise = (made(settings, film, prompt=text) for text in ("a sharp stone", "a sharp stone", "noise"))
    assert torch.equal(stone, again)
    assert not torch.equal(stone, noise)


def test_prompts_over_time_are_those_of_runs_with_each(settings, film, tmp_path):
    """Frames that attend to no others stand for themselves: the first half has one prompt, the second the other."""
    settings |= {"cross_window": False}
    (tmp_path / "p.toml").write_text(
        '[[prompt]]\ntext = "a stone"\nto = "00:00:00:04"\n[[prompt]]\ntext = "noise"\nfrom = 0.16\n'
    )
    found = made(settings, film, prompt=None, prompts=tmp_path / "p.toml")
    stone, noise = (made(settings, film, prompt=text) for text in ("a stone", "noise"))
    assert torch.equal(found[:4], stone[:4])
    assert torch.equal(found[4:], noise[4:])


def test_maps_lead_the_edit(settings, film):
    tile, canny, light, none = (
        made(settings, film, control=control) for control in (None, ("canny",), ("tile:0.1",), ("none",))
    )
    for other in (canny, light, none):
        assert not torch.equal(tile, other)
    assert torch.equal(tile, made(settings, film, control=("tile",)))
    assert torch.equal(none, made(settings, film, control=("tile:0",)))


def test_a_map_of_ones_own_is_taken(settings, film):
    """The film itself as a map is what tile is, to the bit."""
    own = made(settings, film, control=("mine",), control_video=(f"mine={film}",))
    assert torch.equal(own, made(settings, film, control=("tile",)))


def test_outside_of_the_mask_the_source_stays(settings, film, clips, tmp_path, half_mask):
    mask = half_mask(tmp_path / "mask.mkv")
    found = made(settings, film, mask=(str(mask),), feather=4)
    source = torch.from_numpy(clips.read(film)[0].transpose(0, 3, 1, 2)) / 255
    whole = made(settings, film)
    half = SIZE[1] // 2
    assert torch.equal(found[..., : half - 4], source[..., : half - 4])
    assert db(found[..., half + 4 :], source[..., half + 4 :]) < 30
    assert db(whole[..., :half], source[..., :half]) < 30


def test_in_a_lossy_file_the_source_stays_too(settings, clips, tmp_path):
    """At least 45 dB from what the input's decoder gives, codec and all."""
    film = clips.write(tmp_path / "in.mp4", clips.scene(7, (48, 80)), lossless=False)
    mask = np.zeros((7, 48, 80, 3), np.uint8)
    mask[:, :, 48:] = 255
    mask = clips.write(tmp_path / "mask.mkv", mask)
    edit(film, tmp_path / "out.mp4", **settings, mask=(str(mask),), feather=4)
    pairs = zip(*(clips.read(path)[0][:, :, :40] for path in (film, tmp_path / "out.mp4")), strict=True)
    assert np.mean([psnr_y(found, source) for source, found in pairs]) >= 45


def test_in_the_background_mode_what_the_mask_shows_stays(settings, film, clips, tmp_path, half_mask):
    mask = half_mask(tmp_path / "mask.mkv")
    found = made(settings, film, mask=(str(mask),), feather=2, mode="background")
    source = torch.from_numpy(clips.read(film)[0].transpose(0, 3, 1, 2)) / 255
    assert torch.equal(found[..., SIZE[1] // 2 + 2 :], source[..., SIZE[1] // 2 + 2 :])
    assert db(found[..., : SIZE[1] // 2 - 2], source[..., : SIZE[1] // 2 - 2]) < 30


@pytest.mark.parametrize("mode", ["attribute", "style"])
def test_modes_that_mix_the_source_in_come_nearer_to_it(settings, film, clips, mode):
    source = torch.from_numpy(clips.read(film)[0].transpose(0, 3, 1, 2)) / 255
    settings |= {"steps": 4, "strength": 1.0}
    assert db(made(settings, film, mode=mode), source) > db(made(settings, film), source)


def test_frames_attend_across_windows_to_the_first(settings, film, clips, tmp_path):
    """The last frame changes with the first, though no window holds both; not without cross-window attention."""
    frames = clips.read(film)[0].copy()
    frames[0, :, :8] = 255 - frames[0, :, :8]  # no cut
    other = clips.write(tmp_path / "other.mkv", frames)
    for crossing in (True, False):
        pair = [made(settings, source, cross_window=crossing, window=3, overlap=0) for source in (film, other)]
        assert torch.equal(pair[0][-1], pair[1][-1]) != crossing


def test_what_stands_still_stays_as_it_is_drawn(settings, clips, tmp_path):
    """One noise for all frames of a shot; of their own, the same frames are drawn differently."""
    still = clips.write(tmp_path / "still.mkv", np.repeat(clips.scene(1, SIZE), 4, axis=0))
    settings |= {"cross_window": False, "fidelity": 0.2}
    for one_noise in (True, False):
        found = made(settings, still, one_noise=one_noise)
        assert torch.equal(found[1:], found[:-1]) == one_noise


def test_a_shot_that_comes_back_is_drawn_as_before(settings, clips, tmp_path):
    """Cuts there and back do not change the look: all shots have one noise, not only all frames of one."""
    here, there = clips.scene(5, SIZE) // 2, 255 - clips.scene(4, SIZE, 1) // 2
    source = clips.write(tmp_path / "cuts.mkv", np.concatenate([here, there, here]))
    found = made(settings | {"fidelity": 0.2}, source)
    assert torch.equal(found[:5], found[9:])
    own = made(settings | {"fidelity": 0.2}, source, one_noise=False)
    assert not torch.equal(own[:5], own[9:])


def test_frames_attend_to_shares_of_one_another(settings, film, clips, tmp_path):
    """Of a window, and of no other; how much they take shows."""
    frames = clips.read(film)[0].copy()
    frames[0, :, :8] = 255 - frames[0, :, :8]  # no cut
    other = clips.write(tmp_path / "other.mkv", frames)
    settings |= {"window": 3, "overlap": 0, "consistent": 0.5}
    here, there = (made(settings, source) for source in (film, other))
    assert not torch.equal(here[2], there[2])
    assert torch.equal(here[-1], there[-1])
    assert not torch.equal(here, made(settings, film, consistent=1.0))
    assert not torch.equal(here, made(settings, film, consistent=0.0))


def test_an_inversion_leads_back_to_the_source(settings, film):
    """Without an edit: the prompt says what the source shows, nothing guides. Exact comes nearer than plain.

    How near is a matter of the network, and a random one is not smooth."""
    settings |= {"prompt": "a stone", "source_prompt": "a stone", "guidance_scale": 1.0, "steps": 4, "strength": 0.4}
    noisy, plain, exact = (made(settings, film, inversion=kind) for kind in ("none", "ddim", "exact"))
    best = autoencoded(settings, film)
    assert db(exact, best) > db(plain, best) > db(noisy, best)


def test_an_automatic_mask_is_found_and_bounds_the_edit(settings, film, clips, tmp_path, half_mask):
    settings |= {"source_prompt": "a picture of stone", "feather": 0}
    found = made(settings, film, mask=("auto:stone",))
    source = torch.from_numpy(clips.read(film)[0].transpose(0, 3, 1, 2)) / 255
    same = (found == source).all(1)
    assert 0 < same.float().mean() < 1
    both = made(settings, film, mask=("auto:stone", str(half_mask(tmp_path / "mask.mkv"))))
    assert torch.equal(both[..., : SIZE[1] // 2], source[..., : SIZE[1] // 2])
    kept = same[:, None].expand_as(both)
    assert torch.equal(both[kept], source[kept])


def test_words_of_a_mask_say_what_the_source_shows_where_nothing_else_does(settings, film):
    mask = ("auto:stone",)
    assert torch.equal(made(settings, film, mask=mask), made(settings, film, mask=mask, source_prompt="stone"))


def test_the_word_of_a_colour_finds_the_thing_on_the_weights_that_come_along(clips, tmp_path):
    """A red disc and a green bar on grey texture, each by its word."""
    y, x = np.mgrid[:160, :224]
    random = np.random.default_rng(1)
    grey = cv2.GaussianBlur(random.uniform(40, 210, y.shape).astype(np.float32), (0, 0), 2)
    picture = np.repeat(grey[..., None].astype(np.uint8), 3, axis=2)
    places = {"red": (x - 70) ** 2 + (y - 75) ** 2 < 36**2, "green": (abs(x - 170) < 22) & (abs(y - 80) < 55)}
    picture[places["red"]], picture[places["green"]] = (205, 45, 40), (50, 165, 60)
    film = clips.write(tmp_path / "in.mkv", picture[None])
    for name, place in places.items():
        told = {"prompt": "night", "mask": (f"auto:{name}",), "feather": 0, "steps": 1, "save_mask": True}
        result = edit(film, tmp_path / f"{name}.mkv", device="cpu", **told)
        found = clips.read(Path(result.beside["mask"]))[0][0, ..., 0] > 127
        assert (found & place).sum() / (found | place).sum() > 0.6, name


WRONG = [
    ({"prompt": None}, "nothing says what the edit shows; give --prompt or --prompts"),
    ({"control": ("depthless",)}, "control is 'depthless'; give canny, "),
    ({"control": ("tile", "tile")}, "control is tile, tile; give each once"),
    ({"control": ("tile:heavy",)}, "control is tile:heavy; give NAME or NAME:WEIGHT"),
    ({"control": ("tile:-1",)}, "control_weights holds -1.0; give 0 or more"),
    ({"control": ("tile:1",), "control_weights": (1.0,)}, "control_weights is given beside tile:1; leave one out"),
    ({"control_video": ("mine",)}, "control_video is 'mine'; give NAME=PATH"),
    ({"control_video": ("mine=x.mp4",)}, "mine is no --control; name it there"),
    ({"window_ends": True, "cross_window": False}, "window_ends is on, but cross_window is off; leave one out"),
    ({"consistent": 1.5}, "consistent is 1.5; give a share from 0"),
    ({"feather": -1}, "feather is -1; give 0 to 256 pixels"),
    (
        {"mask": ("auto:stone",), "source_prompt": "a picture of moss"},
        "mask is auto:stone, but source_prompt is 'a picture of moss'; use its words",
    ),
    ({"mask": ("auto:",)}, "mask is auto:; give auto: once, with words"),
    ({"mode": "background"}, "mode is background, but there is no mask; show with --mask what stays"),
    ({"save_mask": True}, "save_mask is on, but there is no mask"),
    ({"save_control": True, "control": ("none",)}, "save_control is on, but control is none"),
]


@pytest.mark.parametrize(("more", "message"), WRONG)
def test_what_cannot_be_is_said(settings, film, more, message):
    with pytest.raises(ConfigError, match=f"^.*{message}"):
        Editing(**settings | more).stream(film).__next__()


def test_files_that_do_not_go_with_the_video_are_refused(settings, film, clips, tmp_path, half_mask):
    mask = half_mask(tmp_path / "mask.mkv", 5)
    for more in ({"mask": (str(mask),)}, {"control": ("own",), "control_video": (f"own={mask}",)}):
        with pytest.raises(ConfigError, match=r"mask\.mkv has 5 frames, but .*in\.mkv has 7; give a picture, or"):
            edit(film, tmp_path / "out.mkv", **settings | more)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "mask.mkv"]


def test_files_beside_are_checked_like_the_output(settings, film, clips, tmp_path):
    (tmp_path / "out_side-by-side.mkv").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"out_side-by-side\.mkv exists"):
        edit(film, tmp_path / "out.mkv", **settings, side_by_side=True, options=RunOptions(overwrite=False))
    with pytest.raises(ConfigError, match="stdout, and beside it there is no place for side-by-side"):
        edit(film, "-", **settings, side_by_side=True)


def test_weights_stand_with_the_names():
    config = EditingConfig(control=("canny:0.5", "tile"))
    assert (config.control, config.control_weights) == (("canny", "tile"), (0.5, 1.0))
    assert EditingConfig(control=("none",)).controlnet == "none"
