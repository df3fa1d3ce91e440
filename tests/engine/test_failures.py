"""Refusals, and failures in the middle of a run."""

import numpy as np
import pytest

from vrestore import engine
from vrestore.errors import ConfigError, DeviceError, MissingInputError, OutputError, PriorError
from vrestore.report import RunOptions
from vrestore.video.encode import SegmentWriter

FRAMES = 22


def test_refused_before_anything_is_written(head, film, tmp_path, left_over):
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


def test_an_existing_output_is_replaced_when_all_is_done(head, film, clips, tmp_path, small_segments, interrupt_after):
    output = tmp_path / "out.mkv"
    output.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        engine.run(head(), film, output, RunOptions(progress=interrupt_after(12)))
    assert output.read_bytes() == b"old"
    engine.run(head(), film, output, RunOptions(resume=True))
    assert len(clips.read(output)[0]) == FRAMES


@pytest.mark.parametrize("fails_at", [0, 3, 10])
def test_a_failing_writer_leaves_no_output(head, film, tmp_path, monkeypatch, small_segments, fails_at, left_over):
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


def test_a_failing_mux_leaves_no_output_and_can_be_repeated(
    head, film, clips, tmp_path, monkeypatch, watched, left_over
):
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


def test_killed_while_the_job_folder_is_removed(head, film, clips, tmp_path, monkeypatch, left_over):
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


def test_unusable_weights_leave_nothing(head, film, tmp_path, left_over):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "EmbeddedPrior"}')
    with pytest.raises(PriorError, match="the prior lacks"):
        engine.run(head(prior=str(folder)), film, tmp_path / "out.mkv")
    assert left_over(tmp_path) == ["bad"]
