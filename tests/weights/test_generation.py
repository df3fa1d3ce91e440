"""The recipe of the generation prior: its scenes, its levels, and a few steps of it."""

import json

import numpy as np
import pytest
import torch

from vrestore.priors.text import load_tokenizer
from vrestore.weights import locate
from vrestore.weights.recipe import autoencoder, generation
from vrestore.weights.recipe.fit import Fit, FitConfig
from vrestore.weights.recipe.scenes import HUES, SCENES, SIDE, SKIES, Asked
from vrestore.weights.recipe.words import write_tokenizer


def drawn(scene, seed=0, hue="red", time="day"):
    return SCENES[scene](np.random.default_rng(seed), Asked(HUES[hue], time))


@pytest.mark.parametrize("scene", SCENES)
def test_a_scene_moves_and_is_the_same_for_the_same_seed_and_time(scene):
    at = drawn(scene)
    first, later = at(0.0), at(0.5)
    assert first.shape == (SIDE, SIDE, 3)
    assert 0 <= first.min() <= first.max() <= 1.2
    assert np.abs(later - first).max() > 0.1
    np.testing.assert_array_equal(drawn(scene)(0.5), later)


@pytest.mark.parametrize("scene", SCENES)
def test_a_scene_shows_what_was_asked(scene):
    red, green = (drawn(scene, hue=hue)(0.0) for hue in ("red", "green"))
    assert (red[..., 0] - green[..., 0]).mean() > 0.001
    assert (green[..., 1] - red[..., 1]).mean() > 0.001
    if scene != "stars":  # where it is always night
        assert drawn(scene, time="day")(0.0).mean() > drawn(scene, time="night")(0.0).mean()


def test_every_way_to_ask_is_within_the_vocabulary(tmp_path):
    write_tokenizer(tmp_path, generation.vocabulary(), generation.TOKENS)
    tokenizer, rng = load_tokenizer(tmp_path), np.random.default_rng(0)
    for scene in SCENES:
        for _ in range(20):
            hue, time = str(rng.choice(list(HUES))), str(rng.choice(list(SKIES)))
            said = generation.phrase(rng, scene, hue, time)
            assert hue in said
            assert len(tokenizer(said).input_ids) == len(said.split()) + 2 <= generation.TOKENS


def test_levels_are_alike_or_rise_or_stand_beside_given_frames():
    rng = np.random.default_rng(0)
    drawn = [generation.drawn_times(rng) for _ in range(600)]
    alike = [t for t in drawn if (t == t[0]).all()]
    rising = [t for t in drawn if (np.diff(t) >= 0).all() and t[0] != t[-1]]
    given = [t for t in drawn if (t == 0).any() and (t > 0).any()]
    assert min(len(alike), len(rising), len(given)) > 100
    assert all(t.shape == (generation.FRAMES,) and 0 <= t.min() <= t.max() <= 999 for t in drawn)
    assert max(t.max() for t in drawn) > 990


def test_the_prior_learns_from_clips_that_any_worker_makes_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "CLIPS", 1)
    monkeypatch.setattr(generation, "FRAMES", 4)
    monkeypatch.setattr(generation, "CHANNELS", (16, 16))
    monkeypatch.setattr(generation, "STILLS", 1)
    torch.manual_seed(0)
    vae = autoencoder.network().eval()
    generation.build_clips(tmp_path / "apart", vae, [1], 2, seed=1)
    generation.build_clips(tmp_path / "apart", vae, [0], 2, seed=1)
    generation.build_clips(tmp_path / "once", vae, range(2), 2, seed=1)
    for name in ("latents", "asked"):
        apart, once = (np.load(tmp_path / made / f"{name}.npy") for made in ("apart", "once"))
        np.testing.assert_array_equal(apart, once)
        assert np.abs(once.astype(np.float32)).sum() > 0
    tokens = write_tokenizer(tmp_path / "weights" / "tokenizer", generation.vocabulary(), generation.TOKENS)
    model = generation.Generator(len(tokens))
    losses = generation.Showing(tmp_path / "once", load_tokenizer(tmp_path / "weights" / "tokenizer"))
    run = Fit(model, losses, tmp_path / "run", FitConfig(steps=3, warmup=1))
    assert all(np.isfinite(loss) for _ in range(3) for loss in run.advance().values())
    generation.export(run.averaged(), tmp_path / "weights")
    index, ours = (
        json.loads((path / "model_index.json").read_text()) for path in (tmp_path / "weights", locate("generation"))
    )
    assert index == ours
    saved = generation.UNetMotionModel.from_pretrained(tmp_path / "weights" / "unet", torch_dtype=torch.float32)
    torch.testing.assert_close(saved.conv_in.weight, run.averaged().unet.conv_in.weight, atol=1e-3, rtol=0)


def test_a_frame_that_is_given_asks_for_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "CLIPS", 1)
    monkeypatch.setattr(generation, "STILLS", 0)
    monkeypatch.setattr(generation, "drawn_times", lambda rng: np.array([0, 400, 400, 0]))
    rng = np.random.default_rng(0)
    np.save(tmp_path / "latents.npy", rng.standard_normal((1, 4, *generation.LATENT)).astype(np.float16))
    np.save(tmp_path / "asked.npy", np.zeros((1, 3), np.int8))
    write_tokenizer(tmp_path, generation.vocabulary(), generation.TOKENS)
    losses = generation.Showing(tmp_path, load_tokenizer(tmp_path))

    class Answering(generation.Generator):
        def __init__(self, wrong):
            torch.nn.Module.__init__(self)
            self.wrong = wrong

        def forward(self, latents, times, tokens):
            return self.wrong * (times == 0)[..., None, None, None] * torch.ones_like(latents)

    found = [losses(Answering(wrong), np.random.default_rng(1), 0)["v"] for wrong in (0.0, 100.0)]
    assert found[0] == found[1] > 0


def test_every_word_of_a_vocabulary_is_one_token(tmp_path):
    words = ("snow", "now", "pencil", "in", "no", "on", "pen", "purple", "x", "sunset", "set", "see")
    write_tokenizer(tmp_path, words, 8)
    tokenizer = load_tokenizer(tmp_path)
    assert all(len(tokenizer(word).input_ids) == 3 for word in words)
