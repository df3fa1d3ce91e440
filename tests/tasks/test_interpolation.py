"""Interpolation: what passes, what lies between, what is never mixed, and that times, sound and resuming are right."""

import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest
import torch

from vrestore import engine, interpolate
from vrestore.errors import ConfigError, PriorError
from vrestore.priors.interpolation import trusted
from vrestore.report import RunOptions
from vrestore.tasks.interpolation import Interpolation, InterpolationConfig

SIZE = (48, 64)


def psnr(picture, truth):
    return -10 * np.log10(((picture.astype(float) - truth) ** 2).mean() / 255**2 + 1e-10)


def texture(size, seed=0):
    """A smooth random picture, float (height, width, 3) in 8-bit levels."""
    random = np.random.default_rng(seed)
    picture = sum(
        cv2.resize(random.normal(size=(2 + 2**k, 3 + 2**k, 3)) / 1.4**k, size[::-1], interpolation=cv2.INTER_CUBIC)
        for k in range(2, 6)
    )
    return np.clip(127 + 60 * picture, 0, 255)


def pan(frames, size=SIZE, step=2.0, seed=0):
    """A texture that moves to the left by ``step`` pixels a frame; time may be any number."""
    canvas = texture((size[0], size[1] + int(step * frames) + 8), seed)

    def at(moment):
        shift = np.float32([[1, 0, -step * moment], [0, 1, 0]])
        moved = cv2.warpAffine(canvas, shift, size[::-1], flags=cv2.INTER_CUBIC)
        return np.clip(moved, 0, 255).round().astype(np.uint8)

    return at


def moving(frames, **more):
    at = pan(frames, **more)
    return np.stack([at(n) for n in range(frames)])


def made(clips, source, tmp_path, **settings):
    """Frames and times of an output."""
    interpolate(source, tmp_path / "out.mkv", **settings)
    return clips.read(tmp_path / "out.mkv")


def test_originals_pass_and_what_lies_between_is_right(clips, tmp_path):
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
def test_originals_pass_to_the_bit_in_any_format(clips, tmp_path, pix_fmt):
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


def planes(path):
    with av.open(str(path)) as container:
        return [b"".join(map(bytes, frame.planes)) for frame in container.decode(video=0)]


@pytest.mark.parametrize("frames", [1, 2])
def test_one_frame_and_two(clips, tmp_path, frames):
    source = clips.write(tmp_path / "in.mkv", moving(frames, size=(17, 33)))
    found, _ = made(clips, source, tmp_path, factor=3)
    assert found.shape == (3 * frames, 17, 33, 3)
    assert np.array_equal(found[0], clips.read(source)[0][0])


def test_nothing_lies_across_a_cut(clips, tmp_path):
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
def test_rates(clips, tmp_path, rate, asked, expected):
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


def test_a_variable_rate_becomes_constant(clips, tmp_path):
    at = pan(12)
    moments = [0, 1, 2, 4, 5, 8, 9, 10]
    source = clips.write(tmp_path / "in.mkv", np.stack([at(m) for m in moments]), pts=moments)
    frames, times = made(clips, source, tmp_path, fps="25")
    assert times == [Fraction(n, 25) for n in range(11)]
    for n in range(11):
        inside = np.s_[8:-8, 8:-8]
        assert np.array_equal(frames[n], at(n)) if n in moments else psnr(frames[n][inside], at(n)[inside]) > 32


def test_a_variable_rate_stays_variable_with_a_factor(clips, tmp_path):
    moments = [0, 1, 4, 5]
    source = clips.write(tmp_path / "in.mkv", moving(4), pts=moments)
    _, times = made(clips, source, tmp_path, factor=2)
    assert times[:7] == [Fraction(n, 1000) for n in (0, 20, 40, 100, 160, 180, 200)]


def test_repeated_frames_are_seen_through(clips, tmp_path):
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


