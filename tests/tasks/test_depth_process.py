"""The command itself, for every kind of output: what another program reads of it."""

import json
import subprocess
import sys

import av
import cv2
import numpy as np

SIZE, FRAMES = (24, 36), 3


def test_every_kind_of_output_by_the_command(clips, tiny_depth_prior, tmp_path):
    write_all(tmp_path, clips, tiny_depth_prior)
    colours_play_and_say_what_they_mean(tmp_path)
    all_data_are_the_same_values(tmp_path)
    for name in ("colour.mp4", "gray.mkv"):
        with av.open(str(tmp_path / name)) as file:
            assert len(file.streams.audio) == 1


def write_all(folder, clips, tiny_depth_prior):
    clips.write(folder / "in.mkv", clips.scene(FRAMES, SIZE), audio=True)
    for output, *more in (
        ("colour.mp4",), ("beside.mkv", "--side-by-side"), ("p.%04d.png",), ("z.%04d.exr",),
        ("depth.npz",), ("gray.mkv", "--codec", "ffv1"),
    ):  # fmt: skip
        command = [sys.executable, "-m", "vrestore", "depth", "in.mkv", "-o", output, "--prior", str(tiny_depth_prior)]
        done = subprocess.run([*command, *more], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def decoded(path, form):
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        return stream, [frame.to_ndarray(format=form) for frame in file.decode(video=0)], dict(file.metadata)


def colours_play_and_say_what_they_mean(made):
    stream, frames, note = decoded(made / "colour.mp4", "rgb24")
    assert stream.codec_context.name == "h264"
    assert len(frames) == FRAMES
    assert frames[0].shape == (*SIZE, 3)
    told = json.loads(note["comment"])
    assert (told["near"], told["far"]) == (1, 0)
    _, both, _ = decoded(made / "beside.mkv", "rgb24")
    assert both[0].shape == (SIZE[0], 2 * SIZE[1], 3)


def all_data_are_the_same_values(made):
    with np.load(made / "depth.npz") as kept:
        depth, note = kept["depth"], json.loads(str(kept["meta"]))
    assert depth.shape == (FRAMES, *SIZE)
    assert depth.dtype == np.float32
    assert (note["near"], note["far"]) == (1, 0)
    codes = np.floor(depth * np.float32(65535) + np.float32(0.5))
    for i in range(FRAMES):
        found = cv2.imread(str(made / f"p.{i + 1:04d}.png"), cv2.IMREAD_UNCHANGED)
        assert found.dtype == np.uint16
        assert np.array_equal(found, codes[i])
    stream, frames, told = decoded(made / "gray.mkv", "gray16le")
    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("ffv1", "gray16le")
    assert np.array_equal(np.stack(frames), codes)
    assert json.loads(told["COMMENT"])["near"] == 1
    header = (made / "z.0001.exr").read_bytes()[:400]
    assert header[:4] == b"\x76\x2f\x31\x01"
    assert b"channels\0chlist\0\x13\0\0\0Z\0\x02" in header  # one channel, of 32 bits
