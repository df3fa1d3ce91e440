"""The prior for editing against diffusers' own pipelines, on small random networks and the same noise."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import (
    AnimateDiffVideoToVideoControlNetPipeline,
    AutoencoderDC,
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    MotionAdapter,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    UNet2DConditionModel,
    UNetMotionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

from vrestore.errors import ConfigError, PriorError
from vrestore.noise import noise
from vrestore.plan.attend import CleanHistory, CrossWindow, Subject, WindowedTime
from vrestore.prior_options import EditOptions, PriorOptions
from vrestore.priors import find_prior
from vrestore.priors.control_tile import ControlTilePrior
from vrestore.priors.editing import EditPrior
from vrestore.priors.text import embeddings
from vrestore.sampling import advance, start

CPU = torch.device("cpu")
SEED = 11
TEXT = ["a sharp picture of stone", "stone", "a blurred picture"]
AWAY = "blurred noise"


def load(folder, dtype=torch.float32, **options):
    return find_prior(str(folder), EditOptions(**options)).load(CPU, dtype)


def pictures(count, height=32, width=48):
    return torch.rand(count, 3, height, width)


def drawn(level, frames, shape):
    return torch.stack([noise(SEED, i, level, shape) for i in range(frames)])


def walked(prior, frames, maps, steps, texts):
    """Frames as one window down the whole ladder: their final latents."""
    entries = list(prior.conditions(iter(frames)))
    window = {"text": prior.embed(texts)[None]}
    if "control" in prior.facts.conditionings:
        window["control"] = torch.cat(maps, dim=1)[None]
    ladder, shape = prior.ladder(steps), tuple(entries[0]["degraded_latents"].shape)
    z = [start(ladder, e["degraded_latents"], lambda at, i=i: noise(SEED, i, at, shape)) for i, e in enumerate(entries)]
    for level in range(steps, 0, -1):
        times = torch.full((1, len(z)), ladder.time[level])
        x0 = prior.predict(torch.stack(z)[None], times, window)[0]
        z = [advance(ladder, *pair, level, level - 1, lambda at: None) for pair in zip(z, x0, strict=True)]
    return torch.stack(z)


def parts(folder, **more):
    """What the constructors of diffusers' pipelines take."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    return {
        "vae": AutoencoderKL.from_pretrained(folder / "vae") if (folder / "vae").is_dir() else None,
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet"),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder"),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        "scheduler": DDIMScheduler.from_pretrained(folder / "scheduler"),
        **more,
    }


def made(pipeline, **call):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(output_type="latent", **call)


UNSAFE = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def networks(folder, count):
    return [ControlNetModel.from_pretrained(folder / "controlnet") for _ in range(count)]


def started(pipeline, latents, steps, strength):
    """Noise, below full strength in the source, as the pipelines have it; and the steps that they are told."""
    fresh = drawn(steps, len(latents), tuple(latents.shape[1:]))
    if strength == 1:
        return fresh, steps
    total = round(steps / strength)
    pipeline.scheduler.set_timesteps(total)
    return pipeline.scheduler.add_noise(latents, fresh, pipeline.scheduler.timesteps[-steps][None]), total


@pytest.mark.parametrize(
    ("steps", "strength", "weights", "scale"),
    [(3, 1.0, (0.7,), 7.5), (2, 0.5, (1.0,), 4.0), (2, 1.0, (0.8, 0.4), 7.5), (3, 0.6, (0.0, 1.5), 1.0)],
)
def test_frame_by_frame_it_is_stable_diffusion_with_controlnets(tiny_control, steps, strength, weights, scale):
    """A text and maps for every frame, one or several ControlNets, from noise and from the source."""
    frames, maps = pictures(3), [pictures(3) for _ in weights]
    inside = str(tiny_control / "controlnet")
    prior = load(
        tiny_control, strength=strength, controlnet=",".join([inside] * len(weights)), control_weights=weights,
        negative_prompt=AWAY, guidance_scale=scale,
    )  # fmt: skip
    ours = walked(prior, frames, maps, steps, TEXT)
    kind = StableDiffusionControlNetPipeline if strength == 1 else StableDiffusionControlNetImg2ImgPipeline
    pipeline = kind(**parts(tiny_control, controlnet=networks(tiny_control, len(weights)), **UNSAFE))
    latents, total = started(pipeline, prior.encode(frames), steps, strength)
    more = {"image": maps} if strength == 1 else {"image": frames, "control_image": maps, "strength": strength}
    theirs = made(
        pipeline, prompt=TEXT, negative_prompt=[AWAY] * 3, guidance_scale=scale, num_inference_steps=total,
        latents=latents, controlnet_conditioning_scale=list(weights), **more,
    ).images  # fmt: skip
    assert torch.allclose(ours, theirs, atol=1e-4)
    decoded = AutoencoderKL.from_pretrained(tiny_control / "vae").decode(theirs / 0.18215).sample / 2 + 0.5
    assert torch.allclose(prior.decode(ours, {}), decoded, atol=1e-4)


