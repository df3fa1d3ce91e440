"""What every head must do, whatever it restores: one suite over all of them."""

from dataclasses import MISSING, asdict, fields, replace
from fractions import Fraction
from importlib import import_module
from typing import get_type_hints

import numpy as np
import pytest
import torch

from vrestore import cli, engine
from vrestore.errors import ConfigError
from vrestore.mapping import Maps
from vrestore.report import RunOptions
from vrestore.task import Edits, Retimes, Task, TaskConfig
from vrestore.tasks import MAKERS, TASKS

WINDOW = 5
OVERLAP = 2
EDITING = {"prompt": "a stone", "steps": 2, "strength": 0.5}
RESTORING = [name for name in TASKS if name not in ("edit", "depth")]
"""Heads whose output shows what the input shows."""


@pytest.fixture(params=TASKS)
def kind(request):
    """The class of a head."""
    module, _, name = {**TASKS, **MAKERS}[request.param].partition(":")
    return getattr(import_module(module), name)


@pytest.fixture
def task(kind, tiny_prior, tiny_between_prior, tiny_edit, tiny_depth_prior):
    """A head with small windows on the tiny prior."""
    edits = hasattr(kind, "direct")
    prior = tiny_between_prior if hasattr(kind, "retiming") else tiny_edit if edits else tiny_prior
    prior = tiny_depth_prior if hasattr(kind, "seen_size") else prior
    config = replace(
        kind.config_type(), window=WINDOW, overlap=OVERLAP, prior=str(prior), device="cpu", dtype="float32",
        **(EDITING if edits else {}),
    )  # fmt: skip
    return kind(config)


def times_of(task, times):
    """When the frames of an output are shown, for a source at 25 frames per second: twice as often if it retimes."""
    if not isinstance(task, Retimes):
        return times
    return [time + part * Fraction(1, 50) for time in times for part in (0, 1)]


def streamed(task, source, **options):
    return torch.stack([r.frame for r in engine.stream(task, source, RunOptions(**options))])


def test_a_head_is_a_task(kind):
    task = kind(kind.config_type())
    assert isinstance(task, Task)
    assert issubclass(kind.config_type, TaskConfig)
    assert TASKS[kind.name].endswith(f":{kind.__name__}")
    assert kind.summary.endswith(".")
    assert "\n" not in kind.summary


@pytest.mark.parametrize("kind", [*TASKS, *MAKERS], indirect=True)
def test_the_config_survives_a_round_trip(kind):
    more = {"fidelity": 0.75} if hasattr(kind.config_type, "fidelity") else {}
    config = replace(kind.config_type(), steps=3, seed=7, **more)
    assert kind.config_type(**asdict(config)) == config
    assert kind(config).config == config


@pytest.mark.parametrize("kind", [*TASKS, *MAKERS], indirect=True)
def test_every_setting_has_a_default_and_a_help_text(kind):
    hints = get_type_hints(kind.config_type, include_extras=True)
    for field in fields(kind.config_type):
        assert field.default is not MISSING
        (text,) = hints[field.name].__metadata__
        assert text.endswith(".") or "..." in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("steps", 1001), ("fidelity", -0.1), ("fidelity", 1.1), ("fidelity", float("nan")), ("seed", -1),
        ("seed", 1 << 64), ("window", 0), ("overlap", 16), ("overlap", -1), ("tile", 127), ("dtype", "float8"),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_named(kind, name, value):
    config = kind.config_type()
    object.__setattr__(config, name, value)  # past the types, which only tests check
    with pytest.raises(ConfigError, match=rf"^{name} is .*; give "):
        config.__post_init__()


@pytest.mark.parametrize("kind", [*TASKS, *MAKERS], indirect=True)
def test_the_command_shows_every_setting(kind, capsys):
    assert cli.main([kind.name, "-h"]) == 0
    out = capsys.readouterr().out
    for field in fields(kind.config_type):
        assert f"--{field.name.replace('_', '-')}" in out


