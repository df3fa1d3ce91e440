"""The guided prior over any prior, and over the engine: what guidance must not disturb."""

import shutil

import numpy as np
import pytest
import torch

from vrestore import engine
from vrestore.errors import ConfigError, PriorError
from vrestore.flow import between, flow_pair
from vrestore.prior import Prior
from vrestore.priors import find_prior
from vrestore.priors.guided import MOTION, guided
from vrestore.priors.interpolation import BetweenPrior
from vrestore.priors.motion import Grid, coarse, motions
from vrestore.propagation import motion_guidance, propagate
from vrestore.report import RunOptions
from vrestore.sampling import ddim_ladder
from vrestore.tasks.interpolation import Interpolation
from vrestore.tasks.super_resolution import SuperResolution

CPU = torch.device("cpu")
ON = {"propagation": 0.8, "guidance": 0.6}


@pytest.fixture
def embedded(tiny_prior):
    return find_prior(str(tiny_prior)).load(CPU, torch.float32)


@pytest.fixture
def image_prior(identity_head):
    """A prior without motion of its own."""
    return find_prior(identity_head().config.prior).load(CPU, torch.float32)


@pytest.fixture
def clip(clips):
    frames = clips.scene(4, (64, 96)).astype(np.float32) / 255
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()


def window(prior, clip):
    entries = list(prior.conditions(iter(clip)))
    return {name: torch.stack([entry[name] for entry in entries])[None] for name in prior.facts.conditionings}


def test_off_is_the_very_prior(embedded):
    assert guided(embedded) is embedded


def test_it_is_a_prior(image_prior, embedded):
    for prior in (image_prior, embedded):
        found = guided(prior, **ON)
        assert isinstance(found, Prior)
        assert found.facts.conditionings == prior.facts.conditionings | {MOTION}


def test_the_prediction_is_guided_along_the_motion(embedded, clip):
    conditioning = window(guided(embedded, **ON), clip)
    latents, times = conditioning["degraded_latents"], torch.ones(1, 4)
    found = guided(embedded, **ON).predict(latents, times, conditioning)[0]
    plain, motion = embedded.predict(latents, times, conditioning)[0], conditioning[MOTION][0]
    expected = motion_guidance(propagate(plain, motion, strength=0.8), motion, strength=0.6)
    assert torch.equal(found, expected)
    assert not torch.allclose(found, plain)


