"""What teaches the edit prior where a word is."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vrestore.errors import ConfigError
from vrestore.masks import watched
from vrestore.priors.text import load_tokenizer
from vrestore.weights.recipe import autoencoder, editing, pointing
from vrestore.weights.recipe.__main__ import main
from vrestore.weights.recipe.fit import Moment
from vrestore.weights.recipe.looks import COLOURS
from vrestore.weights.recipe.words import write_tokenizer

SIDE = editing.SIZE


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 30))
@example(909260033)  # a bright one
def test_the_thing_is_of_its_colour_and_nothing_else_is(seed):
    rng = np.random.default_rng(seed)
    crop = rng.integers(0, 256, (SIDE // 16, SIDE // 16, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    picture, number, where = pointing.painted(rng, crop)
    shown = picture.astype(np.float32) / 255
    wanted = float(pointing.hue_deg(np.float32([[list(COLOURS.values())[number]]]))[0, 0])
    strong = (shown.max(2) - shown.min(2) > 0.2) & (shown.max(2) > 0.2)
    like = (pointing.apart_deg(pointing.hue_deg(shown), wanted) < 15) & strong
    inside = pointing.cv2.erode(where.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    outside = pointing.cv2.dilate(where.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    assert like[inside & strong].mean() > 0.95 if (inside & strong).any() else True
    assert like[outside].mean() < 0.1


@pytest.mark.parametrize(
    ("first", "second", "apart"), [(10.0, 350.0, 20), (0.0, 180.0, 180), (90.0, 90.0, 0), (300.0, 40.0, 100)]
)
def test_hues_are_apart_the_short_way_round(first, second, apart):
    assert pointing.apart_deg(first, second) == apart


def reading(notes, named, where):
    nothing = torch.zeros(())
    return pointing.misread(notes, pointing.Pointed(nothing, nothing, nothing, nothing, named, where))


def test_only_the_wanted_share_of_the_named_token_at_its_place_is_read_right():
    where = torch.zeros(1, 8, 8)
    where[:, 2:6, 4:] = 1
    notes = torch.rand(1, 16, 5)
    notes[:, :, 3] = pointing.SHARE * torch.nn.functional.avg_pool2d(where[:, None], 2).flatten(1)
    named = torch.tensor([3])
    assert reading([notes], named, where) == 0
    assert reading([notes], torch.tensor([2]), where) > 0
    assert reading([notes], named, where.flip(2)) > 0
    assert reading([notes, notes + 0.1], named, where) == pytest.approx(0.005)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Noise as pictures, in every colour, and a tokenizer."""
    torch.manual_seed(0)
    made, rng = tmp_path_factory.mktemp("pointing"), np.random.default_rng(0)
    (made / "data" / "stills").mkdir(parents=True)
    for i in range(2):
        picture = rng.integers(0, 256, (12, 12, 3), np.uint8).repeat(20, 0).repeat(20, 1)
        pointing.cv2.imwrite(str(made / "data" / "stills" / f"{i}.png"), picture)
    vae = autoencoder.network().eval()
    pointing.build_things(made / "examples", made / "data", vae, pointing.POINTED, 1, 0)
    write_tokenizer(made / "tokenizer")
    return made


def test_things_are_the_same_for_any_number_of_processes(folder, tmp_path):
    torch.manual_seed(0)
    pointing.build_things(tmp_path, folder / "data", autoencoder.network().eval(), pointing.POINTED, 1, 2)
    for name in ("things", "colours", "places"):
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), np.load(folder / "examples" / f"{name}.npy"))


def test_watching_a_network_changes_no_answer_and_ends():
    torch.manual_seed(0)
    unet, told = editing.Editor(100).unet.eval(), torch.randn(2, 32, 96)
    z, times = torch.randn(2, 16, 8, 8), torch.tensor([300, 500])
    with torch.no_grad():
        plain, before = unet(z, times, told).sample, dict(unet.attn_processors)
        with watched(unet) as notes:
            torch.testing.assert_close(unet(z, times, told).sample, plain)
        assert unet.attn_processors == before
    assert notes
    for note in notes:
        torch.testing.assert_close(note.sum(2), torch.ones_like(note[..., 0]))


def test_a_command_teaches_it_from_weights(folder, tmp_path):
    """The examples are made, the networks go on from others, and a word is read nearer to its place than before."""
    torch.manual_seed(0)
    start, run = tmp_path / "start", tmp_path / "run"
    write_tokenizer(start / "tokenizer")
    tokenizer = load_tokenizer(start / "tokenizer")
    editing.export(editing.Editor(len(tokenizer)), start)
    told = ["editing", str(folder / "data"), str(run), "--start", str(start), "--examples", "2", "--batch", "1"]
    more = ["--steps", "2", "--decay", "1", "--jobs", "0", "--device", "cpu", "--rate", "0.003", "--muon"]
    result = CliRunner().invoke(main, ["--threads", "1", *told, *more])
    assert result.exit_code == 0, result.output
    losses, model = pointing.Pointing(run / "examples", tokenizer, 1), editing.load(run / "weights").train()
    lesson, adam = losses.draw(np.random.default_rng(0), Moment(0)), torch.optim.Adam(model.parameters(), 3e-3)
    found = []
    for _ in range(12):
        parts = losses.losses(model, lesson, Moment(0))
        assert parts.keys() == {"v", "thing", "read"}
        found.append(float(parts["read"].detach()))
        adam.zero_grad()
        parts["read"].backward()
        adam.step()
    assert found[-1] < 0.7 * found[0]


def test_weights_of_other_words_are_no_start(folder, tmp_path):
    words = write_tokenizer(tmp_path / "tokenizer", ["red", "blue"])
    editing.export(editing.Editor(len(words)), tmp_path)
    with pytest.raises(ConfigError, match="has other words than the recipe has now"):
        editing.load(tmp_path, write_tokenizer(tmp_path / "more" / "tokenizer", ["red", "green"]))
    assert editing.load(tmp_path, words).text.config.vocab_size == len(words)
