"""Memory: what is free, what is planned for it, and what happens when it runs out all the same."""

import json
import resource
import sys
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import ClassVar

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F

from vrestore import engine, preparing
from vrestore.device import _left_by_groups, free_bytes
from vrestore.errors import NotEnoughMemoryError, VRestoreError
from vrestore.memory import CALL_BUDGET, FREE_SHARE, MemoryPlan, Needs, is_out_of_memory, plan_memory, smaller
from vrestore.prior import PriorFacts
from vrestore.priors import FAMILIES, find_prior
from vrestore.priors.embedded import EmbeddedPrior
from vrestore.report import RunOptions
from vrestore.sampling import bridge_ladder
from vrestore.task import TaskConfig

GIB = 1 << 30


def needs(**changes):
    """A long Full HD shot for the embedded prior, as asked for by default."""
    asked = {"facts": EmbeddedPrior.facts, "latent": (135, 240), "source_pixels": 480 * 270, "frames": 1000, "steps": 1}
    asked |= {"window": 16, "overlap": 4, "tile": None, "fixed_bytes": 500_000_000}
    return Needs(**(asked | {"keep_window": False, "batches": False} | changes))


# ---------------------------------------------------------------- the plan


def test_with_ample_memory_the_plan_is_what_was_asked_for():
    assert plan_memory(100 * GIB, needs(latent=(60, 90))) == MemoryPlan(window=16, overlap=4, tile=None, batch=1)


def test_more_memory_than_a_call_may_take_changes_nothing():
    """The plan decides the bits: machines that are large enough agree."""
    assert len({plan_memory(gib * GIB, needs()) for gib in (6, 12, 100, 1000)}) == 1


@pytest.mark.parametrize("latent", [(16, 16), (60, 90), (135, 240), (270, 480)])
@pytest.mark.parametrize("steps", [1, 4])
def test_what_is_planned_fits_wherever_anything_does(latent, steps):
    asked = needs(latent=latent, steps=steps)
    least = min(asked.peak_bytes(plan) for plan in asked.plans())
    sizes = []
    for free in (least, 1.3 * least, 2 * least, 4 * least, 20 * least):
        plan = plan_memory(int(free), asked)
        sizes.append((plan.window, plan.tile or max(latent)))
        if least <= free * FREE_SHARE:
            assert asked.peak_bytes(plan) <= free * FREE_SHARE
    assert sizes == sorted(sizes), "more memory, but a smaller plan"


def test_tiles_become_smaller_before_windows_become_shorter():
    plans = list(needs().plans())
    assert [plan.window for plan in plans] == sorted((plan.window for plan in plans), reverse=True)
    assert {plan.window for plan in plans} == {16, 8, 6}
    first = [plan.tile for plan in plans if plan.window == 16]
    assert first == sorted(first, reverse=True)
    assert len(first) > 1


def test_tiles_smaller_than_help_are_not_planned():
    """A frame is decoded whole: once a call takes less than that, smaller tiles cost time and save nothing."""
    asked = needs(latent=(540, 960))
    assert asked.frame_bytes > CALL_BUDGET
    plan = plan_memory(GIB, asked)
    assert asked.call_bytes(plan) <= CALL_BUDGET < asked.call_bytes(replace(plan, tile=plan.tile + 2))


def test_what_was_asked_for_by_name_stays():
    assert {plan.window for plan in needs(window=24, keep_window=True).plans()} == {24}
    assert {plan.tile for plan in needs(tile=256).plans()} == {32}
    assert plan_memory(1, needs(window=24, keep_window=True, tile=256)).window == 24


def test_batches_where_the_device_gains_from_them():
    asked = needs(latent=(60, 90), steps=4, batches=True)
    whole = MemoryPlan(window=16, overlap=4, tile=None, batch=1)
    for batch in (1, 2, 3):
        free = asked.peak_bytes(replace(whole, batch=batch)) / FREE_SHARE + 10
        assert plan_memory(int(free), asked) == replace(whole, batch=batch)
    assert plan_memory(100 * GIB, asked).batch == 4  # no more than there are calls in a tick
    assert plan_memory(100 * GIB, replace(asked, steps=20)).batch == 8


def test_smaller_and_smaller_comes_to_an_end():
    asked, plan, tried = needs(), MemoryPlan(window=16, overlap=4, tile=None, batch=4), []
    while plan is not None:
        tried.append((plan.batch, plan.tile))
        plan = smaller(plan, asked)
    assert tried == [(4, None), (1, None), (1, 120), (1, 60), (1, 30), (1, 16)]


