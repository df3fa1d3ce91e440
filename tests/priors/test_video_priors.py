"""Priors of video, on small random networks: one window is what diffusers' own pipelines make of the same noise."""

import numpy as np
import pytest
import torch
from PIL import Image

from vrestore.errand import prepare
from vrestore.errors import ConfigError, PriorError
from vrestore.noise_sources import Independent
from vrestore.plan import HierarchyPlan, WindowsPlan
from vrestore.prior import Prior
from vrestore.prior_options import EditOptions, GenerationOptions
from vrestore.priors import find_prior
from vrestore.priors.svd import PicturePrior
from vrestore.priors.wan import WanPrior
from vrestore.report import MakeOptions
from vrestore.synthesis import synthesis
from vrestore.tasks.generation import Generation, generate

CPU = torch.device("cpu")
STEPS = 3
GUIDED = GenerationOptions(guidance_scale=2.0)


def latents_of(plan, prior, start, conditioning):
    return torch.stack([latent for _, latent in synthesis(plan, prior, start, conditioning).run()])


def picture(size=64):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8))


def tensor_of(image):
    return torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of the scheduler of diffusers
def test_stable_video_diffusion_is_its_pipeline(tiny_svd):
    from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
    from transformers import CLIPImageProcessor

    prior = PicturePrior.from_pretrained(tiny_svd, CPU, torch.float32, GenerationOptions(picture_noise=0.0))
    assert isinstance(prior, Prior)
    parts = {"unet": prior._unet, "vae": prior._vae, "image_encoder": prior._encoder}
    parts["scheduler"] = EulerDiscreteScheduler.from_pretrained(tiny_svd / "scheduler")
    pipeline = StableVideoDiffusionPipeline(**parts, feature_extractor=CLIPImageProcessor())
    pipeline.set_progress_bar_config(disable=True)
    start = Independent(0, (4, 8, 8), STEPS)
    first = torch.stack([start(n) for n in range(4)])[None]
    expected = pipeline(
        picture(), height=64, width=64, num_frames=4, num_inference_steps=STEPS, noise_aug_strength=0.0, latents=first,
        output_type="latent",
    ).frames[0]  # fmt: skip
    seen = prior.seen(tensor_of(picture()))
    found = latents_of(WindowsPlan(4, 4, 1, STEPS), prior, start, lambda n: seen)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    still = prior.decode(found, {})
    assert still.shape == (4, 3, 64, 64)
    assert prior.encode(still).shape == found.shape
    (entry,) = prior.conditions(iter([tensor_of(picture())]))
    assert torch.equal(entry["image_latents"], seen["image_latents"])


def test_stable_video_diffusion_takes_one_level(tiny_svd):
    prior = PicturePrior.from_pretrained(tiny_svd, CPU, torch.float32)
    seen = {name: value.expand(1, 4, *value.shape) for name, value in prior.seen(tensor_of(picture())).items()}
    with pytest.raises(PriorError, match="one level for all frames"):
        prior.predict(torch.zeros(1, 4, 4, 8, 8), torch.tensor([[0.0, 1, 1, 1]]), seen)
    with pytest.raises(PriorError, match="attention"):
        prior.predict(torch.zeros(1, 4, 4, 8, 8), torch.ones(1, 4), seen, attend="all")


@pytest.fixture(scope="module")
def flow(tiny_wan):
    return WanPrior.from_pretrained(tiny_wan, CPU, torch.float32, GUIDED)


TEXT = {"text": torch.linspace(-1, 1, 80).view(5, 16), "negative_text": torch.linspace(1, 0, 80).view(5, 16)}