@pytest.mark.parametrize("factor", [8, 4, 1])
def test_motion_is_found_where_a_prior_has_none(image_prior, clip, factor, monkeypatch):
    """At the size of its latents, in their pixels; the scene pans by two pixels to the left and one up a frame."""
    facts = vars(image_prior.facts) | {"spatial_factor": factor}
    monkeypatch.setattr(image_prior, "facts", type(image_prior.facts)(**facts), raising=False)
    monkeypatch.setattr(type(image_prior), "encode", lambda self, x: torch.nn.functional.avg_pool2d(x, factor))
    motion = torch.stack([entry[MOTION] for entry in guided(image_prior, **ON).conditions(iter(clip))])
    assert motion.shape == (4, 6, 64 // factor, 96 // factor)
    middle = motion[1:3].mean(dim=(0, 2, 3)) * torch.tensor([factor, factor, 1, factor, factor, 1])
    assert torch.allclose(middle, torch.tensor([2.0, 1, 1, -2, -1, 1]), atol=0.4)
    assert not motion[0, :3].any()
    assert not motion[-1, 3:].any()


def test_the_motion_is_that_of_the_other_priors(image_prior, embedded, clip):
    """The same field, so that a prior may be exchanged for another."""
    ours, theirs = window(guided(image_prior, **ON), clip), window(embedded, clip)
    found = coarse(theirs["motion"][0], tuple(ours[MOTION].shape[-2:]))
    assert torch.allclose(ours[MOTION][0], found, atol=1e-5)


def test_clean_frames_stand_for_themselves(embedded, clip):
    """A context frame at time 0 guides others by its latents, not by what the prior makes of it."""
    conditioning = window(guided(embedded, **ON), clip)
    latents = conditioning["degraded_latents"].clone()
    times = torch.tensor([[1.0, 1.0, 0.0, 1.0]])
    plain, motion = embedded.predict(latents, times, conditioning)[0].clone(), conditioning[MOTION][0]
    plain[2] = latents[0, 2]
    motion = motion.clone()
    motion[2] = 0
    for settings, guide in (({"propagation": 1.0}, propagate), ({"guidance": 1.0}, motion_guidance)):
        found = guided(embedded, **settings).predict(latents, times, conditioning)[0]
        expected = guide(plain, motion, strength=1.0)
        assert torch.equal(found[[0, 1, 3]], expected[[0, 1, 3]])
        assert torch.equal(found[2], latents[0, 2])


def test_time_zero_of_a_diffusion_prior_may_be_noisy(image_prior, clip, monkeypatch):
    monkeypatch.setattr(
        type(image_prior), "ladder", lambda self, steps: ddim_ladder(steps, [0.9, 0.5, 0.1], "leading"), raising=False
    )
    monkeypatch.setattr(type(image_prior), "predict", lambda self, z, t, c, a=None: -z)
    prior = guided(image_prior, propagation=1e-9)
    conditioning = window(prior, clip)
    latents = conditioning["degraded_latents"]
    assert torch.allclose(prior.predict(latents, torch.zeros(1, 4), conditioning), -latents)


def test_latents_of_several_frames_are_refused(embedded):
    embedded.facts = type(embedded.facts)(**vars(embedded.facts) | {"temporal_factor": 4})
    with pytest.raises(PriorError, match="4 frames in a latent"):
        guided(embedded, **ON)


def test_it_reads_no_further_ahead(image_prior, clip):
    read = []

    def frames():
        for i, frame in enumerate(clip):
            read.append(i)
            yield frame

    for i, _ in enumerate(guided(image_prior, **ON).conditions(frames())):
        assert len(read) <= i + 2


# ---------------------------------------------------------------- in the engine


@pytest.fixture
def source(clips, tmp_path):
    return clips.write(tmp_path / "in.mkv", clips.scene(9, (24, 32)))


def head(tiny_prior, **settings):
    return SuperResolution(
        prior=str(tiny_prior), device="cpu", dtype="float32", window=4, overlap=2, scale=2, **settings
    )


def restored(task, source, **options):
    return torch.stack([one.frame for one in engine.stream(task, source, RunOptions(**options))])


@pytest.mark.parametrize("field", ["propagation", "motion_guidance"])
def test_every_head_can_switch_it_on(tiny_prior, source, field):
    plain = restored(head(tiny_prior), source)
    assert torch.equal(restored(head(tiny_prior, **{field: 0.0}), source), plain)
    assert not torch.equal(restored(head(tiny_prior, **{field: 1.0}), source), plain)


def test_pictures_between_frames_are_guided_by_them(clips, tmp_path):
    """A prior that makes what is between two frames: the frames stay as they are."""
    frames = clips.scene(3, (32, 48))
    source = clips.write(tmp_path / "between.mkv", frames)
    task = Interpolation(factor=2, prior="flow", device="cpu", propagation=1.0, motion_guidance=1.0)
    found = restored(task, source)
    assert torch.equal((found[::2] * 255).round().byte()[:3].permute(0, 2, 3, 1), torch.from_numpy(frames))


def test_motion_of_a_picture_between_frames(clip):
    """The scene pans by two pixels to the left and one up a frame: half of it to each side from the middle."""
    prior = guided(find_prior("flow").load(CPU, torch.float32), **ON)
    assert isinstance(prior, BetweenPrior)
    made = between(clip[1], clip[2], flow_pair(clip[1], clip[2]), 0.5)
    middle = 8 * prior.between(made)[MOTION][:, 1:-1, 1:-1].mean(dim=(1, 2))
    assert torch.allclose(middle, torch.tensor([1.0, 0.5, 8, -1, -0.5, 8]), atol=0.3)


@pytest.mark.parametrize("field", ["propagation", "motion_guidance"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_strengths_out_of_range_are_refused(tiny_prior, field, value):
    with pytest.raises(ConfigError, match=f"{field} is .*; give a number from 0"):
        head(tiny_prior, **{field: value})


def test_a_window_is_the_limit(tiny_prior, source, clips, tmp_path):
    """With one step a frame hears of the frames of its windows, and of their motion, and of nothing beyond.

    That is so without a `RecurrentGuide`, which goes by groups of frames.
    """
    plain = shutil.copytree(tiny_prior, tmp_path / "plain", ignore=shutil.ignore_patterns("guide"))
    frames = clips.scene(9, (24, 32))
    frames[8] = np.clip(frames[8].astype(int) + 12, 0, 255)
    other = clips.write(tmp_path / "other.mkv", frames)
    task = head(plain, propagation=1.0, motion_guidance=1.0)
    one, two = (restored(task, file) for file in (source, other))
    assert torch.equal(one[:3], two[:3])
    assert not torch.equal(one[6], two[6])


def test_a_run_that_was_interrupted_goes_on_to_the_same_bits(tiny_prior, source, clips, tmp_path, monkeypatch):
    """Segments of two frames; the run dies at the seventh and is resumed."""
    monkeypatch.setattr(engine, "SEGMENT_FRAMES", 2)
    task = head(tiny_prior, steps=2, propagation=0.7, motion_guidance=0.5)
    engine.run(task, source, tmp_path / "whole.mkv", RunOptions())

    def die(progress):
        if progress.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run(task, source, tmp_path / "parts.mkv", RunOptions(progress=die))
    engine.run(task, source, tmp_path / "parts.mkv", RunOptions(resume=True))
    assert np.array_equal(clips.read(tmp_path / "whole.mkv")[0], clips.read(tmp_path / "parts.mkv")[0])


def test_motions_at_any_size(clips):
    pictures = [frame[..., 0] for frame in clips.scene(2, (32, 48))]
    assert [field.shape for field in motions(iter(pictures), Grid(2))] == [(6, 16, 24)] * 2
