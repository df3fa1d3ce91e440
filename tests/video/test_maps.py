"""Maps of values as files: what is written comes back, and says what it means."""

import json
import struct
import zlib
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from vrestore.errors import ConfigError
from vrestore.video.colormaps import COLORMAPS, coloured
from vrestore.video.encode import Encoding, SegmentWriter
from vrestore.video.exr import read_exr
from vrestore.video.info import ColorTags
from vrestore.video.maps import GRAY, choose_maps, exr_bytes, is_gray, noted, pack
from vrestore.video.pictures import PictureEncoding, PictureSegment
from vrestore.video.transfer import SRGB, to_linear

NOTE = {"kind": "inverse depth", "near": 1}


def values(height=37, width=50, seed=0):
    return np.random.default_rng(seed).random((height, width), np.float32)


def as_frame(plane):
    return np.repeat(plane[None], 3, 0)


def exr_channels(data):
    """Of a file in ZIP scan lines of floats: channels by name, and its attributes as bytes."""
    assert data[:8] == struct.pack("<II", 20000630, 2)
    at, attributes = 8, {}
    while data[at]:
        end = data.index(b"\0", at)
        kind = data.index(b"\0", end + 1)
        (size,) = struct.unpack_from("<I", data, kind + 1)
        attributes[data[at:end].decode()] = data[kind + 5 : kind + 5 + size]
        at = kind + 5 + size
    assert attributes["compression"] == b"\x03"
    left, top, right, bottom = struct.unpack("<iiii", attributes["dataWindow"])
    height, width = bottom - top + 1, right - left + 1
    names = [part[0:1].decode() for part in attributes["channels"][:-1].split(b"\0", -1) if part[0:1].isalpha()]
    starts = struct.unpack_from(f"<{-(-height // 16)}Q", data, at + 1)
    rows = []
    for start in starts:
        first, size = struct.unpack_from("<iI", data, start)
        packed = data[start + 8 : start + 8 + size]
        lines = min(16, height - first)
        raw = packed
        if size < lines * width * 4 * len(names):
            differences = np.frombuffer(zlib.decompress(packed), np.uint8).astype(np.int64)
            differences[1:] -= 128
            apart = np.cumsum(differences).astype(np.uint8)
            raw = np.empty_like(apart)
            raw[::2], raw[1::2] = apart[: -(-len(apart) // 2)], apart[-(-len(apart) // 2) :]
            raw = raw.tobytes()
        rows.append(np.frombuffer(raw, "<f4").reshape(lines, len(names), width))
    whole = np.concatenate(rows)
    return {name: whole[:, i] for i, name in enumerate(names)}, attributes


@pytest.mark.parametrize("height", [1, 16, 37])
@pytest.mark.parametrize("smooth", [True, False])
def test_exr_holds_a_named_channel_of_floats(height, smooth):
    plane = np.linspace(-2, 9, height * 50, dtype=np.float32).reshape(height, 50) if smooth else values(height)
    channels, attributes = exr_channels(exr_bytes({"Z": plane}, {"comments": "what it means"}))
    assert set(channels) == {"Z"}
    assert np.array_equal(channels["Z"], plane)
    assert attributes["comments"] == b"what it means"


def test_exr_of_three_channels_is_read_by_libav(tmp_path):
    path, plane = tmp_path / "a.exr", values()
    path.write_bytes(exr_bytes(dict.fromkeys("RGB", plane), {}))
    coded, _ = read_exr(path)
    assert np.allclose(to_linear(coded, SRGB), as_frame(plane), atol=1e-5)


def test_png_of_16_bits_with_a_note(tmp_path):
    plane = values()
    encoding = choose_maps(tmp_path / "a.png", NOTE, None, "Z", plane.shape)
    (tmp_path / "a.png").write_bytes(encoding.encoded(as_frame(plane), None))
    read = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint16
    assert np.abs(read / 65535 - plane).max() <= 0.5 / 65535 + 1e-7
    from PIL import Image

    with Image.open(tmp_path / "a.png") as picture:
        assert json.loads(picture.text["Comment"]) == NOTE


def test_an_archive_holds_all_maps_of_all_segments(tmp_path):
    maps = [values(seed=i) for i in range(5)]
    encoding = choose_maps(tmp_path / "a.npz", NOTE, None, "Z", maps[0].shape)
    segments = []
    for first, some in ((0, maps[:2]), (2, maps[2:])):
        writer = PictureSegment(tmp_path / f"{first}.mkv", maps[0].shape, encoding, first)
        for i, plane in enumerate(some):
            writer.write(as_frame(plane), i)
        writer.close()
        segments.append(writer.path)
    pack(segments, tmp_path / "a.npz", encoding)
    with np.load(tmp_path / "a.npz") as kept:
        assert kept.files == ["depth", "meta"]
        assert np.array_equal(kept["depth"], np.stack(maps))
        assert kept["depth"].dtype == np.float32
        assert json.loads(str(kept["meta"])) == NOTE


def test_gray_of_16_bits_in_ffv1_is_lossless(tmp_path, clips):
    from vrestore.video import probe

    info = probe(clips.write(tmp_path / "in.mkv", clips.scene(2, (37, 50))))
    encoding = Encoding("ffv1", "bgr0", (("level", "1"),), ColorTags(), Fraction(1), True, False)
    gray = noted(encoding, NOTE, gray=True)
    assert is_gray(gray)
    assert not is_gray(encoding)
    assert gray.pix_fmt == GRAY
    plane = values()
    with SegmentWriter(tmp_path / "o.mkv", (37, 50), gray, info) as writer:
        writer.write(as_frame(plane), 0)
    with av.open(str(tmp_path / "o.mkv")) as file:
        frame = next(file.decode(video=0))
        assert frame.format.name == "gray16le"
        assert np.array_equal(
            frame.to_ndarray(), np.floor(plane * np.float32(65535) + np.float32(0.5)).astype(np.uint16)
        )


def test_what_holds_no_data_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"a\.jpg holds no data of 16 bits"):
        choose_maps(tmp_path / "a.jpg", NOTE, None, "Z", (4, 4))
    lossy = Encoding("libx264", "yuv420p", (), ColorTags(), Fraction(1), False, True)
    with pytest.raises(ConfigError, match="written by FFV1 alone, not libx264"):
        noted(lossy, NOTE, gray=True)
    assert not is_gray(PictureEncoding("png", "rgb24", 0))


@pytest.mark.parametrize("name", COLORMAPS)
def test_colours_are_even_steps_without_bands(name):
    ramp = np.linspace(-0.1, 1.1, 4001, dtype=np.float32)[None]
    found = coloured(ramp, name)
    assert found.shape == (3, 1, 4001)
    assert 0 <= found.min() < found.max() <= 1
    assert np.abs(np.diff(found, axis=2)).max() < 0.02
    assert np.array_equal(found[:, 0, 0], found[:, 0, 100])  # clipped


def test_near_is_bright_and_far_is_dark():
    for name in ("inferno", "magma", "gray"):
        found = coloured(np.linspace(0, 1, 50, dtype=np.float32)[None], name).mean(0)[0]
        assert (np.diff(found) > -1e-3).all()
    far, near = coloured(np.array([[0.0, 1.0]], np.float32), "spectral")[:, 0].T
    assert near[0] > near[2]
    assert far[2] > far[0]


def test_an_unknown_map_of_colours_is_named():
    with pytest.raises(ConfigError, match="colormap is 'jet'"):
        coloured(np.zeros((2, 2), np.float32), "jet")
