"""The generic part of the command line with a fake head: options from a config, output, exit codes, interruption."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import click
import pytest

import vrestore
from vrestore import cli
from vrestore.cli_options import options_of

ROOT = Path(__file__).parents[1]
FAKE = Path(__file__).with_name("fake_head.py")


@pytest.fixture
def fake(monkeypatch):
    """The fake head as the only one, and the fake engine under it."""
    spec = spec_from_file_location("fake_head", FAKE)
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fake_head", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "vrestore.engine", module.engine())
    monkeypatch.setattr(cli, "TASKS", {"fake": module.ENTRY})
    return module


def seen(fake, monkeypatch):
    """Record what reaches the engine."""
    calls = []

    def run(task, input, output, options):
        calls.append((task.config, input, output, options))
        return fake.Result(output=str(output))

    monkeypatch.setattr(sys.modules["vrestore.engine"], "run", run)
    return calls


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def start(*arguments, **more):
    """The fake program as a process of its own."""
    command = [sys.executable, str(FAKE), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), **more
    )


# ---------------------------------------------------------------- options from a config


def test_defaults_and_order_come_from_the_config(fake):
    options = {option.name: option for option in options_of(fake.HeadConfig)}
    assert list(options) == ["steps", "behave", "scale", "strength", "size", "tile", "sharp_edges", "mask", "bounds"]
    context = click.Context(click.Command("fake", params=list(options.values())))
    defaults = {name: option.get_default(context) for name, option in options.items()}
    assert fake.HeadConfig(**defaults) == fake.HeadConfig()


def test_every_type_is_converted(fake, monkeypatch):
    calls = seen(fake, monkeypatch)
    arguments = "--scale 2 --strength 0.25 --size 64x48 --tile 32 --no-sharp-edges --mask m.png --bounds 8,16 --steps 3"
    assert cli.main(["fake", "in.mkv", *arguments.split()]) == 0
    assert calls[0][0] == fake.HeadConfig(
        scale=2, strength=0.25, size="64x48", tile=32, sharp_edges=False, mask=Path("m.png"), bounds=(8, 16), steps=3
    )
    assert type(calls[0][0].scale) is int


def test_settings_come_from_the_environment(fake, monkeypatch):
    calls = seen(fake, monkeypatch)
    monkeypatch.setenv("VRESTORE_FAKE_SCALE", "2")
    monkeypatch.setenv("VRESTORE_FAKE_STEPS", "5")
    assert cli.main(["fake", "in.mkv", "--steps", "6"]) == 0
    assert (calls[0][0].scale, calls[0][0].steps) == (2, 6)


def test_a_type_that_no_option_can_have_is_named():
    @dataclass
    class Strange:
        table: dict[str, int]

    with pytest.raises(TypeError, match=r"field table has the type dict\[str, int\]"):
        options_of(Strange)


def test_a_field_without_default_is_required(capsys):
    @dataclass
    class Needs:
        prompt: str

    (option,) = options_of(Needs)
    assert option.required


@pytest.mark.parametrize("text", ["--strength FLOAT", "0 to 1", "[default: 0.5]", "[2|4]", "--no-sharp-edges"])
def test_help_shows_types_texts_and_defaults(fake, capsys, text):
    assert cli.main(["fake", "--help"]) == 0
    assert text in capsys.readouterr().out


# ---------------------------------------------------------------- the job


def test_a_list_may_be_given_in_parts(fake):
    command = click.Command("x", params=options_of(fake.HeadConfig), callback=lambda **values: values["bounds"])
    for arguments in (["--bounds", "8,16"], ["--bounds", "8", "--bounds", "16"]):
        assert command.main(arguments, standalone_mode=False) == (8, 16)
    assert command.main([], standalone_mode=False) == ()
    assert command.main([], standalone_mode=False, default_map={"bounds": [8, 16]}) == (8, 16)


def test_options_of_the_run_reach_the_engine(fake, monkeypatch):
    calls = seen(fake, monkeypatch)
    arguments = "-o out.mkv --start 10 --end 5.2s --resume --no-overwrite"
    assert cli.main(["fake", "in.mkv", *arguments.split()]) == 0
    _, source, output, options = calls[0]
    assert (source, output) == (Path("in.mkv"), Path("out.mkv"))
    assert (options.start, options.end, options.resume, options.overwrite) == ("10", "5.2s", True, False)


def test_default_output_lies_beside_the_input(fake, monkeypatch):
    calls = seen(fake, monkeypatch)
    assert cli.main(["fake", "some/clip.two.mp4"]) == 0
    assert calls[0][2] == Path("some/clip.two_fake.mp4")


def test_json_on_stdout_progress_on_stderr(fake, capsys):
    assert cli.main(["fake", "in.mkv", "--json"]) == 0
    out, err = capsys.readouterr()
    expected = {"output": "in_fake.mkv", "frames": 2, "consistency_psnr_db": None, "shares": {"decode": 0.5}}
    assert json.loads(out) == expected | {"options": None}
    assert "work: 0/2 frames" in err
    assert "work: 2/2 frames" in err


def test_summary_for_people(fake, capsys):
    assert cli.main(["fake", "in.mkv"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["output               in_fake.mkv", "frames               2"]


def test_quiet_says_nothing(fake, capsys):
    assert cli.main(["fake", "in.mkv", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_dry_run_shows_the_plan(fake, capsys):
    assert cli.main(["fake", "in.mkv", "--dry-run"]) == 0
    assert capsys.readouterr().out == "calls=7\noutput=in_fake.mkv\n"


# ---------------------------------------------------------------- exit codes


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fake"], 2, "Missing argument 'INPUT'"),
        (["fake", "in.mkv", "--scale", "3"], 2, "'3' is not one of '2', '4'"),
        (["fake", "in.mkv", "--steps", "many"], 2, "'many' is not a valid integer"),
        (["fake", "in.mkv", "--nonsense"], 2, "No such option"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["fake", "in.mkv", "--strength", "2"], 2, "Error: strength is 2.0; allowed are 0 to 1."),
        (["fake", "in.mkv", "--behave", "missing"], 2, "Error: in.mkv does not exist; give the path of a video"),
        (["fake", "in.mkv", "--behave", "damaged"], 1, "Error: in.mkv is damaged."),
        (["fake", "in.mkv", "--behave", "crash"], 1, "Error: RuntimeError: something unforeseen (--debug shows where)"),
    ],
)
def test_exit_code_and_message(fake, capsys, arguments, code, message):
    assert cli.main(arguments) == code
    out, err = capsys.readouterr()
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_traceback_only_with_debug(fake, capsys):
    assert cli.main(["fake", "in.mkv", "--behave", "crash", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.endswith("Error: RuntimeError: something unforeseen\n")


def test_handlers_of_the_caller_are_put_back(fake):
    before = [signal.getsignal(number) for number in cli.SIGNALS]
    cli.main(["fake", "in.mkv", "--quiet"])
    assert [signal.getsignal(number) for number in cli.SIGNALS] == before


@pytest.mark.parametrize(
    ("behave", "number", "code"),
    [
        ("numpy", signal.SIGINT, 130),
        ("torch", signal.SIGINT, 130),
        ("swallow", signal.SIGINT, 130),
        ("numpy", signal.SIGTERM, 143),
    ],
)
def test_a_signal_ends_the_program_while_native_code_runs(behave, number, code):
    process = start("fake", "in.mkv", "--behave", behave)
    for line in process.stderr:
        if line.startswith("busy"):
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code, err
    assert err.splitlines()[-1].startswith("Interrupted. The same command with --resume")
    assert "Traceback" not in err
    assert out == ""


def test_interruption_works_where_the_shell_had_it_ignored():
    """A shell without job control starts background jobs with SIGINT ignored."""
    process = start(
        "fake", "in.mkv", "--behave", "numpy", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )
    for line in process.stderr:
        if line.startswith("busy"):
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130


# ---------------------------------------------------------------- the real program


def real(*arguments):
    command = [sys.executable, "-m", "vrestore", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=120)


def test_version():
    assert real("--version").stdout == f"vrestore, version {vrestore.__version__}\n"


def test_help_names_every_command_without_loading_any():
    code = "import sys, vrestore.cli; vrestore.cli.main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    for name in [*cli.TASKS, *cli.MAKERS, *cli.OTHERS]:
        assert f"\n  {name} " in done.stdout
    loaded = set(done.stderr.split("'")[1::2])
    assert "click" in loaded
    assert loaded.isdisjoint({"torch", "diffusers", "numpy", "cv2", "av", "rich"})


@pytest.mark.parametrize("name", [*cli.TASKS, *cli.MAKERS, *cli.OTHERS])
def test_help_of_every_command(name, capsys):
    assert cli.main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: vrestore {name} [OPTIONS]" in out
    assert name in ("batch", "weights") or "--json" in out


@pytest.mark.parametrize("name", [*cli.TASKS])
def test_missing_input_is_a_usage_error(name, tmp_path):
    done = real(name, str(tmp_path / "nowhere.mp4"))
    assert done.returncode == 2
    assert "nowhere.mp4" in done.stderr
    assert "Traceback" not in done.stderr


def test_on_a_terminal_a_bar_with_rate_and_remaining_time(fake, capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # what rich asks instead of the stream itself
    assert cli.main(["fake", "in.mkv"]) == 0
    err = capsys.readouterr().err
    assert "━" in err
    assert "2/2" in err


def test_what_was_asked_for_is_known(fake, monkeypatch):
    """The usual value, typed, is held where an unsaid one may give way to the memory that is there."""
    calls = seen(fake, monkeypatch)
    monkeypatch.setenv("VRESTORE_FAKE_TILE", "32")
    assert cli.main(["fake", "in.mkv", "--scale", "4"]) == 0
    assert calls[0][3].held == {"scale", "tile"}
