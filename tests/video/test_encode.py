import dataclasses
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import av.logging
import numpy as np
import pytest

from vrestore.errors import ConfigError, OutputError
from vrestore.video import SegmentWriter, VideoInfo, choose_encoding, mux, open_reader, output_beside, probe
from vrestore.video.info import ColorTags

PLAIN = VideoInfo(
    path=Path("in.mp4"), width=64, height=48, frames=10, fps=Fraction(25), time_base=Fraction(1, 25), start_pts=0,
    duration_s=0.4, codec="h264", pix_fmt="yuv420p", bit_depth=8, color=ColorTags(6, 6, 6, 1, 1),
)  # fmt: skip


def info_with(**changes):
    return dataclasses.replace(PLAIN, **changes)


@pytest.mark.parametrize(
    ("changes", "output", "size", "codec", "pix_fmt"),
    [
        ({}, "o.mp4", (96, 128), "libx264", "yuv420p"),
        ({}, "o.mkv", (96, 128), "libx264", "yuv420p"),
        ({}, "o.MOV", (96, 128), "libx264", "yuv420p"),
        ({}, "o.webm", (96, 128), "libvpx-vp9", "yuv420p"),
        ({}, "o.mp4", (363, 644), "libx264", "yuv444p"),
        ({"pix_fmt": "yuv422p"}, "o.mp4", (96, 128), "libx264", "yuv422p"),
        ({"pix_fmt": "yuvj420p"}, "o.mp4", (96, 128), "libx264", "yuv420p"),
        ({"pix_fmt": "yuv420p10le", "bit_depth": 10}, "o.mp4", (96, 128), "libx265", "yuv420p10le"),
        ({"pix_fmt": "yuv422p10le", "bit_depth": 10, "codec": "prores"}, "o.mov", (96, 128), "libx265", "yuv422p10le"),
        ({"pix_fmt": "yuv420p12le", "bit_depth": 12}, "o.mp4", (96, 128), "libx265", "yuv420p12le"),
        ({"pix_fmt": "yuv420p10le", "bit_depth": 10}, "o.webm", (96, 128), "libsvtav1", "yuv420p10le"),
        ({"codec": "hevc"}, "o.mp4", (96, 128), "libx265", "yuv420p"),
        ({"codec": "ffv1", "pix_fmt": "bgr0"}, "o.mkv", (363, 644), "ffv1", "bgr0"),
        ({"codec": "ffv1", "pix_fmt": "bgr0"}, "o.mp4", (96, 128), "libx264", "yuv420p"),
        ({"codec": "ffv1"}, "o.mkv", (363, 644), "ffv1", "yuv420p"),
        ({"codec": "ffv1", "pix_fmt": "gbrp10le", "bit_depth": 10}, "o.mkv", (96, 128), "ffv1", "gbrp10le"),
        ({"codec": "ffv1", "pix_fmt": "rgb48le", "bit_depth": 16}, "o.mkv", (96, 128), "ffv1", "gbrp16le"),
        ({"codec": "ffv1", "pix_fmt": "gray"}, "o.mkv", (96, 128), "ffv1", "bgr0"),
        ({"codec": "png", "pix_fmt": "rgb24"}, "o.mkv", (96, 128), "ffv1", "bgr0"),
    ],
)
def test_the_choice(changes, output, size, codec, pix_fmt):
    chosen = choose_encoding(info_with(**changes), output, size)
    assert (chosen.codec, chosen.pix_fmt) == (codec, pix_fmt)
    assert chosen.lossless == (codec == "ffv1")


@pytest.mark.parametrize("output", ["o.avi", "o", "o.png", "o.mpg"])
def test_an_unknown_suffix(output):
    with pytest.raises(ConfigError, match=r"not one of \.mkv, \.mp4"):
        choose_encoding(PLAIN, output, (96, 128))


def tags(color):
    return (color.primaries, color.transfer, color.matrix, color.range)


def test_tags_stay_or_say_what_was_used():
    untagged = ColorTags(chroma_location=1)
    rgb = {"codec": "ffv1", "pix_fmt": "bgr0", "color": ColorTags()}

    def written(changes, size, output="o.mp4"):
        return tags(choose_encoding(info_with(**changes), output, size).color)

    assert written({}, (1080, 1920)) == (6, 6, 6, 1)
    assert written({"color": untagged}, (96, 128)) == (2, 2, 2, 0)
    assert written({"color": untagged, "width": 1280, "height": 720}, (1440, 2560)) == (2, 2, 2, 0)
    assert written({"color": untagged}, (1080, 1440)) == (2, 2, 6, 1)
    assert written(rgb, (96, 128)) == (6, 6, 6, 1)
    assert written(rgb, (1080, 1920)) == (1, 1, 1, 1)
    assert written(rgb, (1080, 1920), "o.mkv") == (2, 2, 2, 0)