# ---------------------------------------------------------------- the machine


def group(root, version, path, limit, usage, cache=0):
    """A control group's files, as the kernel shows them."""
    names = {1: ("limit_in_bytes", "usage_in_bytes", "total_inactive_file"), 2: ("max", "current", "inactive_file")}
    folder = root / "sys/fs/cgroup" / ("memory" if version == 1 else ".") / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"memory.{names[version][0]}").write_text(f"{limit}\n")
    (folder / f"memory.{names[version][1]}").write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[version][2]} {cache}\n")


def own_groups(root, *lines):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("\n".join(lines) + "\n")


def test_limits_of_control_groups_count(tmp_path):
    own_groups(tmp_path, "0::/users/one")
    group(tmp_path, 2, "users/one", "max", 700)
    group(tmp_path, 2, "users", 5000, 3000, cache=600)
    assert _left_by_groups(tmp_path) == [2600]


def test_limits_of_control_groups_of_the_first_version_count(tmp_path):
    own_groups(tmp_path, "5:cpu:/", "4:memory:/docker/of-the-host", "0::/")
    group(tmp_path, 1, ".", 4000, 1000, cache=500)  # a container sees its own group as the top
    assert _left_by_groups(tmp_path) == [3500]


def test_without_control_groups_nothing_is_limited(tmp_path):
    assert _left_by_groups(tmp_path) == []


def test_a_limit_of_the_address_space_counts():
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (300 << 20), limits[1]))
    try:
        free = free_bytes(torch.device("cpu"))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert 200 << 20 < free <= 300 << 20 < free_bytes(torch.device("cpu"))


def raised_by(function):
    with pytest.raises(Exception) as caught:  # noqa: PT011  any kind: that is what is asked
        function()
    return caught.value


def test_what_running_out_of_memory_looks_like():
    import cv2

    huge = 1 << 55
    assert is_out_of_memory(raised_by(lambda: torch.empty(huge)))
    assert is_out_of_memory(raised_by(lambda: np.empty(huge)))
    assert is_out_of_memory(raised_by(lambda: bytearray(huge)))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(RuntimeError("std::bad_alloc"))
    assert not is_out_of_memory(raised_by(lambda: torch.ones(2) + torch.ones(3)))
    assert not is_out_of_memory(raised_by(lambda: cv2.cvtColor(np.zeros(3), 0)))
    assert not is_out_of_memory(VRestoreError("memory of a file"))


# ---------------------------------------------------------------- runs that run out

SIZE = (160, 256)
FRAMES = 14


class TightPrior:
    """Cheap, and other in tiles: a prediction sees the mean of its window and tile. Runs out of memory for more than
    ``limit`` latent pixels in a call, after ``spared`` calls."""

    facts = PriorFacts(
        name="tight", licence="Apache-2.0", window=5, per_frame_levels=True, latent_channels=3, spatial_factor=8,
        temporal_factor=1, size_multiple=16, conditionings=frozenset({"degraded_latents"}), call_bytes=100,
        frame_bytes=100,
    )  # fmt: skip
    limit, spared = 1 << 60, 0
    sizes: ClassVar[list] = []

    def __init__(self, device):
        self.device = device

    @classmethod
    def from_pretrained(cls, folder, device, dtype):
        return cls(device)

    def ladder(self, steps):
        return bridge_ladder(steps, spread=0.0)

    def encode(self, frames):
        return F.avg_pool2d(frames, 8)

    def decode(self, latents, conditioning):
        change = latents - self.encode(conditioning["degraded"])
        return conditioning["degraded"] + F.interpolate(change, scale_factor=8)

    def conditions(self, frames):
        for frame in frames:
            yield {"degraded": frame, "degraded_latents": self.encode(frame[None])[0]}

    def surroundings(self, before, here, after):
        return {}

    def predict(self, latents, times, conditioning, attend=None):
        batch, _, _, height, width = latents.shape
        self.sizes.append((batch, height, width))
        if batch * height * width > self.limit and len(self.sizes) > self.spared:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return 0.9 * latents + 0.1 * latents.mean((1, 3, 4), keepdim=True)


@dataclass(frozen=True, kw_only=True)
class AsTheyAreConfig(TaskConfig):
    pass


class AsTheyAre:
    """The prior's frames, nothing else."""

    name, summary, config_type = "as_they_are", "", AsTheyAreConfig

    def __init__(self, **settings):
        self.config = AsTheyAreConfig(**settings)

    def output_size(self, height, width):
        return height, width

    def degraded(self, source):
        return source

    def finish(self, restored, source, *, exact):
        return restored.clamp(0, 1)

    def consistency_db(self, output, source):
        return 100.0


