"""Deblurring: what is sharp passes, what is blurred takes the prior's answer, colours stay. The answer is made up."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vrestore import deblur, engine
from vrestore.errors import ConfigError
from vrestore.preparing import prepare
from vrestore.report import RunOptions
from vrestore.shutter import Shutter
from vrestore.tasks import deblurring
from vrestore.tasks.deblurring import UNSURE_BLUR, Deblurring, DeblurringConfig, blurred, within

SIZE = (96, 160)


@pytest.fixture
def truth():
    """A fine texture, (3, *SIZE)."""
    rough = np.random.default_rng(0).random((*SIZE, 3), np.float32)
    fine = cv2.normalize(cv2.GaussianBlur(rough, (0, 0), 1.2), None, 0.1, 0.9, cv2.NORM_MINMAX)
    return torch.from_numpy(fine).permute(2, 0, 1).contiguous()


@pytest.fixture
def source(truth):
    """The left half stays sharp, the right half is the mean over nine pixels of motion."""
    moved = F.avg_pool2d(F.pad(truth[None], [4, 4, 0, 0], mode="replicate"), (1, 9), stride=1)[0]
    right = (torch.arange(SIZE[1]) >= SIZE[1] // 2)[None, None]
    return torch.where(right, moved, truth)


LEFT, RIGHT = (..., slice(0, SIZE[1] // 2 - 40)), (..., slice(SIZE[1] // 2 + 40, None))


def test_blur_is_found_where_it_is(truth, source):
    found = blurred(source, truth)
    assert found.shape == (1, *SIZE)
    assert found[LEFT].max() < 0.05
    assert found[RIGHT].mean() > 0.9


def test_what_is_sharp_passes_and_what_is_blurred_is_restored(truth, source):
    wrong = truth.clone()
    wrong[LEFT] = (truth + 0.004 * torch.randn(truth.shape))[LEFT]  # the prior touches what it should not
    found = Deblurring().finish(wrong, source, exact=True)
    assert (found - source)[LEFT].abs().max() < 1e-3
    assert (found - truth)[RIGHT].abs().mean() < 0.25 * (source - truth)[RIGHT].abs().mean()


def test_sharp_frames_come_out_as_they_are(truth):
    """An answer that is a little softer, or only noisier by less than shows, changes nothing."""
    softer = F.avg_pool2d(truth[None], 3, stride=1, padding=1, count_include_pad=False)[0]
    for answer in (truth, softer):
        assert torch.equal(Deblurring().finish(answer, truth, exact=True), truth.clamp(0, 1))


def test_without_protection_the_answer_is_taken(truth, source):
    softer = F.avg_pool2d(truth[None], 3, stride=1, padding=1, count_include_pad=False)[0]
    found = Deblurring(protect=False).finish(softer, truth, exact=True)
    assert (found - softer).abs().mean() < 0.2 * (softer - truth).abs().mean()


def test_a_tint_is_taken_back(truth, source):
    tint = torch.tensor([0.05, -0.04, 0.03])[:, None, None]
    found = Deblurring().finish(truth + tint, source, exact=True)
    assert (found.mean((1, 2)) - source.mean((1, 2))).abs().max() < 0.01


@pytest.mark.parametrize("settings", [{"amount": 0.0}, {"fidelity": 1.0}])
def test_at_the_end_of_a_dial_nothing_changes(truth, source, settings):
    assert torch.allclose(Deblurring(**settings).finish(truth, source, exact=True), source, atol=1e-6)


def test_half_the_amount_is_half_the_change(truth, source):
    whole, half = (Deblurring(amount=s).finish(truth, source, exact=True) for s in (1.0, 0.5))
    inside = (whole > 0) & (whole < 1)
    assert torch.allclose((half - source)[inside] * 2, (whole - source)[inside], atol=1e-5)


@pytest.mark.parametrize("amount", [-0.1, 1.1, float("nan")])
def test_the_amount_has_a_range(amount):
    with pytest.raises(ConfigError, match=r"^amount is"):
        DeblurringConfig(amount=amount)


def test_consistency_ignores_blur_but_not_colour(truth, source):
    task = Deblurring()
    assert task.consistency_db(source, source) == pytest.approx(100)
    assert task.consistency_db(truth, source) > task.consistency_db(truth + 0.1, source) + 5
    assert task.consistency_db(truth + 0.1, truth) == pytest.approx(20, abs=0.1)


def exposed(frames, speed=6, fine=2.0, off=0.5):
    """A texture that pans by ``speed`` pixels a frame, sharp and through an open shutter: uint8 (frames, *SIZE, 3).

    ``off``: parts of a pixel that frames lie beside those of the texture, which blurs them a little along the motion.
    """
    rough = np.random.default_rng(3).random((SIZE[0], SIZE[1] + 200, 3), np.float32)
    wide = cv2.normalize(cv2.GaussianBlur(rough, (0, 0), fine), None, 0.1, 0.9, cv2.NORM_MINMAX)
    sharp, blurred = [], []
    for i in range(frames):
        places = [20 + off + speed * (i + (k + 0.5) / 13 - 0.5) for k in range(13)]
        middle = (SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2
        views = [cv2.getRectSubPix(wide, SIZE[::-1], (x + middle[0], middle[1])) for x in places]
        sharp.append(views[6])
        blurred.append(np.mean([v**2.2 for v in views], axis=0) ** (1 / 2.2))
    return [np.round(np.stack(clip) * 255).astype(np.uint8) for clip in (sharp, blurred)]


def error(one, two):
    return np.abs(one.astype(int) - two)[1:-1, 16:-16, 24:-24].mean()


@pytest.mark.parametrize("given", [None, 360.0])
def test_the_exposure_is_undone(clips, tmp_path, given):
    """With the shutter that was given, and with the one that is measured."""
    sharp, blurred = exposed(5)
    source = clips.write(tmp_path / "in.mkv", blurred)
    result = deblur(source, tmp_path / "out.mkv", shutter=given, device="cpu")
    assert set(result.measured) == ({"shutter"} if given is None else set())
    frames, _ = clips.read(tmp_path / "out.mkv")
    assert result.frames == 5
    assert error(frames, sharp) < 0.45 * error(blurred, sharp)


def test_what_was_sharp_comes_out_as_it_was(clips, tmp_path):
    sharp, _ = exposed(5, speed=8, fine=0.7, off=0)
    source = clips.write(tmp_path / "in.mkv", sharp)
    result = deblur(source, tmp_path / "out.mkv", device="cpu")
    assert np.array_equal(clips.read(tmp_path / "out.mkv")[0], sharp)
    assert result.as_dict()["measured"] == {"shutter": 0.0}


def test_the_measured_shutter_is_in_the_record(clips, tmp_path):
    _, blurred = exposed(5)
    source = clips.write(tmp_path / "in.mkv", blurred)
    task = Deblurring(device="cpu")
    job = prepare(task, source, None, RunOptions())
    assert job.task.config.shutter >= 315
    assert job.asked()["shutter"] == job.task.config.shutter
    assert job.measured == {"shutter": job.task.config.shutter}


def test_a_short_blur_stays_where_the_shutter_is_not_certain(monkeypatch):
    """Unless it was said from where on blur is undone; the longest shutter of all places that are looked at counts."""
    found = iter([Shutter(0.25, sure=True), Shutter(0.5, sure=False)] * 2 + [Shutter(0.5, sure=True)])
    monkeypatch.setattr(deblurring, "estimate_shutter", lambda frames: next(found))
    window = torch.rand(5, 3, 32, 32)
    for head in (Deblurring(), Deblurring(least_blur=1.0)):
        expected = UNSURE_BLUR if head.config.least_blur is None else 1.0
        config = head.measured([window, window]).config
        assert (config.shutter, config.least_blur) == (180, expected)
    assert Deblurring().measured([window]).config.least_blur is None


def test_least_blur_is_what_stays(clips, tmp_path):
    _, blurred = exposed(5)
    source = clips.write(tmp_path / "in.mkv", blurred)
    changes = []
    for least in (0.0, 1000.0):
        deblur(source, tmp_path / f"{least}.mkv", shutter=360.0, least_blur=least, device="cpu")
        changes.append(error(clips.read(tmp_path / f"{least}.mkv")[0], blurred))
    assert changes[0] > 10 * changes[1]


def passing(count, seed=2):
    """Something patched that passes a patched ground at another speed: more than what is blended shows."""
    ground, front = (patched(h, 192 + 8 * count, seed + i) for i, h in enumerate((96, 40)))
    frames = []
    for i in range(count):
        picture = ground[:, 4 * i : 4 * i + 192].copy()
        picture[28:68, 16:136] = front[:, 7 * i : 7 * i + 120]
        frames.append(picture)
    return np.stack(frames)


def patched(height, width, seed):
    """Rows of four pixels, of patches of 12 to 40."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(height // 4):
        widths = rng.integers(12, 41, size=width // 12)
        colours = rng.integers(30, 220, (len(widths), 3)).astype(np.uint8)
        rows += 4 * [colours.repeat(widths, axis=0)[:width]]
    return np.stack(rows)


def averaged(frames, count):
    light = (frames / 255) ** 2.2
    found = np.stack([light[i : i + count].mean(0) for i in range(len(frames) - count + 1)])
    return np.round(255 * found ** (1 / 2.2)).astype(np.uint8), frames[count // 2 :][: len(found)]


@pytest.mark.parametrize("given", [None, 3])
def test_frames_that_were_blended_come_apart(clips, tmp_path, given):
    blended, sharp = averaged(passing(22), 3)
    source = clips.write(tmp_path / "in.mkv", blended)
    result = deblur(source, tmp_path / "out.mkv", blended=given, device="cpu")
    assert result.measured == ({"blended": 3} if given is None else {})
    frames, _ = clips.read(tmp_path / "out.mkv")
    before, after = (np.abs(each.astype(int) - sharp).mean() for each in (blended, frames))
    assert result.frames == 20
    assert after < 0.4 * before


def test_blended_frames_are_resumed_to_the_same_bits(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "SEGMENT_FRAMES", 8)
    source = clips.write(tmp_path / "in.mkv", averaged(passing(40), 2)[0])
    task = Deblurring(blended=2, device="cpu")
    engine.run(task, source, tmp_path / "undisturbed.mkv")

    def interrupt(now):
        if now.done >= 27:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run(task, source, tmp_path / "out.mkv", RunOptions(progress=interrupt))
    engine.run(task, source, tmp_path / "out.mkv", RunOptions(resume=True))
    assert np.array_equal(clips.read(tmp_path / "out.mkv")[0], clips.read(tmp_path / "undisturbed.mkv")[0])


def test_a_shutter_is_of_no_use_to_another_prior(tiny_prior, clips, tmp_path):
    source = clips.write(tmp_path / "in.mkv", clips.scene(2, (16, 16)))
    with pytest.raises(ConfigError, match=r"^shutter is 180"):
        deblur(source, tmp_path / "out.mkv", shutter=180.0, prior=str(tiny_prior))
    with pytest.raises(ConfigError, match=r"^shutter is 361"):
        DeblurringConfig(shutter=361.0)


def test_a_resumed_run_sees_the_frames_before(clips, tmp_path, monkeypatch):
    """Undone frames depend on two frames before them, also where a checkpoint lies between."""
    monkeypatch.setattr(engine, "SEGMENT_FRAMES", 2)
    monkeypatch.setattr(engine, "SHORTEST_SEGMENT", 2)
    _, blurred = exposed(6)
    source = clips.write(tmp_path / "in.mkv", blurred)
    deblur(source, tmp_path / "whole.mkv", shutter=360.0, device="cpu")

    def stop(progress):
        if progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deblur(source, tmp_path / "out.mkv", shutter=360.0, device="cpu", options=RunOptions(progress=stop))
    deblur(source, tmp_path / "out.mkv", shutter=360.0, device="cpu", options=RunOptions(resume=True))
    assert np.array_equal(clips.read(tmp_path / "out.mkv")[0], clips.read(tmp_path / "whole.mkv")[0])


def test_deblur_is_one_call(clips, tmp_path, tiny_prior):
    clip = clips.write(tmp_path / "in.mkv", clips.scene(3, (17, 33)))
    result = deblur(clip, str(tmp_path / "out.mkv"), prior=str(tiny_prior), device="cpu", amount=0.5)
    assert (result.frames, result.width, result.height) == (3, 33, 17)


def test_no_edge_overshoots():
    """An answer beyond what the source shows nearby is held to it, channel by channel; elsewhere it stays."""
    source = torch.full((3, 20, 20), 0.2)
    source[:, :, 12:] = 0.6
    answer = source.clone()
    answer[:, :, 11], answer[0, :, 12], answer[:, :, 13] = 0.1, 0.9, 0.5
    held = within(answer, source)
    assert held[:, :, 11].unique().tolist() == pytest.approx([0.2])
    assert held[0, :, 12].unique().tolist() == pytest.approx([0.6])
    torch.testing.assert_close(held[:, :, 13:], answer[:, :, 13:])
