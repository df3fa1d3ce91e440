"""Interlaced video: how it is told, refused, and made whole; the truth is a scene drawn at the times of the fields."""

from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest

from vrestore.video import open_reader, probe

SIZE = (48, 64)
FRAMES = 40


def drawn(field):
    """Luma of a moving wave at the time of a field."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    return np.round(120 + 80 * np.sin(0.25 * x + 0.3 * field) * np.cos(0.1 * y)).astype(np.uint8)


def woven(i, first="top"):
    """Two fields of different times in one picture."""
    early, late = drawn(2 * i), drawn(2 * i + 1)
    top, bottom = (early, late) if first == "top" else (late, early)
    return np.where(np.arange(SIZE[0])[:, None] % 2, bottom, top)


def marked(frame, mode):
    """The frame with its flags set by a filter: PyAV has no other way."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=SIZE[1], height=SIZE[0], format=frame.format, time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add("setfield", mode), graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.pull()


def write_clip(path, pictures, flag="prog", codec="ffv1", field_order=None, **options):
    """``flag`` is how frames are marked: prog, tff or bff."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, width=SIZE[1], height=SIZE[0], options=options)
        stream.pix_fmt = "yuv420p"
        if field_order is not None:
            stream.codec_context.field_order = field_order
        elif flag != "prog":
            stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame(SIZE[1], SIZE[0], "yuv420p")
            for plane, values in zip(frame.planes, (picture, 128, 128), strict=True):
                samples = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)
                samples[:, : plane.width] = values
            frame.pts, frame.time_base = i, Fraction(1, 25)
            frame = marked(frame, flag)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def write(tmp_path):
    """write(name, pictures, flag, ...) -> the path of a clip."""
    return lambda name, *args, **options: write_clip(tmp_path / name, *args, **options)


def video(first="top", frames=FRAMES):
    return [woven(i, first) for i in range(frames)]


def film(frames=FRAMES):
    return [drawn(2 * i) for i in range(frames)]


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize(("flag", "first"), [("tff", "top"), ("bff", "bottom")])
def test_flagged_frames_with_combing_are_interlaced(write, codec, flag, first):
    info = probe(write("a.mkv", video(first), flag, codec))
    assert (info.interlaced, info.fields) == (True, "frames")


@pytest.mark.parametrize(("order", "first"), [(2, "top"), (3, "bottom")])
def test_the_parameters_of_the_codec_count_too(write, order, first):
    info = probe(write("a.mkv", video(first), field_order=order))
    assert (info.interlaced, info.fields) == (True, first)


def test_progressive_pictures_flagged_carelessly_are_progressive(write, caplog):
    info = probe(write("a.mkv", film(), "tff", "libx264"))
    assert (info.interlaced, info.fields) == (False, "frames")
    assert "flagged as interlaced, but its pictures are not" in caplog.text


def test_where_nothing_moves_the_flag_stands(write):
    assert probe(write("a.mkv", [drawn(0)] * 12, "tff", "mpeg2video")).interlaced


def test_one_interlaced_passage_among_progressive_ones_counts(write):
    pictures = film(60) + [woven(i) for i in range(60, 100)] + [drawn(2 * i) for i in range(100, 160)]
    assert probe(write("a.mkv", pictures, "tff", "libx264", g="12", preset="ultrafast")).interlaced


def test_plain_video_is_not_looked_at(write):
    """An unflagged video is progressive, whatever is in it."""
    info = probe(write("a.mkv", video()))
    assert (info.interlaced, info.fields) == (False, "none")


@pytest.fixture(scope="module", params=["flags of frames", "parameters only", "unknown"])
def interlaced(tmp_path_factory, request):
    """Lossless luma; which field is shown first is told by each, but for the last, where it is the usual one."""
    path = tmp_path_factory.mktemp("interlaced") / "a.mkv"
    if request.param == "flags of frames":
        return probe(write_clip(path, video(), "tff", "libx264", qp="0", g="7", bf="2", preset="ultrafast"))
    if request.param == "parameters only":
        return probe(write_clip(path, video("bottom"), field_order=3))
    return probe(write_clip(path, video()))


def read(info, *span):
    from dataclasses import replace

    with open_reader(replace(info, deinterlace=True)) as reader:
        return list(reader.frames(*span))


def luma(frame):
    return frame.rgb[1] * 219 + 16  # gray


def test_deinterlaced_frames_are_those_of_the_first_field(interlaced):
    """As many, at the same times, and far closer to the truth than the fields as they lie."""
    frames = read(interlaced)
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert [frame.pts for frame in frames] == [40 * i for i in range(FRAMES)]
    truth = [drawn(2 * i).astype(float) for i in range(FRAMES)]
    error = np.mean([np.abs(luma(frame) - true) for frame, true in zip(frames, truth, strict=True)])
    combed = np.mean([np.abs(woven(i) - true) for i, true in enumerate(truth)])
    assert error < 1
    assert combed > 4


@pytest.mark.parametrize("span", [(0, 1), (0, 7), (1, 2), (6, 8), (33, 40), (35, 36), (39, 40)])
def test_any_range_of_deinterlaced_frames_is_that_of_the_whole(interlaced, span):
    everything = read(interlaced)
    part = read(interlaced, *span)
    assert [frame.index for frame in part] == list(range(*span))
    for frame in part:
        assert frame.pts == everything[frame.index].pts
        assert np.array_equal(frame.rgb, everything[frame.index].rgb)


def test_one_frame(write):
    (frame,) = read(probe(write("a.mkv", video(frames=1), "tff", "mpeg2video")))
    assert frame.index == 0
    assert frame.rgb.shape == (3, *SIZE)


def test_the_fast_reader_deinterlaces_too(write):
    from dataclasses import replace

    info = replace(probe(write("a.mp4", video(), "tff", "libx264")), deinterlace=True)
    with open_reader(info) as exact, open_reader(info, pace="fast") as fast:
        for a, b in zip(exact.frames(0, 4), fast.frames(0, 4), strict=True):
            assert np.array_equal(a.rgb, b.rgb)
