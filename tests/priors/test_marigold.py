"""Depth by Marigold: equal to diffusers' pipeline on the same noise; frames of a snippet attend to one another."""

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, MarigoldDepthPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from vrestore.errors import ConfigError, PriorError
from vrestore.prior_options import PriorOptions
from vrestore.priors import find_prior
from vrestore.priors.joint_attention import JointAttention, joined
from vrestore.sampling import advance

CPU = torch.device("cpu")
SIZE = (32, 48)


@pytest.fixture
def prior(tiny_depth):
    return find_prior(str(tiny_depth)).load(CPU, torch.float32)


def pictures(count, seed=0):
    return torch.rand((count, 3, *SIZE), generator=torch.Generator().manual_seed(seed))


def normal(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def walked(prior, frames, noise, steps):
    """Latents of frames that are one snippet, from noise to the end."""
    ladder = prior.ladder(steps)
    seen = {"degraded_latents": prior.encode(frames)[None]}
    z = noise[None]
    for level in range(steps, 0, -1):
        times = torch.full(z.shape[:2], ladder.time[level])
        x0 = prior.predict(z, times, seen)
        z = torch.stack(
            [advance(ladder, a, b, level, level - 1, lambda _: noise[0]) for a, b in zip(z[0], x0[0], strict=True)]
        )[None]
    return z[0]


def pipeline(folder):
    made = MarigoldDepthPipeline(
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        prediction_type="depth", scale_invariant=True, shift_invariant=True,
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("steps", [1, 4])
def test_one_frame_equals_the_pipeline_of_diffusers(tiny_depth, prior, steps):
    frame, noise = pictures(1), normal(1, 4, SIZE[0] // 8, SIZE[1] // 8)
    theirs = pipeline(tiny_depth)(
        frame, num_inference_steps=steps, processing_resolution=0, latents=noise, output_type="pt", output_latent=True
    )
    ours = walked(prior, frame, noise, steps)
    assert torch.allclose(ours, theirs.latent, atol=1e-4)
    depth = prior.decode(ours, {})
    assert torch.allclose(depth, theirs.prediction.expand(-1, 3, -1, -1), atol=1e-4)
    assert 0 <= depth.min() < depth.max() <= 1


def test_frames_of_a_snippet_see_one_another_and_have_no_order(prior):
    frames, noise = pictures(3), normal(1, 4, SIZE[0] // 8, SIZE[1] // 8).expand(3, -1, -1, -1)
    together = walked(prior, frames, noise, 1)
    alone = torch.cat([walked(prior, frame[None], noise[:1], 1) for frame in frames])
    assert (together - alone).abs().max() > 1e-3
    turned = walked(prior, frames[[2, 0, 1]], noise, 1)
    assert torch.allclose(turned, together[[2, 0, 1]], atol=1e-5)
    same = walked(prior, frames[:1].expand(3, -1, -1, -1), noise, 1)
    assert torch.allclose(same, alone[:1].expand(3, -1, -1, -1), atol=1e-5)


def test_snippets_of_a_batch_do_not_see_one_another(prior):
    frames, noise = pictures(6), normal(6, 4, SIZE[0] // 8, SIZE[1] // 8)
    times = torch.full((2, 3), prior.ladder(1).time[1])
    seen = prior.encode(frames).unflatten(0, (2, 3))
    both = prior.predict(noise.unflatten(0, (2, 3)), times, {"degraded_latents": seen})
    for i in range(2):
        one = prior.predict(noise[3 * i : 3 * i + 3][None], times[:1], {"degraded_latents": seen[i : i + 1]})
        assert torch.allclose(both[i], one[0], atol=1e-5)


def test_the_processor_is_diffusers_own_for_one_frame(tiny_depth):
    plain, ours = (UNet2DConditionModel.from_pretrained(tiny_depth / "unet") for _ in range(2))
    joined(ours)
    assert any(isinstance(one, JointAttention) for one in ours.attn_processors.values())
    z, text = normal(2, 8, 4, 4), normal(2, 2, 16)
    with torch.inference_mode():
        a, b = (unet(z, 500, text, return_dict=False)[0] for unet in (plain, ours))
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("family", "kind", "nearer"),
    [("MarigoldDepthPipeline", "depth", False), ("MarigoldDepthPipeline", "disparity", True),
     ("RollingDepthPipeline", None, True)],
)  # fmt: skip
def test_what_the_answer_means_is_read_from_the_folder(tiny_depth, tmp_path, family, kind, nearer):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_depth, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"_class_name": family, "prediction_type": kind}
    (folder / "model_index.json").write_text(json.dumps({k: v for k, v in index.items() if v is not None}))
    source = find_prior(str(folder))
    assert source.adapter.nearer_is_larger(folder) is nearer
    assert source.adapter.resolution_of(folder) == 64
    assert source.facts.window == 3


def test_a_unet_that_sees_no_picture_is_refused(tiny_depth, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_depth, folder)
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps(config | {"in_channels": 4}))
    with pytest.raises(PriorError, match="takes 4 channels, not 8"):
        find_prior(str(folder)).facts  # noqa: B018


def test_it_takes_no_prompt(tiny_depth):
    with pytest.raises(ConfigError, match="takes no such settings"):
        find_prior(str(tiny_depth), PriorOptions(prompt="a stone"))


def test_directives_of_attention_are_refused(prior):
    with pytest.raises(PriorError, match="takes no attention directives"):
        prior.predict(normal(1, 1, 4, 4, 6), torch.zeros(1, 1), {"degraded_latents": normal(1, 1, 4, 4, 6)}, "all")
