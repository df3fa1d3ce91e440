"""Editing: prompts over time, masks, maps and files beside the output, on a small random prior."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vrestore import BatchConfig, cli, edit, engine, run_batch
from vrestore.checkpoint import JobFolder
from vrestore.errors import ConfigError, OutputError
from vrestore.metrics import psnr_y
from vrestore.padding import pad_to
from vrestore.plan import CrossWindow
from vrestore.priors import prior_of
from vrestore.report import RunOptions
from vrestore.tasks.editing import Editing, EditingConfig
from vrestore.video import open_reader

ROOT = Path(__file__).parents[2]
SIZE = (24, 40)


@pytest.fixture
def settings(tiny_edit):
    return {
        "prior": str(tiny_edit), "prompt": "a sharp stone", "steps": 2, "strength": 0.5, "window": 5, "overlap": 2,
        "device": "cpu", "dtype": "float32", "guidance_scale": 2.0,
    }  # fmt: skip


@pytest.fixture
def film(clips, tmp_path):
    return clips.write(tmp_path / "in.mkv", clips.scene(7, SIZE))


def drawn_mask(path, clips, frames=1):
    """White on the right half."""
    mask = np.zeros((frames, *SIZE, 3), np.uint8)
    mask[:, :, SIZE[1] // 2 :] = 255
    return clips.write(path, mask)


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


def test_outside_of_the_mask_the_source_stays(settings, film, clips, tmp_path):
    mask = drawn_mask(tmp_path / "mask.mkv", clips)
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


def test_in_the_background_mode_what_the_mask_shows_stays(settings, film, clips, tmp_path):
    mask = drawn_mask(tmp_path / "mask.mkv", clips)
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


def test_an_automatic_mask_is_found_and_bounds_the_edit(settings, film, clips, tmp_path):
    settings |= {"source_prompt": "a picture of stone", "feather": 0}
    found = made(settings, film, mask=("auto:stone",))
    source = torch.from_numpy(clips.read(film)[0].transpose(0, 3, 1, 2)) / 255
    same = (found == source).all(1)
    assert 0 < same.float().mean() < 1
    both = made(settings, film, mask=("auto:stone", str(drawn_mask(tmp_path / "mask.mkv", clips))))
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


def test_files_beside_the_output_show_what_was_used(settings, clips, tmp_path):
    film = clips.write(tmp_path / "in.mkv", clips.scene(7, SIZE), pts=[0, 1, 2, 5, 6, 9, 10], audio=True)
    mask = drawn_mask(tmp_path / "mask.mkv", clips, 7)
    result = edit(
        film, tmp_path / "out.mkv", **settings, mask=(str(mask),), feather=0, control=("tile",), save_control=True,
        save_mask=True, side_by_side=True,
    )  # fmt: skip
    assert {name: Path(path).name for name, path in result.beside.items()} == {
        "control-tile": "out_control-tile.mkv", "mask": "out_mask.mkv", "side-by-side": "out_side-by-side.mkv"
    }  # fmt: skip
    source, times = clips.read(film)
    output, _ = clips.read(tmp_path / "out.mkv")
    read = {name: clips.read(path) for name, path in result.beside.items()}
    assert all(found[1] == times for found in read.values())
    assert np.array_equal(read["control-tile"][0], source)
    assert np.array_equal(read["mask"][0], clips.read(mask)[0])
    row = read["side-by-side"][0]
    width = SIZE[1]
    assert row.shape[2] == 3 * width + 8
    assert np.array_equal(row[:, :, :width], source)
    assert np.array_equal(row[:, :, width + 4 : 2 * width + 4], source)
    assert np.array_equal(row[:, :, 2 * width + 8 :], output)
    assert clips.audio_packets(result.beside["mask"]) == clips.audio_packets(film)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["in.mkv", "mask.mkv", "out.mkv", "out_control-tile.mkv", "out_mask.mkv", "out_side-by-side.mkv"]
    )


def test_a_still_and_a_sequence_have_files_beside_them(settings, clips, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "in.png"), clips.scene(1, SIZE)[0])
    edit(tmp_path / "in.png", tmp_path / "out.png", **settings, save_control=True)
    assert cv2.imread(str(tmp_path / "out_control-tile.png")).shape == (*SIZE, 3)
    film = clips.write(tmp_path / "in.mkv", clips.scene(3, SIZE))
    edit(film, tmp_path / "s.%03d.png", **settings, side_by_side=True)
    assert len(list(tmp_path.glob("s_side-by-side.*.png"))) == len(list(tmp_path.glob("s.*.png"))) == 3


@pytest.mark.parametrize("overlap", [2, 0])
def test_a_resumed_edit_has_the_same_bits_in_every_file(settings, clips, tmp_path, monkeypatch, overlap):
    monkeypatch.setattr(engine, "SEGMENT_FRAMES", 3)
    monkeypatch.setattr(engine, "SHORTEST_SEGMENT", 1)
    film = clips.write(tmp_path / "in.mkv", clips.scene(14, SIZE))
    mask = drawn_mask(tmp_path / "mask.mkv", clips, 14)
    settings |= {"control": ("softedge",), "mask": (str(mask),), "save_control": True, "side_by_side": True}
    settings |= {"overlap": overlap}
    settings |= {"fidelity": 0.2, "steps": 3, "strength": 1.0, "source_prompt": "a stone", "inversion": "ddim"}
    whole = edit(film, tmp_path / "whole.mkv", **settings)
    saved = JobFolder.save
    count = 0

    def stopping(self, *arguments):
        nonlocal count
        saved(self, *arguments)
        count += 1
        if count == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "save", stopping)
        with pytest.raises(KeyboardInterrupt):
            edit(film, tmp_path / "cut.mkv", **settings)
    assert not list(tmp_path.glob("cut*.mkv"))
    cut = edit(film, tmp_path / "cut.mkv", **settings, options=RunOptions(resume=True))
    for name in ("", *whole.beside):
        paths = [Path(one.beside[name] if name else one.output) for one in (whole, cut)]
        assert np.array_equal(*(clips.read(path)[0] for path in paths))


def test_windows_that_only_touch_are_walked_one_by_one(settings, film, tmp_path):
    """So few frames are under way, however many steps are taken; what later windows look at is planned for."""
    long = {"window": 2, "steps": 20, "strength": 1.0}
    jobs = [
        engine.prepare(Editing(**settings | long | more), film, None, RunOptions())
        for more in ({"overlap": 0}, {"overlap": 1}, {"overlap": 0, "cross_window": False})
    ]
    assert [job.needs.live_latents(job.memory) for job in jobs] == [3, 7, 1]
    assert jobs[0].plan(200).live_bound < 50 < jobs[1].plan(200).live_bound
    assert jobs[0].needs.bank_bytes > 0 == jobs[2].needs.bank_bytes


def test_what_is_planned_for_attention_is_what_it_keeps(tiny_edit):
    """Keys and values of a frame that other windows look at, guided, float32."""
    source = prior_of(EditingConfig(prior=str(tiny_edit), guidance_scale=2.0, prompt="a stone"))
    prior = source.load(torch.device("cpu"), torch.float32)
    size = prior.facts.size_multiple
    (given,) = prior.conditions([torch.rand(3, 2 * size, 4 * size)])
    latents = given["degraded_latents"]
    told = {name: torch.stack([given[name], given[name]])[None] for name in prior.facts.conditionings}
    attend = CrossWindow(alone=(1,), context=(1,))
    prior.predict(latents.expand(1, 2, -1, -1, -1), torch.full((1, 2), 500.0), told, attend)
    bank = prior._attending.bank
    assert len(bank) == 1
    assert bank.size == prior.facts.bank_bytes * latents.shape[-2] * latents.shape[-1]


def test_another_mask_file_is_another_job(settings, film, clips, tmp_path, monkeypatch):
    mask = drawn_mask(tmp_path / "mask.mkv", clips)
    task = Editing(**settings, mask=(str(mask),))
    before = engine.prepare(task, film, tmp_path / "out.mkv", RunOptions()).asked()
    clips.write(mask, np.full((1, *SIZE, 3), 255, np.uint8))
    assert engine.prepare(task, film, tmp_path / "out.mkv", RunOptions()).asked()["files"] != before["files"]


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


def test_files_that_do_not_go_with_the_video_are_refused(settings, film, clips, tmp_path):
    mask = drawn_mask(tmp_path / "mask.mkv", clips, 5)
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


def test_a_batch_puts_files_beside_every_output(settings, clips, tmp_path):
    """Also where shots are shared out: the parts of these files are joined like those of the output."""
    (tmp_path / "in").mkdir()
    frames = np.concatenate([clips.scene(50, (16, 24), seed) for seed in (0, 1)])
    clips.write(tmp_path / "in" / "a.mkv", frames)
    told = {"side_by_side": True, "save_control": True} | settings
    config = BatchConfig(jobs=1, units="shot")
    report = run_batch("vrestore.tasks.editing:Editing", tmp_path / "in", tmp_path / "out", config, settings=told)
    assert report.exit_code == 0
    names = {p.name for p in (tmp_path / "out").iterdir() if p.suffix == ".mkv"}
    (output,) = (name for name in names if "control" not in name and "side" not in name)
    stem = output.removesuffix(".mkv")
    assert names == {output, f"{stem}_control-tile.mkv", f"{stem}_side-by-side.mkv"}
    assert np.array_equal(clips.read(tmp_path / "out" / f"{stem}_control-tile.mkv")[0], frames)


def test_as_a_process_killed_and_resumed(settings, clips, tmp_path):
    """Every short form of an option, a kill after the first checkpoint, and the undisturbed frames after --resume."""
    source = clips.write(tmp_path / "in.mkv", clips.scene(120, (16, 24)))
    arguments = [
        "edit", str(source), "--prior", settings["prior"], "--prompt", "a stone", "--negative", "noise", "--guidance",
        "2", "--control", "tile:0.5", "--control", "luma", "--steps", "2", "--strength", "0.5", "--window", "5",
        "--overlap", "2", "--device", "cpu", "--dtype", "float32", "--side-by-side",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "vrestore", *arguments]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    manifest = tmp_path / "in_edit.mkv.vrestore" / "job.json"
    while not manifest.exists() and killed.poll() is None:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not list(tmp_path.glob("in_edit*.mkv"))
    resumed = subprocess.run(
        [*command, "--resume", "--json"], capture_output=True, text=True, check=False, env=environment
    )
    assert resumed.returncode == 0, resumed.stderr
    result = json.loads(resumed.stdout)
    assert result["frames"] == 120
    assert set(result["beside"]) == {"side-by-side"}
    assert cli.main([*arguments, "-o", str(tmp_path / "undisturbed.mkv"), "--quiet"]) == 0
    for name in ("", "_side-by-side"):
        pair = (tmp_path / f"in_edit{name}.mkv", tmp_path / f"undisturbed{name}.mkv")
        assert np.array_equal(*(clips.read(path)[0] for path in pair))
