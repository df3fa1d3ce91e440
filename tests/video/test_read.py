import dataclasses
import tracemalloc
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import ConfigError, UnreadableMediaError
from vrestore.video import FrameReader, open_reader, probe
from vrestore.video.read import PyavReader
from vrestore.video.read_decord import DecordReader, decord_is_right


def read(path, *args, **options):
    with open_reader(path, **options) as reader:
        return list(reader.frames(*args))


def test_lossless_rgb_is_read_bit_exact(make_clip, tools):
    noise = np.random.default_rng(3)
    clips = [[noise.integers(0, 256, (48, 256), dtype=np.uint8)] for _ in range(5)]
    path = make_clip("a.mkv", codec="ffv1", pix_fmt="bgr0", pts=range(5), pack=lambda i: clips[i])
    frames = read(path)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    for frame, (packed,) in zip(frames, clips, strict=True):
        expected = packed.reshape(48, 64, 4)[..., 2::-1].transpose(2, 0, 1)
        np.testing.assert_array_equal(np.rint(frame.rgb * 255), expected)
        assert frame.rgb.dtype == np.float32


def test_times_are_those_of_the_file(make_clip):
    times = (300, 1001, 2002, 5005, 6006, 9009)
    path = make_clip("a.mp4", pts=times, time_base=Fraction(1, 30000), options={"bf": "2"})
    info = probe(path)
    assert [frame.pts * info.time_base for frame in read(path)] == [Fraction(t, 30000) for t in times]


@pytest.fixture(scope="module")
def long_clips(tmp_path_factory):
    """Clips with open and closed groups of pictures, B-frames, all-intra, and hidden frames."""
    return tmp_path_factory.mktemp("long")


LONG = {
    "closed.mp4": {"options": {"bf": "3", "g": "12"}},
    "open.mkv": {"options": {"bf": "3", "g": "10", "x264-params": "open-gop=1:scenecut=0"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "keyint=11:open-gop=1:log-level=none"}},
    "intra.mkv": {"codec": "ffv1", "pix_fmt": "yuv420p"},
    "edited.mp4": {"options": {"bf": "2", "g": "12"}, "pts": range(-5, 75)},
    "stream.ts": {"options": {"bf": "2", "g": "12"}},
    "old.avi": {"options": {"bf": "2", "g": "12"}},
}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_any_start_gives_the_frames_of_a_full_read(long_clips, tools, name):
    fields = {"pts": range(80), **LONG[name]}
    path = tools.write_clip(long_clips / name, tools.Spec(**fields))
    info = probe(path)
    everything = read(info)
    assert len(everything) == info.frames
    assert np.all(np.diff([frame.pts for frame in everything]) > 0)
    for start in (0, 5, 33, 37, 44, 57, 74):
        frames = read(info, start, start + 1)
        assert [frame.index for frame in frames] == [start]
        assert frames[0].pts == everything[start].pts
        np.testing.assert_array_equal(frames[0].rgb, everything[start].rgb)


@given(bounds=st.tuples(st.integers(0, 45), st.integers(0, 45)).map(sorted))
@settings(max_examples=15, deadline=None)
def test_any_range(shared_clip, bounds):
    info, everything = shared_clip
    frames = read(info, *bounds)
    assert [frame.index for frame in frames] == list(range(*bounds))
    for frame in frames:
        np.testing.assert_array_equal(frame.rgb, everything[frame.index].rgb)


