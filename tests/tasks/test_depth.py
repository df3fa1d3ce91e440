"""Depth as a head: files of every kind, shots apart, snippets that agree, the same bits again."""

import json
import shutil
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import torch

from vrestore import engine
from vrestore.checkpoint import JobFolder
from vrestore.errors import ConfigError, PriorError
from vrestore.mapping import Maps
from vrestore.noise import noise
from vrestore.plan import RefinementPlan, SnippetsPlan
from vrestore.priors import find_prior
from vrestore.priors.completion import DepthCompletion
from vrestore.priors.folder import part_folder
from vrestore.priors.marigold import MarigoldPrior
from vrestore.report import RunOptions
from vrestore.sampling import ddim, interpolate
from vrestore.tasks.depth import Depth, DepthConfig, estimate_depth
from vrestore.tasks.super_resolution import SuperResolution
from vrestore.video import Formats, open_reader
from vrestore.weights.recipe.written import write_part

SIZE = (25, 34)
FRAMES = 7


@pytest.fixture
def head(tiny_depth_prior):
    """head(setting=...) -> a task on the tiny prior, at a small resolution."""
    defaults = {"prior": str(tiny_depth_prior), "resolution": 48, "device": "cpu", "dtype": "float32"}
    return lambda **settings: Depth(**defaults | settings)


@pytest.fixture
def film(clips, tmp_path):
    return clips.write(tmp_path / "film.mkv", clips.scene(FRAMES, SIZE), audio=True)


def maps_of(task, source, folder, **options):
    """What is written as an archive."""
    engine.run(task, source, folder / "o.npz", RunOptions(**options))
    with np.load(folder / "o.npz") as kept:
        return kept["depth"], json.loads(str(kept["meta"]))


def test_it_is_a_head_that_makes_maps(head):
    assert isinstance(head(), Maps)


def test_an_archive_holds_what_it_says(head, film, tmp_path):
    depth, meta = maps_of(head(), film, tmp_path)
    assert depth.shape == (FRAMES, *SIZE)
    assert 0 <= depth.min() < 0.2 < 0.8 < depth.max() <= 1
    assert (meta["near"], meta["far"], meta["kind"]) == (1, 0, "inverse depth")


def test_all_kinds_of_data_hold_the_same_values(head, film, tmp_path):
    depth, _ = maps_of(head(), film, tmp_path)
    engine.run(head(), film, tmp_path / "p.%04d.png")
    engine.run(head(view="gray"), film, tmp_path / "g.mkv")
    with av.open(str(tmp_path / "g.mkv")) as file:
        gray = [frame.to_ndarray() for frame in file.decode(video=0)]
        assert file.streams.video[0].codec_context.name == "ffv1"
        assert json.loads(file.metadata["COMMENT"])["near"] == 1
        assert file.streams.audio
    for i, plane in enumerate(depth):
        codes = np.floor(plane * np.float32(65535) + np.float32(0.5))
        assert np.array_equal(cv2.imread(str(tmp_path / f"p.{i + 1:04d}.png"), cv2.IMREAD_UNCHANGED), codes)
        assert np.array_equal(gray[i], codes)
    engine.run(head(exr_channel="RGB"), film, tmp_path / "e.%04d.exr")
    from vrestore.video.exr import read_exr
    from vrestore.video.transfer import SRGB, to_linear

    assert np.allclose(to_linear(read_exr(tmp_path / "e.0003.exr")[0], SRGB)[0], depth[2], atol=1e-5)
    engine.run(head(), film, tmp_path / "z.%04d.exr")
    assert b"channels\0chlist\0" in (tmp_path / "z.0001.exr").read_bytes()[:60]


def test_colours_and_the_source_beside_them(head, film, clips, tmp_path):
    engine.run(head(colormap="viridis"), film, tmp_path / "c.mkv")
    engine.run(head(colormap="viridis", side_by_side=True), film, tmp_path / "s.mkv")
    alone, times = clips.read(tmp_path / "c.mkv")
    both, _ = clips.read(tmp_path / "s.mkv")
    source, expected = clips.read(film)
    assert times == expected
    assert np.array_equal(both[:, :, : SIZE[1]], source)
    assert np.array_equal(both[:, :, SIZE[1] :], alone)
    assert alone.std() > 20


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_short_clips(head, clips, tmp_path, frames):
    source = clips.write(tmp_path / "in.mkv", clips.scene(frames, SIZE))
    depth, _ = maps_of(head(), source, tmp_path)
    assert depth.shape == (frames, *SIZE)
    assert np.isfinite(depth).all()


