"""Small random networks of public priors, saved in the folder layouts of the published ones."""

import json

import pytest

WORDS = ("a", "sharp", "picture", "of", "stone", "blurred", "noise")


def save_text(folder, *, tokens=12, width=16):
    """A CLIP tokenizer over a few words and letters, and a small text encoder."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = sorted(set("".join(WORDS)))
    merges, vocabulary = [], [*letters, *(f"{letter}</w>" for letter in letters)]
    for word in WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            if (pieces[0], pieces[1]) not in merges:
                merges.append((pieces[0], pieces[1]))
                vocabulary.append(pieces[0] + pieces[1])
            pieces[:2] = [pieces[0] + pieces[1]]
    vocabulary = [*dict.fromkeys(vocabulary), "<|startoftext|>", "<|endoftext|>"]
    ids = {token: i for i, token in enumerate(vocabulary)}
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(ids))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "tokenizer" / "merges.txt").write_text("\n".join(lines) + "\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": tokens, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings | special))
    assert CLIPTokenizer.from_pretrained(folder / "tokenizer")("a stone").input_ids == [
        ids[t] for t in ("<|startoftext|>", "a</w>", "stone</w>", "<|endoftext|>")
    ]
    config = CLIPTextConfig(
        vocab_size=len(ids), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=tokens, bos_token_id=len(ids) - 2, eos_token_id=len(ids) - 1,
        pad_token_id=len(ids) - 1,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")


def small_vae(levels, scaling):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8,) * levels, down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels, layers_per_block=1, latent_channels=4, norm_num_groups=4,
        sample_size=32, scaling_factor=scaling,
    )  # fmt: skip


def small_unet(channels, labels):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8, in_channels=channels, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=4, cross_attention_dim=16, attention_head_dim=4, num_class_embeds=labels,
    )  # fmt: skip


def small_adapter():
    """A motion adapter for `small_unet`, of windows of eight frames, that has an effect."""
    import torch
    from diffusers import MotionAdapter

    adapter = MotionAdapter(
        block_out_channels=(8, 16), motion_layers_per_block=1, motion_num_attention_heads=2,
        motion_norm_num_groups=4, motion_max_seq_length=8,
    )  # fmt: skip
    for name, parameter in adapter.named_parameters():  # it starts without any
        if "proj_out" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return adapter


def awake(network):
    """A ControlNet starts at zero: random numbers instead, so that it has its say."""
    import torch

    for name, parameter in network.named_parameters():
        if "controlnet" in name and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def save_scheduler(folder, **settings):
    base = {"num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear"}
    folder.mkdir(parents=True)
    (folder / "scheduler_config.json").write_text(json.dumps(base | settings))


def save_index(folder, family, **parts):
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": family, "_diffusers_version": "0.40.0"} | parts)
    )


@pytest.fixture
def load():
    """load(folder, option=...) -> the prior in a folder, on the CPU in float32."""
    import torch

    from vrestore.prior_options import PriorOptions
    from vrestore.priors import find_prior

    return lambda folder, **options: find_prior(str(folder), PriorOptions(**options)).load(
        torch.device("cpu"), torch.float32
    )


@pytest.fixture
def walk():
    """walk(prior, source, degraded, steps, seed, freedom) -> frames as one window down the whole ladder: their final
    latents, and what conditioned them."""
    import torch

    from vrestore.conditioning import given
    from vrestore.noise import noise
    from vrestore.sampling import advance, start

    def down(prior, source, degraded, steps, seed, freedom=0.0):
        entries = list(prior.conditions(iter(degraded)))
        for i, entry in enumerate(entries):
            entry |= given(prior.facts, source[i], entry["degraded_latents"], seed=seed, frame=i)
        window = {name: torch.stack([e[name] for e in entries])[None] for name in prior.facts.conditionings}
        ladder, shape = prior.ladder(steps), tuple(entries[0]["degraded_latents"].shape)
        draw = [lambda level, i=i: noise(seed, i, level, shape) for i in range(len(entries))]
        z = [start(ladder, entry["degraded_latents"], one) for entry, one in zip(entries, draw, strict=True)]
        for level in range(steps, 0, -1):
            times = torch.full((1, len(z)), ladder.time[level])
            x0 = prior.predict(torch.stack(z)[None], times, window)[0]
            z = [advance(ladder, z[i], x0[i], level, level - 1, draw[i], freedom=freedom) for i in range(len(z))]
        return torch.stack(z), window

    return down


DDIM = {"_class_name": "DDIMScheduler", "clip_sample": False, "steps_offset": 1, "set_alpha_to_one": False}


@pytest.fixture(scope="session")
def tiny_upscaler(tmp_path_factory):
    """In the layout of stabilityai/stable-diffusion-x4-upscaler."""
    import torch

    folder = tmp_path_factory.mktemp("priors") / "tiny-upscaler"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        save_text(folder)
        small_vae(3, 0.08333).save_pretrained(folder / "vae")
        small_unet(7, 1000).save_pretrained(folder / "unet")
    save_scheduler(folder / "scheduler", prediction_type="v_prediction", **DDIM)
    save_scheduler(folder / "low_res_scheduler", _class_name="DDPMScheduler", clip_sample=True)
    save_index(folder, "StableDiffusionUpscalePipeline", max_noise_level=350)
    return folder


@pytest.fixture(scope="session")
def tiny_stablevsr(tmp_path_factory):
    """In the layout of claudiom4sir/StableVSR: no class label, a ControlNet at a quarter of the size."""
    import torch
    from diffusers import ControlNetModel

    folder = tmp_path_factory.mktemp("priors") / "tiny-stablevsr"
    with torch.random.fork_rng():
        torch.manual_seed(2)
        save_text(folder)
        small_vae(3, 0.08333).save_pretrained(folder / "vae")
        unet = small_unet(7, None)
        unet.save_pretrained(folder / "unet")
        control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32))
        awake(control).save_pretrained(folder / "controlnet")
    save_scheduler(folder / "scheduler", _class_name="DDPMScheduler", clip_sample=False, prediction_type="v_prediction")
    save_index(folder, "StableVSRPipeline", controlnet=["diffusers", "ControlNetModel"])
    return folder


@pytest.fixture(scope="session")
def tiny_control(tmp_path_factory):
    """Stable Diffusion 1.5 with a ControlNet inside its folder."""
    import torch
    from diffusers import ControlNetModel

    folder = tmp_path_factory.mktemp("priors") / "tiny-control"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_text(folder)
        small_vae(4, 0.18215).save_pretrained(folder / "vae")
        unet = small_unet(4, None)
        unet.save_pretrained(folder / "unet")
        control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 16))
        awake(control).save_pretrained(folder / "controlnet")
    pndm = {"_class_name": "PNDMScheduler", "skip_prk_steps": True} | {k: v for k, v in DDIM.items() if k[0] != "_"}
    save_scheduler(folder / "scheduler", **pndm | {"beta_start": 0.00085, "beta_end": 0.012})
    save_index(folder, "StableDiffusionControlNetImg2ImgPipeline", controlnet=["diffusers", "ControlNetModel"])
    return folder


@pytest.fixture(scope="session")
def tiny_motion(tmp_path_factory):
    """A motion adapter for the network of `tiny_control`."""
    import torch

    folder = tmp_path_factory.mktemp("priors") / "tiny-motion"
    with torch.random.fork_rng():
        torch.manual_seed(4)
        small_adapter().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_animated(tiny_control, tiny_motion, tmp_path_factory):
    """SD 1.5 with a ControlNet and a motion adapter in one folder, as an AnimateDiff pipeline saves them."""
    import shutil

    folder = tmp_path_factory.mktemp("priors") / "tiny-animated"
    shutil.copytree(tiny_control, folder)
    shutil.copytree(tiny_motion, folder / "motion_adapter")
    save_index(folder, "AnimateDiffVideoToVideoControlNetPipeline")
    return folder


@pytest.fixture(scope="session")
def tiny_deep(tiny_control, tmp_path_factory):
    """The layout of the embedded prior for editing: an AutoencoderDC that lies beside, shared with others."""
    import shutil

    import torch
    from diffusers import AutoencoderDC, ControlNetModel, UNet2DConditionModel

    root = tmp_path_factory.mktemp("priors")
    folder = root / "tiny-deep"
    shutil.copytree(tiny_control, folder, ignore=shutil.ignore_patterns("vae", "unet", "controlnet"))
    with torch.random.fork_rng():
        torch.manual_seed(6)
        AutoencoderDC(
            latent_channels=8, attention_head_dim=4, encoder_block_types="ResBlock", decoder_block_types="ResBlock",
            encoder_block_out_channels=(8, 8, 8, 16), decoder_block_out_channels=(8, 8, 8, 16),
            encoder_layers_per_block=(1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1),
            encoder_qkv_multiscales=((), (), (), ()), decoder_qkv_multiscales=((), (), (), ()), scaling_factor=0.41,
        ).save_pretrained(root / "autoencoder")  # fmt: skip
        unet = UNet2DConditionModel.from_config(
            {**UNet2DConditionModel.load_config(tiny_control / "unet"), "in_channels": 8, "out_channels": 8}
        )
        unet.save_pretrained(folder / "unet")
        control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 16))
        awake(control).save_pretrained(folder / "controlnet")
    save_index(folder, "StableDiffusionControlNetPipeline", _shared={"vae": "../autoencoder"})
    return folder


@pytest.fixture(scope="session")
def tiny_depth(tmp_path_factory):
    """In the layout of prs-eth/marigold-depth-v1-0."""
    import torch

    folder = tmp_path_factory.mktemp("priors") / "tiny-depth"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        save_text(folder)
        small_vae(4, 0.18215).save_pretrained(folder / "vae")
        small_unet(8, None).save_pretrained(folder / "unet")
    spacing = {"timestep_spacing": "trailing"}
    save_scheduler(folder / "scheduler", prediction_type="v_prediction", **spacing, **DDIM)
    save_index(folder, "MarigoldDepthPipeline", default_denoising_steps=1, default_processing_resolution=64,
               prediction_type="depth", scale_invariant=True, shift_invariant=True)  # fmt: skip
    return folder


def save_t5(folder, *, width=16):
    """A T5 tokenizer over a few words, and a small UMT5 text encoder."""
    from tokenizers import Tokenizer
    from tokenizers.models import Unigram
    from tokenizers.pre_tokenizers import Metaspace
    from tokenizers.processors import TemplateProcessing
    from transformers import UMT5Config, UMT5EncoderModel

    pieces = ["<pad>", "</s>", "<unk>", *(f"\u2581{word}" for word in WORDS), *sorted(set("".join(WORDS))), "\u2581"]
    tokenizer = Tokenizer(Unigram([(piece, -1.0 - len(piece) % 3) for piece in pieces], unk_id=2))
    tokenizer.pre_tokenizer = Metaspace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    (folder / "tokenizer").mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    settings = {"tokenizer_class": "T5TokenizerFast", "extra_ids": 0, "additional_special_tokens": []}
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "model_max_length": 512}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings | special))
    config = UMT5Config(
        vocab_size=len(pieces), d_model=width, d_kv=8, d_ff=2 * width, num_layers=2, num_heads=2, pad_token_id=0,
        eos_token_id=1,
    )  # fmt: skip
    UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")


@pytest.fixture(scope="session")
def tiny_svd(tmp_path_factory):
    """In the layout of stabilityai/stable-video-diffusion-img2vid-xt."""
    import torch
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


@pytest.fixture(scope="session")
def tiny_wan(tmp_path_factory):
    """In the layout of Wan-AI/Wan2.2-TI2V-5B-Diffusers: a time for every token, an autoencoder of sixteen by four."""
    import torch
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel

    folder = tmp_path_factory.mktemp("priors") / "tiny-wan"
    with torch.random.fork_rng():
        torch.manual_seed(6)
        AutoencoderKLWan(
            base_dim=4, z_dim=8, in_channels=12, out_channels=12, is_residual=True, patch_size=2,
            latents_mean=[0.1] * 8, latents_std=[0.8] * 8, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
            scale_factor_spatial=16, temperal_downsample=[False, True, True],
        ).save_pretrained(folder / "vae")  # fmt: skip
        save_t5(folder)
        WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=12, in_channels=8, out_channels=8, text_dim=16, freq_dim=32,
            ffn_dim=32, num_layers=2, rope_max_seq_len=32,
        ).save_pretrained(folder / "transformer")  # fmt: skip
    FlowMatchEulerDiscreteScheduler(shift=5.0).save_pretrained(folder / "scheduler")
    save_index(folder, "WanPipeline", expand_timesteps=True)
    return folder