@pytest.fixture(scope="module")
def shared_clip(tmp_path_factory, request):
    module = request.getfixturevalue("long_clips")
    tools = request.getfixturevalue("clip_tools")
    path = tools.write_clip(module / "shared.mp4", tools.Spec(pts=range(45), options={"bf": "3", "g": "9"}))
    info = probe(path)
    return info, read(info)


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_a_turned_clip_is_shown_upright(make_clip, turn):
    exact = {"qp": "0"}  # with loss, libx264 does not write the same bits twice where it runs its code for AVX-512
    plain = read(make_clip("plain.mp4", pts=range(3), options=exact))
    turned = read(make_clip("turned.mp4", pts=range(3), options=exact, rotation=turn))
    for a, b in zip(plain, turned, strict=True):
        np.testing.assert_array_equal(np.rot90(a.rgb, turn // 90, axes=(1, 2)), b.rgb)
        assert b.rgb.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    "fields",
    [
        {"options": {"bf": "3", "g": "12"}, "color": (6, 6, 6, 1)},
        {"options": {"bf": "2"}, "color": (1, 1, 1, 1), "size": (90, 160)},
        {"options": {"bf": "2"}},
        {"pts": (0, 3, 4, 9, 14, 15), "time_base": Fraction(1, 60)},
        {"codec": "libvpx-vp9"},
    ],
)
def test_both_readers_give_the_same_frames(make_clip, tools, fields):
    """On grays, where decord's coarser chroma filter shows nothing, to its rounding to 8 bits."""

    def gray(i):
        spec = tools.Spec(size=fields.get("size", (48, 64)))
        luma, *chroma = tools.pattern(spec, i)
        return [luma, *(np.full_like(plane, 128) for plane in chroma)]

    path = make_clip("a.mkv" if "codec" in fields else "a.mp4", **{"pts": range(30), **fields}, pack=gray)
    info = probe(path)
    with open_reader(info) as exact, open_reader(info, pace="fast") as fast:
        assert isinstance(exact, PyavReader)
        assert isinstance(fast, DecordReader)
        pairs = list(zip(exact.frames(), fast.frames(), strict=True))
    assert len(pairs) == info.frames
    for a, b in pairs:
        assert (a.index, a.pts) == (b.index, b.pts)
        assert np.abs(a.rgb - b.rgb).max() < 2.5 / 255
    for (a, _), (_, b) in pairwise(pairs):
        assert np.abs(a.rgb - b.rgb).max() > 10 / 255


def test_colours_of_the_fast_reader_are_close(make_clip):
    path = make_clip("a.mp4", color=(1, 1, 1, 1))
    for a, b in zip(read(path), read(path, pace="fast"), strict=True):
        assert np.abs(a.rgb - b.rgb).mean() < 3 / 255


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("a.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none:bframes=0"}}),
        ("a.mp4", {"pix_fmt": "yuv420p10le"}),
        ("a.mp4", {"pts": range(-5, 10)}),
        ("a.mp4", {"rotation": 90}),
        ("a.mp4", {"color": (9, 16, 9, 1)}),
        ("a.mp4", {"color": (6, 6, 6, 2)}),
        ("a.mkv", {"codec": "ffv1", "pix_fmt": "bgr0"}),
        ("a.avi", {}),
        ("a.mp4", {"size": (32, 48)}),
    ],
)
def test_decord_is_kept_from_what_it_gets_wrong(make_clip, name, fields):
    with open_reader(make_clip(name, **fields), pace="fast") as reader:
        assert type(reader) is PyavReader


def test_decord_is_kept_from_long_videos(make_clip):
    """It decodes ahead without bound, so it only gets what it may hold whole."""
    info = probe(make_clip("a.mp4"))
    assert decord_is_right(info)
    assert decord_is_right(dataclasses.replace(info, frames=200, width=848, height=480))
    assert not decord_is_right(dataclasses.replace(info, frames=300, width=848, height=480))


def test_the_fast_reader_starts_anywhere_exactly(make_clip):
    path = make_clip("a.mp4", pts=range(40), options={"bf": "3", "g": "10"})
    np.testing.assert_array_equal(read(path, 35, 36, pace="fast")[0].rgb, read(path)[35].rgb)


def test_memory_does_not_grow_with_the_length(make_clip):
    def peak(frames):
        path = make_clip(f"{frames}.mkv", codec="ffv1", pix_fmt="yuv420p", size=(120, 160), pts=range(frames))
        info = probe(path)
        tracemalloc.start()
        with open_reader(info) as reader:
            for frame in reader.frames():
                assert frame.rgb is not None
        reached = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return reached

    frame_bytes = 3 * 120 * 160 * 4
    assert peak(60) < peak(6) + frame_bytes / 2


def test_a_range_outside_the_video(make_clip):
    with open_reader(make_clip("a.mp4")) as reader:
        for bounds in ((0, 13), (5, 4), (-1, 3)):
            with pytest.raises(ConfigError, match="which has 12"):
                reader.frames(*bounds)
        assert list(reader.frames(3, 3)) == []


def test_every_reader_follows_the_protocol(make_clip, tmp_path):
    with open_reader(make_clip("a.mp4")) as reader:
        assert isinstance(reader, FrameReader)
        running = reader.frames()
        next(running)
    with pytest.raises(StopIteration):
        next(running)  # closed with the reader


def test_frames_that_cannot_be_decoded_are_reported(make_clip):
    """The container is whole; three pictures inside are gone."""
    path = make_clip("a.mp4", pts=range(20), options={"g": "5", "bf": "0"})
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for position, size in places[10:13]:
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    assert probe(path).frames == 20
    with pytest.raises(UnreadableMediaError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert len(read(path, 0, 5)) == 5
