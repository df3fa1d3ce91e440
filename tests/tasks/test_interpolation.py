"""Interpolation: what passes, what lies between, what is never mixed, and that times and sound are right."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from vrestore import engine, interpolate
from vrestore.report import RunOptions
from vrestore.tasks.interpolation import Interpolation


def psnr(picture, truth):
    return -10 * np.log10(((picture.astype(float) - truth) ** 2).mean() / 255**2 + 1e-10)


def made(clips, source, tmp_path, **settings):
    """Frames and times of an output."""
    interpolate(source, tmp_path / "out.mkv", **settings)
    return clips.read(tmp_path / "out.mkv")


def test_originals_pass_and_what_lies_between_is_right(clips, tmp_path, pan):
    at = pan(6)
    source = clips.write(tmp_path / "in.mkv", np.stack([at(n) for n in range(6)]))
    frames, times = made(clips, source, tmp_path, factor=4)
    assert len(frames) == 24
    assert times == [Fraction(n, 100) for n in range(24)]
    inside = np.s_[8:-8, 8:-8]
    for n in range(20):
        if n % 4 == 0:
            assert np.array_equal(frames[n], at(n // 4))
        else:
            truth = at(n / 4)
            assert psnr(frames[n][inside], truth[inside]) > 45
            assert psnr(truth[inside], at(n // 4)[inside]) < 35
    assert all(np.array_equal(frame, at(5)) for frame in frames[20:])


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "gbrp16le"])
def test_originals_pass_to_the_bit_in_any_format(clips, tmp_path, pix_fmt, moving, planes):
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25, width=64, height=48, pix_fmt=pix_fmt)
        for n, picture in enumerate(moving(4)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts = n
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    interpolate(source, tmp_path / "out.mkv", factor=2)
    before, after = (planes(path) for path in (source, tmp_path / "out.mkv"))
    assert len(after) == 8
    assert after[::2] == before


@pytest.mark.parametrize("frames", [1, 2])
def test_one_frame_and_two(clips, tmp_path, frames, moving):
    source = clips.write(tmp_path / "in.mkv", moving(frames, size=(17, 33)))
    found, _ = made(clips, source, tmp_path, factor=3)
    assert found.shape == (3 * frames, 17, 33, 3)
    assert np.array_equal(found[0], clips.read(source)[0][0])


def test_nothing_lies_across_a_cut(clips, tmp_path, moving):
    shots = [moving(8, seed=1) // 2, 255 - moving(8, seed=2) // 2]
    source = clips.write(tmp_path / "in.mkv", np.concatenate(shots))
    frames, _ = made(clips, source, tmp_path, factor=2)
    assert len(frames) == 32
    means = frames.mean((1, 2, 3))
    assert (means[:16] < 90).all()
    assert (means[16:] > 160).all()
    assert np.array_equal(frames[15], shots[0][7])  # held
    assert np.array_equal(frames[16], shots[1][0])


@pytest.mark.parametrize(
    ("rate", "asked", "expected"),
    [(24, "60", Fraction(60)), (30, "23.976", Fraction(24000, 1001)), (25, "24000/1001", Fraction(24000, 1001))],
)
def test_rates(clips, tmp_path, rate, asked, expected, moving):
    source = tmp_path / "in.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=rate, width=64, height=48, pix_fmt="yuv420p")
        for picture in moving(rate // 2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    result = interpolate(source, tmp_path / "out.mp4", fps=asked)
    _, times = clips.read(tmp_path / "out.mp4")
    count = -(-Fraction(rate // 2, rate) * expected // 1)
    assert result.frames == len(times) == count
    assert result.fps == str(expected)
    assert times == [n / expected for n in range(count)]


def test_a_variable_rate_becomes_constant(clips, tmp_path, pan):
    at = pan(12)
    moments = [0, 1, 2, 4, 5, 8, 9, 10]
    source = clips.write(tmp_path / "in.mkv", np.stack([at(m) for m in moments]), pts=moments)
    frames, times = made(clips, source, tmp_path, fps="25")
    assert times == [Fraction(n, 25) for n in range(11)]
    for n in range(11):
        inside = np.s_[8:-8, 8:-8]
        assert np.array_equal(frames[n], at(n)) if n in moments else psnr(frames[n][inside], at(n)[inside]) > 32


def test_a_variable_rate_stays_variable_with_a_factor(clips, tmp_path, moving):
    moments = [0, 1, 4, 5]
    source = clips.write(tmp_path / "in.mkv", moving(4), pts=moments)
    _, times = made(clips, source, tmp_path, factor=2)
    assert times[:7] == [Fraction(n, 1000) for n in (0, 20, 40, 100, 160, 180, 200)]


def test_repeated_frames_are_seen_through(clips, tmp_path, pan):
    """Every picture twice: what repeats gives way to what is half way, unless it is to be kept."""
    at = pan(4)
    source = clips.write(tmp_path / "in.mkv", np.stack([at(n // 2) for n in range(8)]))
    inside = np.s_[8:-8, 8:-8]
    frames, _ = made(clips, source, tmp_path, factor=2)
    for n in range(12):
        assert psnr(frames[n][inside], at(n / 4)[inside]) > 45
    kept, _ = made(clips, source, tmp_path, factor=2, duplicates="keep")
    for n in range(8):
        assert np.array_equal(kept[2 * n], at(n // 2))


def test_repeats_with_the_noise_of_a_codec_are_recognised(clips, tmp_path, pan, moving):
    at = pan(8, step=3.0)
    source = clips.write(tmp_path / "in.mp4", np.stack([at(n // 2) for n in range(16)]), lossless=False)
    slots = [slot for slot in timeline(source).slots(0, 16) if slot.pts is not None]
    assert sorted({slot.left for slot in slots[:28]}) == list(range(0, 14, 2))
    distinct = clips.write(tmp_path / "slow.mp4", moving(8, step=0.5), lossless=False)
    assert {slot.left for slot in timeline(distinct).slots(0, 8)} == set(range(8))


def timeline(source, **settings):
    return engine.prepare(Interpolation(**settings), source, None, RunOptions()).timeline


def test_overlays_stay_where_they_are(clips, tmp_path, moving):
    """A logo and a subtitle over moving texture."""
    size = (96, 128)
    pictures = moving(4, size=size, step=9.0)
    mask = np.zeros(size, np.uint8)
    cv2.rectangle(mask, (100, 6), (122, 22), 255, -1)
    cv2.putText(mask, "Subtitle", (14, 84), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 2)
    lies = mask == 255
    colour = np.where(np.arange(size[1])[None, :, None] > 110, 230, (250, 240, 20)).astype(np.uint8)
    pictures = np.where(lies[None, ..., None], colour, pictures)
    source = clips.write(tmp_path / "in.mkv", pictures)
    frames, _ = made(clips, source, tmp_path, factor=2)
    for n in (1, 3, 5):
        off = np.abs(frames[n].astype(int) - np.broadcast_to(colour, frames[n].shape)).max(-1)[lies]
        assert (off > 8).mean() < 0.03  # a tenth without care for them
    # what moves around them still does
    truth = moving(8, size=size, step=4.5)[1]
    far = cv2.dilate(mask, np.ones((25, 25))) == 0
    far[:, :12] = far[:, -12:] = False
    assert psnr(frames[1][far], truth[far]) > 26


def test_what_moves_in_front_of_a_still_background_is_not_lost(clips, tmp_path, texture):
    """Half way, a ball lies over texture that both frames show: that is no overlay."""
    background = texture((96, 128)).round().astype(np.uint8)

    def at(moment):
        picture = background.copy()
        cv2.circle(picture, (round((20 + 12 * moment) * 16), 48 * 16), 10 * 16, (255, 40, 40), -1, cv2.LINE_AA, 4)
        return picture

    source = clips.write(tmp_path / "in.mkv", np.stack([at(n) for n in range(3)]))
    frames, _ = made(clips, source, tmp_path, factor=2)
    for n in (1, 3):
        x = 20 + 6 * n
        assert np.abs(frames[n][46:51, x - 2 : x + 3].astype(int) - [255, 40, 40]).mean() < 5
        far = np.abs(np.arange(128) - x) > 24
        assert psnr(frames[n][:, far], background[:, far]) > 45


def test_sound_is_copied(clips, tmp_path, moving):
    source = clips.write(tmp_path / "in.mkv", moving(10), audio=True)
    interpolate(source, tmp_path / "out.mkv", fps="60")
    assert clips.audio_packets(tmp_path / "out.mkv") == clips.audio_packets(source)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_slow_motion_stretches_sound_and_keeps_its_pitch(clips, tmp_path, suffix, moving):
    source = tmp_path / f"in{suffix}"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv420p")
        sound = container.add_stream("aac", rate=48000)
        for picture in moving(25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
        tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(48000) / 48000)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    result = interpolate(source, tmp_path / f"out{suffix}", slowmo=2.5)
    assert (result.frames, result.fps) == (63, "25")
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert container.streams.audio[0].codec_context.name == "aac"
    assert len(heard) / 48000 == pytest.approx(2.5, abs=0.1)
    spectrum = np.abs(np.fft.rfft(heard[24000:72000]))
    assert spectrum.argmax() == pytest.approx(1000, abs=3)


def test_a_part_in_slow_motion_has_the_sound_of_that_part(clips, tmp_path, moving):
    source = clips.write(tmp_path / "in.mkv", moving(50), audio=True)
    interpolate(source, tmp_path / "out.mkv", slowmo=2.0, options=RunOptions(start="10", end="30"))
    _, times = clips.read(tmp_path / "out.mkv")
    assert times == [Fraction(n, 25) for n in range(40)]
    with av.open(str(tmp_path / "out.mkv")) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert samples / 48000 == pytest.approx(1.6, abs=0.1)


def test_a_part_of_a_video(clips, tmp_path, pan):
    at = pan(10)
    source = clips.write(tmp_path / "in.mkv", np.stack([at(n) for n in range(10)]))
    frames, times = made(clips, source, tmp_path, factor=2, options=RunOptions(start="3", end="7"))
    assert len(frames) == 8
    assert times == [Fraction(n, 50) for n in range(8)]
    assert np.array_equal(frames[::2], [at(n) for n in range(3, 7)])


def test_alpha_is_carried_along(clips, tmp_path, moving):
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25, width=64, height=48, pix_fmt="bgra")
        for picture in moving(3):
            rgba = np.dstack([picture, 255 - picture[..., :1]])
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgba), format="rgba").reformat(format="bgra")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    interpolate(source, tmp_path / "out.mkv", factor=2)
    with av.open(str(tmp_path / "out.mkv")) as container:
        frames = [frame.to_ndarray(format="rgba") for frame in container.decode(video=0)]
    assert len(frames) == 6
    for frame in frames:
        error = frame[8:-8, 8:-8, 3].astype(int) - (255 - frame[8:-8, 8:-8, 0].astype(int))
        assert np.abs(error).mean() < 2
