"""What comes out is what came in: pictures and sequences of them."""

import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from vrestore.errors import ConfigError, OutputError, ResumeError, UnsupportedMediaError
from vrestore.video import probe


def pictures(folder, pattern, dtype, channels=3, first=1001, count=4, size=(22, 34)):
    """A sequence of noise; its arrays, as OpenCV has them."""
    noise = np.random.default_rng(2)
    made = []
    for i in range(count):
        codes = noise.integers(0, np.iinfo(dtype).max + 1, (*size, channels)).astype(dtype)
        assert cv2.imwrite(str(folder / (pattern % (first + i))), codes)
        made.append(codes)
    return made


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("kind", "channels"), [("png", 3), ("png", 4), ("tif", 3)])
def test_a_sequence_comes_out_with_its_numbers_and_every_bit(deliver, tmp_path, dtype, kind, channels):
    made = pictures(tmp_path, f"shot.%04d.{kind}", dtype, channels)
    result = deliver(tmp_path / f"shot.%04d.{kind}", tmp_path / f"out.%04d.{kind}")
    assert (result.frames, result.fps) == (4, "24")
    for number, codes in enumerate(made, 1001):
        found = cv2.imread(str(tmp_path / f"out.{number}.{kind}"), cv2.IMREAD_UNCHANGED)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, codes)
    assert len(list(tmp_path.iterdir())) == 8


def test_tiff_with_alpha_keeps_every_bit(deliver, tmp_path):
    made = pictures(tmp_path, "in.%d.png", np.uint16, 4, first=9, count=3)
    deliver(tmp_path / "in.%d.png", tmp_path / "out.##.tif")
    for number, codes in enumerate(made, 9):
        with av.open(str(tmp_path / f"out.{number:02d}.tif")) as container:
            (frame,) = container.decode(video=0)
        assert frame.format.name == "rgba64le"  # the file itself says that the fourth is alpha
        np.testing.assert_array_equal(frame.to_ndarray(), codes[..., [2, 1, 0, 3]])


def test_a_still_with_alpha(deliver, tmp_path):
    codes = np.random.default_rng(0).integers(0, 256, (20, 30, 4)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "in.png"), codes)
    deliver(tmp_path / "in.png", tmp_path / "out.png")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED), codes)
    with pytest.raises(ConfigError, match="--no-alpha"):
        deliver(tmp_path / "in.png", tmp_path / "out.jpg")
    codes[..., 3] = 255  # opaque all over: nothing is lost without it
    cv2.imwrite(str(tmp_path / "in.png"), codes)
    deliver(tmp_path / "in.png", tmp_path / "out.jpg")


def test_a_sequence_resumes_and_shows_nothing_before_its_end(deliver, tmp_path, monkeypatch):
    import vrestore.engine

    monkeypatch.setattr(vrestore.engine, "SEGMENT_FRAMES", 4)
    made = pictures(tmp_path, "in.%03d.png", np.uint16, first=0, count=24)
    before = sorted(tmp_path.iterdir())
    source, output = tmp_path / "in.%03d.png", tmp_path / "out.%03d.png"
    with pytest.raises(RuntimeError, match="asked to fail"):
        deliver(source, output, fail_at=22)
    assert sorted(tmp_path.iterdir()) == [*before, tmp_path / "out.%03d.png.vrestore"]
    kept = json.loads((tmp_path / "out.%03d.png.vrestore" / "job.json").read_text())["state"]["frames"]
    assert 0 < kept < 24
    with pytest.raises(ResumeError, match="encoding was"):
        deliver(source, output, options={"resume": True}, fail_at=22, pix_fmt="rgb24")
    with pytest.raises(ResumeError, match="fps was 24, is 25"):
        deliver(source, output, options={"resume": True}, fail_at=22, fps="25")
    # the failure counts frames of a run: the second one stops before it gets there
    deliver(source, output, options={"resume": True}, fail_at=22)
    for number, codes in enumerate(made):
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / f"out.{number:03d}.png"), -1), codes)
    assert len(list(tmp_path.iterdir())) == 48


def test_a_sequence_becomes_a_video_and_a_part_of_it_keeps_its_numbers(deliver, tmp_path):
    pictures(tmp_path, "in.%04d.png", np.uint8, count=5)
    deliver(tmp_path / "in.%04d.png", tmp_path / "out.mkv", fps="23.976")
    assert (probe(tmp_path / "out.mkv").fps, probe(tmp_path / "out.mkv").frames) == (Fraction(24000, 1001), 5)
    deliver(tmp_path / "in.%04d.png", tmp_path / "part.%d.png", options={"start": "2", "end": "4"})
    assert sorted(path.name for path in tmp_path.glob("part.*")) == ["part.1003.png", "part.1004.png"]
    deliver(tmp_path / "out.mkv", tmp_path / "back.%03d.png", first_number=7, options={"end": "1"})
    assert [path.name for path in tmp_path.glob("back.*")] == ["back.007.png"]


def test_a_sequence_does_not_replace_what_it_must_not(deliver, tmp_path):
    pictures(tmp_path, "in.%04d.png", np.uint8, count=3)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for output in ("in.%04d.png", "in.%d.png"):
        with pytest.raises(OutputError, match=r"in\.1001\.png is the input itself"):
            deliver(tmp_path / "in.%04d.png", tmp_path / output)
    (tmp_path / "out.1002.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"out\.1002\.png exists"):
        deliver(tmp_path / "in.%04d.png", tmp_path / "out.%04d.png", options={"overwrite": False})
    assert {path: path.read_bytes() for path in kept} == kept


def test_pictures_of_two_sizes(deliver, tmp_path):
    pictures(tmp_path, "in.%d.png", np.uint8, first=1, count=2)
    pictures(tmp_path, "in.%d.png", np.uint8, first=3, count=1, size=(22, 36))
    with pytest.raises(UnsupportedMediaError, match=r"in\.3\.png is 36x22, the first picture of the sequence 34x22"):
        deliver(tmp_path / "in.%d.png", tmp_path / "out.%d.png")
    assert len(list(tmp_path.iterdir())) == 3
