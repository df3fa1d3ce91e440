"""The engine on whole files, with a tiny random prior: counts, times, sound, shots, checkpoints, memory, refusals."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vrestore import engine
from vrestore.checkpoint import JobFolder
from vrestore.errors import ConfigError, DeviceError, MissingInputError, OutputError, PriorError, ResumeError
from vrestore.job import prepare
from vrestore.priors.embedded import EmbeddedPrior
from vrestore.report import RunOptions
from vrestore.span import frame_span
from vrestore.tasks.super_resolution import SuperResolution
from vrestore.video import probe
from vrestore.video.encode import SegmentWriter

SIZE = (24, 32)
SHOTS = ((0, 9), (9, 22))
FRAMES = 22


def shots(clips):
    """A bright shot and a dark one: a cut that shows also at this size."""
    return clips.scene(9, SIZE, seed=1) // 2 + 127, clips.scene(13, SIZE, seed=2) // 4


@pytest.fixture
def film(clips, tmp_path):
    """Two shots with sound."""
    return clips.write(tmp_path / "film.mkv", np.concatenate(shots(clips)), audio=True)


@pytest.fixture
def head(tiny_prior):
    """head(setting=...) -> a task on the tiny prior: small windows, twice the size."""
    defaults = {"scale": 2, "window": 5, "overlap": 2, "prior": str(tiny_prior), "device": "cpu", "dtype": "float32"}
    return lambda **settings: SuperResolution(**defaults | settings)


@pytest.fixture
def small_segments(monkeypatch):
    monkeypatch.setattr(engine, "SEGMENT_FRAMES", 4)


@pytest.fixture
def watched(monkeypatch):
    """Counts windows predicted (calls), and calls of the network."""
    seen = SimpleNamespace(calls=0)
    original = EmbeddedPrior.predict

    def predict(self, latents, times, conditioning, attend=None):
        seen.calls += latents.shape[0]
        return original(self, latents, times, conditioning, attend)

    monkeypatch.setattr(EmbeddedPrior, "predict", predict)
    return seen


def interrupt_after(frames):
    """Options that break off once so many frames are done, as Ctrl-C does."""

    def progress(now):
        if now.done >= frames:
            raise KeyboardInterrupt

    return progress


def left_over(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "film.mkv")


# ---------------------------------------------------------------- what comes out


def test_frames_times_and_sound_are_those_of_the_input(head, film, clips, tmp_path):
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
    assert len(read) <= 5 + 2
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


# ---------------------------------------------------------------- shots


def test_windows_never_cross_a_cut(head, film, clips, tmp_path):
    """Another second shot leaves the first as it is, to the last bit, and the other way round."""
    first, second = shots(clips)
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


# ---------------------------------------------------------------- interruption


@pytest.mark.parametrize("settings", [{}, {"steps": 4, "fidelity": 0.2}], ids=["one step", "four stochastic steps"])
@pytest.mark.usefixtures("small_segments")
def test_resumed_at_every_segment_equals_undisturbed(head, film, clips, tmp_path, monkeypatch, settings):
    task, expected = head(**settings), tmp_path / "undisturbed.mkv"
    undisturbed = engine.run(task, film, expected)
    save, rounds = JobFolder.save, 0
    output = tmp_path / "out.mkv"

    def save_and_stop(self, *arguments):
        save(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(JobFolder, "save", save_and_stop)
    while not output.exists():
        assert rounds < 12
        rounds += 1
        try:
            result = engine.run(task, film, output, RunOptions(resume=True))
        except KeyboardInterrupt:
            assert (tmp_path / "out.mkv.vrestore" / "job.json").exists()
    assert rounds > 3
    assert np.array_equal(clips.read(output)[0], clips.read(expected)[0])
    assert clips.read(output)[1] == clips.read(expected)[1]
    assert clips.audio_packets(output) == clips.audio_packets(film)
    assert (result.frames, result.consistency_psnr_db) == (FRAMES, pytest.approx(undisturbed.consistency_psnr_db))
    assert left_over(tmp_path) == ["out.mkv", "undisturbed.mkv"]


def test_resumed_between_segments_equals_undisturbed(head, film, clips, tmp_path, small_segments):
    task, output = head(steps=2, fidelity=0.0), tmp_path / "out.mkv"
    engine.run(task, film, tmp_path / "undisturbed.mkv")
    for frames in (7, 12, 20):
        with pytest.raises(KeyboardInterrupt):
            engine.run(task, film, output, RunOptions(resume=True, progress=interrupt_after(frames)))
        assert not list(tmp_path.glob("out.mkv.vrestore/*.part"))
    assert not output.exists()
    engine.run(task, film, output, RunOptions(resume=True))
    assert np.array_equal(clips.read(output)[0], clips.read(tmp_path / "undisturbed.mkv")[0])


def test_resume_with_nothing_to_resume_starts(head, film, tmp_path):
    assert engine.run(head(), film, tmp_path / "out.mkv", RunOptions(resume=True)).frames == FRAMES


def test_without_resume_a_job_starts_anew(head, film, clips, tmp_path, small_segments):
    output = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        engine.run(head(fidelity=1.0), film, output, RunOptions(progress=interrupt_after(12)))
    engine.run(head(), film, output)
    engine.run(head(), film, tmp_path / "fresh.mkv")
    assert np.array_equal(clips.read(output)[0], clips.read(tmp_path / "fresh.mkv")[0])


@pytest.fixture
def interrupted(head, film, tmp_path, small_segments):
    """A job that was broken off after half of its frames."""
    with pytest.raises(KeyboardInterrupt):
        engine.run(head(), film, tmp_path / "out.mkv", RunOptions(progress=interrupt_after(11)))
    return tmp_path / "out.mkv"


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"seed": 7}, {}, "seed was 0, is 7"),
        ({"fidelity": 0.75}, {}, "fidelity was 0.5, is 0.75"),
        ({"scale": 4}, {}, "scale was 2, is 4"),
        ({"dtype": "bfloat16"}, {}, "dtype was torch.float32, is torch.bfloat16"),
        ({}, {"end": "20"}, r"frames was \[0, 22\], is \[0, 20\]"),
    ],
)
def test_resume_with_other_settings_names_them(head, film, interrupted, settings, options, message):
    with pytest.raises(ResumeError, match=message):
        engine.run(head(**settings), film, interrupted, RunOptions(resume=True, **options))
    engine.run(head(), film, interrupted, RunOptions(resume=True))  # nothing has been lost by that


def test_resume_with_another_input_names_it(head, film, interrupted, clips):
    clips.write(film, clips.scene(FRAMES, SIZE, seed=9), audio=True)
    with pytest.raises(ResumeError, match="input was"):
        engine.run(head(), film, interrupted, RunOptions(resume=True))


@pytest.mark.parametrize("damage", ["not json", "{}", '{"asked": {}, "state": {"nonsense": 1}}'])
def test_a_damaged_job_folder_is_named(head, film, interrupted, damage):
    (interrupted.with_name("out.mkv.vrestore") / "job.json").write_text(damage)
    with pytest.raises(ResumeError, match=r"out\.mkv\.vrestore"):
        engine.run(head(), film, interrupted, RunOptions(resume=True))


@pytest.mark.parametrize("pattern", ["segment_00000.nut", "state_*.safetensors"])
def test_a_job_folder_with_a_file_missing_is_named(head, film, interrupted, pattern):
    (lost,) = interrupted.with_name("out.mkv.vrestore").glob(pattern)
    lost.unlink()
    with pytest.raises(ResumeError, match=r"out\.mkv\.vrestore"):
        engine.run(head(), film, interrupted, RunOptions(resume=True))


def test_an_interruption_before_the_first_checkpoint_leaves_nothing(head, film, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        engine.run(head(), film, tmp_path / "out.mkv", RunOptions(progress=interrupt_after(3)))
    assert left_over(tmp_path) == []


# ---------------------------------------------------------------- memory, batches, tiles, and what was planned


@pytest.mark.parametrize("steps", [1, 3])
def test_live_latents_do_not_grow_with_the_length(head, clips, tmp_path, steps):
    peaks = []
    for frames in (24, 48):
        source = clips.write(tmp_path / f"{frames}.mkv", clips.scene(frames, (16, 16)))
        task = head(steps=steps)
        result = engine.run(task, source, tmp_path / "out.mkv")
        plan = engine.plan_job(task, source, tmp_path / "out.mkv", RunOptions())
        assert result.peak_live_latents <= plan.live_latents < 24
        peaks.append(result.peak_live_latents)
    assert peaks[0] == peaks[1]


def test_frames_held_do_not_grow_with_the_length(head, clips, tmp_path):
    """The conditioning of a frame is forgotten with its latent."""
    source = clips.write(tmp_path / "long.mkv", clips.scene(40, (16, 16)))
    task = head()
    job = prepare(task, source, None, RunOptions())
    prior = engine.find_prior(task.config.prior).load(job.device, job.dtype)
    held = []
    for _, walk in engine._walks(job, prior, engine.Clock(), engine.JobState()):
        for restored in walk.ticks():
            for _ in restored:
                held.append(len(walk._entries))
    assert len(held) == 40
    assert max(held) <= job.plan(40).live_bound


@pytest.mark.parametrize("settings", [{}, {"steps": 3}, {"tile": 128, "scale": 4, "size": "160x136"}])
def test_a_dry_run_says_what_the_run_does(head, film, tmp_path, watched, settings):
    output, task = tmp_path / "out.mkv", head(**settings)
    plan = engine.plan_job(task, film, output, RunOptions())
    assert left_over(tmp_path) == []
    assert watched.calls == 0
    result = engine.run(task, film, output)
    assert plan.calls == result.calls == watched.calls
    assert result.peak_live_latents <= plan.live_latents
    assert plan.output_size == (result.width, result.height)
    assert plan.frames == result.frames
    assert plan.shots == SHOTS
    assert any("22 frames" in line for line in plan.lines())
    assert plan.tiles == (4 if "tile" in settings else 1)


def test_batches_change_nothing_that_matters(head, film):
    task = head(steps=4, fidelity=0.1)
    job = prepare(task, film, None, RunOptions())
    prior = engine.find_prior(task.config.prior).load(job.device, job.dtype)
    results = []
    for batch in (1, 3):
        frames = []
        for _, walk in engine._walks(job, prior, engine.Clock(), engine.JobState()):
            walk.executor.batch = batch
            frames += [r.frame for restored in walk.ticks() for r in restored]
        results.append(torch.stack(frames))
    assert torch.allclose(*results, atol=1e-4)


def test_tiles_are_close_to_the_whole_picture(head, clips, tmp_path):
    source = clips.write(tmp_path / "wide.mkv", clips.scene(3, (48, 96)))
    whole, tiled = (
        torch.stack([r.frame for r in engine.stream(head(scale=4, tile=tile), source)]) for tile in (None, 192)
    )
    assert not torch.equal(whole, tiled)
    assert (whole - tiled).abs().max() < 0.02


def test_windows_are_no_longer_than_the_shots_when_tiles_are_chosen(head, clips, tmp_path):
    """A still, or a short clip, is not cut into tiles because a long window would not fit."""
    source = clips.write(tmp_path / "short.mkv", clips.scene(2, (64, 64)))
    assert engine.plan_job(head(window=100_000, overlap=4), source, tmp_path / "o.mkv", RunOptions()).tiles == 1


# ---------------------------------------------------------------- trims and stills


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


def test_a_trimmed_run_resumes(head, film, clips, tmp_path, small_segments):
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


# ---------------------------------------------------------------- refusals and failures


def test_refused_before_anything_is_written(head, film, tmp_path):
    (tmp_path / "there.mkv").write_bytes(b"precious")
    (tmp_path / "folder.mkv").mkdir()
    refusals = [
        (head(), film, film, {}, OutputError, "the input itself"),
        (head(), film, tmp_path / "there.mkv", {"overwrite": False}, OutputError, r"there\.mkv exists"),
        (head(), film, tmp_path / "folder.mkv", {}, OutputError, "is a folder"),
        (head(), film, tmp_path / "nowhere" / "out.mkv", {}, OutputError, "does not exist"),
        (head(), film, film / "below" / "out.mkv", {}, OutputError, "does not exist"),
        (head(), film, tmp_path / "out.xyz", {}, ConfigError, r"\.xyz"),
        (head(), tmp_path / "no.mkv", tmp_path / "out.mkv", {}, MissingInputError, r"no\.mkv does not exist"),
        (head(device="cuda:77"), film, tmp_path / "out.mkv", {}, DeviceError, "cuda:77"),
        (head(device="warp"), film, tmp_path / "out.mkv", {}, DeviceError, "warp"),
        (head(prior=str(tmp_path)), film, tmp_path / "out.mkv", {}, PriorError, "no prior"),
        (head(size="31x24"), film, tmp_path / "out.mkv", {}, ConfigError, "31x24"),
        (head(), film, tmp_path / "out.mkv", {"start": "22"}, ConfigError, "hold nothing"),
    ]
    before = film.read_bytes()
    for task, source, output, options, error, message in refusals:
        with pytest.raises(error, match=message):
            engine.run(task, source, output, RunOptions(**options))
    assert left_over(tmp_path) == ["folder.mkv", "there.mkv"]
    assert film.read_bytes() == before
    assert (tmp_path / "there.mkv").read_bytes() == b"precious"


def test_an_existing_output_is_replaced_when_all_is_done(head, film, clips, tmp_path, small_segments):
    output = tmp_path / "out.mkv"
    output.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        engine.run(head(), film, output, RunOptions(progress=interrupt_after(12)))
    assert output.read_bytes() == b"old"
    engine.run(head(), film, output, RunOptions(resume=True))
    assert len(clips.read(output)[0]) == FRAMES


@pytest.mark.parametrize("fails_at", [0, 3, 10])
def test_a_failing_writer_leaves_no_output(head, film, tmp_path, monkeypatch, small_segments, fails_at):
    write, written = SegmentWriter.write, []

    def failing(self, rgb, pts, beside=None):
        if self.path.parent.suffix == ".vrestore":  # not where the encoder is tried out
            if len(written) == fails_at:
                raise OutputError("the disk is full")
            written.append(pts)
        write(self, rgb, pts, beside)

    monkeypatch.setattr(SegmentWriter, "write", failing)
    with pytest.raises(OutputError, match="the disk is full"):
        engine.run(head(), film, tmp_path / "out.mkv")
    left = ["out.mkv.vrestore"] if fails_at > 4 else []  # a checkpoint, where there is one, is worth keeping
    assert left_over(tmp_path) == left
    assert not list(tmp_path.glob("out.mkv.vrestore/*.part"))


def test_a_failing_mux_leaves_no_output_and_can_be_repeated(head, film, clips, tmp_path, monkeypatch, watched):
    def failing(*arguments, **options):
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "join_all", failing)
        with pytest.raises(OutputError, match="the disk is full"):
            engine.run(head(), film, tmp_path / "out.mkv")
    assert left_over(tmp_path) == ["out.mkv.vrestore"]
    calls = watched.calls
    result = engine.run(head(), film, tmp_path / "out.mkv", RunOptions(resume=True))
    assert watched.calls == calls
    assert (result.frames, len(clips.read(tmp_path / "out.mkv")[0])) == (FRAMES, FRAMES)
    assert left_over(tmp_path) == ["out.mkv"]


def test_killed_while_the_job_folder_is_removed(head, film, clips, tmp_path, monkeypatch):
    """The output is complete by then; the rest of the folder is no job, and the same command with --resume works."""

    def killed(folder, **_):
        next(folder.glob("segment*")).unlink()
        raise KeyboardInterrupt

    output = tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda folder, **kind: killed(folder) if output.exists() else None)
        with pytest.raises(KeyboardInterrupt):
            engine.run(head(), film, output)
    frames, _ = clips.read(output)
    engine.run(head(), film, output, RunOptions(resume=True))
    assert np.array_equal(clips.read(output)[0], frames)
    assert left_over(tmp_path) == ["out.mkv"]


def test_unusable_weights_leave_nothing(head, film, tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "EmbeddedPrior"}')
    with pytest.raises(PriorError, match="no usable weights"):
        engine.run(head(prior=str(folder)), film, tmp_path / "out.mkv")
    assert left_over(tmp_path) == ["bad"]