def test_one_controlnet_serves_every_map(tiny_control):
    frames, maps = pictures(2), [pictures(2), pictures(2)]
    inside = str(tiny_control / "controlnet")
    one, two = (
        load(tiny_control, controlnet=names, control_weights=(1.0, 0.5)) for names in (None, f"{inside},{inside}")
    )
    assert torch.equal(*(walked(prior, frames, maps, 2, TEXT[:2]) for prior in (one, two)))


@pytest.mark.parametrize(("steps", "strength", "weight"), [(2, 1.0, 0.7), (3, 0.6, 1.0)])
def test_with_motion_modules_it_is_animatediff(tiny_animated, steps, strength, weight):
    frames, maps = pictures(4), pictures(4)
    prior = load(tiny_animated, strength=strength, control_scale=weight, negative_prompt=AWAY, guidance_scale=5.0)
    assert prior.facts.window == 8
    ours = walked(prior, frames, [maps], steps, TEXT[:1] * 4)
    pipeline = AnimateDiffVideoToVideoControlNetPipeline(
        **parts(tiny_animated, motion_adapter=MotionAdapter.from_pretrained(tiny_animated / "motion_adapter")),
        controlnet=networks(tiny_animated, 1)[0],
    )
    latents, total = started(pipeline, prior.encode(frames), steps, strength)
    theirs = made(
        pipeline, prompt=TEXT[0], negative_prompt=AWAY, guidance_scale=5.0, strength=strength,
        num_inference_steps=total, latents=latents.transpose(0, 1)[None],
        conditioning_frames=[one[None] for one in maps], controlnet_conditioning_scale=weight, height=32, width=48,
    ).frames  # fmt: skip
    assert torch.allclose(ours, theirs[0].transpose(0, 1), atol=1e-4)


def test_an_adapter_of_another_folder_and_a_network_that_is_whole(tiny_control, tiny_motion, tiny_animated, tmp_path):
    frames, maps = pictures(3), [pictures(3)]
    inside = walked(load(tiny_animated), frames, maps, 2, TEXT)
    beside = walked(load(tiny_control, motion_adapter=str(tiny_motion)), frames, maps, 2, TEXT)
    assert torch.equal(inside, beside)
    whole = shutil.copytree(tiny_animated, tmp_path / "whole", ignore=shutil.ignore_patterns("unet", "motion_adapter"))
    network = UNetMotionModel.from_unet2d(
        UNet2DConditionModel.from_pretrained(tiny_animated / "unet"), MotionAdapter.from_pretrained(tiny_motion)
    )
    network.save_pretrained(whole / "unet")
    assert torch.equal(inside, walked(load(whole), frames, maps, 2, TEXT))
    without = load(tiny_animated, motion_adapter="none")
    assert without.facts.window == 1
    assert torch.equal(walked(without, frames, maps, 2, TEXT), walked(load(tiny_control), frames, maps, 2, TEXT))


@torch.no_grad()
def test_frames_between_motion_modules_have_their_own_level(tiny_animated, tmp_path):
    """Without an effect of the motion modules, frames at mixed levels are what they are each at its own."""
    copy = shutil.copytree(tiny_animated, tmp_path / "copy")
    adapter = MotionAdapter.from_pretrained(copy / "motion_adapter")
    for name, parameter in adapter.named_parameters():
        if "proj_out" in name:
            parameter.zero_()
    adapter.save_pretrained(copy / "motion_adapter")
    z, window = torch.randn(2, 3, 4, 4, 6), {"text": torch.randn(2, 3, 12, 16), "control": torch.rand(2, 3, 3, 32, 48)}
    times = torch.tensor([[901.0, 501.0, 1.0], [1.0, 701.0, 701.0]])
    still, moving = load(copy), load(tiny_animated)
    mixed = still.predict(z, times, window)
    for i in range(2):
        for j in range(3):
            one = {name: value[i : i + 1, j : j + 1] for name, value in window.items()}
            alone = still.predict(z[i : i + 1, j : j + 1], times[i : i + 1, j : j + 1], one)
            assert torch.allclose(mixed[i, j], alone[0, 0], atol=1e-4)
    assert not torch.allclose(moving.predict(z, times, window), mixed, atol=1e-3)


