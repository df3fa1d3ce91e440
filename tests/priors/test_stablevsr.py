"""StableVSR against the same diffusers modules put together by hand, on small random networks and the same noise."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from diffusers.schedulers import scheduling_ddpm

from vrestore.flow import warp
from vrestore.noise import noise
from vrestore.priors import find_prior
from vrestore.priors.stablevsr import trained_warp
from vrestore.priors.text import embeddings

SEED = 3
SCALING = 0.08333


def drawn(frame, level):
    return noise(SEED, frame, level, (4, 16, 24))


@pytest.fixture
def source(clips):
    """Three frames that move, (3, 3, 16, 24)."""
    return torch.from_numpy(clips.scene(3, (16, 24)).copy()).permute(0, 3, 1, 2) / 255


def enlarged(source):
    return F.interpolate(source, scale_factor=4, mode="bicubic", align_corners=False)


def warped_as_trained(picture, flow):
    """The published warp in its own terms: a grid of positions, corners at -1 and 1, sampled as if they were not."""
    height, width = picture.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([columns, rows], dim=-1)[None] + flow.permute(0, 2, 3, 1)
    grid = grid / torch.tensor([width - 1, height - 1]) * 2 - 1
    return F.grid_sample(picture, grid, align_corners=False)


def composed(folder, source, motion, steps, brought, ancestral=False):
    """Frame-wise bidirectional sampling of diffusers' UNet, ControlNet, autoencoder and scheduler."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    controlnet = ControlNetModel.from_pretrained(folder / "controlnet")
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    scheduler = (DDPMScheduler if ancestral else DDIMScheduler).from_pretrained(folder / "scheduler")
    scheduler.set_timesteps(steps)
    (text,) = embeddings(folder, [""])
    fine = F.interpolate(motion, scale_factor=4, mode="bilinear", align_corners=False) * 4
    z = [drawn(i, steps)[None] for i in range(len(source))]
    order = list(range(len(source)))
    for turn, t in enumerate(scheduler.timesteps):
        estimate = None
        for i in order:
            x, more = torch.cat([z[i], source[i : i + 1] * 2 - 1], dim=1), {}
            if estimate is not None:
                flow = fine[i : i + 1, :2] if turn % 2 == 0 else fine[i : i + 1, 3:5]
                picture = brought(vae.decode(estimate / SCALING).sample, flow)
                down, middle = controlnet(x, t, text, picture, return_dict=False)
                more = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
            output = unet(x, t, text, **more).sample
            if ancestral:
                product = scheduler.alphas_cumprod[t]
                estimate = product.sqrt() * z[i] - (1 - product).sqrt() * output
                z[i] = ancestral_step(scheduler, output, t, z[i], drawn(i, steps - turn - 1)[None])
            else:
                step = scheduler.step(output, t, z[i])
                z[i], estimate = step.prev_sample, step.pred_original_sample
        order.reverse()
    return torch.cat(z).detach(), vae


def ancestral_step(scheduler, output, t, z, fresh):
    """DDPM's step with a given noise in place of the generator's."""
    kept = scheduling_ddpm.randn_tensor
    scheduling_ddpm.randn_tensor = lambda *_, **__: fresh
    try:
        return scheduler.step(output, t, z).prev_sample
    finally:
        scheduling_ddpm.randn_tensor = kept


@pytest.mark.parametrize(
    ("frames", "steps", "which", "brought"),
    [(1, 3, None, warped_as_trained), (3, 4, None, warped_as_trained), (3, 2, "exact", warp)],
)
@torch.no_grad()
def test_a_window_is_the_composition_of_diffusers_modules(
    tiny_stablevsr, source, frames, steps, which, brought, load, walk
):
    prior = load(tiny_stablevsr, warp=which)
    ours, window = walk(prior, source[:frames], enlarged(source[:frames]), steps, SEED)
    motion = window["motion"][0]
    theirs, vae = composed(tiny_stablevsr, source[:frames], motion, steps, brought)
    assert torch.allclose(ours, theirs, atol=1e-4)
    decoded = vae.decode(theirs / SCALING).sample / 2 + 0.5
    assert torch.allclose(prior.decode(ours, {}), decoded, atol=1e-4)


@torch.no_grad()
def test_at_full_freedom_the_sampler_is_ddpm(tiny_stablevsr, source, load, walk):
    ours, window = walk(load(tiny_stablevsr), source, enlarged(source), 3, SEED, freedom=1.0)
    motion = window["motion"][0]
    theirs, _ = composed(tiny_stablevsr, source, motion, 3, warped_as_trained, ancestral=True)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_the_warps_differ_and_the_neighbour_counts(tiny_stablevsr, source, load, walk):
    first, window = walk(load(tiny_stablevsr), source, enlarged(source), 2, SEED)
    motion = window["motion"][0]
    assert motion[:2, 3:5].abs().max() > 0.1
    assert not motion[0, :3].any()
    assert not motion[2, 3:].any()
    for options in ({"warp": "exact"}, {"control_scale": 0.0}):
        other, _ = walk(load(tiny_stablevsr, **options), source, enlarged(source), 2, SEED)
        assert not torch.allclose(first[1:], other[1:], atol=1e-3)


def test_zero_flow_in_the_warp_of_the_training_is_not_the_identity():
    """It reads pixel x of w at x w / (w - 1) - 1/2: half a pixel outwards at the edges, nothing in the middle."""
    ramp = torch.arange(9.0).expand(1, 1, 5, 9)
    found = trained_warp(ramp, torch.zeros(1, 2, 5, 9))[0, 0, 2]
    assert torch.allclose(found[1:-1], torch.arange(1.0, 8.0) * 9 / 8 - 0.5, atol=1e-5)
    assert torch.allclose(warp(ramp, torch.zeros(1, 2, 5, 9)), ramp, atol=1e-5)


def test_a_folder_of_another_name_is_known_by_its_unet(tiny_stablevsr, tmp_path):
    """Its authors' pipeline has gone by several names."""
    copy = shutil.copytree(tiny_stablevsr, tmp_path / "copy")
    for family in ("StableDiffusionControlNetPipeline", "StableDiffusionUpscalePipeline"):
        index = {"_class_name": family, "controlnet": ["diffusers", "ControlNetModel"]}
        (copy / "model_index.json").write_text(json.dumps(index))
        assert find_prior(str(copy)).facts.name == "stablevsr"
