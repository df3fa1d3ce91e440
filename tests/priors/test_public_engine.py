"""Public priors on the engine: any length and size, the same result however a run is cut, and resume."""

import json
import shutil

import pytest
import torch

from vrestore import cli, engine
from vrestore.errors import ConfigError, PriorError
from vrestore.prior_options import PriorOptions
from vrestore.priors import find_prior
from vrestore.report import RunOptions
from vrestore.tasks.super_resolution import SuperResolution

PUBLIC = ["tiny_upscaler", "tiny_stablevsr", "tiny_control"]


@pytest.fixture(params=PUBLIC)
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def head(folder):
    base = {"steps": 2, "window": 4, "overlap": 1, "prior": str(folder), "device": "cpu", "dtype": "float32"}
    return lambda **settings: SuperResolution(**base | settings)


@pytest.fixture
def film(clips, tmp_path):
    """Five frames of an odd size."""
    return clips.write(tmp_path / "film.mkv", clips.scene(5, (9, 13)))


def streamed(task, path, **options):
    return torch.stack([restored.frame for restored in engine.stream(task, path, RunOptions(**options))])


@pytest.mark.parametrize(("frames", "size"), [(1, (1, 1)), (6, (5, 3))])
def test_any_length_and_size(head, clips, tmp_path, frames, size):
    source = clips.write(tmp_path / "in.mkv", clips.scene(frames, size))
    found = streamed(head(), source)
    assert found.shape == (frames, 3, 4 * size[0], 4 * size[1])
    assert found.isfinite().all()


def test_an_image_prior_does_not_depend_on_windows(tiny_upscaler, head, folder, film):
    same = torch.equal(streamed(head(), film), streamed(head(window=3, overlap=2), film))
    assert same == (find_prior(str(folder)).facts.window == 1)


def test_guidance_along_the_motion_makes_frames_hear_of_one_another(head, clips, tmp_path):
    """Windows of an image prior are then what was asked for."""
    frames = clips.scene(4, (16, 20))
    other = frames.copy()
    other[3] = other[3][::-1]
    films = [clips.write(tmp_path / f"{i}.mkv", one) for i, one in enumerate((frames, other))]
    plain, moved = ([streamed(head(propagation=p), film)[0] for film in films] for p in (0.0, 1.0))
    assert not torch.equal(plain[0], moved[0])
    job = engine.prepare(head(propagation=1.0), films[0], None, RunOptions())
    assert (job.memory.window, job.memory.overlap) == (4, 1)


def test_noise_belongs_to_absolute_frames(head, folder, film):
    """A part of the clip is restored as it is in the whole, where the prior sees frames one by one."""
    whole = streamed(head(), film)
    if find_prior(str(folder)).facts.window == 1:
        assert torch.equal(whole[3:], streamed(head(), film, start="3"))
    assert not torch.equal(whole[:1], streamed(head(seed=1), film, end="1"))


def test_tiles_of_everything_that_a_call_takes(head, clips, tmp_path):
    """Conditionings of the source's size, of the output's and of the latents' are cut alike."""
    source = clips.write(tmp_path / "in.mkv", clips.scene(2, (20, 44)))
    whole, tiled = streamed(head(), source), streamed(head(tile=128), source)
    assert tiled.shape == whole.shape
    assert tiled.isfinite().all()
    assert not torch.equal(whole, tiled)


def test_a_run_that_is_interrupted_goes_on_to_the_same_bits(head, film, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "SEGMENT_FRAMES", 2)
    monkeypatch.setattr(engine, "SHORTEST_SEGMENT", 2)

    def interrupt(now):
        if now.done == 3:
            raise KeyboardInterrupt

    task, whole, broken = head(fidelity=0.25), tmp_path / "whole.mkv", tmp_path / "broken.mkv"
    engine.run(task, film, whole)
    with pytest.raises(KeyboardInterrupt):
        engine.run(task, film, broken, RunOptions(progress=interrupt))
    result = engine.run(task, film, broken, RunOptions(resume=True))
    assert result.frames == 5
    assert (clips.read(broken)[0] == clips.read(whole)[0]).all()


def test_the_fidelity_dial(head, film):
    """Below 0.5 noise is drawn on the way, towards 1 the output, reduced again, is the input."""
    tasks = [head(fidelity=value) for value in (0.0, 0.5, 1.0)]
    found = [list(engine.stream(task, film, RunOptions(end="2"))) for task in tasks]
    assert not torch.equal(found[0][0].frame, found[1][0].frame)
    consistency = [sum(tasks[0].consistency_db(r.frame, r.source) for r in part) for part in found[1:]]
    assert consistency[1] > consistency[0] + 2 * 3


# ---------------------------------------------------------------- the command line