def test_the_shared_deep_compression_autoencoder(tiny_deep, tiny_control):
    """Latents of an AutoencoderDC that lies outside the folder, as the networks give them."""
    frames, maps = pictures(2), [pictures(2)]
    prior = load(tiny_deep, negative_prompt=AWAY)
    assert (prior.facts.latent_channels, prior.facts.spatial_factor) == (8, 8)
    vae = AutoencoderDC.from_pretrained(tiny_deep.parent / "autoencoder")
    latents = prior.encode(frames)
    assert torch.allclose(latents, vae.encode(frames * 2 - 1).latent * 0.41, atol=1e-5)
    assert torch.allclose(prior.decode(latents, {}), vae.decode(latents / 0.41).sample / 2 + 0.5, atol=1e-5)
    ours = walked(prior, frames, maps, 2, TEXT[:2])
    shape = parts(tiny_deep, vae=AutoencoderKL.from_pretrained(tiny_control / "vae"))  # asked for its factor only
    pipeline = StableDiffusionControlNetPipeline(**shape, controlnet=networks(tiny_deep, 1)[0], **UNSAFE)
    theirs = made(
        pipeline, prompt=TEXT[:2], negative_prompt=[AWAY] * 2, image=maps[0], num_inference_steps=2,
        latents=drawn(2, 2, (8, 4, 6)),
    ).images  # fmt: skip
    assert torch.allclose(ours, theirs, atol=1e-4)


# ---------------------------------------------------------------- what a head needs of it


@torch.no_grad()
def test_an_inversion_is_not_guided_and_has_a_text_of_its_own(tiny_animated):
    prior = load(tiny_animated, negative_prompt=AWAY)
    inverting, plain = prior.inverting(), load(tiny_animated, guidance_scale=1.0)
    assert inverting.facts.conditionings == {"source_text", "control"}
    z, times, maps = torch.randn(1, 3, 4, 4, 6), torch.full((1, 3), 501.0), torch.rand(1, 3, 3, 32, 48)
    text = prior.embed(TEXT)[None]
    found = inverting.predict(z, times, {"source_text": text, "control": maps})
    assert torch.equal(found, plain.predict(z, times, {"text": text, "control": maps}))
    guided = prior.predict(z, times, {"text": text, "control": maps})
    assert not torch.allclose(found, guided, atol=1e-3)
    assert prior.facts.conditionings == {"text", "control"}


@pytest.mark.parametrize("folder", ["tiny_control", "tiny_animated"])
def test_frames_attend_to_those_that_a_step_names(request, folder):
    """To the first frame of the call, which is context: each window as it would be alone, guided."""
    prior = load(request.getfixturevalue(folder), negative_prompt=AWAY)
    z, times = torch.randn(2, 4, 4, 4, 6), torch.full((2, 4), 501.0)
    window = {"text": torch.randn(2, 4, 12, 16), "control": torch.rand(2, 4, 3, 32, 48)}
    anchored = CrossWindow(alone=(0,), together=(3,), context=(0,), downsampling=1)
    found = prior.predict(z, times, window, anchored)
    assert not found[:, 0].any()
    for i in range(2):
        one = {name: value[i : i + 1] for name, value in window.items()}
        assert torch.allclose(prior.predict(z[i : i + 1], times[i : i + 1], one, anchored)[0], found[i], atol=1e-5)
    kept = {name: value[:, 1:] for name, value in window.items()}
    plain = prior.predict(z[:, 1:], times[:, 1:], kept)
    assert not torch.allclose(found[:, 1:], plain, atol=1e-3)
    alone = prior.predict(z[:, 1:], times[:, 1:], kept, CrossWindow(downsampling=1))
    assert torch.allclose(alone, plain, atol=1e-5)
    other = z.clone()
    other[:, 0] = -other[:, 0]
    assert not torch.allclose(prior.predict(other, times, window, anchored), found, atol=1e-3)


