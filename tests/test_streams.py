"""What the engine takes from a file beside its pictures, and how: fields, parts of a video, odd times."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from vrestore import engine
from vrestore.errors import ConfigError, ResumeError, UnsupportedMediaError
from vrestore.report import RunOptions
from vrestore.video import probe

SIZE = (48, 64)
TICK = Fraction(1, 30000)
VFR = (0, 1001, 2002, 3003, 9009, 9500, 12012, 12060, 15015, 30030, 31031, 32032, 48048, 49049, 50050, 51051)


def clip(path, pts, *, time_base=TICK, codec="libx264", sound=None, marks=None, **options):
    """A moving wave at any times, each frame another; sound (a codec) in packets of its own."""
    with av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"}) as container:
        stream = container.add_stream(codec, rate=25, width=SIZE[1], height=SIZE[0], time_base=time_base,
                                      options=options)  # fmt: skip
        stream.pix_fmt = "yuv420p"
        stream.time_base = time_base
        audio = container.add_stream(sound, rate=48000) if sound else None
        y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
        if marks:
            stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct
        for i, time in enumerate(pts):
            frame = av.VideoFrame(SIZE[1], SIZE[0], "yuv420p")
            fields = [np.round(120 + 60 * np.sin(0.25 * x + 0.6 * i + late) * np.cos(0.1 * y)) for late in (0, 0.3)]
            picture = np.where(y % 2, fields[1] if marks else fields[0], fields[0])
            for plane, values in zip(frame.planes, (picture, 120 + i % 16, 128), strict=True):
                samples = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)
                samples[:, : plane.width] = values
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            write_sound(container, audio, float(max(pts) * time_base) + 0.1)
    return path


def write_sound(container, audio, seconds):
    noise = np.random.default_rng(0)
    for start in range(0, int(seconds * 48000), 1024):
        samples = (noise.random((2, 1024), dtype=np.float32) - 0.5) / 2
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


def packets(path, kind="audio"):
    """(time, bytes) of every packet of the first stream of a kind."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size]


def decoded(path):
    """(time, luma) of every frame."""
    with av.open(str(path)) as container:
        return [(f.pts * f.time_base, f.to_ndarray()[: SIZE[0]].tobytes()) for f in container.decode(video=0)]


# ---------------------------------------------------------------- fields


@pytest.fixture
def interlaced(tmp_path):
    path = clip(
        tmp_path / "in.mkv", range(24), time_base=Fraction(1, 25), codec="mpeg2video", marks=True, qmin="1", qmax="2"
    )
    assert probe(path).interlaced
    return path


def test_interlaced_input_is_refused_with_the_way_out(identity_head, interlaced, tmp_path):
    with pytest.raises(UnsupportedMediaError, match=r"is interlaced.*--deinterlace.*--no-deinterlace"):
        engine.run(identity_head(), interlaced, tmp_path / "out.mkv")
    with pytest.raises(UnsupportedMediaError, match="is interlaced"):
        engine.plan_job(identity_head(), interlaced, tmp_path / "out.mkv", RunOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_interlaced_input_becomes_whole_or_stays(identity_head, interlaced, tmp_path):
    combing = {}
    for choice in (True, False):
        output = tmp_path / f"{choice}.mkv"
        result = engine.run(identity_head(), interlaced, output, RunOptions(deinterlace=choice))
        assert result.frames == 24
        frames = decoded(output)
        assert [time for time, _ in frames] == [Fraction(i, 25) for i in range(24)]
        luma = np.stack([np.frombuffer(data, np.uint8).reshape(SIZE) for _, data in frames]).astype(int)
        combing[choice] = np.abs(luma[:, 1:-1] * 2 - luma[:, :-2] - luma[:, 2:]).mean()
    assert combing[True] < combing[False] / 4


def test_deinterlaced_jobs_resume(identity_head, interlaced, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "SEGMENT_FRAMES", 4)
    output, options = tmp_path / "out.mkv", {"deinterlace": True}
    engine.run(identity_head(), interlaced, tmp_path / "undisturbed.mkv", RunOptions(**options))

    def stop(now):
        if now.done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run(identity_head(), interlaced, output, RunOptions(progress=stop, **options))
    with pytest.raises(ResumeError, match="deinterlace was True, is False"):
        engine.run(identity_head(), interlaced, output, RunOptions(resume=True, deinterlace=False))
    engine.run(identity_head(), interlaced, output, RunOptions(resume=True, **options))
    assert decoded(output) == decoded(tmp_path / "undisturbed.mkv")


def test_a_picture_is_not_deinterlaced(identity_head, tmp_path):
    from vrestore.video import write_still

    write_still(tmp_path / "in.png", np.zeros((3, 16, 16), np.float32))
    with pytest.raises(ConfigError, match="--deinterlace is for videos"):
        engine.run(identity_head(), tmp_path / "in.png", tmp_path / "out.png", RunOptions(deinterlace=True))


# ---------------------------------------------------------------- parts of a video


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("start", "end"), [(0, 4), (4, 12), (11, 16)])
def test_a_part_has_exactly_its_time(identity_head, tmp_path, start, end, suffix):
    """Of a variable rate: sound from the first frame to the one after the last, each packet at its place."""
    source = clip(tmp_path / "in.mp4", VFR, sound="aac", bf="2")
    output = tmp_path / f"out{suffix}"
    engine.run(identity_head(), source, output, RunOptions(start=str(start), end=str(end)))
    first = VFR[start] * TICK
    last = VFR[end] * TICK if end < len(VFR) else None
    rounding = Fraction(1, 2000) if suffix == ".mkv" else 0
    times = [time for time, _ in decoded(output)]
    for got, wanted in zip(times, [VFR[i] * TICK - first for i in range(start, end)], strict=True):
        assert abs(got - wanted) <= rounding
    # a part from the beginning keeps the sound before its first picture (of the encoder's delay) where it was
    wanted = [(time, data) for time, data in packets(source) if (start == 0 or time >= first)
              and (last is None or time < last)]  # fmt: skip
    found = packets(output)
    assert [data for _, data in found] == [data for _, data in wanted]
    for (got, _), (time, _) in zip(found, wanted, strict=True):
        assert abs(got - (time - first)) <= max(rounding, Fraction(1, 48000))


