"""Public priors against diffusers' own pipelines, on small random networks and the same noise."""

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionUpscalePipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_upscale
from transformers import CLIPTextModel, CLIPTokenizer

from vrestore import engine
from vrestore.conditioning import CONDITION_LEVEL
from vrestore.noise import noise
from vrestore.padding import pad_to, unpad
from vrestore.tasks.super_resolution import SuperResolution

CPU = torch.device("cpu")
SEED = 7
TEXT = {"prompt": "a sharp picture of stone", "negative_prompt": "blurred noise"}


def drawn(level, frames, shape):
    return torch.stack([noise(SEED, i, level, shape) for i in range(frames)])


def parts(folder, **more):
    """What the constructors of diffusers' pipelines take."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    return {
        "vae": AutoencoderKL.from_pretrained(folder / "vae"),
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet"),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder"),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        "scheduler": DDIMScheduler.from_pretrained(folder / "scheduler"),
        **more,
    }


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def upscaled(folder, source, steps, monkeypatch, **settings):
    """Latents of diffusers' upscaler, which draws the noise that ours has."""
    frames, (height, width) = len(source), source.shape[-2:]
    pipeline = quiet(
        StableDiffusionUpscalePipeline(
            **parts(folder, low_res_scheduler=DDPMScheduler.from_pretrained(folder / "low_res_scheduler"))
        )
    )
    low = drawn(CONDITION_LEVEL, frames, (4, height, width))[:, :3]
    monkeypatch.setattr(pipeline_stable_diffusion_upscale, "randn_tensor", lambda shape, **_: low)
    texts = {name: [settings.pop(name, "")] * frames for name in ("prompt", "negative_prompt")}
    settings = {"guidance_scale": 9.0, "noise_level": 20} | settings
    return pipeline(
        image=source, num_inference_steps=steps, latents=drawn(steps, frames, (4, height, width)),
        output_type="latent", **texts, **settings,
    ).images  # fmt: skip


def pictures(count, height, width):
    return torch.rand(count, 3, height, width)


@pytest.mark.parametrize(
    ("frames", "steps", "settings"),
    [(1, 4, TEXT), (3, 3, TEXT | {"guidance_scale": 4.0, "noise_level": 100}), (3, 5, {}),
     (1, 2, TEXT | {"guidance_scale": 1.0, "noise_level": 0})],
)  # fmt: skip
def test_the_upscaler_is_that_of_diffusers(tiny_upscaler, monkeypatch, frames, steps, settings, load, walk):
    source = pictures(frames, 16, 24)
    degraded = torch.nn.functional.interpolate(source, scale_factor=4, mode="bicubic")
    prior = load(tiny_upscaler, **settings)
    ours = walk(prior, source, degraded, steps, SEED)[0]
    theirs = upscaled(tiny_upscaler, source, steps, monkeypatch, **settings)
    assert torch.allclose(ours, theirs, atol=1e-4)
    decoded = AutoencoderKL.from_pretrained(tiny_upscaler / "vae").decode(theirs / 0.08333).sample / 2 + 0.5
    assert torch.allclose(prior.decode(ours, {}), decoded, atol=1e-4)


def test_guidance_and_noise_have_their_say(tiny_upscaler, load, walk):
    source = pictures(1, 16, 24)
    degraded = torch.nn.functional.interpolate(source, scale_factor=4, mode="bicubic")
    plain = walk(load(tiny_upscaler), source, degraded, 2, SEED)[0]
    for settings in (TEXT, {"noise_level": 200}, {"strength": 0.5}):
        assert not torch.allclose(plain, walk(load(tiny_upscaler, **settings), source, degraded, 2, SEED)[0], atol=1e-3)


