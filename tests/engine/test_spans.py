"""Parts of a video, and stills."""

from fractions import Fraction

import numpy as np
import pytest

from vrestore import engine
from vrestore.errors import ConfigError
from vrestore.report import RunOptions
from vrestore.span import frame_span
from vrestore.video import probe

SIZE = (24, 32)


def test_trims(head, film, clips, tmp_path):
    output = tmp_path / "out.mkv"
    result = engine.run(head(), film, output, RunOptions(start="5", end="00:00:00.6"))
    frames, times = clips.read(output)
    assert len(frames) == result.frames == 10
    assert times == [Fraction(i, 25) for i in range(10)]
    sound, kept = clips.audio_packets(film), clips.audio_packets(output)
    at = sound.index(kept[0])
    assert kept == sound[at : at + len(kept)]
    assert abs(len(kept) * 0.02 - 0.4) <= 0.021


def test_a_trimmed_run_resumes(head, film, clips, tmp_path, small_segments, interrupt_after):
    output, options = tmp_path / "out.mkv", {"start": "4", "end": "20"}
    engine.run(head(), film, tmp_path / "undisturbed.mkv", RunOptions(**options))
    with pytest.raises(KeyboardInterrupt):
        engine.run(head(), film, output, RunOptions(progress=interrupt_after(9), **options))
    engine.run(head(), film, output, RunOptions(resume=True, **options))
    for one, other in zip(clips.read(output), clips.read(tmp_path / "undisturbed.mkv"), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("start", "end", "span"),
    [
        (None, None, (0, 22)),
        ("3", None, (3, 22)),
        (None, "99", (0, 22)),
        ("0.2s", "0.5", (5, 13)),
        ("00:00:00.2", "0:0.24s", (5, 6)),
    ],
)
def test_positions(film, start, end, span):
    assert frame_span(probe(film), start, end) == span


def test_positions_in_time_of_a_variable_rate(clips, tmp_path):
    source = clips.write(tmp_path / "vfr.mkv", clips.scene(5, SIZE), pts=[0, 1, 10, 11, 30])
    info = probe(source)
    assert info.vfr
    assert frame_span(info, "0.1s", "0.5s") == (2, 4)


@pytest.mark.parametrize("position", ["soon", "", "1:2:x", "²", "1/0", "nan", "-1", "-0.5s", "22", "99s"])
def test_bad_positions(film, position):
    with pytest.raises(ConfigError):
        frame_span(probe(film), position, None)


def test_a_still_in_and_out(head, clips, tmp_path):
    from vrestore.video import open_reader, write_still

    picture = clips.scene(1, (17, 33))[0].transpose(2, 0, 1).astype(np.float32) / 255
    write_still(tmp_path / "in.png", picture)
    result = engine.run(head(), tmp_path / "in.png", tmp_path / "out.png")
    assert (result.frames, result.width, result.height) == (1, 66, 34)
    with open_reader(tmp_path / "out.png") as reader:
        (frame,) = reader.frames()
    (streamed,) = engine.stream(head(), tmp_path / "in.png")
    assert np.abs(frame.rgb - streamed.frame.numpy()).max() <= 0.5 / 255 + 1e-6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.png", "out.png"]


def test_a_still_as_a_video(head, clips, tmp_path):
    from vrestore.video import write_still

    write_still(tmp_path / "in.png", clips.scene(1, (16, 24))[0].transpose(2, 0, 1).astype(np.float32) / 255)
    engine.run(head(), tmp_path / "in.png", tmp_path / "out.mkv")
    assert clips.read(tmp_path / "out.mkv")[0].shape == (1, 32, 48, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_frame_of_a_video_as_a_still(head, film, tmp_path, suffix):
    output = tmp_path / f"frame{suffix}"
    engine.run(head(), film, output, RunOptions(start="7", end="8"))
    assert probe(output).width == 64
    with pytest.raises(ConfigError, match="22 frames"):
        engine.run(head(), film, output)


def test_a_frame_of_a_deep_video_as_a_still(head, tmp_path):
    import av

    with av.open(str(tmp_path / "deep.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25, width=32, height=24, pix_fmt="yuv444p10le")
        for _ in range(2):
            frame = av.VideoFrame(32, 24, "yuv444p10le")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    engine.run(head(), tmp_path / "deep.mkv", tmp_path / "frame.png", RunOptions(end="1"))
    assert probe(tmp_path / "frame.png").bit_depth == 16
