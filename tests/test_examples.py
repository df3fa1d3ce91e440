"""The scripts in examples/ do what they say, as processes."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from vrestore.prompts import read_prompts
from vrestore.video import open_reader, probe

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name, *arguments):
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_one_clip(clips, tmp_path):
    source = clips.write(tmp_path / "in.mkv", clips.scene(52, (32, 48)), audio=True)
    done = example("one_clip.py", source, tmp_path / "out.mov")
    assert done.returncode == 0, done.stderr
    assert "50 of 50 frames" in done.stderr
    info = probe(tmp_path / "out.mov")
    assert (info.codec, info.frames, info.width, info.height) == ("prores", 50, 96, 64)
    assert example("one_clip.py", tmp_path / "none.mov", tmp_path / "out.mov").stderr.startswith(str(tmp_path / "none"))


def test_frames(clips, tmp_path):
    source = clips.write(tmp_path / "in.mkv", clips.scene(3, (32, 48)))
    done = example("frames.py", source)
    assert done.returncode == 0, done.stderr
    means = [float(line.split(" ")[1]) for line in done.stdout.splitlines()]
    assert np.allclose(means, clips.scene(3, (32, 48)).mean((1, 2, 3)) / 255, atol=0.01)


def test_exr_to_exr(clips, tmp_path):
    """A sequence of halves, made by the program itself from a clip."""
    source = clips.write(tmp_path / "in.mkv", clips.scene(3, (32, 48)))
    (tmp_path / "plates").mkdir()
    made = subprocess.run(
        [sys.executable, "-m", "vrestore", "sr", str(source), "-o", str(tmp_path / "plates" / "shot.%04d.exr")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    done = example("exr_to_exr.py", tmp_path / "plates" / "shot.%04d.exr", tmp_path / "out" / "shot.%04d.exr")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 frames, consistent")
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [f"shot.{n:04d}.exr" for n in (1, 2, 3)]
    with open_reader(tmp_path / "out" / "shot.%04d.exr") as reader:
        assert [frame.rgb.shape for frame in reader.frames()] == [(3, 256, 384)] * 3


def test_folder(clips, tmp_path):
    (tmp_path / "in" / "day").mkdir(parents=True)
    clips.write(tmp_path / "in" / "day" / "a.mkv", clips.scene(2, (32, 48)))
    (tmp_path / "in" / "b.mkv").write_bytes(b"not a video")
    done = example("folder.py", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 3, done.stderr
    assert "b.mkv" in done.stdout
    assert "not a readable video" in done.stdout
    info = probe(tmp_path / "out" / "day" / "a.mkv.mov")
    assert (info.codec, info.frames, info.width, info.height) == ("prores", 2, 96, 64)
    (tmp_path / "in" / "b.mkv").unlink()
    assert example("folder.py", tmp_path / "in", tmp_path / "out").returncode == 0


def test_heads(clips, tmp_path):
    """A picture of each head, what goes in beside what comes out."""
    source = clips.write(tmp_path / "in.mkv", clips.scene(7, (64, 96)))
    done = example("heads.py", source, tmp_path / "pictures")
    assert done.returncode == 0, done.stderr
    for name in ("sr", "deblur", "interpolate"):
        with Image.open(tmp_path / "pictures" / f"{name}.jpg") as picture:
            assert picture.size == (2 * 96 + 6, 64)


def test_contact_sheet(clips, tmp_path, tiny_edit):
    """Of every clip the source, the map and a row for each look."""
    source = clips.write(tmp_path / "in.mkv", clips.scene(6, (32, 48)))
    told = ["--look", "a stone", "--look", "noise", "--width", "24", "--set", f"prior={tiny_edit}", "--set", "steps=2"]
    done = example("contact_sheet.py", tmp_path / "sheet.png", source, source, *told)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "sheet.png") as page:
        assert page.size == (5 * 24 + 4 * 3, 2 * 4 * (16 + 16 + 3))
        first = np.asarray(page)[16:32, :24]
    small = Image.fromarray(clips.scene(6, (32, 48))[0]).resize((24, 16), Image.Resampling.LANCZOS)
    assert np.array_equal(first, np.asarray(small))
    assert (
        "no such settings: step;"
        in example("contact_sheet.py", "x.png", source, "--look", "a", "--set", "step=1").stderr
    )


def test_files_of_prompts():
    """What they say of a clip at 25 frames per second."""
    day = read_prompts(EXAMPLES / "day_to_night.toml").timeline(None, Fraction(25))
    assert [day.at(second)[0][0] for second in (0, 3, 5, 60)] == [
        "a photo", "sunset in golden light", "dusk", "night in blue light"
    ]  # fmt: skip
    assert day.at(2) == (("a photo", 0.5), ("sunset in golden light", 0.5))
    shots = read_prompts(EXAMPLES / "by_shot.toml").timeline("a photo", Fraction(25))
    assert [shots.at(time, shot, 10)[0][0] for time, shot in ((10, 1), (11, 2), (12, 2), (12, 3))] == [
        "pencil sketch", "watercolour", "oil painting", "a photo"
    ]  # fmt: skip


def test_depth_picture(clips, tmp_path):
    source = clips.write(tmp_path / "in.mkv", clips.scene(5, (32, 48)))
    done = example("depth_picture.py", source, tmp_path / "depth.png", 0.16)
    assert done.returncode == 0, done.stderr
    assert "frames 0, 2, 3 of" in done.stdout
    with Image.open(tmp_path / "depth.png") as picture:
        assert picture.size == (3 * 480 + 8, 2 * 320 + 4)
    assert example("depth_picture.py", tmp_path / "none.mkv", tmp_path / "n.png").stderr.startswith(str(tmp_path))


def test_scenes(tmp_path):
    done = example("scenes.py", tmp_path / "a.png", "red waves", "stars", "--frames", 2, "--steps", 1)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "a.png") as opened:
        picture = np.asarray(opened).astype(int)
    assert picture.shape == (256, 640, 3)
    assert picture[:128].mean() > picture[128:].mean()  # stars stand in the dark
    np.testing.assert_array_equal(picture[:, :128], picture[:, 128:256])  # two instants of two frames
