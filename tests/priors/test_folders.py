"""Folders of public priors: variants, shards, pictures that are too large to be decoded whole, and planned memory."""

import shutil

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from vrestore.errors import PriorError
from vrestore.memory import MemoryPlan, Needs
from vrestore.priors import find_prior, stable
from vrestore.priors.folder import NETWORK, weights_of

CPU = torch.device("cpu")


@pytest.fixture
def copy(tiny_upscaler, tmp_path):
    return shutil.copytree(tiny_upscaler, tmp_path / "copy")


def predicted(folder):
    torch.manual_seed(0)
    prior = find_prior(str(folder)).load(CPU, torch.float32)
    window = {"source": torch.rand(1, 1, 3, 8, 8), "noise": torch.randn(1, 1, 4, 8, 8)}
    return prior.predict(torch.randn(1, 1, 4, 8, 8), torch.tensor([[501.0]]), window)


def test_half_precision_weights_are_read_where_only_they_are_there(tiny_upscaler, copy):
    for path in list(copy.rglob("*.safetensors")):
        path.rename(path.with_suffix(".fp16.safetensors"))
    assert {path.name for path in find_prior(str(copy)).weights()} == {
        "diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors"
    }  # fmt: skip
    assert torch.allclose(predicted(copy), predicted(tiny_upscaler), atol=1e-5)


def test_weights_in_shards(tiny_upscaler, copy):
    (whole,) = weights_of(copy / "unet", NETWORK)
    network = UNet2DConditionModel.from_pretrained(copy / "unet")
    whole.unlink()
    network.save_pretrained(copy / "unet", max_shard_size="60KB")
    files = weights_of(copy / "unet", NETWORK)
    assert len(files) > 1
    assert all(path.is_file() for path in files)
    assert torch.allclose(predicted(copy), predicted(tiny_upscaler), atol=1e-5)


def test_pickled_weights_are_not_read(copy):
    (whole,) = weights_of(copy / "unet", NETWORK)
    whole.rename(whole.with_suffix(".bin"))
    with pytest.raises(PriorError, match=r"lacks .*diffusion_pytorch_model.safetensors; .* as .safetensors"):
        find_prior(str(copy)).weights()


def test_a_unet_of_another_layout_is_refused(copy):
    """Such as one for inpainting, which sees a mask beside the latents."""
    config = copy / "unet" / "config.json"
    config.write_text(config.read_text().replace('"in_channels": 7', '"in_channels": 9'))
    with pytest.raises(PriorError, match="takes 9 channels, not 7 as in"):
        assert find_prior(str(copy)).facts


def test_a_text_encoder_with_weights_missing_is_refused(copy):
    file = copy / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(PriorError, match="text_encoder are of another network: 1 do not fit"):
        find_prior(str(copy)).load(CPU, torch.float32)


def test_large_pictures_go_through_the_autoencoder_in_tiles(tiny_upscaler, monkeypatch):
    frames = torch.rand(1, 3, 64, 96)
    whole = find_prior(str(tiny_upscaler)).load(CPU, torch.float32)
    monkeypatch.setattr(stable, "AUTOENCODER_TILE", 32)
    tiled = find_prior(str(tiny_upscaler)).load(CPU, torch.float32)
    assert tiled.facts.frame_tile == 8
    latents = whole.encode(frames)
    assert tiled.encode(frames).shape == latents.shape
    assert tiled.decode(latents, {}).shape == frames.shape
    assert not torch.equal(tiled.decode(latents, {}), whole.decode(latents, {}))
    small = frames[..., :32, :32]
    assert torch.equal(tiled.encode(small), whole.encode(small))


def test_memory_is_planned_for_what_is_worked_on_at_once(tiny_stablevsr, tiny_upscaler):
    """StableVSR takes a window frame by frame, and the autoencoder a large frame in tiles."""
    found = {folder: find_prior(str(folder)).facts for folder in (tiny_stablevsr, tiny_upscaler)}
    plan = MemoryPlan(window=16, overlap=4, tile=None, batch=1)
    for folder, frames in ((tiny_stablevsr, 1), (tiny_upscaler, 16)):
        facts = found[folder]
        needs = Needs(
            facts=facts, latent=(270, 480), source_pixels=0, frames=100, steps=50, window=16, overlap=4, tile=None,
            fixed_bytes=0, keep_window=False, batches=False,
        )  # fmt: skip
        assert needs.call_bytes(plan) == facts.call_bytes * frames * 270 * 480
        assert needs.frame_bytes == facts.frame_bytes * 256 * 256
