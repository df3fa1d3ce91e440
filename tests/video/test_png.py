"""What PNG files say beside their pixels: written as the standard has it, read again, by others too."""

import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vrestore.engine import run
from vrestore.report import RunOptions
from vrestore.tasks.super_resolution import SuperResolution
from vrestore.video import probe
from vrestore.video.formats import Formats
from vrestore.video.info import ColorTags
from vrestore.video.pictures import choose_pictures
from vrestore.video.png import colour_chunks, read_colour, with_chunks
from vrestore.video.stills import still_bytes

PLAIN = still_bytes(np.full((3, 4, 6), 0.5, np.float32), ".png", "rgb24")


def chunks(data):
    """Type and body of every chunk, their checksums checked."""
    at, found = 8, []
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + body),)
        found.append((kind, body))
        at += 12 + length
    return found


codes = st.integers(0, 22)


@settings(max_examples=40, deadline=None)
@given(primaries=codes, transfer=codes)
def test_colours_come_back(tmp_path_factory, primaries, transfer):
    path = tmp_path_factory.mktemp("png") / "a.png"
    path.write_bytes(with_chunks(PLAIN, colour_chunks(ColorTags(primaries, transfer))))
    known = 2 not in (primaries, transfer)
    assert read_colour(path) == (ColorTags(primaries, transfer, range=2) if known else ColorTags(range=2))
    assert next(kind for kind, _ in chunks(path.read_bytes())) == b"IHDR"
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), np.full((4, 6, 3), 128))


def test_the_chunk_is_that_of_the_standard():
    """BT.2100 PQ is 9, 16, 0, 1 in its example."""
    assert colour_chunks(ColorTags(9, 16, 9, 1)) == {b"cICP": bytes((9, 16, 0, 1))}
    assert colour_chunks(ColorTags()) == {}


@pytest.mark.parametrize("body", [b"\t\x10\0\0", b"\t\x10\1\1", b"\t", b""])
def test_what_cannot_be_meant_says_nothing(tmp_path, body):
    (tmp_path / "a.png").write_bytes(with_chunks(PLAIN, {b"cICP": body}))
    assert read_colour(tmp_path / "a.png") == ColorTags(range=2)


@pytest.mark.parametrize("end", [0, 20, 36, 43])
def test_a_file_that_ends_early_says_nothing(tmp_path, end):
    (tmp_path / "a.png").write_bytes(with_chunks(PLAIN, colour_chunks(ColorTags(9, 16)))[:end])
    assert read_colour(tmp_path / "a.png") == ColorTags(range=2)


def test_ffmpeg_reads_the_colours(tmp_path):
    (tmp_path / "a.png").write_bytes(with_chunks(PLAIN, colour_chunks(ColorTags(9, 16))))
    with av.open(str(tmp_path / "a.png")) as container:
        frame = next(container.decode(video=0))
    assert (int(frame.color_primaries), int(frame.color_trc)) == (9, 16)


def test_a_sequence_keeps_the_colours_of_its_source(make_clip, tmp_path, tiny_prior):
    source = make_clip("in.mp4", pts=range(2), color=(9, 14, 9, 1), pix_fmt="yuv420p10le")
    head = SuperResolution(scale=2, prior=str(tiny_prior), device="cpu")
    for step in ((source, "out.%04d.png"), (tmp_path / "out.%04d.png", "back.mkv")):
        run(head, step[0], tmp_path / step[1], RunOptions())
        color = probe(tmp_path / step[1]).color
        assert (color.primaries, color.transfer) == (9, 14)


def test_colours_are_no_reason_to_warn_of_a_png(make_clip, caplog):
    info = probe(make_clip("in.mp4", pts=range(2), color=(9, 16, 9, 1), pix_fmt="yuv420p10le"))
    choose_pictures(info, Path("o.%d.png"), (48, 64), Formats(), 1)
    assert "not tagged" not in caplog.text
    choose_pictures(info, Path("o.%d.tif"), (48, 64), Formats(), 1)
    assert "not tagged" in caplog.text
