import io
import logging
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image

from vrestore.errors import ConfigError, OutputError, UnreadableMediaError
from vrestore.video import SegmentWriter, choose_encoding, mux, open_reader, probe


def restore(path, output, pieces, folder, start=0, stop=None):
    """What an engine does with a task that changes nothing: read, write segments, join. Returns the written pts."""
    info = probe(path)
    encoding = choose_encoding(info, output, (info.height, info.width))
    edges = [start, *pieces, info.frames if stop is None else stop]
    segments, times = [], []
    with open_reader(info) as reader:
        for number, (first, last) in enumerate(pairwise(edges)):
            segments.append(folder / f"segment{number}")
            with SegmentWriter(segments[-1], (info.height, info.width), encoding, info) as writer:
                for frame in reader.frames(first, last):
                    writer.write(frame.rgb, frame.pts)
                    times.append(frame.pts * info.time_base)
    return info, segments, times


VFR = (0, 1001, 2002, 3003, 6006, 6500, 9009, 9060, 12012, 20020, 21021, 22022, 30030, 31031, 32032, 33033)
INPUTS = {
    "cfr": {"pts": range(16)},
    "vfr": {"pts": VFR, "time_base": Fraction(1, 30000)},
    "late": {"pts": range(4, 20)},
    "deep": {"pts": VFR, "time_base": Fraction(1, 30000), "pix_fmt": "yuv420p10le"},
}


@pytest.mark.parametrize("pieces", [(), (7,), (1, 2, 9, 15)])
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_joined_segments_are_the_video(make_clip, tools, tmp_path, kind, suffix, pieces):
    path = make_clip("in.mp4", options={"bf": "2"}, **INPUTS[kind])
    output = tmp_path / f"out{suffix}"
    info, segments, times = restore(path, output, pieces, tmp_path)
    mux(segments, info, output)
    frames = tools.decoded(output)
    resolution = Fraction(1, 2000) if suffix == ".mkv" else 0
    assert len(frames) == len(times) == 16
    for (got, _), wanted in zip(frames, times, strict=True):
        assert abs(got - wanted) <= resolution
    alone = [planes for segment in segments for _, planes in tools.decoded(segment)]
    for (_, joined), single in zip(frames, alone, strict=True):
        for a, b in zip(joined, single, strict=True):
            np.testing.assert_array_equal(a, b)
    coded = tools.packets(output, "video")
    decoding = [packet.dts for packet in coded if packet.dts is not None]
    assert len(decoding) == 16 or suffix == ".mkv"  # Matroska stores none; libav derives what it can
    assert all(a < b for a, b in pairwise(decoding))
    assert all(packet.dts <= packet.pts for packet in coded if packet.dts is not None)
    reordered = any(a.pts > b.pts for a, b in pairwise(coded))
    assert reordered or len(pieces) > 3 or kind == "deep"  # there are B-frames in it; H.265 is written without
    copy = probe(output)
    assert (copy.frames, copy.vfr) == (16, info.vfr)
    assert copy.fps == info.fps or suffix == ".mkv"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("source", "output"), [("in.mp4", "o.mp4"), ("in.mp4", "o.mkv"), ("in.mkv", "o.mp4"),
                                                ("in.mkv", "o.mkv"), ("in.mp4", "o.mov")])  # fmt: skip
def test_sound_is_copied_packet_by_packet(make_clip, tools, tmp_path, source, output):
    path = make_clip(source, pts=range(20), audio="aac", options={"bf": "2"})
    info, segments, times = restore(path, tmp_path / output, (9,), tmp_path)
    mux(segments, info, tmp_path / output)
    before, after = tools.packets(path, "audio"), tools.packets(tmp_path / output, "audio")
    assert [packet.data for packet in after] == [packet.data for packet in before]
    resolution = Fraction(1, 2000) if output.endswith("mkv") else 0
    for a, b in zip(before, after, strict=True):
        assert abs(a.pts - b.pts) <= resolution
    assert [time for time, _ in tools.decoded(tmp_path / output)] == times
    with av.open(str(tmp_path / output)) as container:
        (sound,) = container.streams.audio
        assert sound.language == "fra"
        assert container.metadata["title"] == "a clip"
        assert sum(frame.samples for frame in container.decode(audio=0)) > 30000