def test_a_picture(head, clips, tmp_path):
    cv2.imwrite(str(tmp_path / "in.png"), clips.scene(1, SIZE)[0])
    engine.run(head(), tmp_path / "in.png", tmp_path / "o.png")
    depth, _ = maps_of(head(), tmp_path / "in.png", tmp_path)
    read = cv2.imread(str(tmp_path / "o.png"), cv2.IMREAD_UNCHANGED)
    assert np.abs(read / 65535 - depth[0]).max() < 1e-5


@pytest.mark.parametrize("refine", [0, 3])
def test_calls_are_those_of_the_plan(head, refine, film, monkeypatch, tmp_path):
    seen = SimpleNamespace(calls=0, frames=set())
    original = MarigoldPrior.predict

    def predict(self, latents, times, conditioning, attend=None):
        seen.calls += len(latents)
        seen.frames.add(latents.shape[1])
        return original(self, latents, times, conditioning, attend)

    monkeypatch.setattr(MarigoldPrior, "predict", predict)
    task = head(steps=2, dilations="1,2", refine=refine)
    planned = engine.plan_job(task, film, tmp_path / "o.npz", RunOptions())
    result = engine.run(task, film, tmp_path / "o.npz")
    again = sum(FRAMES - 2 * one for one in RefinementPlan(FRAMES, refine).dilations) if refine else 0
    assert seen.calls == planned.calls == result.calls == 2 * len(SnippetsPlan(FRAMES, (1, 2)).snippets) + again
    assert seen.frames == {3}
    assert (result.width, result.height, result.frames) == (SIZE[1], SIZE[0], FRAMES)


def test_shots_do_not_know_of_one_another(head, clips, tmp_path):
    bright, dark = clips.scene(4, SIZE, seed=1) // 2 + 127, clips.scene(5, SIZE, seed=2) // 4
    both = clips.write(tmp_path / "both.mkv", np.concatenate([bright, dark]))
    alone = clips.write(tmp_path / "alone.mkv", bright)
    depth, _ = maps_of(head(), both, tmp_path)
    first, _ = maps_of(head(), alone, tmp_path)
    assert np.allclose(depth[:4], first, atol=1e-6)
    assert depth[4:].max() > 0.8  # of its own range
    with pytest.raises(AssertionError):
        assert np.allclose(maps_of(head(), both, tmp_path, shots=((0, 9),))[0][:4], first, atol=1e-6)


def test_snippets_of_any_scale_are_brought_together(head, clips, tmp_path, monkeypatch):
    source = clips.write(tmp_path / "in.mkv", clips.scene(9, SIZE))
    state = np.random.default_rng(0)

    def steady(self, z, times, conditioning, attend=None):
        return conditioning["degraded_latents"]

    plain = MarigoldPrior.decode
    affine = SimpleNamespace(slots=0, scale=1.0, shift=0.0)

    def decode(self, z, conditioning):
        if affine.slots % 3 == 0:
            affine.scale, affine.shift = float(np.exp(state.normal(0, 0.4))), float(state.normal(0, 0.3))
        affine.slots += 1
        return affine.scale * plain(self, z, conditioning) + affine.shift

    monkeypatch.setattr(MarigoldPrior, "predict", steady)
    truth, _ = maps_of(head(), source, tmp_path)
    monkeypatch.setattr(MarigoldPrior, "decode", decode)
    aligned, _ = maps_of(head(), source, tmp_path)
    loose, _ = maps_of(head(align=False), source, tmp_path)

    def error(found):
        rows = np.stack([found.ravel(), np.ones(found.size)], 1)
        return np.abs(rows @ np.linalg.lstsq(rows, truth.ravel(), rcond=None)[0] - truth.ravel()).mean()

    assert error(aligned) < 0.01
    assert error(aligned) < 0.2 * error(loose)