def wan_parts(prior):
    from diffusers import FlowMatchEulerDiscreteScheduler

    networks = {"vae": prior._vae, "transformer": prior._transformer}
    return networks | {"scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0), "expand_timesteps": True}


def wan_call(frames):
    texts = {"prompt_embeds": TEXT["text"][None], "negative_prompt_embeds": TEXT["negative_text"][None]}
    more = {"guidance_scale": 2.0, "num_inference_steps": STEPS, "height": 64, "width": 96, "num_frames": frames}
    return texts | more


def test_wan_is_its_pipeline(flow):
    from diffusers import WanPipeline

    assert isinstance(flow, Prior)
    pipeline = WanPipeline(tokenizer=None, text_encoder=None, **wan_parts(flow))
    pipeline.set_progress_bar_config(disable=True)
    start = Independent(0, (8, 4, 6), STEPS)
    first = torch.stack([start(n) for n in range(3)], 1)[None]
    expected = pipeline(latents=first, output_type="latent", **wan_call(9)).frames[0]
    found = latents_of(WindowsPlan(3, 3, 1, STEPS), flow, start, lambda n: TEXT)
    torch.testing.assert_close(found.transpose(0, 1), expected, rtol=1e-4, atol=1e-4)
    video = pipeline(latents=first, output_type="pt", **wan_call(9)).frames[0]
    torch.testing.assert_close(flow.decode(found, {}), video, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prior", [PicturePrior, WanPrior])
def test_weights_may_lie_elsewhere_or_be_stored_small(tiny_svd, tiny_wan, prior):
    folder = tiny_svd if prior is PicturePrior else tiny_wan
    plain, away, small = (
        prior.from_pretrained(folder, CPU, torch.float32, GenerationOptions(**more))
        for more in ({}, {"offload": True}, {"small_weights": True})
    )
    told = plain.told([""], torch.zeros(3, 64, 64), 0)[0]
    conditioning = {name: value.expand(1, 2, *value.shape) for name, value in told.items()}
    z = torch.randn(1, 2, plain.facts.latent_channels, *(64 // plain.facts.spatial_factor,) * 2)
    times = torch.full((1, 2), 0.5)
    expected, found, close = (each.predict(z, times, conditioning) for each in (plain, away, small))
    assert torch.equal(found, expected)
    assert not torch.equal(close, expected)
    assert (close - expected).abs().mean() < 0.1 * expected.abs().mean()


def test_a_given_picture_of_wan_is_a_frame_at_level_zero(flow):
    """As in the pipeline of Wan 2.2 TI2V from a picture: the first latent stays, and its tokens have the time 0."""
    from diffusers import WanImageToVideoPipeline

    pipeline = WanImageToVideoPipeline(tokenizer=None, text_encoder=None, image_encoder=None, **wan_parts(flow))
    pipeline.set_progress_bar_config(disable=True)
    start = Independent(0, (8, 4, 6), STEPS)
    first = torch.stack([start(n) for n in range(3)], 1)[None]
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8))
    expected = pipeline(image, latents=first, output_type="latent", **wan_call(9)).frames[0]
    given = flow.encode(tensor_of(image)[None])[0]
    plan = HierarchyPlan(3, 3, STEPS, known=frozenset([0]))
    found = latents_of(plan, flow, lambda n: start(n) if n else given, lambda n: TEXT)
    torch.testing.assert_close(found.transpose(0, 1), expected, rtol=1e-4, atol=1e-4)


def test_the_autoencoder_of_wan_streams(flow):
    """A frame at a time is the whole clip at once, and two videos do not disturb each other."""
    frames = torch.rand(9, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    whole = flow._vae.encode(2 * frames.transpose(0, 1)[None] - 1).latent_dist.mode()[0]
    latents = flow.encode(frames)
    torch.testing.assert_close(latents, ((whole - 0.1) / 0.8).transpose(0, 1), rtol=1e-5, atol=1e-5)
    read = []
    next(flow.encoding(read.append(i) or frame for i, frame in enumerate(frames)))
    assert read == [0]
    expected = flow._vae.decode((latents * 0.8 + 0.1).transpose(0, 1)[None]).sample[0]
    one, other = flow.decoding(iter(latents)), flow.decoding(iter(latents.flip(0)))
    pairs = list(zip(one, other, strict=True))
    assert len(pairs) == 9
    found = 2 * torch.stack([a for a, _ in pairs], 1) - 1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(PriorError, match="8 frames are no whole number of latents; the prior wan takes 4 k"):
        flow.encode(frames[:8])
    entries = list(flow.conditions(iter(frames)))
    assert torch.equal(torch.stack([entry["degraded_latents"] for entry in entries]), latents)
    assert torch.equal(entries[1]["degraded"], frames[1])


def test_wan_without_times_for_every_token_takes_one_level(tiny_wan, tmp_path):
    """Wan 2.1 and 2.2 A14B."""
    import shutil

    copy = shutil.copytree(tiny_wan, tmp_path / "copy")
    (copy / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    prior = WanPrior.from_pretrained(copy, CPU, torch.float32, GenerationOptions(guidance_scale=1.0))
    assert (prior.facts.per_frame_levels, prior.facts.conditionings) == (False, {"text"})
    z, text = torch.ones(1, 3, 8, 4, 6), {"text": TEXT["text"].expand(1, 3, 5, 16)}
    assert prior.predict(z, torch.full((1, 3), 0.5), text).shape == z.shape
    with pytest.raises(PriorError, match="one level for all frames"):
        prior.predict(z, torch.tensor([[0.0, 0.5, 0.5]]), text)


@pytest.mark.parametrize("prior", [PicturePrior, WanPrior])
def test_folders_that_lack_a_part_are_refused(tiny_svd, tiny_wan, tmp_path, prior):
    import shutil

    copy = shutil.copytree(tiny_svd if prior is PicturePrior else tiny_wan, tmp_path / "copy")
    assert all(path.is_file() for path in prior.weights_of(copy))
    next((copy / "vae").glob("*.safetensors")).unlink()
    with pytest.raises(PriorError, match="copy"):
        prior.from_pretrained(copy, CPU, torch.float32)


def test_prompts_of_wan_are_those_of_its_pipeline(tiny_wan, flow):
    from diffusers import WanPipeline
    from transformers import T5TokenizerFast, UMT5EncoderModel

    tokenizer = T5TokenizerFast.from_pretrained(tiny_wan / "tokenizer")
    encoder = UMT5EncoderModel.from_pretrained(tiny_wan / "text_encoder")
    pipeline = WanPipeline(tokenizer=tokenizer, text_encoder=encoder, **wan_parts(flow))
    texts = ["a sharp  stone", ""]
    expected = pipeline._get_t5_prompt_embeds(texts, max_sequence_length=512, device=CPU)
    assert expected[0, :3].any()
    assert not expected[0, 12:].any()
    torch.testing.assert_close(flow.embed(texts), expected, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- by the head


def settings(folder, **more):
    return {"prior": str(folder), "steps": 2, "device": "cpu", "dtype": "float32"} | more


def save(path, size=64):
    picture(size).save(path)
    return path


def test_a_picture_is_set_in_motion(tiny_svd, tmp_path, clips):
    image = save(tmp_path / "in.png", 32)
    result = generate(tmp_path / "out.mkv", **settings(tiny_svd, first=image, frames=6, motion=90))
    assert clips.read(tmp_path / "out.mkv")[0].shape == (6, 32, 32, 3)
    assert (result.plan, result.fps) == ("windows", "7"), "all frames of a call stand at one level"
    one, other = (
        torch.stack(list(Generation(**settings(tiny_svd, first=image, frames=2, motion=n)).stream())) for n in (1, 200)
    )
    assert not torch.equal(one, other)
    for more, message in (
        ({}, "sets a picture in motion; give one with --first"),
        ({"first": image, "prompts": image}, "is not valid TOML"),
        ({"first": image, "prompt": "a stone"}, "prompt is 'a stone', but the prior .* takes"),
        ({"first": image, "frames": 6, "plan": "keyframes"}, "cannot have; use the plan windows"),
        ({"first": image, "frames": 4, "last": image}, "a given frame needs frames at different levels"),
    ):
        with pytest.raises(ConfigError, match=message):
            generate(tmp_path / "no.mkv", **settings(tiny_svd, **more))
    assert not (tmp_path / "no.mkv").exists()


def test_wan_makes_videos_of_four_k_and_one_frames(tiny_wan, tmp_path, clips):
    usual = settings(tiny_wan, prompt="a stone", width=32, height=32)
    first = save(tmp_path / "in.png", 32)
    result = generate(tmp_path / "out.mkv", **usual, frames=9, first=first)
    assert clips.read(tmp_path / "out.mkv")[0].shape == (9, 32, 32, 3)
    assert (result.plan, result.fps) == ("chunks", "24")
    prior = WanPrior.from_pretrained(tiny_wan, CPU, torch.float32)
    through = prior.decode(prior.encode(tensor_of(picture(32))[None]), {})[0]
    frames = list(Generation(**usual, frames=9, first=first).stream())
    torch.testing.assert_close(frames[0], through)
    for more, message in (
        ({"frames": 8}, r"frames is 8; the prior .* makes 4 k \+ 1 of them: give 5 or 9"),
        ({"frames": 9, "last": first}, "a latent of the prior .* holds 4 frames; leave --last out"),
    ):
        with pytest.raises(ConfigError, match=message):
            generate(tmp_path / "no.mkv", **usual, **more)
    with pytest.raises(ConfigError, match="leave --resume out"):
        generate(tmp_path / "no.mkv", **usual, options=MakeOptions(resume=True))
    assert not (tmp_path / "no.mkv").exists()


def test_a_video_goes_on_with_wan(tiny_wan, tmp_path, clips):
    """Of seven frames the last five are a whole number of latents."""
    source = clips.write(tmp_path / "source.mkv", clips.scene(7, (32, 32)))
    task = Generation(**settings(tiny_wan, prompt="a stone", frames=8, from_video=source))
    errand = prepare(task, None, MakeOptions())
    assert (errand.given, errand.score.hidden, errand.score.plan.frames) == (2, 5, 4)
    assert torch.stack(list(task.stream())).shape == (8, 3, 32, 32)
    with pytest.raises(
        ConfigError, match=r"frames is 9; going on from a video the prior .* makes 4 k of them: give 8 or 12"
    ):
        prepare(Generation(task.config, frames=9), None, MakeOptions())


def test_what_makes_videos_anew_does_nothing_else(tiny_wan, tiny_svd):
    for folder in (tiny_wan, tiny_svd):
        with pytest.raises(PriorError, match="makes videos anew, and nothing else; name another one"):
            find_prior(str(folder), EditOptions())
