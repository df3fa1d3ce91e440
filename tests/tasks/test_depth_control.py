"""Depth as a control of edits: the head's own maps, shot by shot, in the memory of a few frames."""

import numpy as np
import pytest
import torch

from vrestore.depth_control import DepthMaps, depth_prior
from vrestore.errors import ConfigError, PriorError
from vrestore.report import RunOptions
from vrestore.tasks.depth import Depth
from vrestore.tasks.editing import Editing, EditingConfig
from vrestore.video import open_reader, probe

SIZE = (24, 40)
LARGE = (200, 300)
"""More than the prior sees: its maps are enlarged, which leaves them their ends."""
CUT, FRAMES = 4, 9
CPU = torch.device("cpu")


def film_of(clips, folder, size):
    """Two shots."""
    bright, dark = clips.scene(CUT, size, seed=1) // 2 + 127, clips.scene(FRAMES - CUT, size, seed=2) // 4
    return clips.write(folder / "in.mkv", np.concatenate([bright, dark]))


@pytest.fixture
def film(clips, tmp_path):
    return film_of(clips, tmp_path, SIZE)


@pytest.fixture
def settings(tiny_edit, tiny_depth_prior):
    return {
        "prior": str(tiny_edit), "depth_prior": str(tiny_depth_prior), "prompt": "a sharp stone", "steps": 2,
        "window": 4, "overlap": 2, "device": "cpu", "dtype": "float32", "strength": 0.5, "guidance_scale": 2.0,
    }  # fmt: skip


def edited(settings, source, **more):
    return torch.stack(list(Editing(**settings | more).stream(source, RunOptions())))


def maps_of(film, prior, first, frames):
    return torch.stack(list(DepthMaps(probe(film), depth_prior(str(prior)), CPU).shot(first, frames)))


def test_maps_are_those_of_the_head(clips, tiny_depth_prior, tmp_path):
    film = film_of(clips, tmp_path, LARGE)
    found = torch.cat([maps_of(film, tiny_depth_prior, 0, CUT), maps_of(film, tiny_depth_prior, CUT, FRAMES - CUT)])
    head = Depth(prior=str(tiny_depth_prior), colormap="gray", device="cpu")
    expected = torch.stack(list(head.stream(film)))
    assert found.shape == (FRAMES, 3, *LARGE)
    assert (found - expected).abs().max() < 1 / 255
    for shot in (found[:CUT], found[CUT:]):
        assert 0 <= shot.min() < 0.1 < 0.9 < shot.max() <= 1  # each of its own range


def test_depth_leads_an_edit_like_a_video_of_the_same_maps(film, settings, clips, tiny_depth_prior, tmp_path):
    led = edited(settings, film, control=("depth", "tile:0.5"))
    maps = [maps_of(film, tiny_depth_prior, *shot) for shot in ((0, CUT), (CUT, FRAMES - CUT))]
    codes = (torch.cat(maps) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    given = (f"depth={clips.write(tmp_path / 'maps.mkv', codes)}",)
    assert torch.equal(led, edited(settings, film, control=("depth", "tile:0.5"), control_video=given))
    assert not torch.equal(led, edited(settings, film, control=("canny", "tile:0.5")))


def test_no_more_of_the_film_is_held_than_snippets_need(clips, tiny_depth_prior, tmp_path, monkeypatch):
    from vrestore.depth_walk import DepthWalk

    held, forget = [], DepthWalk._forget

    def watched(self, last):
        forget(self, last)
        held.append(len(self._seen))

    monkeypatch.setattr(DepthWalk, "_forget", watched)
    film = clips.write(tmp_path / "long.mkv", np.repeat(clips.scene(10, SIZE), 12, axis=0))
    maps = DepthMaps(probe(film), depth_prior(str(tiny_depth_prior)), CPU).shot(0, 120)
    assert next(maps).shape == (3, *SIZE)
    assert len(held) > 120
    assert max(held) <= 2 * 25 + 2


def test_weights_that_are_missing_or_of_another_kind_are_named_before_anything_starts(film, settings, tmp_path):
    for prior, message in ((str(tmp_path / "none"), "none"), (settings["prior"], "makes no depth")):
        with pytest.raises(PriorError, match=message):
            edited(settings | {"depth_prior": prior}, film, control=("depth",))
    with open_reader(film) as reader:
        assert sum(1 for _ in reader.frames()) == FRAMES
    with pytest.raises(ConfigError, match="depth"):
        EditingConfig(prompt="a", control=("deep",))
    assert depth_prior(settings["depth_prior"]).weights()[0] in Editing(**settings, control=("depth",)).files()
