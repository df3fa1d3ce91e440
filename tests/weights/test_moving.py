"""What the motion modules of the edit prior are trained on: neighbouring frames, and noise that they may share."""

import numpy as np
import pytest
import torch

from vrestore.priors.text import load_tokenizer
from vrestore.weights.recipe import moving
from vrestore.weights.recipe.editing import LATENT, SIZE
from vrestore.weights.recipe.fit import Moment
from vrestore.weights.recipe.words import write_tokenizer

FRAMES = 10


@pytest.fixture(scope="module")
def animating(tmp_path_factory):
    """On two clips whose every frame holds its own number."""
    folder = tmp_path_factory.mktemp("moving")
    number = np.arange(FRAMES, dtype=np.uint8).reshape(1, -1, 1, 1, 1)
    np.save(folder / "sources.npy", np.broadcast_to(number, (2, FRAMES, SIZE, SIZE, 3)))
    np.save(folder / "latents.npy", np.broadcast_to(number.astype(np.float16), (2, FRAMES, *LATENT)))
    np.save(folder / "asked.npy", np.zeros((2, 2), np.int8))
    write_tokenizer(folder / "tokenizer")
    return moving.Animating(folder, load_tokenizer(folder / "tokenizer"), 2)


def test_neighbouring_frames_are_seen(animating):
    """All of a clip, or some one after another, and as many maps."""
    counts = set()
    for seed in range(12):
        lesson = animating.draw(np.random.default_rng(seed), Moment(0))
        product = animating._products[lesson.times].view(-1, 1, 1, 1, 1)
        clean = product.sqrt() * lesson.place - (1 - product).sqrt() * lesson.wanted
        numbers = clean[0].mean((1, 2, 3)).numpy()
        np.testing.assert_allclose(np.diff(numbers), 1, atol=1e-3)
        assert lesson.maps.shape[:2] == (2, len(numbers))
        counts.add(len(numbers))
    assert counts == {moving.SHORT, FRAMES}


def test_frames_have_their_noise_in_common_in_part_or_all_of_it(animating):
    alike = []
    for seed in range(40):
        noise = animating.noise(np.random.default_rng(seed), (2, FRAMES, 16, 24, 24))
        assert float(noise.std()) == pytest.approx(1, abs=0.03)
        between_clips, between_frames = (
            float((a * b).mean()) for a, b in ((noise[0], noise[1]), (noise[:, 0], noise[:, 1]))
        )
        assert abs(between_clips) < 0.05
        alike.append(between_frames)
    alike = torch.tensor(alike)
    own, same = (alike < 0.05).float().mean(), (alike > 0.95).float().mean()
    assert own == pytest.approx(moving.OWN, abs=0.2)
    assert same == pytest.approx(moving.ALIKE, abs=0.2)
    assert ((alike > 0.1) & (alike < 0.9)).any()
