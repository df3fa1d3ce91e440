"""Runs that are broken off and go on: to the same bits, and only as they were asked for."""

import numpy as np
import pytest

from vrestore import engine
from vrestore.checkpoint import JobFolder
from vrestore.errors import ResumeError
from vrestore.report import RunOptions

SIZE = (24, 32)
FRAMES = 22


@pytest.mark.parametrize(
    "settings",
    [{}, {"steps": 4, "fidelity": 0.2}, {"scale": 1, "denoise": 1.0}],
    ids=["one step", "four stochastic steps", "denoised"],
)
@pytest.mark.usefixtures("small_segments")
def test_resumed_at_every_segment_equals_undisturbed(head, film, clips, tmp_path, monkeypatch, settings, left_over):
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


def test_resumed_between_segments_equals_undisturbed(head, film, clips, tmp_path, small_segments, interrupt_after):
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


def test_without_resume_a_job_starts_anew(head, film, clips, tmp_path, small_segments, interrupt_after):
    output = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        engine.run(head(fidelity=1.0), film, output, RunOptions(progress=interrupt_after(12)))
    engine.run(head(), film, output)
    engine.run(head(), film, tmp_path / "fresh.mkv")
    assert np.array_equal(clips.read(output)[0], clips.read(tmp_path / "fresh.mkv")[0])


@pytest.fixture
def interrupted(head, film, tmp_path, small_segments, interrupt_after):
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


def test_an_interruption_before_the_first_checkpoint_leaves_nothing(head, film, tmp_path, interrupt_after, left_over):
    with pytest.raises(KeyboardInterrupt):
        engine.run(head(), film, tmp_path / "out.mkv", RunOptions(progress=interrupt_after(3)))
    assert left_over(tmp_path) == []
