"""Ladders of public priors against diffusers' own schedulers."""

import json

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, LCMScheduler

from vrestore.errors import ConfigError, PriorError
from vrestore.priors.schedule import read_schedule
from vrestore.sampling import advance, start

BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def schedule(folder, **settings):
    config = {"_class_name": "DDIMScheduler", "clip_sample": False} | BETAS | settings
    (folder / "scheduler_config.json").write_text(json.dumps(config))
    return read_schedule(folder), config


def settings_of(config):
    return {name: value for name, value in config.items() if not name.startswith("_")}


@pytest.mark.parametrize("steps", [1, 3, 7, 25, 50, 75, 1000])
@pytest.mark.parametrize(("spacing", "offset"), [("leading", 0), ("leading", 1), ("trailing", 0), ("linspace", 0)])
def test_the_timesteps_are_those_of_diffusers(tmp_path, steps, spacing, offset):
    ours, config = schedule(tmp_path, timestep_spacing=spacing, steps_offset=offset)
    steps = min(steps, ours.most_steps())
    theirs = DDIMScheduler(**settings_of(config))
    theirs.set_timesteps(steps)
    expected = theirs.timesteps.flip(0).tolist()
    assert ours.ladder(steps).time[1:] == tuple(expected)
    products = [theirs.alphas_cumprod[int(t)].item() for t in expected]
    assert ours.ladder(steps).alpha[1:] == pytest.approx([p**0.5 for p in products])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize(("spacing", "offset", "steps"), [("leading", 1, 7), ("trailing", 0, 5)])
def test_a_walk_is_that_of_diffusers(tmp_path, prediction, to_one, spacing, offset, steps):
    """With the same outputs of the network at every step, down to the clean latents."""
    ours, config = schedule(
        tmp_path,
        prediction_type=prediction, set_alpha_to_one=to_one, timestep_spacing=spacing, steps_offset=offset,
    )  # fmt: skip
    theirs = DDIMScheduler(**settings_of(config))
    theirs.set_timesteps(steps)
    ladder, z = ours.ladder(steps), torch.randn(4, 3, 5)
    expected = z
    for level in range(steps, 0, -1):
        output, time = torch.randn(1, 4, 3, 5), torch.tensor([ladder.time[level]])
        x0 = ours.clean_latents(output, z[None], time)[0]
        z = advance(ladder, z, x0, level, level - 1, lambda level: pytest.fail("no noise is drawn"))
        expected = theirs.step(output[0], int(time), expected).prev_sample
        assert torch.allclose(z, expected, atol=1e-4, rtol=1e-4)


def test_full_freedom_is_ancestral_sampling(tmp_path):
    """Fidelity 0 on a DDIM ladder draws the noise that DDPM draws."""
    ours, config = schedule(tmp_path, prediction_type="epsilon")
    theirs = DDPMScheduler(**settings_of(config), variance_type="fixed_small")
    theirs.set_timesteps(10)
    ladder, z, output = ours.ladder(10), torch.randn(4, 3, 5), torch.randn(1, 4, 3, 5)
    x0 = ours.clean_latents(output, z[None], torch.tensor([ladder.time[6]]))[0]
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(output[0].shape, generator=torch.Generator().manual_seed(3))
    moved = advance(ladder, z, x0, 6, 5, lambda level: drawn, freedom=1.0)
    expected = theirs.step(output[0], int(ladder.time[6]), z, generator=generator).prev_sample
    assert torch.allclose(moved, expected, atol=1e-5)


@pytest.mark.parametrize(("steps", "strength"), [(1, 0.5), (3, 0.5), (4, 0.8), (7, 0.3), (5, 0.7), (20, 0.9), (2, 1.0)])
def test_strength_walks_the_lowest_part_of_a_ladder(tmp_path, steps, strength):
    """The steps that diffusers walks of n are int(n strength): the smallest n that gives as many as asked for."""
    ours, config = schedule(tmp_path, steps_offset=1)
    total = next(n for n in range(1, 1001) if min(int(n * strength), n) == steps)
    theirs = DDIMScheduler(**settings_of(config))
    theirs.set_timesteps(total)
    ladder = ours.ladder(steps, strength)
    assert ladder.levels == steps
    assert ladder.time[1:] == tuple(theirs.timesteps[total - steps :].flip(0).tolist())
    assert ladder.mixed == (strength < 1)