def test_every_second_snippet_is_seen_mirrored(head, clips, tmp_path, tiny_depth_prior, monkeypatch):
    source = clips.write(tmp_path / "in.mkv", clips.scene(6, (32, 48)))
    monkeypatch.setattr(MarigoldPrior, "predict", lambda self, z, times, conditioning, attend=None: (
        conditioning["degraded_latents"]))  # fmt: skip
    found, _ = maps_of(head(view="gray", parallax=False, steady=0, align=False), source, tmp_path)
    prior = find_prior(str(tiny_depth_prior)).load(torch.device("cpu"), torch.float32)
    with open_reader(source) as reader:
        pictures = torch.stack([torch.from_numpy(frame.rgb) for frame in reader.frames()])

    def answers(seen):
        return prior.decode(torch.stack([c["degraded_latents"] for c in prior.conditions(iter(seen))]), {})[:, 0]

    plain, turned = answers(pictures), answers(pictures.flip(-1)).flip(-1)
    expected = ((plain + turned) / 2).numpy()
    expected[0], expected[5] = plain[0], turned[5]  # in one snippet alone: the first, and the fourth

    def away(maps):
        return np.abs((maps - maps.min()) / (maps.max() - maps.min()) - found).mean()

    assert away(expected) < 0.01  # the schedule ends a little before the clean latents
    assert away(expected) < 0.2 * min(away(plain.numpy()), away(turned.numpy()))


def refined_by_hand(prior, latents, maps, steps, seed=0):
    """RollingDepth's refinement, level by level over the whole clip: what ``refine`` has to equal."""
    ladder, frames = prior.ladder(2 * steps), len(maps)
    unit = torch.from_numpy((maps - maps.min()) / (maps.max() - maps.min()))
    clean = prior.encode(unit[:, None].expand(-1, 3, -1, -1))
    drawn = noise(seed, 0, ladder.levels, tuple(clean.shape[1:]))
    z = torch.stack([interpolate(ladder, one, drawn, steps) for one in clean])
    dilations = RefinementPlan(frames, steps).dilations
    for level, dilation in zip(range(steps, 0, -1), dilations, strict=True):
        total, count = torch.zeros_like(z), torch.zeros(frames)
        for first in range(frames - 2 * dilation):
            place = first + dilation * torch.arange(3)
            times = torch.full((1, 3), ladder.time[level])
            total[place] += prior.predict(z[place][None], times, {"degraded_latents": latents[place][None]})[0]
            count[place] += 1
        fused = total / count[:, None, None, None]
        z = torch.stack([ddim(ladder, a, b, level, level - 1) for a, b in zip(z, fused, strict=True)])
    return prior.decode(z, {})[:, 0].numpy(), dilations


def test_refinement_is_that_of_its_authors(head, clips, tmp_path, tiny_depth_prior):
    source, steps = clips.write(tmp_path / "in.mkv", clips.scene(13, (32, 48))), 6
    kept = {}
    for name, refine in (("plain", 0), ("refined", steps)):
        task = head(view="gray", parallax=False, steady=0, refine=refine)
        kept[name] = torch.stack([one[0] for one in task.stream(source)]).numpy()
    prior = find_prior(str(tiny_depth_prior)).load(torch.device("cpu"), torch.float32)
    with open_reader(source) as reader:
        pictures = torch.stack([torch.from_numpy(one.rgb) for one in reader.frames()])
    expected, dilations = refined_by_hand(prior, prior.encode(pictures), kept["plain"], steps)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    assert len(set(dilations)) > 1
    assert np.abs(kept["refined"] - kept["plain"]).mean() > 0.01
    assert np.abs(kept["refined"] - expected).max() < 2e-3


def test_refinement_of_one_frame(head, clips, tmp_path):
    single = clips.write(tmp_path / "one.mkv", clips.scene(1, SIZE))
    depth, _ = maps_of(head(refine=2), single, tmp_path)
    assert depth.shape == (1, *SIZE)
    assert np.isfinite(depth).all()


