"""What an output lost of its samples' meaning is named; what OpenEXR says of its pixels is read and written."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vrestore.video import ColorTags, Formats, SegmentWriter, choose_encoding, mux, probe
from vrestore.video.exr import PRIMARIES, Marks, exr_bytes
from vrestore.video.info import Beside, HdrMetadata, MasteringDisplay
from vrestore.video.output import choose_output
from vrestore.video.tags import lost_tags

ACES_AP1 = (0.713, 0.293, 0.165, 0.83, 0.128, 0.044, 0.32168, 0.33767)


def written(make_clip, tmp_path, output, color, **formats):
    """A clip with those tags, in ``output``."""
    path = make_clip("in.mkv", codec="ffv1", pix_fmt="yuv420p10le", color=color, pts=range(3))
    info = probe(path)
    encoding = choose_encoding(info, tmp_path / output, (48, 64), Formats(**formats))
    with SegmentWriter(tmp_path / "segment", (48, 64), encoding, info) as writer:
        for pts in range(3):
            writer.write(np.full((3, 48, 64), 0.5, np.float32), pts)
    mux([tmp_path / "segment"], info, tmp_path / output)
    return tmp_path / output, encoding


@pytest.mark.parametrize("color", [(9, 14, 9, 1), (9, 16, 9, 1), (1, 1, 1, 1), (5, 6, 5, 1), (12, 13, 1, 1)])
def test_prores_says_what_its_colours_mean(make_clip, tmp_path, caplog, color):
    path, _ = written(make_clip, tmp_path, "out.mov", color, codec="prores")
    found = probe(path).color
    assert (found.primaries, found.transfer, found.matrix, found.range) == color
    assert "left out" not in caplog.text


def test_what_is_not_there_is_named(make_clip, tmp_path):
    path, encoding = written(make_clip, tmp_path, "out.mp4", (1, 1, 1, 1), codec="hevc10")
    assert lost_tags(path, encoding.color, None) == []
    assert lost_tags(path, ColorTags(9, 2, 1, 2, 2), None) == [
        "primaries 9 (H.273)", "range 2 (H.273)", "chroma location 2 (H.273)",
    ]  # fmt: skip
    hdr = HdrMetadata(MasteringDisplay((), (Fraction(0), Fraction(1000))), (1000, 400))
    assert lost_tags(path, encoding.color, hdr) == ["mastering display", "content light level"]


def test_an_output_that_is_not_decoded_here_is_no_failure(tmp_path, caplog):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"nothing that can be read")
    assert lost_tags(path, ColorTags(9, 16, 9, 1, 3), None) == []
    assert "is not checked" in caplog.text


def write_exr(path: Path, marks: Marks) -> Path:
    path.write_bytes(exr_bytes(np.full((3, 40, 30), 0.5, np.float32), "gbrpf16le", 13, Beside(), marks))
    return path


@pytest.mark.parametrize("code", PRIMARIES)
def test_primaries_of_exr_are_read_and_written(tmp_path, code):
    info = probe(write_exr(tmp_path / "in.exr", Marks(PRIMARIES[code], Fraction(4, 3))))
    assert PRIMARIES[info.color.primaries] == PRIMARIES[code]
    assert info.chromaticities == PRIMARIES[code]
    assert info.sample_aspect == Fraction(4, 3)
    assert probe(write_exr(tmp_path / "plain.exr", Marks())).color.primaries == 1, "what the format's standard says"


def test_primaries_without_a_code_stay_in_exr_and_are_told_elsewhere(tmp_path, caplog):
    info = probe(write_exr(tmp_path / "in.exr", Marks(ACES_AP1)))
    assert info.color.primaries == 2
    kept = choose_output(info, tmp_path / "out.exr", (40, 30), (0, 1), Formats())
    assert kept.marks.chromaticities == ACES_AP1
    assert caplog.text == ""
    choose_output(info, tmp_path / "out.png", (40, 30), (0, 1), Formats())
    assert "0.7130, 0.2930" in caplog.text
    assert "only an .exr output is marked with them" in caplog.text


def test_a_damaged_exr_header_says_nothing(tmp_path):
    path = write_exr(tmp_path / "in.exr", Marks(ACES_AP1))
    data = bytearray(path.read_bytes())
    at = data.index(b"chromaticities\0chromaticities\0") + 34
    struct.pack_into("<f", data, at, np.nan)
    path.write_bytes(data)
    assert probe(path).chromaticities == ()
