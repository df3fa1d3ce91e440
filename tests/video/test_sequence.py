"""Image sequences as input: names, gaps, kinds of picture."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from vrestore.errors import ConfigError, MissingInputError, UnreadableMediaError, UnsupportedMediaError
from vrestore.video import Keep, detect_shots, open_reader, probe
from vrestore.video.sequence import Pattern
from vrestore.video.shots import Shot


def write(folder, numbers, name="a.{:04d}.png", size=(16, 24)):
    for number in numbers:
        assert cv2.imwrite(str(folder / name.format(number)), np.full((*size, 3), number % 256, np.uint8))


def test_facts_and_frames(tmp_path):
    write(tmp_path, range(98, 104))
    info = probe(tmp_path / "a.%04d.png")
    assert (info.frames, info.fps, info.time_base, info.start_pts) == (6, 24, Fraction(1, 24), 0)
    assert (info.numbers, info.is_still, info.pictures, info.lossless) == ((98, 103), False, True, True)
    assert probe(tmp_path / "a.####.png", Fraction(25)).fps == 25
    with open_reader(info) as reader:
        frames = list(reader.frames(2, 5))
    assert [(frame.index, frame.pts, round(frame.rgb[0, 0, 0] * 255)) for frame in frames] == [
        (2, 2, 100), (3, 3, 101), (4, 4, 102),
    ]  # fmt: skip
    assert detect_shots(info) == [Shot(0, 6)]


def test_numbers_without_zeros_go_on_beyond_their_digits(tmp_path):
    write(tmp_path, range(8, 12), "a{}.png")
    write(tmp_path, [1], "a{:02d}.png")  # another sequence, a%02d
    assert probe(tmp_path / "a%d.png").numbers == (8, 11)
    write(tmp_path, range(98, 102), "b{:02d}.png")
    assert probe(tmp_path / "b%02d.png").numbers == (98, 101)


def test_a_gap_names_the_frame(tmp_path):
    write(tmp_path, [1001, 1002, 1004, 1007])
    with pytest.raises(UnreadableMediaError, match=r"frame 1003 \(a\.1003\.png\) is missing, 3 in all, between 1001"):
        probe(tmp_path / "a.%04d.png")


def test_what_is_no_sequence(tmp_path):
    with pytest.raises(MissingInputError, match="no picture is named like"):
        probe(tmp_path / "a.%04d.png")
    with pytest.raises(MissingInputError, match="no picture is named like"):
        probe(tmp_path / "no" / "a.%04d.png")
    write(tmp_path, [1], "100%d.png")  # a file of that very name
    assert probe(tmp_path / "100%d.png").is_still
    assert Pattern.of(Path("clip%02d.mp4")) is None
    assert Pattern.of(Path("a%d_%d.png")) is None
    with pytest.raises(ConfigError, match="fps is given, but"):
        probe(tmp_path / "100%d.png", Fraction(25))


def test_an_empty_frame_is_found_before_the_start(tmp_path):
    write(tmp_path, [1, 2, 3])
    (tmp_path / "a.0002.png").write_bytes(b"")
    with pytest.raises(UnreadableMediaError, match=r"a\.0002\.png is empty"):
        probe(tmp_path / "a.%04d.png")


def test_ten_bit_dpx(tmp_path):
    codes = np.random.default_rng(0).integers(0, 1024, (3, 20, 28)).astype(np.uint16)
    frame = av.VideoFrame(28, 20, "gbrp10le")
    for plane, channel in zip(frame.planes, (1, 2, 0), strict=True):
        np.frombuffer(memoryview(plane), np.uint16).reshape(20, -1)[:, :28] = codes[channel]
    encoder = av.CodecContext.create("dpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 28, 20, "gbrp10le", Fraction(1)
    frame.pts = 0
    (tmp_path / "a.0001.dpx").write_bytes(b"".join(map(bytes, encoder.encode(frame))))
    with open_reader(tmp_path / "a.####.dpx") as reader:
        assert (reader.info.bit_depth, reader.info.codec) == (10, "dpx")
        (shown,) = reader.frames()
    np.testing.assert_array_equal(np.rint(shown.rgb * 1023), codes)


def test_layers_without_a_picture_and_damage(tmp_path):
    (tmp_path / "a.exr").write_bytes(b"v/1\x01" + bytes(40))
    with pytest.raises((UnreadableMediaError, UnsupportedMediaError), match=r"a\.exr"):
        probe(tmp_path / "a.exr")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_alpha_is_turned_like_the_picture(tmp_path, orientation):
    codes = np.random.default_rng(0).integers(0, 256, (10, 14, 4)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(codes).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    with open_reader(tmp_path / "a.png", keep=Keep(alpha=True)) as reader:
        (frame,) = reader.frames()
    np.testing.assert_array_equal(np.rint(frame.beside.alpha * 255), upright[..., 3])
    np.testing.assert_array_equal(np.rint(frame.rgb * 255), upright[..., :3].transpose(2, 0, 1))