def test_pixel_shape():
    wide = info_with(sample_aspect=Fraction(8, 9), width=720, height=480)
    assert choose_encoding(wide, "o.mp4", (960, 1440)).sample_aspect == Fraction(8, 9)
    assert choose_encoding(wide, "o.mp4", (480, 640)).sample_aspect == 1
    assert choose_encoding(info_with(width=854, height=480), "o.mp4", (720, 1280)).sample_aspect == 1


def test_output_beside():
    beside = [str(output_beside(Path(f"some/in.two{s}"), "sr")) for s in (".MP4", ".avi", ".ts", ".png", "")]
    assert beside == [f"some/in.two_sr{s}" for s in (".MP4", ".mkv", ".mkv", ".png")] + ["some/in_sr.mkv"]


def write(path, frames, encoding, info, pts=None):
    size = frames[0].shape[1:]
    with SegmentWriter(path, size, encoding, info) as writer:
        for i, rgb in enumerate(frames):
            writer.write(rgb, i if pts is None else pts[i])
    return path


def waves(count, height, width):
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return [
        np.stack([0.5 + 0.4 * np.sin(0.06 * (x * (c + 1) + y) + i) for c in range(3)]).astype(np.float32)
        for i in range(count)
    ]


def test_bgr0_in_ffv1_is_bit_exact_from_end_to_end(make_clip, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (4, 47, 4 * 63), dtype=np.uint8)
    path = make_clip("a.mkv", codec="ffv1", pix_fmt="bgr0", size=(47, 63), pts=range(4), pack=lambda i: [noise[i]])
    info = probe(path)
    with open_reader(info) as reader:
        frames = list(reader.frames())
    encoding = choose_encoding(info, "o.mkv", (47, 63))
    segment = write(tmp_path / "s", [f.rgb for f in frames], encoding, info, [f.pts for f in frames])
    mux([segment], info, tmp_path / "o.mkv")
    with open_reader(tmp_path / "o.mkv") as reader:
        for before, after in zip(frames, reader.frames(), strict=True):
            np.testing.assert_array_equal(before.rgb, after.rgb)
            assert before.pts == after.pts


