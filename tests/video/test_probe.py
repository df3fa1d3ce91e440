import logging
from fractions import Fraction

import av
import numpy as np
import pytest

from vrestore.errors import EmptyMediaError, MissingInputError, UnreadableMediaError, UnsupportedMediaError
from vrestore.video import probe


def test_facts_of_a_plain_clip(make_clip):
    path = make_clip("a.mp4", audio="aac", color=(6, 6, 6, 1), aspect=Fraction(8, 9), options={"bf": "2"})
    info = probe(path)
    assert (info.width, info.height, info.frames) == (64, 48, 12)
    assert (info.codec, info.pix_fmt, info.bit_depth) == ("h264", "yuv420p", 8)
    assert (info.fps, info.start_pts * info.time_base) == (25, 0)
    assert info.duration_s == pytest.approx(12 / 25)
    color = info.color
    assert (color.primaries, color.transfer, color.matrix, color.range, color.chroma_location) == (6, 6, 6, 1, 1)
    assert info.sample_aspect == Fraction(8, 9)
    assert (info.audio_streams, info.subtitle_streams) == (1, 0)
    assert (info.vfr, info.is_still, info.edit_list, info.rotation, info.interlaced) == (False, False, False, 0, False)
    assert info.clock == "frames"


@pytest.mark.parametrize("frames", [1, 3, 17])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_the_frame_count_is_exact(make_clip, name, frames):
    info = probe(make_clip(name, pts=range(frames), options={"bf": "3"}))
    assert info.frames == frames
    assert not info.vfr


@pytest.mark.parametrize("codec", ["libvpx", "mpeg4", "libvpx-vp9"])
def test_codecs_whose_packets_may_not_be_frames(make_clip, codec):
    options = {"auto-alt-ref": "1", "lag-in-frames": "10"} if "vpx" in codec else {"bf": "2"}
    assert probe(make_clip("a.mkv", codec=codec, pts=range(30), options=options)).frames == 30


def test_a_raw_stream_without_times_gets_times_from_its_rate(make_clip):
    info = probe(make_clip("a.h264", options={"x264-params": "force-cfr=1"}))
    assert (info.frames, info.clock, info.time_base) == (12, "count", 1 / info.fps)


def test_variable_frame_rate(make_clip):
    times = (0, 1001, 2002, 5005, 6006, 9009)
    info = probe(make_clip("a.mp4", pts=times, time_base=Fraction(1, 30000)))
    assert info.vfr
    assert info.fps == Fraction(5 * 30000, 9009)


def test_milliseconds_do_not_make_a_rate_variable(make_clip):
    info = probe(make_clip("a.mkv", codec="ffv1", pix_fmt="bgr0", pts=[1001 * i for i in range(40)],
                           time_base=Fraction(1, 24000)))  # fmt: skip
    assert not info.vfr
    assert info.time_base == Fraction(1, 1000)
    assert info.fps == Fraction(24000, 1001)


@pytest.mark.parametrize(
    ("fields", "depth", "matrix", "full"),
    [
        ({"color": (1, 1, 1, 1)}, 8, 1, False),
        ({"color": (6, 6, 6, 2)}, 8, 6, True),
        ({"pix_fmt": "yuv420p10le", "color": (9, 16, 9, 1)}, 10, 9, False),
        ({"codec": "ffv1", "pix_fmt": "bgr0"}, 8, 2, False),
        ({"codec": "ffv1", "pix_fmt": "yuv444p16le"}, 16, 2, False),
        ({"codec": "mjpeg", "pix_fmt": "yuvj420p", "color": (2, 2, 2, 2)}, 8, 5, True),
    ],
)
def test_colour_and_depth(make_clip, fields, depth, matrix, full):
    info = probe(make_clip("a.mkv", **fields))
    assert (info.bit_depth, info.color.matrix, info.color.range == 2) == (depth, matrix, full)


@pytest.mark.parametrize(("turn", "size"), [(90, (48, 64)), (180, (64, 48)), (-90, (48, 64))])
def test_a_turned_clip_has_its_shown_size_and_aspect(make_clip, turn, size):
    info = probe(make_clip("a.mp4", rotation=turn, aspect=Fraction(4, 3)))
    assert (info.width, info.height) == size
    assert info.rotation == turn % 360
    assert info.sample_aspect == (Fraction(4, 3) if turn == 180 else Fraction(3, 4))


def test_frames_hidden_by_an_edit_list_do_not_count(make_clip):
    info = probe(make_clip("a.mp4", pts=range(-5, 10), options={"bf": "2"}))
    assert info.edit_list
    assert (info.frames, info.start_pts) == (10, 0)


def test_cover_art_is_not_the_video(make_clip, tmp_path):
    picture = tmp_path / "cover.png"
    picture.write_bytes(_png())
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container, av.open(str(picture)) as cover:
        sound = container.add_stream("aac", rate=48000)
        art = container.add_stream_from_template(cover.streams.video[0], opaque=True)
        art.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
        for packet in cover.demux():
            if packet.size:
                packet.stream = art
                container.mux(packet)
    with pytest.raises(EmptyMediaError, match="no video"):
        probe(path)


def _png() -> bytes:
    import io

    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "png")
    return data.getvalue()


def test_a_picture_under_a_foreign_name_is_a_still(tmp_path):
    path = tmp_path / "picture.dat"
    path.write_bytes(_png())
    info = probe(path)
    assert info.is_still
    assert (info.width, info.height, info.frames) == (8, 8, 1)


def test_a_missing_file():
    with pytest.raises(MissingInputError, match=r"no_such\.mp4 does not exist"):
        probe("no_such.mp4")


def test_a_folder(tmp_path):
    with pytest.raises(UnsupportedMediaError, match="is a folder"):
        probe(tmp_path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.png", "a.txt"])
@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "is empty"), (b"this is not a video, whatever its name\n" * 20, "not a readable|text file")],
)
def test_a_file_that_is_no_video(tmp_path, caplog, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UnreadableMediaError, match=message) as caught:
        probe(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_truncated_video(make_clip, name, part):
    path = make_clip(name, pts=range(25), audio="aac")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UnreadableMediaError, match="truncated") as caught:
        probe(path)
    assert "\n" not in str(caught.value)


def test_a_fast_start_file_that_was_cut(make_clip, tmp_path):
    source = make_clip("a.mp4", pts=range(25))
    path = tmp_path / "fast.mp4"
    with av.open(str(source)) as old, av.open(str(path), "w", options={"movflags": "faststart"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    assert probe(path).frames == 25
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    with pytest.raises(UnreadableMediaError, match="truncated: at least 100 "):
        probe(path)


def test_sound_without_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    with pytest.raises(EmptyMediaError, match="no video, only audio"):
        probe(path)


def test_noise_in_the_place_of_frames(make_clip):
    path = make_clip("a.mkv", codec="ffv1", pix_fmt="bgr0", options={"level": "3"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    for at in range(600, len(data) - 1):  # the header of the container stays
        data[at] = (at * 37) % 251
    path.write_bytes(data)
    with pytest.raises((UnreadableMediaError, EmptyMediaError)) as caught:
        probe(path)
    assert middle
    assert "\n" not in str(caught.value)


def test_a_colour_matrix_that_is_not_handled(make_clip):
    with pytest.raises(UnsupportedMediaError, match="matrix 8"):
        probe(make_clip("a.mkv", color=(1, 1, 8, 1), pix_fmt="yuv444p"))
