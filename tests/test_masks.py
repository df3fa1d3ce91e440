"""Masks and fusion: what is watched stays as it was, edges are soft where they should be, the source comes back."""

import numpy as np
import pytest
import torch

from vrestore.errors import ConfigError
from vrestore.fusion import FUSIONS, composite, edited, fused, takes_source
from vrestore.masks import feathered, mask_of, on_latents, watched, word_map
from vrestore.prior_options import EditOptions
from vrestore.priors import find_prior
from vrestore.video.alongside import Alongside


@pytest.fixture(scope="module")
def prior(tiny_edit):
    return find_prior(str(tiny_edit), EditOptions()).load(torch.device("cpu"), torch.float32)


def test_watching_changes_nothing_and_notes_shares(prior):
    text = prior.embed(["a picture of stone"])[0]
    z, time = torch.randn(2, 4, 6, 8), torch.tensor(500)
    told = text.expand(2, -1, -1)
    with torch.no_grad():
        plain = prior.unet(z, time, told)[0]
        before = [layer.processor for layer in prior.unet.modules() if hasattr(layer, "processor")]
        with watched(prior.unet, range(len(text))) as notes:
            seen = prior.unet(z, time, told)[0]
        with watched(prior.unet, prior.places("a picture of stone", "stone")) as some:
            prior.unet(z, time, told)
    assert torch.allclose(seen, plain, atol=1e-6)
    assert before == [layer.processor for layer in prior.unet.modules() if hasattr(layer, "processor")]
    for note, part in zip(notes, some, strict=True):
        assert torch.allclose(note * len(text), torch.ones_like(note), atol=1e-5)  # shares of all tokens are one
        assert part.shape == note.shape
        assert part.min() > 0


def test_a_map_of_words_goes_from_none_to_most(prior):
    heat = word_map(
        prior, [(300.0, torch.randn(4, 6, 8))], prior.embed(["a stone"])[0], prior.places("a stone", "stone")
    )
    assert heat.shape == (1, 6, 8)
    assert (heat.min(), heat.max()) == (0, pytest.approx(1))


def test_places_of_words(prior):
    assert prior.places("a picture of stone", "stone") == (4,)
    assert prior.places("a picture of stone", "picture of") == (2, 3)
    with pytest.raises(ConfigError, match=r"the words 'noise' are not in 'a stone'; give neighbouring words"):
        prior.places("a stone", "noise")


def test_a_mask_is_where_attention_is_strong():
    heat = torch.zeros(1, 8, 8)
    heat[:, 2:6, 2:6] = 1
    mask = mask_of(heat, torch.full((3, 64, 64), 0.5))
    assert mask[:, 20:44, 24:40].all()
    assert mask[:, 24:40, 20:44].all()
    assert not mask[:, :6].any()
    assert set(mask.unique().tolist()) == {0.0, 1.0}


def test_a_mask_has_the_edges_of_the_picture():
    """A disc that attention knows to a place of 16 pixels."""
    y, x = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    disc = ((y - 50) ** 2 + (x - 61) ** 2 <= 29**2).float()
    picture = torch.tensor([0.8, 0.2, 0.1])[:, None, None] * disc + 0.5 * (1 - disc)
    heat = torch.nn.functional.avg_pool2d(disc[None, None], 16)[0]
    coarse = torch.nn.functional.interpolate(heat[None], (96, 128), mode="bilinear")[0] >= 0.5
    found = mask_of(heat, picture)

    def overlap(mask):
        return float((mask.bool() & disc.bool()).sum() / (mask.bool() | disc.bool()).sum())

    assert overlap(found) > 0.95
    assert overlap(found) > overlap(coarse) + 0.02


@pytest.mark.parametrize("reach", [0, 1, 5, 8])
def test_a_feather_reaches_so_far_and_no_farther(reach):
    mask = torch.zeros(1, 40, 60)
    mask[..., 30:] = 1
    soft = feathered(mask, reach)
    assert (soft[..., : 30 - reach] == 0).all()
    assert (soft[..., 30 + reach :] == 1).all()
    assert (soft.diff(dim=-1) >= -1e-6).all()
    if reach:
        assert 0 < soft[0, 0, 30] < 1


def test_latents_are_edited_where_any_pixel_is():
    mask = torch.zeros(1, 32, 48)
    mask[0, 9, 17] = 0.1
    found = on_latents(mask, (4, 6))
    assert found.sum() == 1
    assert found[0, 1, 2] == 1


def test_outside_of_the_mask_is_the_very_source():
    edit, source, mask = torch.rand(3, 8, 8), torch.rand(3, 8, 8), torch.zeros(1, 8, 8)
    mask[..., 4:] = 1
    found = composite(edit, source, mask)
    assert torch.equal(found[..., :4], source[..., :4])
    assert torch.allclose(found[..., 4:], edit[..., 4:])
    assert torch.equal(edited(mask, "background"), 1 - mask)


@pytest.mark.parametrize("mode", FUSIONS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9])
def test_fusion_says_when_it_takes_something(mode, share):
    z, source, mask = torch.ones(4, 2, 2), torch.zeros(4, 2, 2), torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    for given in (None, mask):
        taken = not torch.equal(fused(z, source, given, mode, share), z)
        assert taken == takes_source(mode, share, masked=given is not None)


def test_fewer_steps_take_more_each():
    """Over the ladder as much is left of the edit's own latents."""
    z, source = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    for levels in (10, 50):
        left = z
        for to in reversed(range(levels)):
            left = fused(left, source, None, "attribute", to / levels, levels)
        assert float(left) == pytest.approx(0.97**30, rel=0.2)


def test_a_file_alongside_gives_the_frame_that_is_asked(clips, tmp_path):
    frames = clips.scene(9, (16, 24))
    file = Alongside(clips.write(tmp_path / "m.mkv", frames))
    for index in (0, 1, 2, 5, 6, 3):
        assert np.array_equal(
            (file.at(index, (16, 24)) * 255).round().astype(np.uint8), frames[index].transpose(2, 0, 1)
        )
    assert file.at(7, (8, 12)).shape == (3, 8, 12)
    file.close()
    assert np.array_equal(file.at(2, (16, 24)), Alongside(tmp_path / "m.mkv").at(2, (16, 24)))
    still = Alongside(clips.write(tmp_path / "s.mkv", frames[:1]))
    assert np.array_equal(still.at(0, (16, 24)), still.at(8, (16, 24)))
