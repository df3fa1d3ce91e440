"""Presets: layers and their order, what is wrong with a file, the printed configuration and the record as presets."""

import json
import sys
import tomllib
from dataclasses import dataclass, fields
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Annotated, Literal

import click
import pytest

import vrestore
from vrestore import cli
from vrestore.cli_options import Action
from vrestore.errors import ConfigError, MissingInputError
from vrestore.preset import find_project, from_preset, layered, read_preset, tables_of
from vrestore.record import as_toml
from vrestore.report import RunOptions
from vrestore.settings import build, plain, settings_of
from vrestore.tasks.super_resolution import SuperResolution, SuperResolutionConfig

FAKE = Path(__file__).with_name("fake_head.py")


@pytest.fixture
def told(monkeypatch, tmp_path):
    """told(*arguments) -> the config and options that reach the engine; the fake head, in an empty folder."""
    spec = spec_from_file_location("fake_head", FAKE)
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fake_head", module)
    spec.loader.exec_module(module)
    engine = module.engine()
    calls = []

    def run(task, input, output, options):
        calls.append((task.config, options))
        output.write_bytes(b"made")
        return module.Result(output=str(output), frames=2, rate=float("inf"))

    monkeypatch.setattr(engine, "run", run)
    monkeypatch.setitem(sys.modules, "vrestore.engine", engine)
    monkeypatch.setattr(cli, "TASKS", {"fake": module.ENTRY})
    monkeypatch.chdir(tmp_path)

    def call(*arguments, code=0):
        assert cli.main(["fake", "in.mkv", "--quiet", *map(str, arguments)]) == code
        return calls[-1] if calls else None

    return call


def write(path, text):
    path.write_text(text)
    return path


# ---------------------------------------------------------------- layers


def test_later_layers_win(told, tmp_path, monkeypatch):
    """Defaults < presets in order < the project's file < environment < flags."""
    one = write(tmp_path / "one.toml", "[fake]\nsteps = 2\nscale = 2\nstrength = 0.1\nsize = '2x2'\ntile = 2\n")
    two = write(tmp_path / "two.toml", "[common]\nsteps = 9\n[fake]\nsteps = 3\nstrength = 0.2\nsize = '3x3'\ntile = 3")
    (tmp_path / "vrestore.toml").write_text("[fake]\nstrength = 0.3\nsize = '4x4'\ntile = 4\n")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    monkeypatch.setenv("VRESTORE_FAKE_SIZE", "5x5")
    monkeypatch.setenv("VRESTORE_FAKE_TILE", "5")
    config, _ = told("--preset", one, "--preset", two, "--tile", 6)
    assert (config.scale, config.steps, config.strength, config.size, config.tile) == (2, 3, 0.3, "5x5", 6)
    assert config.sharp_edges


def test_every_kind_of_value(told, tmp_path):
    text = """
    [fake]
    scale = 2
    strength = 1
    sharp-edges = false
    mask = "m.png"
    bounds = [8, 16]
    behave = "WELL"
    start = "10"
    overwrite = false
    """
    config, options = told("--preset", write(tmp_path / "p.toml", text))
    assert (config.scale, config.strength, config.sharp_edges) == (2, 1.0, False)
    assert (config.mask, config.bounds, config.behave) == (Path("m.png"), (8, 16), "well")
    assert type(config.strength) is float
    assert (options.start, options.overwrite) == ("10", False)


def test_a_project_is_found_upwards_to_the_home_folder(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "a" / "b").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("HOME", str(home))
    outside = write(tmp_path / "vrestore.toml", "")
    assert find_project(home / "a" / "b") is None
    assert find_project(tmp_path / "other") == outside
    own = write(home / "vrestore.toml", "")
    assert find_project(home / "a" / "b") == own
    nearest = write(home / "a" / "vrestore.toml", "")
    assert find_project(home / "a" / "b") == nearest


def test_the_environment_may_name_a_preset(told, tmp_path, monkeypatch):
    monkeypatch.setenv("VRESTORE_FAKE_PRESET", str(write(tmp_path / "p.toml", "[fake]\nsteps = 7\n")))
    assert told()[0].steps == 7


# ---------------------------------------------------------------- what is wrong

