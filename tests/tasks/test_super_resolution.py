"""Super-resolution: sizes, settings, colour and consistency. The prior's answer is made up, or a tiny prior's."""

import numpy as np
import pytest
import torch

from vrestore import engine, super_resolve
from vrestore.degradation import Resize
from vrestore.errors import ConfigError
from vrestore.report import RunOptions
from vrestore.tasks.super_resolution import MOST_PIXELS, SuperResolution, SuperResolutionConfig

DIAL = (0.5, 0.625, 0.75, 0.875, 1.0)


@pytest.fixture
def pair(clips):
    """A smooth random picture, and its reduction: (truth, source)."""
    truth = torch.from_numpy(clips.scene(1, (96, 128))[0].astype(np.float32) / 255).permute(2, 0, 1).contiguous()
    return truth, Resize((96, 128), (24, 32)).apply(truth).clamp(0, 1)


@pytest.fixture
def answer(pair):
    """What a prior might make of it: too sharp, noisy, with a tint."""
    truth, _ = pair
    tint = torch.tensor([0.03, -0.02, 0.04])[:, None, None]
    return truth + 0.1 * torch.randn(truth.shape) + tint


# ---------------------------------------------------------------- sizes and settings


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, (68, 132)),
        ({"scale": 2}, (34, 66)),
        ({"scale": 1}, (17, 33)),
        ({"size": "40x20"}, (20, 40)),
        ({"size": "33X17"}, (17, 33)),
        ({"size": "100x17", "scale": 2}, (17, 100)),
    ],
)
def test_output_size(settings, size):
    task = SuperResolution(**settings)
    assert task.output_size(17, 33) == size
    twice = size == (17, 33)  # what is to be cleaned up is seen larger
    assert task.degraded(torch.rand(3, 17, 33)).shape == (3, *((34, 66) if twice else size))


@pytest.mark.parametrize("size", ["32x17", "33x16", f"{MOST_PIXELS + 1}x17"])
def test_sizes_that_cannot_be(size):
    width, _, height = size.partition("x")
    with pytest.raises(ConfigError, match=f"{width}x{height}"):
        SuperResolution(size=size).output_size(17, 33)


@pytest.mark.parametrize(
    "settings",
    [{"scale": 0}, {"scale": -1}, {"scale": 3}, {"size": "0x10"}, {"size": "big"}, {"size": "10x10x10"}, {"size": ""},
     {"detail": 1.5}, {"size": "-5x10"}, {"size": "²x10"}, {"denoise": -0.1}, {"denoise": 2.5}],
)  # fmt: skip
def test_settings_out_of_range(settings):
    ((name, value),) = settings.items()
    config = SuperResolutionConfig()
    object.__setattr__(config, name, value)  # past the types, which only tests check
    with pytest.raises(ConfigError, match=f"^{name} is"):
        config.__post_init__()


def test_fields_change_a_config():
    config = SuperResolutionConfig(scale=2, seed=5)
    assert SuperResolution(config, seed=6).config == SuperResolutionConfig(scale=2, seed=6)
    assert SuperResolution(config).config == config


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 0.0), ({"steps": 1, "fidelity": 0.0}, 0.0), ({"steps": 4}, 0.75), ({"steps": 4, "fidelity": 0.2}, 0.75),
        ({"steps": 4, "fidelity": 0.8}, 0.3), ({"steps": 8, "fidelity": 1.0}, 0.0), ({"steps": 8, "detail": 0.1}, 0.1),
        ({"detail": 1.0}, 1.0), ({"steps": 20, "prior": "upscaler"}, 0.0),
    ],
)  # fmt: skip
def test_more_steps_give_more_detail_back_unless_fidelity_is_asked_for(given, expected):
    assert SuperResolutionConfig(**given).raised == pytest.approx(expected)


def test_more_steps_are_sharper(pair):
    """And one step leaves the answer as it was."""
    _, source = pair
    soft, sharpness = SuperResolution().degraded(source), []
    for steps in (None, 1, 2, 4, 8):
        frame = SuperResolution(steps=steps).finish(soft, source, exact=False)
        sharpness.append(float(frame.diff(dim=-1).square().mean()))
    assert sharpness[0] == sharpness[1]
    assert sharpness[1:] == sorted(set(sharpness[1:]))


@pytest.mark.parametrize("frames", [1, 6])
@pytest.mark.parametrize("size", [(17, 33), (24, 32)])
def test_at_scale_one_the_size_stays(clips, tmp_path, tiny_prior, frames, size):
    source = clips.write(tmp_path / "in.mkv", clips.scene(frames, size))
    output = tmp_path / "out.mkv"
    result = super_resolve(source, output, scale=1, prior=str(tiny_prior), device="cpu", dtype="float32", window=5)
    assert (result.frames, result.height, result.width) == (frames, *size)
    assert clips.read(output)[0].shape == (frames, *size, 3)