@pytest.mark.parametrize("pix_fmt", ["yuv444p10le", "yuv420p10le", "gbrp12le"])
def test_deep_lossless_keeps_every_code(make_clip, tools, tmp_path, pix_fmt):
    def inside_the_gamut(i):
        planes = tools.pattern(tools.Spec(pix_fmt=pix_fmt), i)
        middle = 2 ** (9 if "10" in pix_fmt else 11)
        return [((plane.astype(int) - middle) // 4 + middle).astype(plane.dtype) for plane in planes]

    path = make_clip("a.mkv", codec="ffv1", pix_fmt=pix_fmt, pts=range(2), pack=inside_the_gamut)
    info = probe(path)
    encoding = choose_encoding(info, "o.mkv", (48, 64))
    with open_reader(info) as reader:
        frames = [f.rgb for f in reader.frames()]
    mux([write(tmp_path / "s", frames, encoding, info)], info, tmp_path / "o.mkv")
    copy = probe(tmp_path / "o.mkv")
    assert (copy.pix_fmt, copy.bit_depth) == (pix_fmt, info.bit_depth)
    with open_reader(copy) as reader:
        for before, after in zip(frames, reader.frames(), strict=True):
            assert np.abs(before - after.rgb).max() < (0.02 if "420" in pix_fmt else 1e-6)


def test_ten_bits_stay_ten_bits(make_clip, tmp_path):
    ramp = np.tile(np.linspace(0, 1, 1920, dtype=np.float32), (3, 64, 1))
    info = probe(make_clip("a.mp4", codec="libx265", pix_fmt="yuv420p10le", color=(9, 16, 9, 1), pts=range(2),
                           options={"x265-params": "log-level=none:bframes=0"}))  # fmt: skip
    encoding = choose_encoding(info, "o.mp4", (64, 1920))
    mux([write(tmp_path / "s", [ramp], encoding, info)], info, tmp_path / "o.mp4")
    copy = probe(tmp_path / "o.mp4")
    assert (copy.bit_depth, tags(copy.color)) == (10, (9, 16, 9, 1))
    with open_reader(copy) as reader:
        (frame,) = reader.frames()
    assert len(np.unique(np.rint(frame.rgb[1] * 1023))) > 800  # 8 bits would give 220
    assert np.abs(frame.rgb - ramp).mean() < 0.002


@pytest.mark.parametrize(
    ("output", "size", "changes"),
    [
        ("o.mp4", (48, 64), {}),
        ("o.mp4", (45, 61), {}),
        ("o.mkv", (48, 64), {"color": ColorTags(1, 1, 1, 2, 1)}),
        ("o.webm", (45, 61), {}),
        ("o.webm", (64, 64), {"pix_fmt": "yuv420p10le", "bit_depth": 10}),
        ("o.webm", (65, 77), {"pix_fmt": "yuv420p10le", "bit_depth": 10}),
        ("o.mp4", (65, 77), {"pix_fmt": "yuv420p10le", "bit_depth": 10}),
        ("o.mov", (48, 64), {"codec": "hevc"}),
        ("o.mp4", (720, 160), {"color": ColorTags()}),
    ],
)
def test_colours_and_sizes_survive_every_codec(tmp_path, output, size, changes, capfd):
    info = info_with(path=tmp_path / "none.mp4", is_still=True, **changes)  # a still has nothing else to copy
    encoding = choose_encoding(info, output, size)
    frames = waves(3, *size)
    mux([write(tmp_path / "s", frames, encoding, info)], info, tmp_path / output)
    copy = probe(tmp_path / output)
    assert ((copy.height, copy.width), copy.frames) == (size, 3)
    assert copy.bit_depth == info.bit_depth
    assert copy.color.range == encoding.color.range or encoding.color.range == 0
    assert copy.color.matrix == encoding.color.matrix or encoding.color.matrix == 2
    with open_reader(copy) as reader:
        for rgb, frame in zip(frames, reader.frames(), strict=True):
            assert np.sqrt(np.mean((rgb - frame.rgb) ** 2)) < 0.03
    assert capfd.readouterr() == ("", "")  # encoders print nothing of their own


@pytest.mark.parametrize("output", ["o.mkv", "o.mp4"])
@pytest.mark.parametrize("pix_fmt", ["bgr0", "yuv420p"])
def test_pixels_that_are_not_square_are_marked(tmp_path, output, pix_fmt):
    info = info_with(is_still=True, codec="ffv1", pix_fmt=pix_fmt, sample_aspect=Fraction(4, 3))
    frames = waves(2, 48, 64)
    encoding = choose_encoding(info, output, (48, 64))
    mux([write(tmp_path / "s", frames, encoding, info)], info, tmp_path / output)
    assert set(shapes(tmp_path / output)) == {"sar:4/3"}
    assert output == "o.mkv" or probe(tmp_path / output).sample_aspect == Fraction(4, 3)


def shapes(path):
    """The pixel shape of every frame, which only libav's showinfo tells."""
    av.logging.set_level(av.logging.INFO)
    try:
        with av.logging.Capture() as told, av.open(str(path)) as container:
            graph = av.filter.Graph()
            source = graph.add_buffer(template=container.streams.video[0])
            graph.link_nodes(source, graph.add("showinfo"), graph.add("buffersink"))
            graph.configure()
            for frame in container.decode(video=0):
                graph.push(frame)
                graph.pull()
    finally:
        av.logging.set_level(None)
    return [word for _, _, line in told for word in line.split() if word.startswith("sar:")]


def test_pixels_that_webm_cannot_mark(caplog):
    choose_encoding(info_with(sample_aspect=Fraction(4, 3)), "o.webm", (48, 64))
    assert "not square" in caplog.text


def test_the_same_frames_give_the_same_bytes(tmp_path):
    encoding = choose_encoding(PLAIN, "o.mp4", (48, 64))
    a, b = (write(tmp_path / name, waves(12, 48, 64), encoding, PLAIN).read_bytes() for name in "ab")
    assert a == b


def test_a_segment_has_its_name_only_when_complete(tmp_path):
    encoding = choose_encoding(PLAIN, "o.mp4", (48, 64))
    writer = SegmentWriter(tmp_path / "s", (48, 64), encoding, PLAIN)
    writer.write(waves(1, 48, 64)[0], 0)
    assert not (tmp_path / "s").exists()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_an_error_inside_leaves_nothing(tmp_path):
    encoding = choose_encoding(PLAIN, "o.mp4", (48, 64))
    writer = SegmentWriter(tmp_path / "s", (48, 64), encoding, PLAIN)
    writer.write(waves(1, 48, 64)[0], 0)
    with pytest.raises(ZeroDivisionError), writer:
        writer.write(waves(1, 48, 64)[0], 1 // 0)
    assert list(tmp_path.iterdir()) == []


def test_wrong_frames_are_refused(tmp_path):
    writer = SegmentWriter(tmp_path / "s", (48, 64), choose_encoding(PLAIN, "o.mp4", (48, 64)), PLAIN)
    with pytest.raises(OutputError, match="64x47 does not fit 64x48"):
        writer.write(np.zeros((3, 47, 64), np.float32), 0)
    writer.write(np.zeros((3, 48, 64), np.float32), 5)
    with pytest.raises(OutputError, match="must increase"):
        writer.write(np.zeros((3, 48, 64), np.float32), 5)
    writer.abort()
    with pytest.raises(OutputError, match="no frame"):
        writer.close()


def test_a_folder_that_is_not_there(tmp_path):
    writer = SegmentWriter(tmp_path / "no" / "s", (48, 64), choose_encoding(PLAIN, "o.mp4", (48, 64)), PLAIN)
    with pytest.raises(OutputError, match="cannot be written"):
        writer.write(np.zeros((3, 48, 64), np.float32), 0)
