"""The recipe of the edit prior and of the autoencoder below it, on a few pictures."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import DDIMScheduler

from vrestore.prior_options import EditOptions
from vrestore.priors import find_prior
from vrestore.priors.text import load_tokenizer
from vrestore.weights.recipe import autoencoder, editing, mapping, moving
from vrestore.weights.recipe.__main__ import main
from vrestore.weights.recipe.examples import Clips, Pictures, build_examples, drawn_look
from vrestore.weights.recipe.fit import Fit, FitConfig, Moment
from vrestore.weights.recipe.looks import COLOURS, LOOKS, rendered
from vrestore.weights.recipe.words import write_tokenizer

EXAMPLES, FRAMES = 3, 2
EMBEDDED = Path(str(files("vrestore.weights")))


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return autoencoder.network().eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, vae):
    """Pictures, a pool, examples of both, and a tokenizer."""
    made, rng = tmp_path_factory.mktemp("editing"), np.random.default_rng(0)
    (made / "data" / "stills").mkdir(parents=True)
    for name, size in (("wide", (200, 260, 3)), ("small", (100, 90, 3))):
        cv2.imwrite(str(made / "data" / "stills" / f"{name}.png"), rng.integers(0, 256, size, np.uint8))
    (made / "pool").mkdir()
    shape = (2, FRAMES, 3, 200, 200)
    rng.integers(0, 256, shape, np.uint8).tofile(made / "pool" / "sharp.bin")
    (made / "pool" / "pool.json").write_text(json.dumps({"shapes": {"sharp": [shape, "uint8"]}}))
    build_examples(made / "examples", (Pictures, made / "data"), vae, EXAMPLES, 1, 0)
    build_examples(made / "clips", (Clips, made / "pool"), vae, 2, 1, 0)
    write_tokenizer(made / "weights" / "tokenizer")
    return made


def fitted(model, losses, folder, steps=2):
    run = Fit(model, losses, folder, FitConfig(steps=steps, warmup=1))
    return [run.advance() for _ in range(steps)], run


def test_examples_are_the_same_for_any_number_of_processes(folder, vae, tmp_path):
    build_examples(tmp_path, (Pictures, folder / "data"), vae, EXAMPLES, 1, 2)
    for name in ("sources", "latents", "asked"):
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), np.load(folder / "examples" / f"{name}.npy"))


def test_examples_hold_their_truth(folder, vae):
    """The look that was drawn, moving from frame to frame."""
    sources, latents, asked = (np.load(folder / "clips" / f"{n}.npy") for n in ("sources", "latents", "asked"))
    assert sources.shape == (2, FRAMES, 192, 192, 3)
    look, colour = ([None, *names][n] for names, n in zip((LOOKS, COLOURS), asked[1], strict=True))
    rng = np.random.default_rng([1, 1])
    source = Clips(folder / "pool").crop(rng)
    np.testing.assert_array_equal(sources[1], source)
    assert drawn_look(rng) == (look, colour)
    own = int(rng.integers(1 << 30))
    shown = np.stack([rendered(f.astype(np.float32) / 255, look, colour, own, t) for t, f in enumerate(source)])
    found = editing.encoded(vae, shown).numpy()
    np.testing.assert_allclose(latents[1], found, atol=0.02 * np.abs(found).max())


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


def test_the_autoencoder_learns_and_its_latents_come_out_at_unit_size(folder, tmp_path):
    torch.manual_seed(0)
    model = autoencoder.network()
    steps, run = fitted(model, autoencoder.Rebuilding(folder / "pool", 2, 64), tmp_path / "run", steps=12)
    assert steps[-1]["rebuilt"] < steps[0]["rebuilt"]
    pictures = torch.rand(2, 3, 64, 64)
    autoencoder.export(run.averaged(), tmp_path / "vae", pictures)
    saved = autoencoder.AutoencoderDC.from_pretrained(tmp_path / "vae", torch_dtype=torch.float32)
    assert saved.config.scaling_factor * autoencoder.latent_size(saved, pictures) == pytest.approx(1, abs=0.01)


def test_looks_are_learned_in_the_layout_of_a_controlnet_pipeline(folder, tmp_path):
    torch.manual_seed(0)
    tokenizer = load_tokenizer(folder / "weights" / "tokenizer")
    model = editing.Editor(len(tokenizer))
    steps, run = fitted(model, editing.Rendering(folder / "examples", tokenizer, 2), tmp_path / "run")
    assert all(np.isfinite(loss) for step in steps for loss in step.values())
    editing.export(run.averaged(), tmp_path / "weights")
    index = json.loads((tmp_path / "weights" / "model_index.json").read_text())
    assert index == json.loads((EMBEDDED / "editing" / "model_index.json").read_text())
    write_tokenizer(tmp_path / "weights" / "tokenizer")
    again, model = editing.load(tmp_path / "weights"), run.averaged()
    torch.testing.assert_close(again.state_dict(), model.state_dict(), atol=1e-3, rtol=1e-3)


def test_motion_modules_are_trained_by_a_command(folder, tmp_path):
    """Three steps beside a trained edit prior, whose own prior then answers with them as training did."""
    torch.manual_seed(3)
    editor = tmp_path / "editing"
    write_tokenizer(editor / "tokenizer")
    editing.export(editing.Editor(len(load_tokenizer(editor / "tokenizer"))), editor)
    shutil.copytree(EMBEDDED / "autoencoder", tmp_path / "autoencoder")
    told = [str(part) for part in (folder / "pool", editor, tmp_path / "run")]
    options = ["--examples", "2", "--steps", "3", "--decay", "1", "--batch", "1", "--jobs", "0", "--device", "cpu"]
    result = CliRunner().invoke(main, ["--threads", "1", "motion", *told, *options])
    assert result.exit_code == 0, result.output
    adapter = tmp_path / "run" / "weights" / "motion_adapter"
    shutil.copytree(adapter, editor / "motion_adapter")
    prior = find_prior(str(editor), EditOptions(guidance_scale=1.0)).load(torch.device("cpu"), torch.float32)
    assert prior.facts.window > 1
    animating = moving.Animating(tmp_path / "run" / "examples", load_tokenizer(editor / "tokenizer"), 1)
    model = moving.Mover(editing.load(editor)).eval()
    learned = moving.MotionAdapter.from_pretrained(adapter, torch_dtype=torch.float32).state_dict()
    assert any(learned[k].any() for k in learned if "proj_out" in k)  # they start at zero
    model.unet.load_state_dict(learned, strict=False)
    lesson = animating.draw(np.random.default_rng(0), Moment(0))
    with torch.no_grad():
        v = model(lesson.place, lesson.times, lesson.tokens, lesson.shown())
        text = model.editor.text(lesson.tokens)[0][:, None].expand(-1, FRAMES, -1, -1)
    product = DDIMScheduler(**editing.SCHEDULE).alphas_cumprod[lesson.times]
    expected = product.sqrt() * lesson.place - (1 - product).sqrt() * v
    given = {"text": text, "control": lesson.shown()}
    found = prior.predict(lesson.place, lesson.times[:, None].expand(-1, FRAMES).float(), given)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_motion_modules_learn_alone(folder, tmp_path):
    torch.manual_seed(0)
    tokenizer = load_tokenizer(folder / "weights" / "tokenizer")
    model = moving.Mover(editing.Editor(len(tokenizer)))
    before = {name: value.clone() for name, value in model.named_parameters()}
    _, run = fitted(model, moving.Animating(folder / "clips", tokenizer, 1), tmp_path / "run")
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed
    assert all("motion_modules" in name for name in changed)
    moving.export(run.averaged(), tmp_path / "weights")
    saved = moving.MotionAdapter.from_pretrained(tmp_path / "weights" / "motion_adapter", torch_dtype=torch.float32)
    assert set(saved.state_dict()) == {k for k in model.unet.state_dict() if "motion_modules" in k}


def test_a_map_learns_to_tell_the_latents_behind_it(folder, vae, tmp_path):
    torch.manual_seed(0)
    controlnet = editing.Editor(len(load_tokenizer(folder / "weights" / "tokenizer"))).controlnet
    steps, run = fitted(mapping.Reader(controlnet), mapping.Telling(folder / "examples", vae, 2), tmp_path, steps=4)
    assert np.isfinite([step["told"] for step in steps]).all()
    assert steps[-1]["told"] < steps[0]["told"]
    for own, found in zip(controlnet.controlnet_cond_embedding.parameters(), run.model.look.parameters(), strict=True):
        assert own is found