@pytest.mark.parametrize(("settings", "least"), [({"denoise": 0.0}, 0.5), ({}, 2.0), ({"fidelity": 1.0}, 1.0)])
def test_at_scale_one_noise_goes(clips, tmp_path, settings, least):
    """Decibels gained on noise of eight levels, on the prior that comes along."""
    truth = clips.scene(7, (64, 96)).astype(np.float32)
    seen = np.clip(truth + np.random.default_rng(0).normal(0, 8, truth.shape), 0, 255).round().astype(np.uint8)
    source = clips.write(tmp_path / "in.mkv", seen)
    super_resolve(source, tmp_path / "out.mkv", scale=1, device="cpu", dtype="float32", **settings)
    before, after = (np.square(found - truth).mean() for found in (seen, clips.read(tmp_path / "out.mkv")[0]))
    assert 10 * np.log10(before / after) > least


def test_what_is_denoised_is_asked_for_or_scale_one():
    assert SuperResolutionConfig().averaged == SuperResolutionConfig(scale=2).averaged == 0
    assert SuperResolutionConfig(scale=1).averaged == 1
    assert SuperResolutionConfig(scale=1, denoise=0.0).averaged == 0
    assert SuperResolutionConfig(denoise=0.5).averaged == 0.5
    assert SuperResolution(denoise=0.5).prepared_bytes(10, 10) > SuperResolution().prepared_bytes(10, 10) == 0


def test_super_resolve_is_one_call(clips, tmp_path, tiny_prior):
    source = clips.write(tmp_path / "in.mkv", clips.scene(2, (16, 16)))
    result = super_resolve(source, str(tmp_path / "out.mkv"), scale=2, prior=str(tiny_prior), device="cpu")
    assert (result.frames, result.width, result.output) == (2, 32, str(tmp_path / "out.mkv"))


# ---------------------------------------------------------------- consistency and colour


def test_consistency_rises_with_fidelity(pair, answer):
    _, source = pair
    found = []
    for fidelity in DIAL:
        task = SuperResolution(fidelity=fidelity)
        found.append(task.consistency_db(task.finish(answer, source, exact=False), source))
    assert found == sorted(found)
    assert found[0] < 40
    assert found[-1] >= 45


def test_below_the_middle_the_dial_leaves_the_answer(pair, answer):
    _, source = pair
    finished = [SuperResolution(fidelity=f).finish(answer, source, exact=False) for f in (0.0, 0.25, 0.5)]
    assert torch.equal(finished[0], finished[2])
    assert torch.equal(finished[1], finished[2])


def test_an_exact_source_is_believed_from_the_middle_on(pair, answer):
    _, source = pair
    for fidelity, believed in ((0.4, False), (0.5, True), (0.6, True), (1.0, True)):
        task = SuperResolution(fidelity=fidelity)
        found = [task.consistency_db(task.finish(answer, source, exact=exact), source) for exact in (False, True)]
        assert (found[1] > found[0] + 3) == (believed and fidelity < 0.58)
        assert found[1] >= found[0] - 0.01  # colour is held a little differently


def test_the_truth_is_left_nearly_as_it_is(pair):
    truth, source = pair
    for fidelity in (0.5, 1.0):
        finished = SuperResolution(fidelity=fidelity).finish(truth, source, exact=False)
        assert (finished - truth).abs().mean() < 1 / 255


@pytest.mark.parametrize("fidelity", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("exact", "levels"), [(True, 0.34), (False, 1.34)])
def test_colour_is_held_to_the_source(pair, answer, fidelity, exact, levels):
    """The tint of the answer, 8 levels of 8 bits, is gone; but for the one that a codec may itself be wrong by."""
    _, source = pair
    finished = SuperResolution(fidelity=fidelity).finish(answer, source, exact=exact)
    difference = finished.mean((1, 2)) - source.mean((1, 2))
    assert (difference.abs() * 255).max() < levels


def test_a_compressed_source_may_be_corrected_by_a_level(pair):
    """What lies within the codec's own error is the prior's to say."""
    truth, source = pair
    for sign in (-1, 1):
        answer = truth + sign * 0.5 / 255
        kept, held = (SuperResolution().finish(answer, source, exact=exact) for exact in (False, True))
        assert ((kept - answer).mean() * 255).abs() < 0.1
        assert ((held - truth).mean() * 255).abs() < 0.1


def test_consistency_is_that_of_the_rounded_reduction(pair):
    """By hand: an error of one 8-bit level in every channel is 20 log10(255 / (219 / 255)) dB of luma."""
    _, source = pair
    source = (source * 200).round() / 255 + 20 / 255
    large = Resize((24, 32), (24, 32))
    task = SuperResolution(size="32x24")
    assert task.consistency_db(large.apply(source), source) == pytest.approx(100)
    expected = 20 * np.log10(255 / (219.0 / 255))
    assert task.consistency_db(source + 1 / 255, source) == pytest.approx(expected, abs=0.01)


def test_the_dial_works_on_a_whole_run(clips, tmp_path, tiny_prior):
    source = clips.write(tmp_path / "in.mkv", clips.scene(4, (24, 32)))
    found = []
    for fidelity in (0.4, 1.0):
        task = SuperResolution(fidelity=fidelity, prior=str(tiny_prior), device="cpu", dtype="float32", steps=2)
        frames = list(engine.stream(task, source, RunOptions()))
        found.append(np.mean([task.consistency_db(r.frame, r.source) for r in frames]))
    assert found[1] >= 45
    assert found[0] < found[1]