def test_the_last_frame_is_shown_until_the_next_one_would_be(identity_head, tmp_path):
    """The length of a part of a variable rate is not a guess from the mean."""
    source = clip(tmp_path / "in.mp4", VFR, codec="libx265", **{"x265-params": "log-level=none:bframes=0"})
    engine.run(identity_head(), source, tmp_path / "out.mp4", RunOptions(end="9"))
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.duration * stream.time_base == VFR[9] * TICK


# ---------------------------------------------------------------- odd times


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("late", [1, 90_000])
def test_a_late_start_stays_late(identity_head, tmp_path, late, suffix):
    source = clip(tmp_path / "in.mp4", [late + time for time in VFR[:8]], sound="aac", bf="2")
    output = tmp_path / f"out{suffix}"
    engine.run(identity_head(), source, output)
    rounding = Fraction(1, 2000) if suffix == ".mkv" else 0
    for (got, _), (wanted, _) in zip(decoded(output), decoded(source), strict=True):
        assert abs(got - wanted) <= rounding
    for (got, data), (wanted, original) in zip(packets(output), packets(source), strict=True):
        assert data == original
        assert abs(got - wanted) <= rounding


def test_pictures_before_zero_are_hidden_as_in_the_input(identity_head, tmp_path):
    source = clip(tmp_path / "in.mp4", range(-5, 12), time_base=Fraction(1, 25), sound="aac", bf="2")
    assert probe(source).edit_list
    engine.run(identity_head(), source, tmp_path / "out.mp4")
    assert [time for time, _ in decoded(tmp_path / "out.mp4")] == [Fraction(i, 25) for i in range(12)]
    assert packets(tmp_path / "out.mp4") == packets(source)


def misplaced(path, kind, times):
    """Lossless pictures at 25 fps with Opus, their blocks at other times (ms) than any careful writer would give."""
    plain = clip(path.with_name("plain.mkv"), range(len(times["video"])), time_base=Fraction(1, 25), codec="ffv1",
                 sound="libopus")  # fmt: skip
    data = bytearray(plain.read_bytes())
    for time, (_, block) in zip(times[kind], packets(plain, kind), strict=False):
        at = data.index(block)
        assert data.count(block) == 1
        data[at - 3 : at - 1] = time.to_bytes(2, "big")  # before it lie the time in the (only) cluster and the flags
    path.write_bytes(data)
    return path


def test_repeated_times_are_moved_apart(identity_head, tmp_path, caplog):
    times = [0, 40, 40, 80, 120, 120, 120, 200, 240, 280]
    source = misplaced(tmp_path / "in.mkv", "video", {"video": times})
    info = probe(source)
    assert (info.frames, info.seekable) == (10, False)
    engine.run(identity_head(), source, tmp_path / "out.mkv")
    frames = decoded(tmp_path / "out.mkv")
    assert [time * 1000 for time, _ in frames] == [0, 40, 41, 80, 120, 121, 122, 200, 240, 280]
    assert [data for _, data in frames] == [data for _, data in decoded(source)]
    assert packets(tmp_path / "out.mkv") == packets(source)
    assert caplog.text.count("is not later than the one before") <= 2  # not a line per frame


def test_times_a_little_back_are_moved_forward(identity_head, tmp_path):
    times = [0, 40, 80, 60, 120, 160, 150, 240]
    source = misplaced(tmp_path / "in.mkv", "video", {"video": times})
    engine.run(identity_head(), source, tmp_path / "out.mkv")
    frames = decoded(tmp_path / "out.mkv")
    assert [time * 1000 for time, _ in frames] == [0, 40, 80, 81, 120, 160, 161, 240]
    assert [data for _, data in frames] == [data for _, data in decoded(source)]


@pytest.mark.parametrize("length", [30, 100])
def test_times_that_jump_back_are_refused(identity_head, tmp_path, length):
    part = range(0, 40 * length, 40)
    source = misplaced(tmp_path / "in.mkv", "video", {"video": [*part, *part]})
    with pytest.raises(UnsupportedMediaError, match=rf"jump back by {(length - 1) * 0.04:.3f} s"):
        engine.run(identity_head(), source, tmp_path / "out.mkv")
    assert not (tmp_path / "out.mkv").exists()


def test_sound_whose_times_go_back_comes_whole(identity_head, tmp_path, caplog):
    late = [20 * i - (45 if i % 5 == 4 else 0) for i in range(20)]
    source = misplaced(tmp_path / "in.mkv", "audio", {"video": range(12), "audio": late})
    engine.run(identity_head(), source, tmp_path / "out.mkv")
    assert [data for _, data in packets(tmp_path / "out.mkv")] == [data for _, data in packets(source)]
    times = [time for time, _ in packets(tmp_path / "out.mkv")]
    assert all(a < b for a, b in pairwise(times))
    assert "times of audio stream 1 (opus) go back" in caplog.text