def test_subtitles_chapters_and_languages(make_clip, tools, tmp_path):
    path = make_clip("in.mkv", audio="aac", subtitles=True, chapters=True)
    info, segments, _ = restore(path, tmp_path / "o.mkv", (), tmp_path)
    mux(segments, info, tmp_path / "o.mkv")
    text = tools.packets(tmp_path / "o.mkv", "subtitle")
    assert [packet.data for packet in text] == [b"line 0", b"line 1"]
    assert [packet.pts for packet in text] == [Fraction(t, 1000) for t in tools.subtitle_times]
    with av.open(str(tmp_path / "o.mkv")) as container:
        assert container.streams.subtitles[0].language == "fra"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one", "two"]


def test_fonts_come_along(make_clip, tmp_path):
    plain = make_clip("plain.mkv")
    path = tmp_path / "in.mkv"
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        new.add_attachment("font.ttf", "font/ttf", b"letters")
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    info, segments, _ = restore(path, tmp_path / "o.mkv", (), tmp_path)
    mux(segments, info, tmp_path / "o.mkv")
    with av.open(str(tmp_path / "o.mkv")) as container:
        (font,) = (stream for stream in container.streams if stream.type == "attachment")
        assert (font.name, font.mimetype, font.data) == ("font.ttf", "font/ttf", b"letters")


def test_what_the_container_cannot_hold_is_left_out_with_a_warning(make_clip, tmp_path, caplog):
    path = make_clip("in.mkv", audio="aac", subtitles=True)
    info, segments, _ = restore(path, tmp_path / "o.mp4", (), tmp_path)
    with caplog.at_level(logging.WARNING):
        mux(segments, info, tmp_path / "o.mp4")
    assert "subtitle stream 2 (subrip) is left out" in caplog.text
    copy = probe(tmp_path / "o.mp4")
    assert (copy.audio_streams, copy.subtitle_streams) == (1, 0)


def test_a_part_starts_at_zero_and_takes_its_sound_along(make_clip, tools, tmp_path):
    path = make_clip("in.mkv", pts=range(30), audio="aac", subtitles=True, chapters=True, options={"bf": "2"})
    info, segments, times = restore(path, tmp_path / "o.mkv", (12,), tmp_path, start=5, stop=20)
    start, stop = (round(Fraction(n, 25) / info.time_base) for n in (5, 20))
    mux(segments, info, tmp_path / "o.mkv", start_pts=start, stop_pts=stop)
    assert [time for time, _ in tools.decoded(tmp_path / "o.mkv")] == [time - Fraction(1, 5) for time in times]
    kept = [p for p in tools.packets(path, "audio") if Fraction(1, 5) <= p.pts < Fraction(4, 5)]
    sound = tools.packets(tmp_path / "o.mkv", "audio")
    assert [(p.data, p.pts) for p in sound] == [(p.data, p.pts - Fraction(1, 5)) for p in kept]
    assert [p.data for p in tools.packets(tmp_path / "o.mkv", "subtitle")] == [b"line 1"]
    with av.open(str(tmp_path / "o.mkv")) as container:
        (chapter,) = container.chapters()
        base = chapter["time_base"]
        assert (chapter["start"] * base, chapter["end"] * base) == (0, Fraction(28, 100))
        assert chapter["metadata"]["title"] == "two"


def test_a_broadcast_clock_starts_at_zero_in_the_output(make_clip, tools, tmp_path):
    path = make_clip("in.ts", pts=range(10), audio="aac", options={"bf": "2"})
    assert probe(path).start_pts > 0
    info, segments, times = restore(path, tmp_path / "o.mp4", (), tmp_path)
    mux(segments, info, tmp_path / "o.mp4")
    got = [time for time, _ in tools.decoded(tmp_path / "o.mp4")]
    assert [b - a for a, b in pairwise(got)] == [b - a for a, b in pairwise(times)]
    assert min(got[0], tools.packets(tmp_path / "o.mp4", "audio")[0].pts) == 0
    assert [p.pts - got[0] for p in tools.packets(tmp_path / "o.mp4", "audio")] == [
        p.pts - times[0] for p in tools.packets(path, "audio")
    ]


def test_a_stream_without_times_gets_even_ones(make_clip, tools, tmp_path):
    path = make_clip("in.h264", pts=[1001 * i for i in range(12)], time_base=Fraction(1, 24000),
                     options={"bf": "2", "x264-params": "force-cfr=1:fps=24000/1001"})  # fmt: skip
    info, segments, times = restore(path, tmp_path / "o.mp4", (5,), tmp_path)
    mux(segments, info, tmp_path / "o.mp4")
    assert times == [i / info.fps for i in range(12)]
    assert [time for time, _ in tools.decoded(tmp_path / "o.mp4")] == times