@pytest.fixture
def head(memory, tmp_path_factory):
    """The tight prior's own frames: whole pictures, or six tiles of 128."""
    folder = tmp_path_factory.mktemp("prior")
    (folder / "model_index.json").write_text('{"_class_name": "TightPrior"}')
    defaults = {"window": 5, "overlap": 2, "prior": str(folder), "device": "cpu", "dtype": "float32"}
    return lambda **settings: AsTheyAre(**defaults | settings)


@pytest.fixture
def film(clips, tmp_path):
    return clips.write(tmp_path / "film.mkv", clips.scene(FRAMES, SIZE))


@pytest.fixture
def memory(monkeypatch):
    """The tight prior, which tests make tighter."""
    prior = type("TightPrior", (TightPrior,), {"sizes": []})
    module = ModuleType("tight_prior")
    module.TightPrior = prior
    monkeypatch.setitem(sys.modules, "tight_prior", module)
    monkeypatch.setitem(FAMILIES, "TightPrior", "tight_prior")
    monkeypatch.setattr(engine, "SEGMENT_FRAMES", 3)
    return prior


def frames_of(clips, path):
    return clips.read(path)[0]


def test_a_run_that_does_not_fit_goes_on_in_tiles(head, film, clips, tmp_path, memory, caplog):
    engine.run(head(tile=128), film, tmp_path / "tiled.mkv")
    memory.limit = 16 * 16
    engine.run(head(), film, tmp_path / "out.mkv")
    assert np.array_equal(frames_of(clips, tmp_path / "out.mkv"), frames_of(clips, tmp_path / "tiled.mkv"))
    assert caplog.messages == ["memory ran out: going on with 6 tiles, calls one by one, from the last checkpoint"]


