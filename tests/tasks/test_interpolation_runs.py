"""Interpolation as a run: planned, bounded, resumed, with networks, on pictures, and refused."""

import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from vrestore import engine, interpolate
from vrestore.errors import ConfigError, PriorError
from vrestore.priors.interpolation import trusted
from vrestore.report import RunOptions
from vrestore.tasks.interpolation import Interpolation, InterpolationConfig


def test_a_dry_run_says_what_the_run_does(clips, tmp_path, tiny_between_prior, moving):
    source = clips.write(tmp_path / "in.mkv", np.concatenate([moving(6, seed=1) // 2, 255 - moving(7, seed=2) // 2]))
    task = Interpolation(fps="60", steps=2, prior=str(tiny_between_prior))
    plan = engine.plan_job(task, source, tmp_path / "out.mkv", RunOptions())
    result = engine.run(task, source, tmp_path / "out.mkv")
    assert (plan.frames, plan.fps, plan.output_frames, plan.output_fps) == (13, "25", 32, "60")
    assert (result.frames, result.fps) == (32, "60")
    assert plan.calls == result.calls
    assert plan.windows * 2 == plan.calls
    assert result.peak_live_latents <= plan.live_latents
    assert any("32 frames at 60 fps" in line for line in plan.lines())


def test_frames_held_do_not_grow_with_the_length(clips, tmp_path, moving):
    most = []
    for frames in (12, 30):
        source = clips.write(tmp_path / "in.mkv", moving(frames, step=1.0))
        job = engine.prepare(Interpolation(factor=3), source, None, RunOptions())
        prior = job.prior.load(job.device, job.dtype)
        held = []
        for _, walk in engine._walks(job, prior, engine.Clock(), engine.JobState()):
            held += [len(walk._entries) for restored in walk.ticks() for _ in restored]
        assert len(held) == 3 * frames
        most.append(max(held))
    assert most[0] == most[1] <= 5


@pytest.mark.parametrize("steps", [1, 3])
def test_a_killed_run_goes_on_to_the_same_bits(clips, tmp_path, tiny_between_prior, monkeypatch, steps, moving, planes):
    """At any finished frame; two shots, keys that are not shown, slots of several steps."""
    monkeypatch.setattr(engine, "SEGMENT_FRAMES", 5)
    monkeypatch.setattr(engine, "SHORTEST_SEGMENT", 1)
    pictures = np.concatenate([moving(6, seed=1) // 2, 255 - moving(6, seed=2) // 2])
    source = clips.write(tmp_path / "in.mkv", pictures)
    task = Interpolation(fps="60", steps=steps, fidelity=0.2, prior=str(tiny_between_prior))
    engine.run(task, source, tmp_path / "whole.mkv")
    expected = planes(tmp_path / "whole.mkv")
    assert len(expected) == 29
    for stop in (7, 16, 28):

        def halt(progress, stop=stop):
            if progress.done == stop:
                raise KeyboardInterrupt

        output = tmp_path / f"{stop}.mkv"
        with pytest.raises(KeyboardInterrupt):
            engine.run(task, source, output, RunOptions(progress=halt))
        engine.run(task, source, output, RunOptions(resume=True))
        assert planes(output) == expected


def test_a_process_that_is_killed_leaves_a_job_to_resume(clips, tmp_path, moving, planes):
    source = clips.write(tmp_path / "in.mkv", moving(26, step=1.0))
    output = tmp_path / "out.mkv"
    call = [sys.executable, "-m", "vrestore", "interpolate", str(source), "-o", str(output), "--quiet"]
    running = subprocess.Popen(call, env=os.environ | {"PYTHONPATH": os.getcwd()})
    while not (tmp_path / "out.mkv.vrestore" / "job.json").exists():
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not output.exists()
    result = interpolate(source, output, options=RunOptions(resume=True))
    assert result.frames == 52
    interpolate(source, tmp_path / "whole.mkv")
    assert planes(output) == planes(tmp_path / "whole.mkv")


def test_a_network_changes_what_lies_between_and_leaves_what_passes(clips, tmp_path, tiny_between_prior, moving):
    source = clips.write(tmp_path / "in.mkv", moving(3, step=3.0))
    flow, network = (
        torch.stack([one.frame for one in engine.stream(Interpolation(prior=prior), source)])
        for prior in ("flow", str(tiny_between_prior))
    )
    assert torch.equal(flow[[0, 2, 4, 5]], network[[0, 2, 4, 5]])
    assert (flow[[1, 3]] - network[[1, 3]]).abs().max() > 1e-3


def test_flow_counts_more_where_both_frames_agree():
    network, blend = torch.rand(2, 1, 3, 8, 8)
    doubted, agreed = (trusted(network, blend, torch.full((1, 1, 8, 8), share)) for share in (0.0, 1.0))
    assert torch.allclose(doubted, network)
    assert (agreed - blend).abs().mean() < 0.6 * (network - blend).abs().mean()


def test_a_prior_must_know_what_lies_between(tiny_prior, clips, tmp_path, moving):
    from vrestore import super_resolve

    source = clips.write(tmp_path / "in.mkv", moving(2))
    with pytest.raises(PriorError, match="does not make what is between two frames; name one that does, such as flow"):
        interpolate(source, tmp_path / "out.mkv", prior=str(tiny_prior))
    with pytest.raises(PriorError, match="and nothing else; name another one"):
        super_resolve(source, tmp_path / "out.mkv", prior="flow")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factor": 1}, "factor is 1; give 2 to 64"),
        ({"factor": 65}, "factor is 65"),
        ({"slowmo": 1.0}, "slowmo is 1.0; give more than 1"),
        ({"factor": 2, "fps": "60"}, "factor 2 is given beside fps or slowmo"),
        ({"fps": "many"}, "fps is 'many'; give a number"),
        ({"fps": "0"}, "fps is 0; give more than 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        InterpolationConfig(**settings)


def test_pictures_of_a_sequence(clips, tmp_path, moving):
    """``--fps`` is the output's rate, ``--input-fps`` the input's."""
    from vrestore.cli import main

    for n, picture in enumerate(moving(4)):
        cv2.imwrite(str(tmp_path / f"in.{n:04d}.png"), picture[..., ::-1])
    call = ["interpolate", str(tmp_path / "in.%04d.png"), "--input-fps", "12", "--fps", "24", "--quiet"]
    assert main([*call, "-o", str(tmp_path / "out.%04d.png")]) == 0
    assert len(list(tmp_path.glob("out.*.png"))) == 8
    assert main([*call, "-o", str(tmp_path / "out.mkv")]) == 0
    _, times = clips.read(tmp_path / "out.mkv")
    assert all(b - a == pytest.approx(Fraction(1, 24), abs=0.001) for a, b in pairwise(times))
    same = [cv2.imread(str(tmp_path / name)) for name in ("in.0001.png", "out.0002.png")]
    assert np.array_equal(*same)
