"""The engine on whole files, with a tiny random prior: counts, times, sound, shots, progress."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from vrestore import engine
from vrestore.preparing import prepare
from vrestore.priors.embedded import EmbeddedPrior
from vrestore.report import RunOptions

SIZE = (24, 32)
SHOTS = ((0, 9), (9, 22))
FRAMES = 22


def test_frames_times_and_sound_are_those_of_the_input(head, film, clips, tmp_path, left_over):
    output = tmp_path / "out.mkv"
    result = engine.run(head(), film, output)
    frames, times = clips.read(output)
    assert frames.shape == (FRAMES, 48, 64, 3)
    assert times == clips.read(film)[1]
    assert clips.audio_packets(output) == clips.audio_packets(film)
    assert (result.frames, result.width, result.height, result.fps, result.shots) == (FRAMES, 64, 48, "25", 2)
    assert left_over(tmp_path) == ["out.mkv"]


def test_variable_frame_rate_stays(head, clips, tmp_path):
    times = [0, 1, 2, 5, 6, 9, 13, 14, 15]
    source = clips.write(tmp_path / "vfr.mkv", clips.scene(9, SIZE), pts=times)
    engine.run(head(), source, tmp_path / "out.mkv")
    assert clips.read(tmp_path / "out.mkv")[1] == clips.read(source)[1] == [Fraction(t, 25) for t in times]


def test_stream_equals_run(head, film, clips, tmp_path):
    engine.run(head(), film, tmp_path / "out.mkv")
    streamed = np.stack([r.frame.numpy().transpose(1, 2, 0) * 255 for r in engine.stream(head(), film)])
    assert np.abs(streamed - clips.read(tmp_path / "out.mkv")[0]).max() <= 0.5 + 1e-4  # but for rounding


def test_the_head_streams_frames(head, film):
    options = RunOptions(start="3", end="6")
    frames = list(head().stream(film, options))
    assert torch.equal(torch.stack(frames), torch.stack([r.frame for r in engine.stream(head(), film, options)]))
    assert len(frames) == 3


def test_a_stream_gives_frames_before_it_has_read_the_end(head, clips, tmp_path, monkeypatch):
    source = clips.write(tmp_path / "long.mkv", clips.scene(30, SIZE))
    read, original = [], engine._timed

    def counted(frames, clock):
        for frame in original(frames, clock):
            read.append(frame.index)
            yield frame

    monkeypatch.setattr(engine, "_timed", counted)
    stream = engine.stream(head(), source)
    assert next(stream).frame.shape == (3, 48, 64)
    assert len(read) <= 5 + 1 + EmbeddedPrior.facts.ahead
    assert len(list(stream)) == 29
    assert read == list(range(30))


def test_shares_of_time_add_up(head, film, tmp_path):
    result = engine.run(head(), film, tmp_path / "out.mkv")
    assert sum(result.shares.values()) == pytest.approx(1)
    assert {"inspect", "load", "decode", "prepare", "encode", "denoise", "reconstruct", "finish", "write"} <= set(
        result.shares
    )
    assert all(share >= 0 for share in result.shares.values())


def test_progress_counts_to_the_end(head, film, tmp_path):
    seen = []
    engine.run(head(), film, tmp_path / "out.mkv", RunOptions(progress=seen.append))
    done = [now.done for now in seen]
    assert done == sorted(done)
    assert (done[-1], {now.total for now in seen}) == (FRAMES, {FRAMES})


def test_windows_never_cross_a_cut(head, film, clips, tmp_path, shots):
    """Another second shot leaves the first as it is, to the last bit, and the other way round."""
    first, second = shots
    films = {"both": (first, second), "new end": (first, second[:, ::-1]), "new start": (first[:, ::-1], second)}
    outputs = {}
    for name, parts in films.items():
        source = clips.write(tmp_path / f"{name}.mkv", np.concatenate(parts))
        outputs[name] = [r.frame for r in engine.stream(head(steps=3), source)]
    job = prepare(head(), film, None, RunOptions())
    assert tuple((shot.start, shot.stop) for shot in job.shots) == SHOTS
    same = {name: [torch.equal(*pair) for pair in zip(outputs["both"], outputs[name], strict=True)] for name in films}
    assert same["new end"] == [True] * 9 + [False] * 13
    assert same["new start"] == [False] * 9 + [True] * 13


def test_neighbours_within_a_shot_have_their_say(head, clips, tmp_path):
    """Or the test above would show nothing: another end of the same shot changes frames before it."""
    frames = clips.scene(8, SIZE)
    other = np.concatenate([frames[:7], frames[7:, ::-1]])
    one, two = (
        [r.frame for r in engine.stream(head(window=8), clips.write(tmp_path / f"{i}.mkv", f))]
        for i, f in enumerate((frames, other))
    )
    assert not torch.equal(one[6], two[6])