def test_embedded_texts_are_those_of_the_text_encoder(tiny_deep):
    prior = load(tiny_deep, prompt=TEXT[0])
    assert torch.equal(prior.embed(TEXT[:2]), torch.cat(embeddings(tiny_deep, TEXT[:2])))
    (entry,) = prior.conditions(iter(pictures(1)))
    assert torch.allclose(entry["text"], prior.embed(TEXT[:1])[0], atol=1e-6)


def test_without_a_controlnet_only_text_is_asked_for(tiny_control):
    prior = load(tiny_control, controlnet="none")
    assert prior.facts.conditionings == {"text"}
    frames, unweighted = pictures(2), load(tiny_control, control_scale=0.0)
    ours, theirs = walked(prior, frames, [], 2, TEXT[:2]), walked(unweighted, frames, [pictures(2)], 2, TEXT[:2])
    assert torch.equal(ours, theirs)
    pipeline = StableDiffusionImg2ImgPipeline(**parts(tiny_control), image_encoder=None, **UNSAFE)
    half = load(tiny_control, controlnet="none", strength=0.5)
    latents, total = started(pipeline, half.encode(frames), 2, 0.5)
    pipeline.prepare_latents = lambda *_: latents
    theirs = made(pipeline, prompt=TEXT[:2], image=frames, strength=0.5, num_inference_steps=total).images
    assert torch.allclose(walked(half, frames, [], 2, TEXT[:2]), theirs, atol=1e-4)


def test_a_controlnet_that_pools_does_not_see_what_is_led_away_from(tiny_control, tmp_path):
    """As diffusers runs those of ControlNet shuffle."""
    copy = shutil.copytree(tiny_control, tmp_path / "copy")
    network = ControlNetModel.from_pretrained(copy / "controlnet")
    network.register_to_config(global_pool_conditions=True)
    network.save_pretrained(copy / "controlnet")
    frames, maps = pictures(1), pictures(1)
    ours = walked(load(copy, negative_prompt=AWAY), frames, [maps], 2, TEXT[:1])
    pipeline = StableDiffusionControlNetPipeline(**parts(copy, controlnet=network), **UNSAFE)
    theirs = made(
        pipeline, prompt=TEXT[:1], negative_prompt=[AWAY], image=maps, num_inference_steps=2,
        latents=drawn(2, 1, (4, 4, 6)),
    ).images  # fmt: skip
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_head_that_edits_gets_the_prior_for_editing(tiny_control, tiny_prior):
    assert find_prior(str(tiny_control), EditOptions()).adapter is EditPrior
    assert find_prior(str(tiny_control), PriorOptions()).adapter is ControlTilePrior
    with pytest.raises(PriorError, match="takes no text, so it cannot edit"):
        find_prior(str(tiny_prior), EditOptions())


def test_weights_are_those_that_are_read(tiny_control, tiny_motion, tiny_deep):
    source = find_prior(str(tiny_control), EditOptions(motion_adapter=str(tiny_motion)))
    assert {path.parent.name for path in source.weights()} == {
        "vae",
        "unet",
        "text_encoder",
        "controlnet",
        "tiny-motion",
    }
    source = find_prior(str(tiny_control), EditOptions(controlnet="none"))
    assert {path.parent.name for path in source.weights()} == {"vae", "unet", "text_encoder"}
    shared = find_prior(str(tiny_deep), EditOptions()).weights()[0]
    assert shared == (tiny_deep.parent / "autoencoder" / "diffusion_pytorch_model.safetensors").resolve()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [({"controlnet": "{unet}"}, PriorError, "holds a UNet2DConditionModel, which is no ControlNet"),
     ({"motion_adapter": "{unet}"}, PriorError, "which is no motion adapter"),
     ({"motion_adapter": "{nothing}"}, PriorError, "lacks .*nothing/config.json"),
     ({"motion_adapter": "{motion}/motion", "prior": 1}, PriorError, "normalises 2 groups, the network 4"),
     ({"noise_level": 3}, ConfigError, "noise_level is 3, but the prior")],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tiny_control, tiny_motion, tmp_path, options, error, text):
    other = shutil.copytree(tiny_motion, tmp_path / "motion" / "motion")
    config = (other / "config.json").read_text().replace('"motion_norm_num_groups": 4', '"motion_norm_num_groups": 2')
    (other / "config.json").write_text(config)
    places = {"unet": tiny_control / "unet", "nothing": tmp_path / "nothing", "motion": other.parent}
    options = {k: v.format(**places) if isinstance(v, str) else v for k, v in options.items() if k != "prior"}
    with pytest.raises(error, match=text):
        assert load(tiny_control, **options).facts is None