def test_resumed_to_the_same_bits(head, film, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "SEGMENT_FRAMES", 3)
    engine.run(head(), film, tmp_path / "whole.mkv")
    engine.run(head(), film, tmp_path / "again.mkv")
    save = JobFolder.save

    def stop(self, *args, **more):
        save(self, *args, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(JobFolder, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        engine.run(head(), film, tmp_path / "again.mkv")
    monkeypatch.setattr(JobFolder, "save", save)
    engine.run(head(), film, tmp_path / "again.mkv", RunOptions(resume=True))

    def packets(path):
        with av.open(str(path)) as file:
            return [bytes(packet) for packet in file.demux(video=0)]

    assert packets(tmp_path / "whole.mkv") == packets(tmp_path / "again.mkv")


def test_a_part_of_the_clip(head, film, tmp_path):
    depth, _ = maps_of(head(), film, tmp_path, start="2", end="4")
    assert depth.shape[0] == 2


def test_it_streams(head, film):
    frames = list(head(view="gray").stream(film))
    assert len(frames) == FRAMES
    assert frames[0].shape == (3, *SIZE)
    assert torch.equal(frames[0][0], frames[0][2])


@pytest.mark.parametrize(
    ("settings", "output", "message"),
    [
        ({"view": "colour"}, "o.npz", "holds data, not colours"),
        ({"side_by_side": True}, "o.npz", "is to hold data"),
        ({"view": "gray"}, "o.mp4", "does not hold ffv1"),
        ({"view": "gray"}, "o.%04d.jpg", "holds no data of 16 bits"),
    ],
)  # fmt: skip
def test_outputs_that_cannot_be_are_refused(head, film, tmp_path, settings, output, message):
    with pytest.raises(ConfigError, match=message):
        engine.run(head(**settings), film, tmp_path / output)
    assert [path.name for path in tmp_path.iterdir()] == ["film.mkv"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("snippet", 0), ("snippet", 5), ("resolution", 8), ("block", 0), ("steady", -1), ("steady", 31), ("refine", -1),
     ("refine", 251), ("dilations", "a"), ("dilations", "0"),
     ("dilations", ""), ("view", "x"), ("colormap", "jet"), ("exr_channel", "A")],
)  # fmt: skip
def test_settings_out_of_range_are_named(name, value):
    config = DepthConfig()
    object.__setattr__(config, name, value)
    with pytest.raises(ConfigError, match=rf"^{name} is .*; give "):
        config.__post_init__()


def test_gray_values_are_not_shown_beside_the_source():
    with pytest.raises(ConfigError, match="leave one of them out"):
        DepthConfig(view="gray", side_by_side=True)


def test_priors_of_other_heads_are_refused(head, film, tiny_prior, tiny_depth_prior, tmp_path):
    with pytest.raises(PriorError, match="makes no depth"):
        engine.run(head(prior=str(tiny_prior)), film, tmp_path / "o.npz")
    with pytest.raises(PriorError, match="makes depth, and nothing else"):
        engine.run(SuperResolution(prior=str(tiny_depth_prior)), film, tmp_path / "o.mkv")


def test_settings_without_a_meaning_are_told(head, film, tmp_path, caplog):
    engine.run(head(fidelity=0.9), film, tmp_path / "o.npz")
    assert "fidelity has no meaning for depth" in caplog.text


def test_codec_ffv1_means_data(head, film, tmp_path):
    engine.run(head(), film, tmp_path / "o.mkv", RunOptions(formats=Formats(codec="ffv1")))
    with av.open(str(tmp_path / "o.mkv")) as file:
        assert file.streams.video[0].codec_context.pix_fmt == "gray16le"


def test_from_python(film, tiny_depth_prior, tmp_path):
    result = estimate_depth(film, tmp_path / "o.mp4", prior=str(tiny_depth_prior), resolution=64, colormap="spectral")
    assert result.frames == FRAMES


def test_a_prior_that_completes_depth_does_so_where_parallax_is_asked_for(head, film, tmp_path, tiny_depth_prior):
    folder = tmp_path / "prior"
    shutil.copytree(tiny_depth_prior, folder)
    shutil.copytree(part_folder(tiny_depth_prior, "vae"), part_folder(folder, "vae"), dirs_exist_ok=True)
    torch.manual_seed(1)
    network = DepthCompletion((8, 8, 8))
    torch.nn.init.normal_(network.tell.weight)
    write_part(network, folder / "completion")
    found = {
        (parallax, prior): maps_of(head(parallax=parallax, prior=str(prior)), film, tmp_path)[0]
        for parallax in (True, False)
        for prior in (tiny_depth_prior, folder)
    }
    assert np.array_equal(found[False, tiny_depth_prior], found[False, folder])
    assert np.abs(found[True, tiny_depth_prior] - found[True, folder]).mean() > 0.01