@pytest.mark.parametrize("frames", [1, WINDOW - 1, WINDOW, 2 * (WINDOW - OVERLAP) + WINDOW + 1])
def test_any_length_and_odd_sizes(task, clips, tmp_path, frames):
    """One frame, fewer than a window, one window, and one frame more than windows cover evenly."""
    source = clips.write(tmp_path / "in.mkv", clips.scene(frames, (17, 33)))
    restored = streamed(task, source)
    assert restored.shape == (len(times_of(task, range(frames))), 3, *task.output_size(17, 33))
    assert restored.dtype == torch.float32
    assert restored.min() >= 0
    assert restored.max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 2), (16, 16)])
def test_any_size(task, clips, tmp_path, size):
    source = clips.write(tmp_path / "in.mkv", clips.scene(2, size))
    assert streamed(task, source).shape == (len(times_of(task, range(2))), 3, *task.output_size(*size))


@pytest.mark.parametrize("lossless", [True, False], ids=["mkv", "mp4"])
def test_size_and_count_of_the_file(task, clips, tmp_path, lossless):
    suffix = ".mkv" if lossless else ".mp4"
    source = clips.write(tmp_path / f"in{suffix}", clips.scene(6, (17, 33)), lossless=lossless)
    result = engine.run(task, source, tmp_path / f"out{suffix}")
    frames, times = clips.read(tmp_path / f"out{suffix}")
    height, width = task.output_size(17, 33)
    expected = times_of(task, clips.read(source)[1])
    assert frames.shape == (len(expected), height, width, 3)
    assert times == expected
    assert (result.height, result.width) == (height, width)


@pytest.mark.parametrize(("fidelity", "steps"), [(0.0, 3), (0.5, 1), (1.0, 2)])
def test_twice_the_same(kind, task, clips, tmp_path, fidelity, steps):
    source = clips.write(tmp_path / "in.mkv", clips.scene(7, (16, 24)))
    config = replace(task.config, fidelity=fidelity, steps=steps)
    assert torch.equal(streamed(kind(config), source), streamed(kind(config), source))


def test_the_seed_counts_where_the_sampler_draws(kind, task, clips, tmp_path):
    source = clips.write(tmp_path / "in.mkv", clips.scene(3, (16, 24)))
    open_to_all = {"protect": False} if hasattr(task.config, "protect") else {}  # a tiny prior's answer is no sharper
    config = replace(task.config, fidelity=0.0, steps=3, **open_to_all)
    drawn = [streamed(kind(replace(config, seed=seed)), source) for seed in (0, 1)]
    still = [streamed(kind(replace(task.config, fidelity=0.5, steps=3, seed=seed)), source) for seed in (0, 1)]
    assert not torch.equal(*drawn)
    assert torch.equal(*still) != isinstance(task, Edits | Maps)  # these begin with noise


@pytest.mark.parametrize("kind", RESTORING, indirect=True)
@pytest.mark.parametrize(("value", "most"), [(0, 2), (128, 0.5), (255, 2)])
def test_a_flat_picture_keeps_its_colour(task, clips, tmp_path, value, most):
    """To half an 8-bit level; at the ends of the range a random prior's errors are cut off on one side: to two."""
    flat = np.full((1, 16, 16, 3), value, np.uint8)
    restored = streamed(task, clips.write(tmp_path / "in.mkv", flat))
    assert (restored.mean() * 255 - value).abs() < most


@pytest.mark.parametrize("kind", [name for name in TASKS if name != "depth"], indirect=True)
def test_consistency_is_bounded(task):
    source = torch.rand(3, 16, 16)
    flat = torch.full_like(source, 100 / 255)
    assert task.consistency_db(task.degraded(flat), flat) == pytest.approx(100)
    assert task.consistency_db(task.degraded(source), 1 - source) < 20
