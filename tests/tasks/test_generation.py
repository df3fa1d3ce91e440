"""Generation: every plan, what is given, prompts over time, the command; on a small random network."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from vrestore.clock import Clock
from vrestore.errand import prepare
from vrestore.errors import ConfigError, OutputError, PriorError
from vrestore.maker import plan_making
from vrestore.making_walk import MakingWalk, noise_of
from vrestore.priors import PriorSource
from vrestore.report import MakeOptions
from vrestore.tasks.generation import Generation, GenerationConfig, generate
from vrestore.video import Formats, probe, write_still

ROOT = Path(__file__).parents[2]
PLANS = ["keyframes", "diagonal", "chunks", "windows"]


def made(**settings):
    return torch.stack(list(Generation(**settings).stream()))


def walked(hidden=None, **settings):
    """All frames of a walk, and what it was asked; ``hidden``: how many at the start are not shown."""
    errand = prepare(Generation(**settings), None, MakeOptions())
    score = errand.score if hidden is None else replace(errand.score, hidden=hidden)
    prior = errand.prior.load(errand.device, errand.dtype)
    walk = MakingWalk(score, prior, Clock())
    return torch.stack([one.frame for group in walk.ticks() for one in group]), errand, prior


def picture(path, seed=0, size=(32, 32)):
    pixels = np.random.default_rng(seed).random((3, *size), dtype=np.float32)
    write_still(path, np.rint(pixels * 255) / np.float32(255))
    return path


# ---------------------------------------------------------------- plans and frames


@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_makes_the_frames_that_are_asked_for(usual, tmp_path, clips, plan):
    out = tmp_path / "out.mkv"
    result = generate(out, **usual | {"frames": 19, "plan": plan, "fps": "30000/1001", "height": 30, "width": 50})
    frames, times = clips.read(out)
    assert frames.shape == (19, 30, 50, 3)
    assert probe(out).fps == Fraction(30000, 1001)
    assert times == pytest.approx([n * 1.001 / 30 for n in range(19)], abs=1e-3)  # .mkv holds milliseconds
    assert (result.frames, result.plan, result.width, result.height) == (19, plan, 50, 30)
    planned = plan_making(Generation(**usual | {"frames": 19, "plan": plan}), out)
    assert (planned.calls, planned.critical_path) == (result.calls, result.critical_path)
    assert result.peak_live_latents <= planned.live_latents
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mkv"]


def test_keyframes_in_parallel_are_the_same_frames(usual):
    settings = usual | {"frames": 14, "plan": "keyframes"}
    streaming, parallel = made(**settings), made(**settings, parallel=True)
    assert torch.equal(streaming, parallel)


@pytest.mark.parametrize("plan", PLANS)
def test_memory_does_not_grow_with_the_length(usual, plan):
    """But for keyframes, whose coarse depths grow with the logarithm."""
    held = []
    for frames in (360, 1440):
        errand = prepare(Generation(**usual | {"frames": frames, "plan": plan}), None, MakeOptions())
        held.append(errand.costs.live)
    assert held[1] <= held[0] + (held[0] // 2 if plan == "keyframes" else 0)
    assert held[1] < 360


def test_a_seed_gives_the_same_bits(usual):
    first, again, other = made(**usual, frames=3), made(**usual, frames=3), made(**usual, frames=3, seed=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 1


def test_noise_can_be_alike(usual):
    sources = {}
    for name in ("independent", "rescheduled", "shared", "progressive"):
        errand = prepare(Generation(**usual, frames=20, noise=name, noise_share=0.9), None, MakeOptions())
        sources[name] = noise_of(errand.score, (4, 32, 32))
    assert any(torch.equal(sources["rescheduled"](8), sources["independent"](n)) for n in range(8))
    for name, correlation in (("independent", 0), ("shared", 0.9), ("progressive", 0.9)):
        found = (sources[name](4) * sources[name](5)).mean()
        assert found == pytest.approx(correlation, abs=0.05)
    assert not torch.equal(made(**usual, frames=2, noise="shared"), made(**usual, frames=2)), "and is started from"


def test_weights_may_lie_elsewhere_or_be_stored_small(usual):
    plain = made(**usual, frames=2)
    assert torch.equal(made(**usual, frames=2, offload=True), plain)
    small = made(**usual, frames=2, small_weights=True)
    assert not torch.equal(small, plain)
    assert (small - plain).abs().mean() < 0.1


def test_without_a_length_it_is_a_window(usual):
    planned = plan_making(Generation(**usual), "out.mp4")
    assert (planned.frames, planned.latents, planned.fps, planned.window) == (8, 8, "8", 8)
    assert (planned.width, planned.height) == (32, 32)
    assert planned.memory == "whole"
    usual = {name: value for name, value in usual.items() if name not in ("width", "height")}
    planned = plan_making(Generation(**usual), "out.mp4")
    assert (planned.width, planned.height) == (64, 64), "as the settings of the network say"


# ---------------------------------------------------------------- what is given


def test_a_first_and_a_last_picture_come_out(usual, tmp_path):
    first, last = picture(tmp_path / "first.png", 1), picture(tmp_path / "last.png", 2)
    settings = {name: value for name, value in usual.items() if name not in ("width", "height")}
    frames, errand, prior = walked(**settings, frames=13, first=first, last=last)
    for given, made_of in ((errand.score.start[0], frames[0]), (errand.score.end, frames[-1])):
        assert given.shape == (3, 32, 32)
        through = prior.decode(prior.encode(given[None]), {})[0].clamp(0, 1)
        assert torch.equal(made_of, through)
    plain = made(**usual, frames=13)
    assert not torch.allclose(frames[1], plain[1], atol=1e-3), "the frame beside it sees it"


@pytest.mark.parametrize("plan", ["keyframes", "chunks", "diagonal"])
def test_a_video_goes_on(usual, tmp_path, clips, plan):
    source = clips.write(tmp_path / "in.mkv", clips.scene(6, (32, 32)))
    settings = {name: value for name, value in usual.items() if name not in ("width", "height")}
    settings |= {"frames": 7, "plan": plan, "from_video": source}
    after, errand, prior = walked(**settings)
    assert len(after) == 7
    assert (errand.given, errand.score.fps) == (4, 25)
    whole = walked(hidden=0, **settings)[0]
    assert len(whole) == 11
    given = torch.from_numpy(clips.read(source)[0][2:].astype(np.float32) / 255).permute(0, 3, 1, 2)
    assert torch.equal(torch.stack(errand.score.start), given), "the last frames of the source"
    through = prior.decode(prior.encode(given), {}).clamp(0, 1)
    assert torch.allclose(whole[:4], through, atol=1e-6)
    assert torch.equal(whole[4:], after)
    other = clips.write(tmp_path / "other.mkv", clips.scene(6, (32, 32), seed=1))
    assert not torch.allclose(after, walked(**settings | {"from_video": other})[0], atol=1e-3)


def test_what_goes_on_from_a_short_video_sees_all_of_it(usual, tmp_path, clips):
    source = clips.write(tmp_path / "in.mkv", clips.scene(2, (32, 32)))
    result = generate(tmp_path / "out.mkv", **usual, from_video=source, fps="12")
    assert (result.frames, result.fps) == (6, "12")
    planned = plan_making(Generation(**usual, from_video=source, context=1, frames=2), tmp_path / "x.mkv")
    assert (planned.given, planned.latents) == (1, 3)


def test_an_image_sequence_goes_on_with_its_numbers(usual, tmp_path):
    shot = tmp_path / "shot.%03d.png"
    generate(shot, **usual, frames=2)
    generate(shot, **usual, frames=3, from_video=shot)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"shot.{n:03d}.png" for n in range(1, 6)]
    options = MakeOptions(formats=Formats(first_number=5))
    with pytest.raises(OutputError, match=r"shot\.005\.png is given as what it is to be made from"):
        generate(shot, **usual, frames=2, from_video=shot, options=options)


def test_pictures_are_resized_but_not_cropped(usual, tmp_path):
    large, wide = picture(tmp_path / "large.png", size=(64, 64)), picture(tmp_path / "wide.png", size=(32, 64))
    errand = prepare(Generation(**usual, frames=2, first=large), None, MakeOptions())
    assert errand.score.start[0].shape == (3, 32, 32)
    with pytest.raises(ConfigError, match="64x32 pixels, another shape than 32x32; crop it"):
        prepare(Generation(**usual, frames=2, first=wide), None, MakeOptions())
    usual = {name: value for name, value in usual.items() if name != "height"}
    assert prepare(Generation(**usual, frames=2, first=wide), None, MakeOptions()).score.size == (16, 32)


# ---------------------------------------------------------------- prompts


def test_prompts_over_time_reach_their_frames(usual, tmp_path):
    """Without motion modules a frame is made by itself: so it is, to the last bit, what its own prompt gives."""
    file = tmp_path / "prompts.toml"
    file.write_text('[[prompt]]\ntext = "blurred noise"\nfrom = 0.5\n')
    usual |= {"motion_adapter": "none", "fps": "4", "frames": 4, "plan": "windows"}
    found = made(**usual, prompts=file)
    before, after = made(**usual), made(**usual | {"prompt": "blurred noise"})
    assert not torch.equal(before[2], after[2])
    assert torch.equal(found, torch.cat([before[:2], after[2:]]))
    file.write_text('transition = 1\n[[prompt]]\ntext = "blurred noise"\nfrom = 0.5\n')
    mixed = made(**usual, prompts=file)
    assert not any(torch.equal(mixed[2], other[2]) for other in (before, after)), "half of each"


def test_prompts_count_from_the_first_new_frame(usual, tmp_path, clips):
    source = clips.write(tmp_path / "in.mkv", clips.scene(6, (32, 32)))
    file = tmp_path / "prompts.toml"
    file.write_text('[[prompt]]\ntext = "blurred noise"\n')
    walk = prepare(Generation(**usual | {"prompt": None}, prompts=file, from_video=source), None, MakeOptions())
    assert walk.score.prompts.at(0) == (("blurred noise", 1.0),)
    file.write_text('[[prompt]]\ntext = "noise"\nto = 0.1\n')
    with pytest.raises(ConfigError, match=r"no prompt holds at 0\.12 s"):
        prepare(Generation(**usual | {"prompt": None}, prompts=file, from_video=source), None, MakeOptions())


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"prompt": None}, "nothing says what the prior .* is to show; give --prompt or --timeline"),
        ({"steps": 2000}, "steps is 2000; give 1 to 1000"),
        ({"frames": 0}, "frames is 0; give 1 to"),
        ({"noise_share": 1.0}, "noise_share is 1.0"),
        ({"seed": -1}, "seed is -1"),
        ({"fps": "fast"}, "fps is 'fast'"),
        ({"parallel": True, "plan": "chunks"}, "parallel is on, but plan is chunks"),
        ({"context": 3}, "context is 3, but no video goes on"),
        ({"guidance_scale": 0.5}, "guidance_scale is 0.5; give 1 or more"),
        ({"window": 9}, "window is 9; the prior .* knows 1 to 8"),
        ({"motion": 100}, "motion is 100, but the prior .* takes"),
        ({"motion": 256}, "motion is 256; give 0 to 255"),
        ({"picture_noise": -1.0}, "picture_noise is -1.0; give 0 or more"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_loaded(usual, tmp_path, monkeypatch, more, message):
    monkeypatch.setattr(PriorSource, "load", None)
    with pytest.raises(ConfigError, match=message):
        generate(tmp_path / "out.mp4", **usual | {"frames": 4} | more)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("plan", "spiral", "plan is 'spiral'; give one of keyframes, diagonal, chunks, windows"),
        ("noise", "white", "noise is 'white'; give one of independent, rescheduled, shared, progressive"),
        ("dtype", "float8", "dtype is 'float8'; give one of auto, "),
    ],
)
def test_a_choice_that_there_is_not(name, value, message):
    config = GenerationConfig()
    object.__setattr__(config, name, value)  # past the types, which only tests check
    with pytest.raises(ConfigError, match=message):
        config.__post_init__()


def test_given_frames_that_do_not_go_with_the_plan(usual, tmp_path, clips, monkeypatch):
    monkeypatch.setattr(PriorSource, "load", None)
    first = picture(tmp_path / "first.png")
    for more, message in (
        ({"plan": "windows", "first": first}, "knows no given frames; use the plan keyframes"),
        ({"plan": "chunks", "last": first}, "not meet any later; use the plan keyframes"),
        ({"frames": 1, "first": first}, "frames is 1, and all of them are given"),
        ({"first": first, "from_video": first}, "leave one of them out"),
    ):
        with pytest.raises(ConfigError, match=message):
            generate(tmp_path / "out.mp4", **usual | {"frames": 9} | more)
    source = clips.write(tmp_path / "in.mkv", clips.scene(6, (32, 32)))
    with pytest.raises(OutputError, match="given as what it is to be made from"):
        generate(source, **usual, frames=2, from_video=source)


def test_priors_that_make_nothing_anew(usual, tmp_path):
    for name in ("restoration", "flow"):
        with pytest.raises(PriorError, match=f"the prior {name} makes nothing anew; name one in the layout of Animate"):
            generate(tmp_path / "out.mp4", **usual | {"prior": name})
    with pytest.raises(PriorError, match="no prior 'nowhere'"):
        generate(tmp_path / "out.mp4", **usual | {"prior": "nowhere"})