def test_directives_to_layers_of_time(tiny_animated):
    """More frames than there are positions for, in windows; clean history that is seen once; the subject."""
    prior = load(tiny_animated, negative_prompt=AWAY)
    z, times = torch.randn(1, 9, 4, 4, 6), torch.full((1, 9), 501.0)
    given = {"text": torch.randn(1, 9, 12, 16), "control": torch.rand(1, 9, 3, 32, 48)}
    found = prior.predict(z, times, given, WindowedTime(8, 4))
    assert torch.isfinite(found).all()
    short = {name: value[:, :6] for name, value in given.items()}
    plain = prior.predict(z[:, :6], times[:, :6], short)
    assert torch.equal(prior.predict(z[:, :6], times[:, :6], short, WindowedTime(8, 4)), plain)
    behind = prior.predict(z[:, :6], times[:, :6], short, CleanHistory((0, 1)))
    assert not behind[:, :2].any()
    assert not torch.allclose(behind[:, 2:], plain[:, 2:], atol=1e-3)
    told = prior.seeing_subject()
    assert told.facts.conditionings == prior.facts.conditionings | {"subject"}
    short["subject"] = torch.ones(1, 6, 1, 4, 6)
    rising = times[:, :6] + torch.arange(6)
    seen = told.predict(z[:, :6], rising, short, Subject(downsampling=1))
    led = told.predict(z[:, :6], rising, short, Subject(strength=1.0, downsampling=1))
    assert not torch.equal(led[:, 1:], seen[:, 1:])


def test_what_cannot_be_predicted_is_refused(tiny_animated, tiny_control):
    prior = load(tiny_animated)
    z, times = torch.randn(1, 9, 4, 4, 6), torch.full((1, 9), 501.0)
    with pytest.raises(PriorError, match="positions for 8 frames, not for 9; give a window of at most 8, best 8"):
        prior.predict(z, times, {"text": torch.randn(1, 9, 12, 16), "control": torch.rand(1, 9, 3, 32, 48)})
    one = {"text": torch.randn(1, 1, 12, 16), "control": torch.rand(1, 1, 9, 32, 48)}
    inside = str(tiny_control / "controlnet")
    for options, text in (
        ({"controlnet": f"{inside},{inside}"}, "3 control maps and 2 ControlNets"),
        ({"control_weights": (1.0,)}, "3 control maps and 1 control_weights"),
    ):
        with pytest.raises(PriorError, match=text):
            load(tiny_control, **options).predict(z[:, :1], times[:, :1], one)


@pytest.mark.parametrize(
    ("options", "text"),
    [({"control_weights": (1.0, -0.5)}, r"control_weights holds -0\.5; give 0 or more"),
     ({"lora_scale": float("inf")}, "lora_scale is inf"),
     ({"checkpoint": Path("model.ckpt")}, r"checkpoint is 'model\.ckpt'; give a \.safetensors file")],
)  # fmt: skip
def test_options_out_of_their_range(options, text):
    with pytest.raises(ConfigError, match=text):
        EditOptions(**options)


def test_a_lora_is_merged_and_counted(tiny_control, tmp_path):
    path, name = tmp_path / "lora.safetensors", "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    save_file({f"{name}.lora_A.weight": torch.randn(2, 16), f"{name}.lora_B.weight": torch.randn(16, 2)}, path)
    assert path in find_prior(str(tiny_control), EditOptions(lora=path)).weights()
    frames, maps = pictures(1), [pictures(1)]
    plain = walked(load(tiny_control), frames, maps, 2, TEXT[:1])
    assert torch.equal(walked(load(tiny_control, lora=path, lora_scale=0.0), frames, maps, 2, TEXT[:1]), plain)
    assert not torch.allclose(walked(load(tiny_control, lora=path), frames, maps, 2, TEXT[:1]), plain, atol=1e-3)