WRONG = [
    ("[fake]\nstepz = 2", "p.toml: [fake] stepz is no setting; did you mean steps?; settings: steps, behave, scale"),
    ("[common]\nstepz = 2", "p.toml: [common] stepz is no setting; did you mean steps?"),
    ("[fale]\nsteps = 2", "p.toml: no command is called [fale]; did you mean fake?; tables: common, fake, compare"),
    ("steps = 2", "p.toml: steps stands in no table; put it under [common]"),
    ("[fake]\nsteps = '2'", "p.toml: [fake] steps is '2'; give a whole number"),
    ("[fake]\nsteps = 2.5", "p.toml: [fake] steps is 2.5; give a whole number"),
    ("[fake]\nsteps = true", "p.toml: [fake] steps is True; give a whole number"),
    ("[fake]\nscale = 3", "p.toml: [fake] scale is 3; give 2 or 4"),
    ("[fake]\nsharp_edges = 1", "p.toml: [fake] sharp_edges is 1; give true or false"),
    ("[fake]\nbounds = 8", "p.toml: [fake] bounds is 8; give a list [...], each a whole number"),
    ("[fake]\nbounds = [8, 'x']", "p.toml: [fake] bounds is 'x'; give a list [...], each a whole number"),
    ("[fake]\nstart = 10:00:00", "p.toml: [fake] start is datetime.time(10, 0); give text"),
    ("[fake]\nresume = true", "p.toml: [fake] resume is no setting"),
    ("[fake]\nstrength = 1" + "0" * 400, "give a number"),
    ("[fake]\nstrength = 2", "p.toml: strength is 2.0; allowed are 0 to 1."),
    ("[fake]\nsteps = ", "p.toml is not valid TOML: Invalid value (at end of document)"),
    ("[fake]\na = " + "[" * 5000, "p.toml is not valid TOML"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_one_line_names_the_file_the_key_and_what_is_allowed(told, tmp_path, capsys, text, message):
    told("--preset", write(tmp_path / "p.toml", text), code=2)
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert out == ""


def test_a_value_out_of_range_from_the_environment_names_the_variable(told, capsys, monkeypatch):
    monkeypatch.setenv("VRESTORE_FAKE_STRENGTH", "3")
    told(code=2)
    assert capsys.readouterr().err == "Error: VRESTORE_FAKE_STRENGTH: strength is 3.0; allowed are 0 to 1.\n"


def test_files_that_are_no_presets(told, tmp_path, capsys):
    told("--preset", "nowhere.toml", code=2)
    assert "nowhere.toml does not exist; give a preset (TOML), or the record of a run (JSON)" in capsys.readouterr().err
    told("--preset", tmp_path, code=2)
    assert "is no preset; give a TOML file" in capsys.readouterr().err
    (tmp_path / "p.toml").write_bytes(b"\xff\xfe")
    told("--preset", tmp_path / "p.toml", code=2)
    assert "p.toml is not valid TOML: 'utf-8' codec" in capsys.readouterr().err
    told("--preset", write(tmp_path / "p.json", "[]"), code=2)
    assert "p.json is not the record of a run: it holds no settings" in capsys.readouterr().err


def test_common_holds_what_any_command_has(told, tmp_path, capsys):
    """``crop`` is a setting of ``compare`` only."""
    assert told("--preset", write(tmp_path / "p.toml", "[common]\ncrop = 3\nsteps = 2\n"))[0].steps == 2


# ---------------------------------------------------------------- printed, recorded, taken back


def test_the_printed_configuration_is_a_preset_with_origins(told, tmp_path, capsys, monkeypatch):
    preset = write(tmp_path / "p.toml", '[fake]\nmask = "a\\"b\\\\c é"\nbounds = [1, 2]\nsharp_edges = false\n')
    monkeypatch.setenv("VRESTORE_FAKE_STRENGTH", "0.25")
    assert cli.main(["fake", "--preset", str(preset), "--scale", "2", "--print-config"]) == 0
    text = capsys.readouterr().out
    assert f"sharp_edges = false  # {preset}\n" in text
    assert "strength = 0.25  # VRESTORE_FAKE_STRENGTH\n" in text
    assert "scale = 2  # flag\n" in text
    assert "steps = 1  # default\n" in text
    assert "# tile is not set  # default\n" in text
    monkeypatch.delenv("VRESTORE_FAKE_STRENGTH")
    config, _ = told("--preset", write(tmp_path / "again.toml", text))
    assert config.mask == Path('a"b\\c é')
    assert (config.bounds, config.sharp_edges, config.strength, config.scale) == ((1, 2), False, 0.25, 2)


def test_the_record_beside_the_output_is_a_preset(told, tmp_path):
    config, _ = told("--scale", 2, "--bounds", "3,4", "--mask", "m.png", "-o", "out.mkv")
    record = json.loads((tmp_path / "out.mkv.vrestore.json").read_text())
    assert record["command"] == "fake"
    assert record["versions"]["vrestore"] == vrestore.__version__
    assert record["result"] == {"output": "out.mkv", "frames": 2, "rate": None}
    assert record["settings"]["fake"]["tile"] is None
    assert record["origins"]["fake"]["scale"] == "flag"
    again, _ = told("--preset", "out.mkv.vrestore.json", "-o", "again.mkv")
    assert again == config


def test_no_record_and_none_where_nothing_was_made(told, tmp_path):
    told("--no-record", "-o", "out.mkv")
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]


def test_a_record_that_cannot_be_written_is_a_warning(told, tmp_path, capsys):
    (tmp_path / "out.mkv.vrestore.json").mkdir()
    told("-o", "out.mkv")
    assert "warning: the output is complete, but its record is not written" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*cli.TASKS, *cli.MAKERS, "compare"])
