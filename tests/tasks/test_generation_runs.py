"""Generation as a job: resumed, in pictures, as a command, planned, refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vrestore import cli, engine
from vrestore.errors import ConfigError, OutputError, VRestoreError
from vrestore.maker import make
from vrestore.preset import from_preset
from vrestore.priors import PriorSource
from vrestore.report import MakeOptions
from vrestore.tasks.generation import Generation, GenerationConfig, generate
from vrestore.video import probe

ROOT = Path(__file__).parents[2]


def options(usual):
    return [part for name, value in usual.items() for part in (f"--{name.replace('_', '-')}", str(value))]


# ---------------------------------------------------------------- the job


def test_an_interrupted_job_goes_on_to_the_same_bits(usual, tmp_path, clips, monkeypatch):
    monkeypatch.setattr(engine, "SEGMENT_FRAMES", 4)
    monkeypatch.setattr(engine, "SHORTEST_SEGMENT", 1)
    task = Generation(**usual, frames=19, plan="chunks")
    make(task, tmp_path / "whole.mkv")

    def stop(now):
        if now.done == 12:
            raise KeyboardInterrupt

    out = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        make(task, out, MakeOptions(progress=stop))
    assert not out.exists()
    with pytest.raises(VRestoreError, match="belongs to another job: seed was 0, is 1"):
        make(Generation(task.config, seed=1), out, MakeOptions(resume=True))
    told = []
    make(task, out, MakeOptions(resume=True, progress=told.append))
    assert told[0].done > 4
    assert (told[-1].done, told[-1].total) == (19, 19)
    assert np.array_equal(clips.read(out)[0], clips.read(tmp_path / "whole.mkv")[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mkv", "whole.mkv"]


def test_pictures_and_sequences(usual, tmp_path, clips):
    generate(tmp_path / "one.png", **usual, frames=1)
    generate(tmp_path / "shot.%03d.png", **usual, frames=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", *(f"shot.{n:03d}.png" for n in (1, 2, 3))]
    frames = torch.stack(list(Generation(**usual, frames=3).stream()))
    found = clips.read(tmp_path / "shot.%03d.png")[0]
    assert np.array_equal(found, np.rint(frames.permute(0, 2, 3, 1).numpy() * 255))
    with pytest.raises(ConfigError, match="is one picture, but 3 frames are asked for"):
        generate(tmp_path / "two.png", **usual, frames=3)
    with pytest.raises(ConfigError, match="cannot be resumed; leave --resume out"):
        generate(tmp_path / "two.png", **usual, frames=1, options=MakeOptions(resume=True))
    with pytest.raises(OutputError, match="exists; remove it"):
        generate(tmp_path / "one.png", **usual, frames=1, options=MakeOptions(overwrite=False))


# ---------------------------------------------------------------- the command


def test_the_command_as_a_process(usual, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "vrestore",
        "generate",
        "-o",
        "out.mp4",
        "--frames",
        "4",
        *options(usual),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["frames"], found["fps"], found["width"], found["height"]) == (4, "8", 32, 32)
    assert "plan     keyframes: 4 latents, at most 4 in a call, 2 steps" in done.stderr, "said before it runs"
    assert "generate: 4/4 frames" in done.stderr
    info = probe(tmp_path / "out.mp4")
    assert (info.frames, info.fps, info.codec) == (4, 8, "h264")
    record = json.loads((tmp_path / "out.mp4.vrestore.json").read_text())
    assert record["settings"]["generate"]["prompt"] == "a stone"
    assert record["origins"]["generate"]["steps"] == "flag"
    assert record["result"]["job"]
    task, made_options = from_preset(tmp_path / "out.mp4.vrestore.json", Generation, frames=4)
    assert task.config == GenerationConfig(**usual, frames=4)
    assert isinstance(made_options, MakeOptions)


def test_a_dry_run_loads_and_writes_nothing(usual, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(PriorSource, "load", None)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["generate", "-o", "out.mp4", "--frames", "1440", *options(usual), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "output   out.mp4: 32x32, 1440 frames at 8 fps, libx264 yuv420p" in out
    assert "in sequence" in out
    assert "streaming" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--prompt", "a"], 2, "Missing option '-o'"),
        (["-o", "out.mp4"], 2, "nothing says what the prior"),
        (["-o", "out.mp4", "--prompt", "a", "--plan", "spiral"], 2, "'spiral' is not one of"),
        (["-o", "out.avi", "--prompt", "a"], 2, "output suffix .avi is not one of"),
        (["-o", "no/where/out.mp4", "--prompt", "a"], 1, "the folder no/where does not exist"),
        (["-o", "out.mp4", "--timeline", "none.toml"], 2, "none.toml does not exist"),
        (["-o", "out.mp4", "--prompt", "a", "--from", "none.mp4"], 2, "none.mp4"),
        (["-o", "out.mp4", "--prompt", "a", "--first", "none.png"], 2, "none.png"),
        (["-o", "out.mp4", "--prompt", "a", "--prior", "depth"], 1, "the prior depth makes nothing anew"),
        (["-o", "out.mp4", "--prompt", "a", "--codec", "prores"], 2, ".mp4 does not hold prores"),
    ],
)
def test_bad_input_lines(generation_folder, tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    prior = [] if "--prior" in arguments else ["--prior", str(generation_folder)]
    assert cli.main(["generate", *arguments, *prior]) == code
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_presets_and_the_resolved_settings(usual, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.toml").write_text('[generate]\nprompt = "a stone"\nplan = "chunks"\n[common]\nsteps = 3\n')
    assert cli.main(["generate", "--preset", "film.toml", "--print-config"]) == 0
    out = capsys.readouterr().out
    assert 'plan = "chunks"  # film.toml' in out
    assert "steps = 3  # film.toml" in out
    (tmp_path / "film.toml").write_text('[generate]\nstart = "5"\n')
    assert cli.main(["generate", "--preset", "film.toml", "--print-config"]) == 2
    assert "[generate] start is no setting" in capsys.readouterr().err
