"""Looks and the words that ask for them."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrestore.priors.text import load_tokenizer
from vrestore.weights.recipe.looks import COLOURS, LOOKS, rendered
from vrestore.weights.recipe.words import PHRASES, phrase, vocabulary, write_tokenizer


@pytest.fixture(scope="module")
def picture():
    """A green and brown landscape with an edge and a bright spot."""
    rng = np.random.default_rng(0)
    made = np.zeros((96, 96, 3), np.float32) + np.array([0.35, 0.5, 0.25], np.float32)
    made[:40] = (0.6, 0.7, 0.85)
    cv2.circle(made, (60, 60), 15, (0.5, 0.35, 0.2), -1)
    cv2.circle(made, (20, 20), 6, (1.0, 0.98, 0.9), -1)
    return np.clip(made + 0.03 * rng.standard_normal(made.shape), 0, 1).astype(np.float32)


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_changes_the_picture_and_stays_a_picture(picture, look):
    made = rendered(picture, look, None, seed=1)
    assert made.shape == picture.shape
    assert made.dtype == np.float32
    assert 0 <= made.min() <= made.max() <= 1
    assert np.abs(made - picture).mean() > 0.03


def test_no_two_looks_are_alike(picture):
    made = {look: rendered(picture, look, None, seed=1) for look in LOOKS}
    names = list(LOOKS)
    apart = [np.abs(made[a] - made[b]).mean() for i, a in enumerate(names) for b in names[:i]]
    assert min(apart) > 0.02


@pytest.mark.parametrize("look", ["rain", "snow", "black and white film"])
def test_what_moves_differs_by_moment_and_only_that(picture, look):
    first, again, later = (rendered(picture, look, None, seed=3, moment=m) for m in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - later).max() > 0.05
    assert abs(first.mean() - later.mean()) < 0.02


@pytest.mark.parametrize("colour", COLOURS)
def test_a_tint_moves_a_gray_picture_towards_its_colour(colour):
    gray = np.full((4, 4, 3), 0.4, np.float32)
    made = rendered(gray, None, colour, seed=0)
    assert np.argsort(made[0, 0])[-1] == np.argmax(COLOURS[colour])
    assert made @ np.array([0.299, 0.587, 0.114], np.float32) == pytest.approx(0.4, abs=0.02)


def test_every_look_can_be_asked_for(tmp_path):
    assert set(PHRASES) == set(LOOKS)
    ids = write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert len(tokenizer) == len(ids)
    read = {look: tuple(tokenizer(look).input_ids) for look in LOOKS}
    assert len(set(read.values())) == len(LOOKS)


@given(seed=st.integers(0, 1 << 20), look=st.sampled_from([None, *LOOKS]), colour=st.sampled_from([None, *COLOURS]))
def test_a_phrase_names_what_it_asks_for(seed, look, colour):
    told = phrase(np.random.default_rng(seed), look, colour)
    assert colour is None or colour in told
    assert look is None or any(way in told for way in (look, *PHRASES[look]))
    assert "{" not in told


def test_words_are_read_whole_or_by_letters(tmp_path):
    ids = write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    for word in vocabulary():
        assert tokenizer.decode(tokenizer(word).input_ids, skip_special_tokens=True).strip() == word
    assert max(tokenizer("xylophone zebra").input_ids) < len(ids)