def test_every_option_of_a_command_is_a_setting_or_an_action(name):
    command = cli.commands.get_command(click.Context(cli.commands), name)
    settings = settings_of(*(each for types in command.tables().values() for each in types))
    options = {p.name for p in command.params if isinstance(p, click.Option) and p.expose_value}
    actions = {p.name for p in command.params if isinstance(p, Action)}
    assert options - actions == set(settings) - actions
    assert not actions & set(settings)


def test_options_of_a_batch_are_those_of_its_head_and_its_own():
    context = click.Context(cli.commands)
    batch = cli.commands.get_command(context, "batch").get_command(context, "sr")
    tables = tables_of("batch sr")
    settings = settings_of(*(each for types in tables.values() for each in types))
    assert sum(len(settings_of(*types)) for types in tables.values()) == len(settings), "a name stands for two"
    actions = {p.name for p in batch.params if isinstance(p, Action)}
    options = {p.name for p in batch.params if isinstance(p, click.Option) and p.expose_value}
    assert options - actions == set(settings)


# ---------------------------------------------------------------- from Python


def test_from_preset(tmp_path):
    path = write(tmp_path / "film.toml", "[common]\nsteps = 3\n[sr]\nscale = 2\nstart = '5'\n[batch]\njobs = 2\n")
    task, options = from_preset(path, SuperResolution, fidelity=0.75)
    assert task.config == SuperResolutionConfig(steps=3, scale=2, fidelity=0.75)
    assert options == RunOptions(start="5")
    with pytest.raises(ConfigError, match=r"fidelty is no setting; did you mean fidelity\?"):
        from_preset(path, SuperResolution, fidelty=1)
    with pytest.raises(ConfigError, match=r"film\.toml: steps is 0; give 1 to 1000"):
        from_preset(write(path, "[sr]\nsteps = 0\n"), SuperResolution)
    with pytest.raises(MissingInputError):
        from_preset(tmp_path / "none.toml", SuperResolution)


def test_settings_are_read_from_annotations():
    @dataclass(frozen=True)
    class Config:
        must: int
        modes: Annotated[tuple[Literal["a", "b"], ...], "which"] = ()
        place: Path | None = None
        call: object = None

    found = settings_of(Config)
    assert list(found) == ["must", "modes", "place"]
    assert found["modes"].help == "which"
    assert found["modes"].check(["A", "b"]) == ("a", "b")
    assert [setting.optional for setting in found.values()] == [False, False, True]
    made = build(Config, {"must": 2, "modes": ["a"], "place": "x", "other": 1})
    assert made == Config(2, ("a",), Path("x"))
    assert {f.name: plain(getattr(made, f.name)) for f in fields(made)}["place"] == "x"


def test_text_that_toml_must_escape(tmp_path):
    tables = tables_of("sr")
    preset = read_preset(write(tmp_path / "p.toml", '[sr]\nprior = "line\\nbreak \\u007f"\n'))
    text = as_toml(tables, layered([preset], tables))
    assert tomllib.loads(text) == {"sr": {"prior": "line\nbreak \x7f"}}