def controlled(folder, degraded, steps, strength, prior, **settings):
    """Latents of diffusers' ControlNet pipelines: text to image at strength 1, image to image below."""
    frames, shape = len(degraded), prior.encode(degraded).shape[1:]
    settings |= {name: [settings.get(name, "")] * frames for name in ("prompt", "negative_prompt")}
    more = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    kind = StableDiffusionControlNetPipeline if strength == 1 else StableDiffusionControlNetImg2ImgPipeline
    controlnet = ControlNetModel.from_pretrained(folder / "controlnet")
    pipeline = quiet(kind(**parts(folder, controlnet=controlnet, **more)))
    if strength == 1:
        latents = drawn(steps, frames, tuple(shape))
        return pipeline(
            image=degraded, num_inference_steps=steps, latents=latents, output_type="latent", **settings
        ).images
    pipeline.scheduler.set_timesteps(round(steps / strength))
    time = pipeline.scheduler.timesteps[-steps]
    latents = pipeline.scheduler.add_noise(prior.encode(degraded), drawn(steps, frames, tuple(shape)), time[None])
    return pipeline(
        image=degraded, control_image=degraded, strength=strength, num_inference_steps=round(steps / strength),
        latents=latents, output_type="latent", **settings,
    ).images  # fmt: skip


@pytest.mark.parametrize(
    ("frames", "steps", "strength", "settings"),
    [(1, 4, 1.0, TEXT), (3, 3, 1.0, {}), (1, 2, 0.5, TEXT), (3, 4, 0.8, TEXT | {"guidance_scale": 3.0})],
)
def test_stable_diffusion_with_a_controlnet_is_that_of_diffusers(
    tiny_control, frames, steps, strength, settings, load, walk
):
    degraded = pictures(frames, 32, 48)
    prior = load(tiny_control, strength=strength, control_scale=0.7, **settings)
    ours = walk(prior, degraded, degraded, steps, SEED)[0]
    guided = {"guidance_scale": 7.5, "controlnet_conditioning_scale": 0.7} | settings
    theirs = controlled(tiny_control, degraded, steps, strength, prior, **guided)
    assert torch.allclose(ours, theirs, atol=1e-4)
    without = walk(
        load(tiny_control, strength=strength, control_scale=0.0, **settings), degraded, degraded, steps, SEED
    )[0]
    assert not torch.allclose(ours, without, atol=1e-3)


def test_a_controlnet_of_another_folder(tiny_control, tmp_path, load, walk):
    import shutil

    base = shutil.copytree(tiny_control, tmp_path / "base", ignore=shutil.ignore_patterns("controlnet"))
    (base / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    degraded = pictures(2, 32, 48)
    inside = walk(load(tiny_control), degraded, degraded, 2, SEED)[0]
    beside = walk(load(base, controlnet=str(tiny_control / "controlnet")), degraded, degraded, 2, SEED)[0]
    assert torch.equal(inside, beside)


# ---------------------------------------------------------------- on the engine


def streamed(task, path):
    return torch.stack([restored.frame for restored in engine.stream(task, path)])


def test_the_engine_gives_the_pipelines_pictures(tiny_upscaler, monkeypatch, clips, tmp_path):
    """From a file of an odd size to its output: diffusers' latents, decoded and held to the source."""
    video = clips.scene(3, (19, 27))
    path = clips.write(tmp_path / "in.mkv", video)
    task = SuperResolution(prior=str(tiny_upscaler), steps=3, seed=SEED, device="cpu", dtype="float32", **TEXT)
    found = streamed(task, path)
    source = torch.from_numpy(video.astype(np.float32) / 255).permute(0, 3, 1, 2)
    padded = torch.stack([pad_to(frame, 2) for frame in source])
    latents = upscaled(tiny_upscaler, padded, 3, monkeypatch, **TEXT)
    vae = AutoencoderKL.from_pretrained(tiny_upscaler / "vae")
    decoded = vae.decode(latents / 0.08333).sample.detach() / 2 + 0.5
    expected = [task.finish(unpad(d, (76, 108)), s, exact=True) for d, s in zip(decoded, source, strict=True)]
    assert torch.allclose(found, torch.stack(expected), atol=1e-4)