def test_pixel_shape_and_tags_arrive(make_clip, tmp_path):
    for name, fields in {
        "a.mp4": {"color": (6, 6, 6, 1), "aspect": Fraction(8, 9)},
        "b.mkv": {"codec": "ffv1", "pix_fmt": "yuv420p", "color": (1, 1, 1, 1)},
    }.items():
        path = make_clip(name, **fields)
        output = tmp_path / f"out{path.suffix}"
        info, segments, _ = restore(path, output, (6,), tmp_path)
        mux(segments, info, output)
        copy = probe(output)
        assert copy.color == info.color
        assert copy.sample_aspect == fields.get("aspect", 1)
        assert (copy.codec, copy.pix_fmt) == (info.codec, info.pix_fmt)


def test_a_turned_input_is_upright_without_a_flag(make_clip, tmp_path):
    path = make_clip("in.mp4", rotation=90)
    info, segments, _ = restore(path, tmp_path / "o.mp4", (), tmp_path)
    mux(segments, info, tmp_path / "o.mp4")
    copy = probe(tmp_path / "o.mp4")
    assert (copy.rotation, copy.width, copy.height) == (0, 48, 64)


def test_apple_players_get_their_tag(make_clip, tmp_path):
    path = make_clip("in.mp4", codec="libx265", options={"x265-params": "log-level=none:bframes=0"}, pts=range(3))
    info, segments, _ = restore(path, tmp_path / "o.mp4", (), tmp_path)
    mux(segments, info, tmp_path / "o.mp4")
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


def test_an_old_output_stays_until_the_new_one_is_complete(make_clip, tmp_path):
    path = make_clip("in.mp4")
    output = tmp_path / "o.mp4"
    output.write_bytes(b"old")
    info, segments, _ = restore(path, output, (6,), tmp_path)
    segments[1].write_bytes(segments[1].read_bytes()[:50])
    with pytest.raises(UnreadableMediaError):
        mux(segments, info, output)
    assert output.read_bytes() == b"old"
    assert not list(tmp_path.glob(".*"))


def test_bad_segments(make_clip, tmp_path):
    path = make_clip("in.mp4")
    output = tmp_path / "o.mp4"
    info, segments, _ = restore(path, output, (6,), tmp_path)
    with pytest.raises(OutputError, match="give them in order"):
        mux(segments[::-1], info, output)
    with pytest.raises(ConfigError, match="at least one segment"):
        mux([], info, output)
    with pytest.raises(ConfigError, match=r"output suffix \.xyz"):
        mux(segments, info, tmp_path / "o.xyz")
    with pytest.raises(OutputError, match="not a segment"):
        mux([path], info, output)
    assert not output.exists()


def test_a_folder_that_cannot_be_written(make_clip, tmp_path):
    path = make_clip("in.mp4")
    info, segments, _ = restore(path, tmp_path / "o.mp4", (), tmp_path)
    with pytest.raises(OutputError, match="does not exist"):
        mux(segments, info, tmp_path / "no" / "o.mp4")
    (tmp_path / "taken.mp4").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        mux(segments, info, tmp_path / "taken.mp4")
    with pytest.raises(OutputError, match=r"not exist|Not a directory"):
        mux(segments, info, path / "o.mp4")


def remuxed(source, path, *, change=None, **extra):
    """A copy of a clip, to which ``change(container)`` adds more before anything is written."""
    with av.open(str(source)) as old, av.open(str(path), "w", **extra) as new:
        streams = {s.index: new.add_stream_from_template(s, opaque=True) for s in old.streams}
        for stream in old.streams:
            streams[stream.index].metadata.update(stream.metadata)
        rest = change(new) if change else ()
        new.start_encoding()
        for packet in rest:
            new.mux(packet)
        for packet in old.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    return path


def passed(path, output, tmp_path, **times):
    info, segments, _ = restore(path, output, (), tmp_path)
    mux(segments, info, output, **times)
    return output


def png(size):
    data = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(data, "png")
    return data.getvalue()


def test_a_cover_before_the_video_is_not_taken_for_it(make_clip, tmp_path):
    """It is the first video stream of the file, and small; it comes along as what it is."""
    plain, picture = make_clip("plain.mp4"), tmp_path / "cover.png"
    picture.write_bytes(png((16, 16)))
    path = tmp_path / "in.mkv"
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        new.add_attachment("cover.png", "image/png", picture.read_bytes())
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    info = probe(path)
    assert (info.width, info.frames, info.codec) == (64, 12, "h264")
    for suffix in (".mkv", ".mp4"):
        output = passed(path, tmp_path / f"o{suffix}", tmp_path)
        assert probe(output).width == 64
        with av.open(str(output)) as container:
            (cover,) = (s for s in container.streams.video if int(s.disposition) & 1024)
            (data,) = (bytes(packet) for packet in container.demux(cover) if packet.size)
            assert data == picture.read_bytes()


