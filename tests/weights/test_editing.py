"""The recipe of the edit prior and of the autoencoder below it, on a few pictures."""

import json

import numpy as np
import pytest
import torch

from vrestore.priors.text import load_tokenizer
from vrestore.weights.recipe import autoencoder, editing, mapping, moving
from vrestore.weights.recipe.fit import Fit, FitConfig
from vrestore.weights.recipe.words import write_tokenizer

EXAMPLES, FRAMES = 3, 2


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return autoencoder.network().eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, vae):
    """Examples, clips, a tokenizer and the pool that the clips were made of."""
    made, rng = tmp_path_factory.mktemp("editing"), np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(editing, "CLIPS", 2)
        pictures = [rng.integers(0, 256, (200, 260, 3), np.uint8), rng.integers(0, 256, (100, 90, 3), np.uint8)]
        editing.build_examples(made / "examples", pictures, vae, EXAMPLES, seed=1)
        (made / "pool").mkdir()
        shape = (2, FRAMES, 3, 200, 200)
        rng.integers(0, 256, shape, np.uint8).tofile(made / "pool" / "sharp.bin")
        (made / "pool" / "pool.json").write_text(json.dumps({"shapes": {"sharp": [shape, "uint8"]}}))
        moving.build_clips(made / "clips", made / "pool", vae, 2, seed=1)
    write_tokenizer(made / "weights" / "tokenizer")
    return made


def fitted(model, losses, folder, steps=2):
    run = Fit(model, losses, folder, FitConfig(steps=steps, warmup=1))
    return [run.advance() for _ in range(steps)], run


def test_examples_are_the_same_for_the_same_seed(folder, vae, tmp_path):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (200, 260, 3), np.uint8), rng.integers(0, 256, (100, 90, 3), np.uint8)]
    editing.build_examples(tmp_path, pictures, vae, EXAMPLES, seed=1)
    for name in ("sources", "latents", "asked"):
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), np.load(folder / "examples" / f"{name}.npy"))


@pytest.mark.parametrize("kind", [k for k in editing.KINDS if k != "tile"])
def test_a_map_is_bright_where_an_edge_is_and_black_elsewhere(kind):
    picture = np.full((64, 64, 3), 200, np.uint8)
    picture[:, 32:] = 60
    found = editing.structure(kind, picture, np.random.default_rng(0))
    assert found.shape == picture.shape
    assert found[:, 28:37].max() > 200
    assert found[:, :12].max() == found[:, 52:].max() == 0


def test_the_truth_of_v_leads_back_to_the_clean_latents():
    rng = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(3, 4, 2, 2, generator=rng) for _ in range(2))
    products = torch.tensor([0.9, 0.5, 0.01])
    place, v = editing.noised(clean, noise, torch.tensor([0, 1, 2]), products)
    product = products[:, None, None, None]
    torch.testing.assert_close(product.sqrt() * place - (1 - product).sqrt() * v, clean)


def test_the_autoencoder_learns_and_its_latents_come_out_at_unit_size(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(autoencoder, "PICTURES", 2)
    monkeypatch.setattr(autoencoder, "CROP", 64)
    torch.manual_seed(0)
    model = autoencoder.network()
    steps, run = fitted(model, autoencoder.Rebuilding(folder / "pool"), tmp_path / "run", steps=12)
    assert steps[-1]["rebuilt"] < steps[0]["rebuilt"]
    pictures = torch.rand(2, 3, 64, 64)
    autoencoder.export(run.averaged(), tmp_path / "vae", pictures)
    saved = autoencoder.AutoencoderDC.from_pretrained(tmp_path / "vae", torch_dtype=torch.float32)
    assert saved.config.scaling_factor * autoencoder.latent_size(saved, pictures) == pytest.approx(1, abs=0.01)


def test_looks_are_learned_in_the_layout_of_a_controlnet_pipeline(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(editing, "CLIPS", 2)
    torch.manual_seed(0)
    tokenizer = load_tokenizer(folder / "weights" / "tokenizer")
    model = editing.Editor(len(tokenizer))
    steps, run = fitted(model, editing.Rendering(folder / "examples", tokenizer), tmp_path / "run")
    assert all(np.isfinite(loss) for step in steps for loss in step.values())
    editing.export(run.averaged(), tmp_path / "weights")
    index = json.loads((tmp_path / "weights" / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionControlNetPipeline"
    assert index["_shared"] == {"vae": "../autoencoder"}
    again = editing.UNet2DConditionModel.from_pretrained(tmp_path / "weights" / "unet", torch_dtype=torch.float32)
    torch.testing.assert_close(again.conv_in.weight, run.averaged().unet.conv_in.weight, atol=1e-3, rtol=0)


def test_motion_modules_learn_alone(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(moving, "CLIPS", 1)
    torch.manual_seed(0)
    tokenizer = load_tokenizer(folder / "weights" / "tokenizer")
    model = moving.Mover(editing.Editor(len(tokenizer)))
    before = {name: value.clone() for name, value in model.named_parameters()}
    _, run = fitted(model, moving.Animating(folder / "clips", tokenizer), tmp_path / "run")
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed
    assert all("motion_modules" in name for name in changed)
    moving.export(run.averaged(), tmp_path / "weights")
    saved = moving.MotionAdapter.from_pretrained(tmp_path / "weights" / "motion_adapter", torch_dtype=torch.float32)
    assert set(saved.state_dict()) == {k for k in model.unet.state_dict() if "motion_modules" in k}


def test_a_map_learns_to_tell_the_latents_behind_it(folder, vae, tmp_path, monkeypatch):
    monkeypatch.setattr(mapping, "CLIPS", 2)
    torch.manual_seed(0)
    controlnet = editing.Editor(len(load_tokenizer(folder / "weights" / "tokenizer"))).controlnet
    steps, run = fitted(mapping.Reader(controlnet), mapping.Telling(folder / "examples", vae), tmp_path, steps=4)
    assert np.isfinite([step["told"] for step in steps]).all()
    assert steps[-1]["told"] < steps[0]["told"]
    for own, found in zip(controlnet.controlnet_cond_embedding.parameters(), run.model.look.parameters(), strict=True):
        assert own is found