def test_repeats_with_the_noise_of_a_codec_are_recognised(clips, tmp_path):
    at = pan(8, step=3.0)
    source = clips.write(tmp_path / "in.mp4", np.stack([at(n // 2) for n in range(16)]), lossless=False)
    slots = [slot for slot in timeline(source).slots(0, 16) if slot.pts is not None]
    assert sorted({slot.left for slot in slots[:28]}) == list(range(0, 14, 2))
    distinct = clips.write(tmp_path / "slow.mp4", moving(8, step=0.5), lossless=False)
    assert {slot.left for slot in timeline(distinct).slots(0, 8)} == set(range(8))


def timeline(source, **settings):
    return engine.prepare(Interpolation(**settings), source, None, RunOptions()).timeline


def test_overlays_stay_where_they_are(clips, tmp_path):
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


def test_what_moves_in_front_of_a_still_background_is_not_lost(clips, tmp_path):
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


def test_sound_is_copied(clips, tmp_path):
    source = clips.write(tmp_path / "in.mkv", moving(10), audio=True)
    interpolate(source, tmp_path / "out.mkv", fps="60")
    assert clips.audio_packets(tmp_path / "out.mkv") == clips.audio_packets(source)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_slow_motion_stretches_sound_and_keeps_its_pitch(clips, tmp_path, suffix):
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


def test_a_part_in_slow_motion_has_the_sound_of_that_part(clips, tmp_path):
    source = clips.write(tmp_path / "in.mkv", moving(50), audio=True)
    interpolate(source, tmp_path / "out.mkv", slowmo=2.0, options=RunOptions(start="10", end="30"))
    _, times = clips.read(tmp_path / "out.mkv")
    assert times == [Fraction(n, 25) for n in range(40)]
    with av.open(str(tmp_path / "out.mkv")) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert samples / 48000 == pytest.approx(1.6, abs=0.1)


def test_a_part_of_a_video(clips, tmp_path):
    at = pan(10)
    source = clips.write(tmp_path / "in.mkv", np.stack([at(n) for n in range(10)]))
    frames, times = made(clips, source, tmp_path, factor=2, options=RunOptions(start="3", end="7"))
    assert len(frames) == 8
    assert times == [Fraction(n, 50) for n in range(8)]
    assert np.array_equal(frames[::2], [at(n) for n in range(3, 7)])


def test_alpha_is_carried_along(clips, tmp_path):
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


def test_a_dry_run_says_what_the_run_does(clips, tmp_path, tiny_between_prior):
    source = clips.write(tmp_path / "in.mkv", np.concatenate([moving(6, seed=1) // 2, 255 - moving(7, seed=2) // 2]))
    task = Interpolation(fps="60", steps=2, prior=str(tiny_between_prior))
    plan = engine.plan_job(task, source, tmp_path / "out.mkv", RunOptions())
    result = engine.run(task, source, tmp_path / "out.mkv")
    assert (plan.frames, plan.fps, plan.output_frames, plan.output_fps) == (13, "25", 32, "60")
    assert (result.frames, result.fps) == (32, "60")
    assert plan.calls == result.calls
    assert plan.windows * 2 == plan.calls
    assert result.peak_live_latents <= plan.live_latents
    assert any("32 frames at 60 fps" in line for line in plan.lines())


def test_frames_held_do_not_grow_with_the_length(clips, tmp_path):
    most = []
    for frames in (12, 30):
        source = clips.write(tmp_path / "in.mkv", moving(frames, step=1.0))
        job = engine.prepare(Interpolation(factor=3), source, None, RunOptions())
        prior = job.prior.load(job.device, job.dtype)
        held = []
        for _, walk in engine._walks(job, prior, engine.Clock(), engine.JobState()):
            held += [len(walk._entries) for restored in walk.ticks() for _ in restored]
        assert len(held) == 3 * frames
        most.append(max(held))
    assert most[0] == most[1] <= 5


@pytest.mark.parametrize("steps", [1, 3])
def test_a_killed_run_goes_on_to_the_same_bits(clips, tmp_path, tiny_between_prior, monkeypatch, steps):
    """At any finished frame; two shots, keys that are not shown, slots of several steps."""
    monkeypatch.setattr(engine, "SEGMENT_FRAMES", 5)
    monkeypatch.setattr(engine, "SHORTEST_SEGMENT", 1)
    pictures = np.concatenate([moving(6, seed=1) // 2, 255 - moving(6, seed=2) // 2])
    source = clips.write(tmp_path / "in.mkv", pictures)
    task = Interpolation(fps="60", steps=steps, fidelity=0.2, prior=str(tiny_between_prior))
    engine.run(task, source, tmp_path / "whole.mkv")
    expected = planes(tmp_path / "whole.mkv")
    assert len(expected) == 29
    for stop in (7, 16, 28):

        def halt(progress, stop=stop):
            if progress.done == stop:
                raise KeyboardInterrupt

        output = tmp_path / f"{stop}.mkv"
        with pytest.raises(KeyboardInterrupt):
            engine.run(task, source, output, RunOptions(progress=halt))
        engine.run(task, source, output, RunOptions(resume=True))
        assert planes(output) == expected


def test_a_process_that_is_killed_leaves_a_job_to_resume(clips, tmp_path):
    source = clips.write(tmp_path / "in.mkv", moving(26, step=1.0))
    output = tmp_path / "out.mkv"
    call = [sys.executable, "-m", "vrestore", "interpolate", str(source), "-o", str(output), "--quiet"]
    running = subprocess.Popen(call, env=os.environ | {"PYTHONPATH": os.getcwd()})
    while not (tmp_path / "out.mkv.vrestore" / "job.json").exists():
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not output.exists()
    result = interpolate(source, output, options=RunOptions(resume=True))
    assert result.frames == 52
    interpolate(source, tmp_path / "whole.mkv")
    assert planes(output) == planes(tmp_path / "whole.mkv")


def test_a_network_changes_what_lies_between_and_leaves_what_passes(clips, tmp_path, tiny_between_prior):
    source = clips.write(tmp_path / "in.mkv", moving(3, step=3.0))
    flow, network = (
        torch.stack([one.frame for one in engine.stream(Interpolation(prior=prior), source)])
        for prior in ("flow", str(tiny_between_prior))
    )
    assert torch.equal(flow[[0, 2, 4, 5]], network[[0, 2, 4, 5]])
    assert (flow[[1, 3]] - network[[1, 3]]).abs().max() > 1e-3


def test_flow_counts_more_where_both_frames_agree():
    network, blend = torch.rand(2, 1, 3, 8, 8)
    doubted, agreed = (trusted(network, blend, torch.full((1, 1, 8, 8), share)) for share in (0.0, 1.0))
    assert torch.allclose(doubted, network)
    assert (agreed - blend).abs().mean() < 0.6 * (network - blend).abs().mean()


def test_a_prior_must_know_what_lies_between(tiny_prior, clips, tmp_path):
    from vrestore import super_resolve

    source = clips.write(tmp_path / "in.mkv", moving(2))
    with pytest.raises(PriorError, match="does not make what is between two frames; name one that does, such as flow"):
        interpolate(source, tmp_path / "out.mkv", prior=str(tiny_prior))
    with pytest.raises(PriorError, match="and nothing else; name another one"):
        super_resolve(source, tmp_path / "out.mkv", prior="flow")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factor": 1}, "factor is 1; give 2 to 64"),
        ({"factor": 65}, "factor is 65"),
        ({"slowmo": 1.0}, "slowmo is 1.0; give more than 1"),
        ({"factor": 2, "fps": "60"}, "factor 2 is given beside fps or slowmo"),
        ({"fps": "many"}, "fps is 'many'; give a number"),
        ({"fps": "0"}, "fps is 0; give more than 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        InterpolationConfig(**settings)


def test_pictures_of_a_sequence(clips, tmp_path):
    """``--fps`` is the output's rate, ``--input-fps`` the input's."""
    from vrestore.cli import main

    for n, picture in enumerate(moving(4)):
        cv2.imwrite(str(tmp_path / f"in.{n:04d}.png"), picture[..., ::-1])
    call = ["interpolate", str(tmp_path / "in.%04d.png"), "--input-fps", "12", "--fps", "24", "--quiet"]
    assert main([*call, "-o", str(tmp_path / "out.%04d.png")]) == 0
    assert len(list(tmp_path.glob("out.*.png"))) == 8
    assert main([*call, "-o", str(tmp_path / "out.mkv")]) == 0
    _, times = clips.read(tmp_path / "out.mkv")
    assert all(b - a == pytest.approx(Fraction(1, 24), abs=0.001) for a, b in pairwise(times))
    same = [cv2.imread(str(tmp_path / name)) for name in ("in.0001.png", "out.0002.png")]
    assert np.array_equal(*same)