def test_a_data_stream_and_a_second_video_are_named(make_clip, tmp_path, caplog):
    def more(container):
        data = container.add_data_stream("klv")
        packet = av.Packet(b"telemetry")
        packet.stream, packet.time_base, packet.pts, packet.dts = data, Fraction(1, 90000), 0, 0
        return [packet]

    path = remuxed(make_clip("plain.ts"), tmp_path / "in.ts", change=more)
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video", "data"]
    passed(path, tmp_path / "o.mp4", tmp_path)
    assert "data stream 1 is left out: mp4 does not hold it" in caplog.text
    two = tmp_path / "two.mkv"
    with av.open(str(make_clip("plain.mkv"))) as old, av.open(str(two), "w") as new:
        streams = [new.add_stream_from_template(old.streams.video[0], opaque=True) for _ in range(2)]
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = streams[0]
                new.mux(packet)
    passed(two, tmp_path / "o.mkv", tmp_path)
    assert "video stream 1 (h264) is left out: one video stream is restored" in caplog.text


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_tags_without_a_place_of_their_own_are_kept(make_clip, tmp_path, caplog, suffix):
    def more(container):
        container.metadata.update({"title": "a clip", "com.apple.quicktime.make": "Maker", "reel": "A003"})
        return ()

    path = remuxed(make_clip("plain.mp4", audio="aac"), tmp_path / "in.mp4", change=more,
                   container_options={"movflags": "use_metadata_tags"})  # fmt: skip
    with av.open(str(passed(path, tmp_path / f"o{suffix}", tmp_path))) as container:
        tags = {name.lower(): text for name, text in container.metadata.items()}
    assert (tags["title"], tags["reel"], tags["com.apple.quicktime.make"]) == ("a clip", "A003", "Maker")
    assert "left out" not in caplog.text


def test_subtitles_that_reach_into_a_part_are_cut_to_it(make_clip, tools, tmp_path):
    """One is shown from 40 to 140 ms, the other from 240 to 340."""
    path = make_clip("in.mkv", pts=range(12), subtitles=True)
    info = probe(path)
    start, stop = (round(Fraction(ms, 1000) / info.time_base) for ms in (80, 280))
    passed(path, tmp_path / "o.mkv", tmp_path, start_pts=start, stop_pts=stop)
    with av.open(str(tmp_path / "o.mkv")) as container:
        shown = [(bytes(p), p.pts, p.duration) for p in container.demux(subtitles=0) if p.size]
    assert shown == [(b"line 0", 0, 60), (b"line 1", 160, 40)]


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001)])
def test_the_timecode_of_a_part_is_that_of_its_first_frame(make_clip, tmp_path, rate):
    base = Fraction(1, rate.numerator)
    plain = make_clip("plain.mp4", pts=[i * rate.denominator for i in range(12)], time_base=base)
    path = tmp_path / "in.mov"
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        stream.codec_context.framerate = rate
        stream.metadata["timecode"] = "00:00:59;28" if rate.denominator > 1 else "00:00:59:23"
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    info = probe(path)
    for suffix in (".mov", ".mp4", ".mkv"):
        output = passed(path, tmp_path / f"o{suffix}", tmp_path, start_pts=round(4 / info.fps / info.time_base))
        with av.open(str(output)) as container:
            tags = {name.lower(): text for name, text in container.streams.video[0].metadata.items()}
        assert tags["timecode"] == ("00:01:00;04" if rate.denominator > 1 else "00:01:00:02")


def test_metadata_that_no_output_can_have_is_named(make_clip, tmp_path, caplog, tools):
    """Captions as user data of H.264 (ATSC A/53), put into the stream by hand."""
    captions = b"\xb5\x00\x31GA94\x03\xc1\xff\xfc\x94\x2c\xff"
    sei = b"\x06\x04" + bytes([len(captions)]) + captions + b"\x80"
    path = tmp_path / "in.h264"
    with av.open(str(make_clip("plain.h264"))) as old:
        units = [bytes(packet) for packet in old.demux(video=0) if packet.size]
    path.write_bytes(b"".join(b"\x00\x00\x00\x01\x09\x10\x00\x00\x00\x01" + sei + unit for unit in units))
    probe(path)
    assert "left out: closed captions inside the pictures" in caplog.text