def test_a_start_below_full_strength_is_the_degraded_latent_with_noise(tmp_path):
    ours, config = schedule(tmp_path, steps_offset=1)
    degraded, drawn = torch.randn(4, 3, 5), torch.randn(4, 3, 5)
    whole, part = ours.ladder(4), ours.ladder(4, 0.5)
    asked = []
    assert torch.equal(start(whole, degraded, lambda level: asked.append(level) or drawn), drawn)
    mixed = start(part, degraded, lambda level: asked.append(level) or drawn)
    time = torch.tensor([int(part.time[-1])])
    expected = DDIMScheduler(**settings_of(config)).add_noise(degraded[None], drawn[None], time)[0]
    assert torch.allclose(mixed, expected, atol=1e-6)
    assert asked == [4, 4]


@pytest.mark.parametrize(("steps", "strength"), [(1, 1.0), (4, 1.0), (8, 0.5)])
def test_a_consistency_model_has_its_own_ladder(tmp_path, steps, strength):
    """AnimateLCM's sampler: linear betas, as its pipeline saves it."""
    ours, config = schedule(tmp_path, _class_name="LCMScheduler", beta_schedule="linear", original_inference_steps=40)
    theirs = LCMScheduler(**settings_of(config))
    theirs.set_timesteps(steps, strength=strength)
    ladder = ours.ladder(steps, strength)
    assert ladder.kind == "lcm"
    assert [int(t) for t in ladder.time[:0:-1]] == theirs.timesteps.tolist()
    assert ladder.sigma[-1] == pytest.approx(float((1 - theirs.alphas_cumprod[theirs.timesteps[0]]).sqrt()))
    assert (ours.most_steps(), ours.most_steps(0.5), ladder.mixed) == (40, 20, strength < 1)


def test_the_longest_ladder(tmp_path):
    ours, _ = schedule(tmp_path)
    assert (ours.most_steps(), ours.most_steps(0.5), ours.most_steps(0.3)) == (1000, 500, 300)
    assert ours.ladder(300, 0.3).levels == 300
    shifted, _ = schedule(tmp_path, steps_offset=1)
    assert shifted.most_steps() == 999
    assert shifted.ladder(999).time[-1] == 999
    with pytest.raises(ConfigError, match="offset 1"):
        shifted.ladder(1000)


@pytest.mark.parametrize(
    ("settings", "clip"),
    [({"clip_sample": True, "clip_sample_range": 2.0}, 2.0), ({"clip_sample": False}, None),
     ({"_class_name": "PNDMScheduler", "clip_sample": None}, None), ({"_class_name": "DDPMScheduler"}, 1.0)],
)  # fmt: skip
def test_what_clips_a_prediction(tmp_path, settings, clip):
    config = {"_class_name": "DDIMScheduler"} | BETAS | settings
    config = {name: value for name, value in config.items() if value is not None}
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config | {"prediction_type": "sample"}))
    ours = read_schedule(tmp_path)
    assert ours.clip == clip
    output = torch.full((1, 1, 1, 1), 5.0)
    assert float(ours.clean_latents(output, output, torch.tensor([10.0]))) == (clip or 5.0)


@pytest.mark.parametrize(
    "settings",
    [{"_class_name": "FlowMatchEulerDiscreteScheduler"}, {"thresholding": True}, {"prediction_type": "score"},
     {"timestep_spacing": "random"}, {"beta_schedule": "none"}, {"beta_start": "low"}],
)  # fmt: skip
def test_a_schedule_that_is_not_supported_is_named(tmp_path, settings):
    with pytest.raises(PriorError, match=str(tmp_path)):
        schedule(tmp_path, **settings)


def test_a_missing_schedule_is_named(tmp_path):
    with pytest.raises(PriorError, match=r"lacks .*scheduler_config.json; copy or download"):
        read_schedule(tmp_path)
