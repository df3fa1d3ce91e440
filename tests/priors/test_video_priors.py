"""Priors of video, on small random networks: one window is what diffusers' own pipelines make of the same noise."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from vrestore.errors import PriorError
from vrestore.noise_sources import Independent
from vrestore.plan import HierarchyPlan, WindowsPlan
from vrestore.prior import Prior
from vrestore.priors.svd import PicturePrior
from vrestore.priors.wan import WanPrior
from vrestore.synthesis import synthesis

CPU = torch.device("cpu")
STEPS = 3


def save_index(folder, family, **more):
    (folder / "model_index.json").write_text(json.dumps({"_class_name": family} | more))


@pytest.fixture(scope="module")
def svd(tmp_path_factory):
    """In the layout of stabilityai/stable-video-diffusion-img2vid-xt."""
    from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    folder = tmp_path_factory.mktemp("priors") / "tiny-svd"
    with torch.random.fork_rng():
        torch.manual_seed(5)
        UNetSpatioTemporalConditionModel(
            block_out_channels=(32, 64), layers_per_block=1, sample_size=8, in_channels=8, out_channels=4,
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), cross_attention_dim=16,
            num_attention_heads=4, projection_class_embeddings_input_dim=48, addition_time_embed_dim=16, num_frames=4,
        ).save_pretrained(folder / "unet")  # fmt: skip
        AutoencoderKLTemporalDecoder(
            block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4, latent_channels=4,
        ).save_pretrained(folder / "vae")  # fmt: skip
        config = CLIPVisionConfig(
            hidden_size=16, projection_dim=16, num_hidden_layers=1, num_attention_heads=2, image_size=224,
            intermediate_size=16, patch_size=56,
        )  # fmt: skip
        CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
    EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        sigma_max=700.0, sigma_min=0.002, steps_offset=1, timestep_spacing="leading", timestep_type="continuous",
        use_karras_sigmas=True,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    save_index(folder, "StableVideoDiffusionPipeline")
    return folder


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    """In the layout of Wan-AI/Wan2.2-TI2V-5B-Diffusers: a time for every token, an autoencoder of sixteen by four."""
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel

    folder = tmp_path_factory.mktemp("priors") / "tiny-wan"
    with torch.random.fork_rng():
        torch.manual_seed(6)
        AutoencoderKLWan(
            base_dim=4, z_dim=8, in_channels=12, out_channels=12, is_residual=True, patch_size=2,
            latents_mean=[0.1] * 8, latents_std=[0.8] * 8, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
            scale_factor_spatial=16, temperal_downsample=[False, True, True],
        ).save_pretrained(folder / "vae")  # fmt: skip
        WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=12, in_channels=8, out_channels=8, text_dim=16, freq_dim=32,
            ffn_dim=32, num_layers=2, rope_max_seq_len=32,
        ).save_pretrained(folder / "transformer")  # fmt: skip
    FlowMatchEulerDiscreteScheduler(shift=5.0).save_pretrained(folder / "scheduler")
    save_index(folder, "WanPipeline", expand_timesteps=True)
    return folder


def latents_of(plan, prior, start, conditioning):
    return torch.stack([latent for _, latent in synthesis(plan, prior, start, conditioning).run()])


def picture(size=64):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8))


def tensor_of(image):
    return torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of the scheduler of diffusers
def test_stable_video_diffusion_is_its_pipeline(svd):
    from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
    from transformers import CLIPImageProcessor

    prior = PicturePrior.from_pretrained(svd, CPU, torch.float32, blur=0.0)
    assert isinstance(prior, Prior)
    parts = {"unet": prior._unet, "vae": prior._vae, "image_encoder": prior._encoder}
    parts["scheduler"] = EulerDiscreteScheduler.from_pretrained(svd / "scheduler")
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


def test_stable_video_diffusion_takes_one_level(svd):
    prior = PicturePrior.from_pretrained(svd, CPU, torch.float32)
    seen = {name: value.expand(1, 4, *value.shape) for name, value in prior.seen(tensor_of(picture())).items()}
    with pytest.raises(PriorError, match="one level for all frames"):
        prior.predict(torch.zeros(1, 4, 4, 8, 8), torch.tensor([[0.0, 1, 1, 1]]), seen)
    with pytest.raises(PriorError, match="attention"):
        prior.predict(torch.zeros(1, 4, 4, 8, 8), torch.ones(1, 4), seen, attend="all")


@pytest.fixture(scope="module")
def flow(wan):
    return WanPrior.from_pretrained(wan, CPU, torch.float32, guidance=2.0)


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


def test_wan_without_times_for_every_token_takes_one_level(wan, tmp_path):
    """Wan 2.1 and 2.2 A14B."""
    import shutil

    copy = shutil.copytree(wan, tmp_path / "copy")
    save_index(copy, "WanPipeline")
    prior = WanPrior.from_pretrained(copy, CPU, torch.float32, guidance=1.0)
    assert (prior.facts.per_frame_levels, prior.facts.conditionings) == (False, {"text"})
    z, text = torch.ones(1, 3, 8, 4, 6), {"text": TEXT["text"].expand(1, 3, 5, 16)}
    assert prior.predict(z, torch.full((1, 3), 0.5), text).shape == z.shape
    with pytest.raises(PriorError, match="one level for all frames"):
        prior.predict(z, torch.tensor([[0.0, 0.5, 0.5]]), text)


@pytest.mark.parametrize("prior", [PicturePrior, WanPrior])
def test_folders_that_lack_a_part_are_refused(svd, wan, tmp_path, prior):
    import shutil

    copy = shutil.copytree(svd if prior is PicturePrior else wan, tmp_path / "copy")
    assert all(path.is_file() for path in prior.weights_of(copy))
    next((copy / "vae").glob("*.safetensors")).unlink()
    with pytest.raises(PriorError, match="copy"):
        prior.from_pretrained(copy, CPU, torch.float32)
