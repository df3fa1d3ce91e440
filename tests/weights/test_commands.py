"""The recipe's commands: each says what it takes, and a training takes where and how long."""

import json

import pytest
from click.testing import CliRunner

from vrestore.weights.recipe.__main__ import main

TRAININGS = {"train", "autoencoder", "editing", "motion", "generation", "depth", "completion"}
RENDERINGS = {"pool", "depth-pool", "editing", "motion", "generation", "evidence"}


@pytest.mark.parametrize("name", main.commands)
def test_every_command_tells_its_options(name):
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    shared = {"--steps", "--decay", "--minutes", "--batch", "--rate", "--seed"}
    assert name not in TRAININGS or all(option in result.output for option in {*shared, "--device"})
    assert name not in RENDERINGS or "--jobs" in result.output


def test_every_command_stands_in_the_list():
    listed = CliRunner().invoke(main, ["--help"]).output.partition("Commands:")[0]
    assert all(f"  {name} " in listed for name in main.commands)


def test_a_device_that_is_not_there_ends_a_training_in_a_line(tmp_path):
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "pool.json").write_text('{"diet": "restoration", "shapes": {}}')
    result = CliRunner().invoke(main, ["train", str(tmp_path / "pool"), str(tmp_path / "run"), "--device", "cuda:77"])
    assert result.exit_code == 2
    assert "device 'cuda:77' is not on this machine" in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("diet", "command"), [("depth", ["train"]), ("restoration", ["depth"]), ("depth", ["completion"])]
)
def test_a_pool_of_something_else_is_refused(tmp_path, diet, command):
    (tmp_path / "pool.json").write_text(json.dumps({"diet": diet, "shapes": {}}))
    held = [str(tmp_path)] if command != ["train"] else []
    result = CliRunner().invoke(main, [*command, str(tmp_path), *held, str(tmp_path / "run"), "--device", "cpu"])
    assert result.exit_code == 2
    assert f"holds a pool for {diet}; give one for " in result.stderr


def test_a_share_is_kept_of_something(tmp_path):
    told = [str(tmp_path), str(tmp_path), str(tmp_path / "run"), "--keep", "0.5"]
    result = CliRunner().invoke(main, ["depth", *told])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: keep is given")


@pytest.mark.parametrize("more", [[], ["--guided"]], ids=["no start", "guided"])
def test_a_denoiser_is_shared_by_what_goes_on_without_a_guide(tmp_path, more):
    (tmp_path / "pool.json").write_text(json.dumps({"diet": "restoration", "shapes": {}}))
    start = ["--start", str(tmp_path)] if more else []
    result = CliRunner().invoke(main, ["train", str(tmp_path), str(tmp_path / "run"), "--shared", *start, *more])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: shared is given")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("diet", ["restoration", "interpolation"])
def test_a_guide_goes_on_from_weights_and_not_between_two_frames(tmp_path, diet):
    (tmp_path / "pool.json").write_text(json.dumps({"diet": diet, "shapes": {}}))
    start = [] if diet == "restoration" else ["--start", str(tmp_path)]
    result = CliRunner().invoke(main, ["train", str(tmp_path), str(tmp_path / "run"), "--guided", *start])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: guided is given")
    assert not (tmp_path / "run").exists()
