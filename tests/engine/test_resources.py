"""Memory, batches, tiles, and what was planned."""

import pytest
import torch

from vrestore import engine
from vrestore.preparing import prepare
from vrestore.priors import find_prior
from vrestore.report import RunOptions

SHOTS = ((0, 9), (9, 22))


@pytest.mark.parametrize("steps", [1, 3])
def test_live_latents_do_not_grow_with_the_length(head, clips, tmp_path, steps):
    peaks = []
    for frames in (24, 48):
        source = clips.write(tmp_path / f"{frames}.mkv", clips.scene(frames, (16, 16)))
        task = head(steps=steps)
        result = engine.run(task, source, tmp_path / "out.mkv")
        plan = engine.plan_job(task, source, tmp_path / "out.mkv", RunOptions())
        assert result.peak_live_latents <= plan.live_latents < 24
        peaks.append(result.peak_live_latents)
    assert peaks[0] == peaks[1]


def test_frames_held_do_not_grow_with_the_length(head, clips, tmp_path):
    """The conditioning of a frame is forgotten with its latent."""
    source = clips.write(tmp_path / "long.mkv", clips.scene(40, (16, 16)))
    task = head()
    job = prepare(task, source, None, RunOptions())
    prior = find_prior(task.config.prior).load(job.device, job.dtype)
    held = []
    for _, walk in engine._walks(job, prior, engine.Clock(), engine.JobState()):
        for restored in walk.ticks():
            for _ in restored:
                held.append(len(walk._entries))
    assert len(held) == 40
    assert max(held) <= job.plan(40).live_bound


@pytest.mark.parametrize("settings", [{}, {"steps": 3}, {"tile": 128, "scale": 4, "size": "160x136"}])
def test_a_dry_run_says_what_the_run_does(head, film, tmp_path, watched, settings, left_over):
    output, task = tmp_path / "out.mkv", head(**settings)
    plan = engine.plan_job(task, film, output, RunOptions())
    assert left_over(tmp_path) == []
    assert watched.calls == 0
    result = engine.run(task, film, output)
    assert plan.calls == result.calls == watched.calls
    assert result.peak_live_latents <= plan.live_latents
    assert plan.output_size == (result.width, result.height)
    assert plan.frames == result.frames
    assert plan.shots == SHOTS
    assert any("22 frames" in line for line in plan.lines())
    assert plan.tiles == (4 if "tile" in settings else 1)


def test_batches_change_nothing_that_matters(head, film):
    task = head(steps=4, fidelity=0.1)
    job = prepare(task, film, None, RunOptions())
    prior = find_prior(task.config.prior).load(job.device, job.dtype)
    results = []
    for batch in (1, 3):
        frames = []
        for _, walk in engine._walks(job, prior, engine.Clock(), engine.JobState()):
            walk.executor.batch = batch
            frames += [r.frame for restored in walk.ticks() for r in restored]
        results.append(torch.stack(frames))
    assert torch.allclose(*results, atol=1e-4)


def test_tiles_are_close_to_the_whole_picture(head, clips, tmp_path):
    source = clips.write(tmp_path / "wide.mkv", clips.scene(3, (48, 96)))
    whole, tiled = (
        torch.stack([r.frame for r in engine.stream(head(scale=4, tile=tile), source)]) for tile in (None, 192)
    )
    assert not torch.equal(whole, tiled)
    assert (whole - tiled).abs().max() < 0.02


def test_windows_are_no_longer_than_the_shots_when_tiles_are_chosen(head, clips, tmp_path):
    """A still, or a short clip, is not cut into tiles because a long window would not fit."""
    source = clips.write(tmp_path / "short.mkv", clips.scene(2, (64, 64)))
    assert engine.plan_job(head(window=100_000, overlap=4), source, tmp_path / "o.mkv", RunOptions()).tiles == 1