def test_what_was_finished_stays_and_the_rest_is_made_in_tiles(head, film, clips, tmp_path, memory):
    whole, tiled = (
        frames_of(clips, engine.run(head(tile=tile), film, tmp_path / f"{tile}.mkv").output) for tile in (None, 128)
    )
    memory.limit, memory.spared = 16 * 16, len(memory.sizes) + 2  # two windows of six frames
    result = engine.run(head(), film, tmp_path / "out.mkv")
    found = frames_of(clips, tmp_path / "out.mkv")
    same = [(found == other).all((1, 2, 3)) for other in (whole, tiled)]
    assert same[0][:6].all()
    assert same[1][9:].all()
    assert not same[0][9:].any()
    assert (result.frames, len(found)) == (FRAMES, FRAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["128.mkv", "None.mkv", "film.mkv", "out.mkv"]


def test_a_smaller_plan_outlives_a_kill(head, film, clips, tmp_path, memory):
    memory.limit, memory.spared = 16 * 16, 2
    engine.run(head(), film, tmp_path / "undisturbed.mkv")

    def stop(now):
        if now.done == 11:
            raise KeyboardInterrupt

    memory.sizes.clear()
    with pytest.raises(KeyboardInterrupt):
        engine.run(head(), film, tmp_path / "out.mkv", RunOptions(progress=stop))
    memory.limit = 1 << 60
    engine.run(head(), film, tmp_path / "out.mkv", RunOptions(resume=True))
    assert np.array_equal(*(frames_of(clips, tmp_path / f"{name}.mkv") for name in ("out", "undisturbed")))


def test_a_job_goes_on_as_it_was_planned_where_less_is_free(head, film, clips, tmp_path, memory, monkeypatch, caplog):
    expected = engine.run(head(), film, tmp_path / "undisturbed.mkv").output

    def stop(now):
        if now.done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run(head(), film, tmp_path / "out.mkv", RunOptions(progress=stop))
    monkeypatch.setattr(preparing, "free_bytes", lambda device: 1 << 20)
    monkeypatch.setattr(preparing, "plan_memory", lambda free, needs: MemoryPlan(window=5, overlap=2, tile=16, batch=1))
    assert engine.plan_job(head(), film, tmp_path / "out.mkv", RunOptions()).tile == 128
    engine.run(head(), film, tmp_path / "out.mkv", RunOptions(resume=True))
    assert np.array_equal(frames_of(clips, tmp_path / "out.mkv"), frames_of(clips, expected))
    assert "1 MiB of memory are free on cpu, and this run takes about" in caplog.text


def test_where_nothing_smaller_is_left_it_ends_in_one_line(head, film, tmp_path, memory):
    memory.limit = 100
    with pytest.raises(NotEnoughMemoryError, match=r"memory ran out \(CUDA out of memory.*--window smaller than 5"):
        engine.run(head(), film, tmp_path / "out.mkv")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mkv"]
    memory.spared = len(memory.sizes) + 2
    with pytest.raises(NotEnoughMemoryError):
        engine.run(head(), film, tmp_path / "out.mkv")
    assert json.loads((tmp_path / "out.mkv.vrestore/job.json").read_text())["state"]["frames"] == 6


def test_a_stream_and_a_still_shrink_too(head, film, clips, tmp_path, memory):
    expected = [r.frame for r in engine.stream(head(tile=128), film)]
    memory.limit, memory.spared = 16 * 16, len(memory.sizes) + 2
    streamed = [r.frame for r in engine.stream(head(), film)]
    assert [torch.equal(*pair) for pair in zip(streamed, expected, strict=True)] == [False] * 6 + [True] * 8
    engine.run(head(), film, tmp_path / "one.png", RunOptions(end="1"))
    assert frames_of(clips, tmp_path / "one.png").shape == (1, 160, 256, 3)


def test_a_batch_that_does_not_fit_is_halved_where_it_stands(head, clips, tmp_path, memory, caplog):
    film = clips.write(tmp_path / "small.mkv", clips.scene(FRAMES, (32, 48)))
    task = head(steps=8, window=3, overlap=1)
    planned = preparing.prepare(task, film, None, RunOptions())
    prior = find_prior(task.config.prior).load(planned.device, planned.dtype)
    results = []
    for batch in (1, 4):
        memory.limit = 1 << 60 if batch == 1 else 2 * 4 * 6
        planned = replace(planned, memory=replace(planned.memory, batch=batch))
        walks = engine._walks(planned, prior, engine.Clock(), engine.JobState())
        memory.sizes.clear()
        results.append(torch.stack([r.frame for _, walk in walks for group in walk.ticks() for r in group]))
    assert torch.allclose(*results, atol=1e-4)
    tried = [batch for batch, _, _ in memory.sizes]
    assert max(tried[tried.index(max(tried)) + 1 :]) == 2, "half, from then on"
    assert caplog.messages == ["memory ran out: 2 calls of the prior together from now on"]


def test_a_dry_run_tells_the_plan_and_warns(head, film, tmp_path, monkeypatch, caplog):
    plan = engine.plan_job(head(), film, tmp_path / "out.mkv", RunOptions())
    assert plan.peak_bytes <= plan.free_bytes * FREE_SHARE
    assert asdict(plan) | {"window": 5, "overlap": 2, "tile": None, "batch": 1, "tiles": 1} == asdict(plan)
    assert any("MiB that are free" in line for line in plan.lines())
    assert not caplog.messages
    monkeypatch.setattr(preparing, "free_bytes", lambda device: 1 << 20)
    assert engine.plan_job(head(tile=192), film, tmp_path / "out.mkv", RunOptions()).tile == 192
    assert "it may run out" in caplog.text


def test_a_long_window_that_does_not_fit_becomes_shorter_and_says_so(head, clips, tmp_path, monkeypatch, caplog):
    source = clips.write(tmp_path / "long.mkv", clips.scene(30, (16, 16)))
    plan = engine.plan_job(head(window=16, overlap=4), source, tmp_path / "out.mkv", RunOptions())
    assert plan.window == 16
    monkeypatch.setattr(preparing, "free_bytes", lambda device: int(1.2 * plan.peak_bytes))
    plan = engine.plan_job(head(window=16, overlap=4), source, tmp_path / "out.mkv", RunOptions())
    assert 5 <= plan.window < 16
    assert f"windows of {plan.window} frames instead of 16" in caplog.text


def test_a_window_that_was_asked_for_stays_and_says_what_it_takes(head, clips, tmp_path, monkeypatch, caplog):
    """Also where it is the usual one: only who asks knows that it was meant."""
    source = clips.write(tmp_path / "long.mkv", clips.scene(30, (16, 16)))
    task, asked = head(window=16, overlap=4), RunOptions(held=frozenset({"window"}))
    monkeypatch.setattr(preparing, "free_bytes", lambda device: 1 << 10)
    assert engine.plan_job(task, source, tmp_path / "out.mkv", asked).window == 16
    assert "it may run out; end other programs, or give a smaller --window (16)" in caplog.text
    assert engine.plan_job(task, source, tmp_path / "out.mkv", RunOptions()).window < 16
