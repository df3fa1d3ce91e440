"""Editing as a run: files beside the output, resumed, planned, in a batch, and as a process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vrestore import BatchConfig, cli, edit, engine, run_batch
from vrestore.checkpoint import JobFolder
from vrestore.plan import CrossWindow
from vrestore.priors import prior_of
from vrestore.report import RunOptions
from vrestore.tasks.editing import Editing, EditingConfig

ROOT = Path(__file__).parents[2]
SIZE = (24, 40)


def test_files_beside_the_output_show_what_was_used(settings, clips, tmp_path, half_mask):
    film = clips.write(tmp_path / "in.mkv", clips.scene(7, SIZE), pts=[0, 1, 2, 5, 6, 9, 10], audio=True)
    mask = half_mask(tmp_path / "mask.mkv", 7)
    result = edit(
        film, tmp_path / "out.mkv", **settings, mask=(str(mask),), feather=0, control=("tile",), save_control=True,
        save_mask=True, side_by_side=True,
    )  # fmt: skip
    assert {name: Path(path).name for name, path in result.beside.items()} == {
        "control-tile": "out_control-tile.mkv", "mask": "out_mask.mkv", "side-by-side": "out_side-by-side.mkv"
    }  # fmt: skip
    source, times = clips.read(film)
    output, _ = clips.read(tmp_path / "out.mkv")
    read = {name: clips.read(path) for name, path in result.beside.items()}
    assert all(found[1] == times for found in read.values())
    assert np.array_equal(read["control-tile"][0], source)
    assert np.array_equal(read["mask"][0], clips.read(mask)[0])
    row = read["side-by-side"][0]
    width = SIZE[1]
    assert row.shape[2] == 3 * width + 8
    assert np.array_equal(row[:, :, :width], source)
    assert np.array_equal(row[:, :, width + 4 : 2 * width + 4], source)
    assert np.array_equal(row[:, :, 2 * width + 8 :], output)
    assert clips.audio_packets(result.beside["mask"]) == clips.audio_packets(film)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["in.mkv", "mask.mkv", "out.mkv", "out_control-tile.mkv", "out_mask.mkv", "out_side-by-side.mkv"]
    )


def test_a_still_and_a_sequence_have_files_beside_them(settings, clips, tmp_path):

    cv2.imwrite(str(tmp_path / "in.png"), clips.scene(1, SIZE)[0])
    edit(tmp_path / "in.png", tmp_path / "out.png", **settings, save_control=True)
    assert cv2.imread(str(tmp_path / "out_control-tile.png")).shape == (*SIZE, 3)
    film = clips.write(tmp_path / "in.mkv", clips.scene(3, SIZE))
    edit(film, tmp_path / "s.%03d.png", **settings, side_by_side=True)
    assert len(list(tmp_path.glob("s_side-by-side.*.png"))) == len(list(tmp_path.glob("s.*.png"))) == 3


@pytest.mark.parametrize("overlap", [2, 0])
def test_a_resumed_edit_has_the_same_bits_in_every_file(settings, clips, tmp_path, monkeypatch, overlap, half_mask):
    monkeypatch.setattr(engine, "SEGMENT_FRAMES", 3)
    monkeypatch.setattr(engine, "SHORTEST_SEGMENT", 1)
    film = clips.write(tmp_path / "in.mkv", clips.scene(14, SIZE))
    mask = half_mask(tmp_path / "mask.mkv", 14)
    settings |= {"control": ("softedge",), "mask": (str(mask),), "save_control": True, "side_by_side": True}
    settings |= {"overlap": overlap}
    settings |= {"fidelity": 0.2, "steps": 3, "strength": 1.0, "source_prompt": "a stone", "inversion": "ddim"}
    whole = edit(film, tmp_path / "whole.mkv", **settings)
    saved = JobFolder.save
    count = 0

    def stopping(self, *arguments):
        nonlocal count
        saved(self, *arguments)
        count += 1
        if count == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "save", stopping)
        with pytest.raises(KeyboardInterrupt):
            edit(film, tmp_path / "cut.mkv", **settings)
    assert not list(tmp_path.glob("cut*.mkv"))
    cut = edit(film, tmp_path / "cut.mkv", **settings, options=RunOptions(resume=True))
    for name in ("", *whole.beside):
        paths = [Path(one.beside[name] if name else one.output) for one in (whole, cut)]
        assert np.array_equal(*(clips.read(path)[0] for path in paths))


def test_windows_that_only_touch_are_walked_one_by_one(settings, film, tmp_path):
    """So few frames are under way, however many steps are taken; what later windows look at is planned for."""
    long = {"window": 2, "steps": 20, "strength": 1.0}
    jobs = [
        engine.prepare(Editing(**settings | long | more), film, None, RunOptions())
        for more in ({"overlap": 0}, {"overlap": 1}, {"overlap": 0, "cross_window": False})
    ]
    assert [job.needs.live_latents(job.memory) for job in jobs] == [3, 7, 1]
    assert jobs[0].plan(200).live_bound < 50 < jobs[1].plan(200).live_bound
    assert jobs[0].needs.bank_bytes > 0 == jobs[2].needs.bank_bytes


def test_what_is_planned_for_attention_is_what_it_keeps(tiny_edit):
    """Keys and values of a frame that other windows look at, guided, float32."""
    source = prior_of(EditingConfig(prior=str(tiny_edit), guidance_scale=2.0, prompt="a stone"))
    prior = source.load(torch.device("cpu"), torch.float32)
    size = prior.facts.size_multiple
    (given,) = prior.conditions([torch.rand(3, 2 * size, 4 * size)])
    latents = given["degraded_latents"]
    told = {name: torch.stack([given[name], given[name]])[None] for name in prior.facts.conditionings}
    attend = CrossWindow(alone=(1,), context=(1,))
    prior.predict(latents.expand(1, 2, -1, -1, -1), torch.full((1, 2), 500.0), told, attend)
    bank = prior._attending.bank
    assert len(bank) == 1
    assert bank.size == prior.facts.bank_bytes * latents.shape[-2] * latents.shape[-1]


def test_another_mask_file_is_another_job(settings, film, clips, tmp_path, monkeypatch, half_mask):
    mask = half_mask(tmp_path / "mask.mkv")
    task = Editing(**settings, mask=(str(mask),))
    before = engine.prepare(task, film, tmp_path / "out.mkv", RunOptions()).asked()
    clips.write(mask, np.full((1, *SIZE, 3), 255, np.uint8))
    assert engine.prepare(task, film, tmp_path / "out.mkv", RunOptions()).asked()["files"] != before["files"]


def test_a_batch_puts_files_beside_every_output(settings, clips, tmp_path):
    """Also where shots are shared out: the parts of these files are joined like those of the output."""
    (tmp_path / "in").mkdir()
    frames = np.concatenate([clips.scene(50, (16, 24), seed) for seed in (0, 1)])
    clips.write(tmp_path / "in" / "a.mkv", frames)
    told = {"side_by_side": True, "save_control": True} | settings
    config = BatchConfig(jobs=1, units="shot")
    report = run_batch("vrestore.tasks.editing:Editing", tmp_path / "in", tmp_path / "out", config, settings=told)
    assert report.exit_code == 0
    names = {p.name for p in (tmp_path / "out").iterdir() if p.suffix == ".mkv"}
    (output,) = (name for name in names if "control" not in name and "side" not in name)
    stem = output.removesuffix(".mkv")
    assert names == {output, f"{stem}_control-tile.mkv", f"{stem}_side-by-side.mkv"}
    assert np.array_equal(clips.read(tmp_path / "out" / f"{stem}_control-tile.mkv")[0], frames)


def test_as_a_process_killed_and_resumed(settings, clips, tmp_path):
    """Every short form of an option, a kill after the first checkpoint, and the undisturbed frames after --resume."""
    source = clips.write(tmp_path / "in.mkv", clips.scene(120, (16, 24)))
    arguments = [
        "edit", str(source), "--prior", settings["prior"], "--prompt", "a stone", "--negative", "noise", "--guidance",
        "2", "--control", "tile:0.5", "--control", "luma", "--steps", "2", "--strength", "0.5", "--window", "5",
        "--overlap", "2", "--device", "cpu", "--dtype", "float32", "--side-by-side",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "vrestore", *arguments]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    manifest = tmp_path / "in_edit.mkv.vrestore" / "job.json"
    while not manifest.exists() and killed.poll() is None:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not list(tmp_path.glob("in_edit*.mkv"))
    resumed = subprocess.run(
        [*command, "--resume", "--json"], capture_output=True, text=True, check=False, env=environment
    )
    assert resumed.returncode == 0, resumed.stderr
    result = json.loads(resumed.stdout)
    assert result["frames"] == 120
    assert set(result["beside"]) == {"side-by-side"}
    assert cli.main([*arguments, "-o", str(tmp_path / "undisturbed.mkv"), "--quiet"]) == 0
    for name in ("", "_side-by-side"):
        pair = (tmp_path / f"in_edit{name}.mkv", tmp_path / f"undisturbed{name}.mkv")
        assert np.array_equal(*(clips.read(path)[0] for path in pair))