def test_the_command(folder, film, clips, tmp_path, capsys):
    """The layout is recognised from the folder alone."""
    output = tmp_path / "out.mkv"
    options = ["--prior", str(folder), "--prompt", "stone", "--steps", "2", "--json"]
    assert cli.main(["sr", str(film), "-o", str(output), *options]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 5
    assert clips.read(output)[0].shape == (5, 36, 52, 3)


@pytest.mark.parametrize(
    ("prior", "options", "message"),
    [
        ("restoration", ["--prompt", "stone"], "prompt is 'stone', but the prior restoration takes no such settings"),
        ("tiny_upscaler", ["--controlnet", "x"], "controlnet is 'x', but the prior .* takes guidance_scale, negative"),
        (
            "tiny_upscaler",
            ["--scale", "2"],
            "the prior x4-upscaler makes the output 4 times larger, 52x36 here, not 26",
        ),
        ("tiny_upscaler", ["--noise-level", "351"], "noise_level is 351; the prior in .* takes 0 to 350"),
        ("tiny_stablevsr", ["--size", "60x40"], "the prior stablevsr makes the output 4 times larger"),
        ("tiny_control", ["--steps", "600"], "steps is 600; the prior controlnet-tile takes at most 499 here"),
        ("tiny_control", ["--strength", "0"], "strength is 0.0; give a number above 0, to 1"),
        ("tiny_control", ["--guidance-scale", "0.5"], "guidance_scale is 0.5; give 1 or more"),
        ("hf:owner/name", [], "prior 'hf:owner/name' is not of the form hf:owner/name@revision"),
    ],
)
def test_what_cannot_be_is_refused_before_the_start(request, film, tmp_path, capsys, prior, options, message):
    folder = str(request.getfixturevalue(prior)) if prior.startswith("tiny") else prior
    output = tmp_path / "out.mkv"
    assert cli.main(["sr", str(film), "-o", str(output), "--prior", folder, *options]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert message.split(".*")[0] in error
    assert message.split(".*")[-1] in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mkv"]


@pytest.mark.parametrize(
    "missing",
    ["unet/config.json", "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors",
     "low_res_scheduler/scheduler_config.json", "scheduler/scheduler_config.json", "vae/config.json"],
)  # fmt: skip
def test_a_part_that_is_missing_is_named_before_the_start(tiny_upscaler, film, tmp_path, missing):
    copy = shutil.copytree(tiny_upscaler, tmp_path / "copy")
    (copy / missing).unlink()
    task = SuperResolution(prior=str(copy), device="cpu")
    with pytest.raises(PriorError, match=rf"lacks .*{missing}; copy or download the whole folder"):
        engine.plan_job(task, film, tmp_path / "out.mkv", RunOptions())


def test_a_stable_diffusion_needs_a_controlnet(tiny_control, film, tmp_path):
    copy = shutil.copytree(tiny_control, tmp_path / "copy", ignore=shutil.ignore_patterns("controlnet"))
    with pytest.raises(PriorError, match=r"without a ControlNet, .* --controlnet FOLDER"):
        engine.plan_job(SuperResolution(prior=str(copy)), film, tmp_path / "out.mkv", RunOptions())
    other = SuperResolution(prior=str(copy), controlnet=str(tiny_control / "unet"))
    with pytest.raises(PriorError, match="UNet2DConditionModel that is no ControlNet"):
        engine.plan_job(other, film, tmp_path / "out.mkv", RunOptions())


def test_steps_are_those_that_the_prior_is_made_for(tiny_upscaler, film, tmp_path, caplog):
    plan = engine.plan_job(SuperResolution(prior=str(tiny_upscaler)), film, tmp_path / "out.mkv", RunOptions())
    assert plan.calls == 50 * 5
    assert caplog.records == []
    engine.plan_job(SuperResolution(prior=str(tiny_upscaler), steps=3), film, tmp_path / "out.mkv", RunOptions())
    assert "made for about 50 steps: --steps 3" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [("guidance_scale", 0.9), ("guidance_scale", float("nan")), ("noise_level", -1), ("strength", 0.0),
     ("strength", 1.5), ("control_scale", -1.0), ("warp", "none")],
)  # fmt: skip
def test_an_option_out_of_range_is_named(name, value):
    options = PriorOptions()
    object.__setattr__(options, name, value)  # past the types, which only tests check
    with pytest.raises(ConfigError, match=rf"^{name} is .*; give "):
        options.__post_init__()


# ---------------------------------------------------------------- the hub


def cached(tmp_path, monkeypatch, folder):
    """A cache of the hub's client that holds a folder as owner/name at main."""
    commit = "0" * 40
    home = tmp_path / "cache" / "models--owner--name"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    shutil.copytree(folder, home / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def test_a_prior_of_the_hub_is_taken_from_the_cache(tiny_upscaler, tmp_path, monkeypatch):
    cached(tmp_path, monkeypatch, tiny_upscaler)
    for name in ("hf:owner/name@main", f"hf:owner/name@{'0' * 40}"):
        found = find_prior(name)
        assert found.facts.name == "x4-upscaler"
        assert len(found.weights()) == 3


def test_a_prior_that_is_not_in_the_cache(tmp_path, monkeypatch, tiny_upscaler):
    cached(tmp_path, monkeypatch, tiny_upscaler)
    with pytest.raises(PriorError, match=r"owner/other at main is not in the hub's cache .* allow --download"):
        find_prior("hf:owner/other@main")
    with pytest.raises(PriorError, match=r"owner/other at main could not be fetched \(.*HF_HUB_OFFLINE"):
        find_prior("hf:owner/other@main", PriorOptions(download=True))
