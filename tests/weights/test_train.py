"""Training: resumes to the same bits, follows its schedule, learns, and writes weights that the prior loads."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from vrestore.errors import ConfigError
from vrestore.priors import find_prior
from vrestore.weights.recipe import judge
from vrestore.weights.recipe.arrays import opened
from vrestore.weights.recipe.batch import Batch
from vrestore.weights.recipe.diets import DIETS
from vrestore.weights.recipe.export import export, load
from vrestore.weights.recipe.fit import Moment, fit, learning_rate
from vrestore.weights.recipe.train import Restoring, TrainConfig, bridge_times, lesson, losses, restoring

CONFIG = TrainConfig(steps=4, decay=2, warmup=2, opening=1, crop=32, one_step=0.5)
CHANNELS = 4
"""Of the latents of the tiny networks."""


@pytest.fixture
def start(pool_folder, build):
    """Makes a trainer of tiny networks on the tiny pool."""

    def trainer(folder, config=CONFIG):
        return restoring(pool_folder, folder, config, "cpu", build)

    return trainer


def drawn(pool, diet, seed=0, one_step=0.5, clean=0.45):
    batch = DIETS[diet].draw(pool, np.random.default_rng([seed, 0]), 32, clean, DIETS[diet].batch)
    return lesson(batch, CHANNELS, one_step, torch.Generator().manual_seed(0))


def weights(module):
    return torch.cat([value.flatten() for value in module.state_dict().values()])


def test_a_resumed_run_equals_one_run(start, tmp_path):
    whole = start(tmp_path / "whole")
    expected = [whole.advance() for _ in range(4)]
    half = start(tmp_path / "halves")
    found = [half.advance() for _ in range(2)]
    half.save()
    torch.rand(3)  # a new process has another random state
    rest = start(tmp_path / "halves")
    assert rest.step == 2
    found += [rest.advance() for _ in range(2)]
    assert found == expected
    assert torch.equal(weights(rest.model), weights(whole.model))
    assert torch.equal(weights(rest.averaged()), weights(whole.averaged()))
    assert not (tmp_path / "halves" / "state.part").exists()


@pytest.mark.parametrize("crop", [0, 24, 40, 80])
def test_a_crop_fits_the_networks_and_the_pool(start, tmp_path, crop):
    """Clips of this pool are 64 pixels wide."""
    with pytest.raises(ConfigError, match=f"crop is {crop}"):
        start(tmp_path / "run", replace(CONFIG, crop=crop))
    assert not (tmp_path / "run").exists()


def test_the_seed_makes_the_networks(start, tmp_path):
    first, again = start(tmp_path / "a"), start(tmp_path / "b")
    other = start(tmp_path / "c", replace(CONFIG, seed=1))
    assert torch.equal(weights(first.model), weights(again.model))
    assert not torch.equal(weights(first.model), weights(other.model))


def test_the_optimiser_follows_the_schedule(start, tmp_path):
    trainer = start(tmp_path)
    for step in range(3):
        trainer.advance()
        rates = {trainer._optimiser.rate}
        assert rates == {learning_rate(step, CONFIG)}


def test_the_denoiser_waits_for_the_end_of_the_opening(start, tmp_path):
    """Until then only the autoencoder learns; the average follows."""
    trainer = start(tmp_path)
    vae, unet = weights(trainer.model.vae), weights(trainer.model.unet)
    trainer.advance()
    assert torch.equal(weights(trainer.model.unet), unet)
    assert not torch.equal(weights(trainer.model.vae), vae)
    trainer.advance()
    assert not torch.equal(weights(trainer.model.unet), unet)
    mean = weights(trainer.averaged().vae)
    now = weights(trainer.model.vae)
    assert 0 < (mean - vae).norm() < (now - vae).norm()


def test_bridge_times():
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(bridge_times((2, 5), 1.0, generator), torch.ones(2, 5))
    found = [bridge_times((2, 5), 0.0, generator) for _ in range(40)]
    assert all(t.min() >= 0 and t.max() <= 1 for t in found)
    per_clip = [t for t in found if torch.equal(t, t[:, :1].expand(2, 5))]
    assert 10 < len(per_clip) < 30  # the other half has a time per frame
    assert all(t[0, 0] != t[1, 0] for t in per_clip)


def test_losses_of_new_networks_are_known(pool, build):
    """A decoder without correction and a new denoiser answer with the degraded input, at every time."""
    model = build()
    nn.init.zeros_(model.vae.head[-2].weight)
    nn.init.zeros_(model.vae.head[-2].bias)
    task = drawn(pool, "restoration")
    batch = task.batch
    error = (batch.degraded - batch.sharp).abs()
    with torch.no_grad():
        found = losses(model, task, opening=False, decaying=False)
        clean, start = (model.vae.encode(frames.flatten(0, 1)) for frames in (batch.sharp, batch.degraded))
    assert found["restored"].item() == pytest.approx(error.mean().item(), rel=1e-5)
    assert found["rebuilt"].item() == pytest.approx(error.flatten(0, 1)[::3].mean().item(), rel=1e-5)
    assert found["latent"].item() == pytest.approx((clean - start).square().mean().item(), rel=1e-4)


@pytest.mark.parametrize("name", ["deblurring", "interpolation"])
def test_keys_teach_nothing(name, pool_folders, build):
    """A loss over all but the keys; where the networks correct nothing, it is the error of what they start from."""
    model = build()
    nn.init.zeros_(model.vae.head[-2].weight)
    nn.init.zeros_(model.vae.head[-2].bias)
    task = drawn(opened(pool_folders[name]), name)
    batch = task.batch
    wanted = [i for i in range(batch.sharp.shape[1]) if i not in batch.keys]
    assert not task.times[:, list(batch.keys)].any()
    error = (batch.degraded - batch.sharp)[:, wanted].abs().mean().item()
    with torch.no_grad():
        found = losses(model, task, opening=False, decaying=False)
    assert found["restored"].item() == pytest.approx(error, rel=1e-5)


def test_one_batch_can_be_learned(pool, build):
    model = build()
    task = drawn(pool, "restoration", seed=1, one_step=1.0, clean=1.0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    bicubic = (task.batch.degraded - task.batch.sharp).abs().mean().item()
    for _ in range(40):
        parts = losses(model, task, opening=False, decaying=False)
        optimiser.zero_grad()
        sum(parts.values()).backward()
        optimiser.step()
    assert parts["restored"].item() < 0.9 * bicubic


def test_a_run_reports_saves_and_judges(start, tmp_path):
    said = []
    config = replace(CONFIG, report_every=2, judge_every=3)
    model = fit(start(tmp_path, config), said.append, lambda m: f"judged {type(m).__name__}")
    assert [line.split(" ")[1] for line in said] == ["2", "3", "4", "4"]
    assert [line.endswith("judged Restorer") for line in said] == [False, True, False, True]
    assert "restored 0." in said[0]
    again = start(tmp_path)
    assert again.step == 4
    assert torch.equal(weights(again.averaged()), weights(model))
    assert not model.training


def test_written_weights_restore_the_same(start, tmp_path):
    trainer = start(tmp_path / "run")
    for _ in range(3):
        trainer.advance()
    model = trainer.averaged()
    before = weights(model)
    export(model, tmp_path / "weights", "EmbeddedPrior")
    assert torch.equal(weights(model), before)
    read = load(tmp_path / "weights")
    assert weights(read).dtype == torch.float32
    assert torch.allclose(weights(read), before, rtol=1e-3, atol=1e-6)
    clip = torch.rand(3, 3, 32, 32)
    batch = Batch(clip[None], clip[None], torch.zeros(1, 3, 6, 4, 4))
    expected, found = (judge.restore(m, batch) for m in (model, read))
    assert (found - clip).abs().max() > 1e-3
    assert (found - expected).abs().max() < 2e-2  # restored in bfloat16
    export(read, tmp_path / "again", "EmbeddedPrior")
    for name in ("vae", "unet"):  # where it was loaded from is nobody's business
        configs = [(tmp_path / folder / name / "config.json").read_text() for folder in ("weights", "again")]
        assert configs[0] == configs[1]
    prior = find_prior(str(tmp_path / "weights")).load(torch.device("cpu"), torch.float32)
    assert torch.allclose(prior.encode(clip), model.vae.encode(clip), atol=1e-2)
    assert prior.ladder(3).levels == 3


def test_luma_psnr_is_exact():
    black = torch.zeros(2, 3, 32, 32)
    grey = torch.full((2, 3, 32, 32), 51 / 255)
    assert judge.psnr_y(black, grey) == pytest.approx(-20 * np.log10(0.2 * 219 / 255), abs=1e-3)
    edge = grey.clone()
    edge[..., :8] = edge[..., -8:] = edge[..., :8, :] = edge[..., -8:, :] = 1
    assert judge.psnr_y(black, edge, judge.BORDER) == pytest.approx(judge.psnr_y(black, grey), abs=1e-6)


def test_judging_no_correction_is_bicubic(build, tmp_path):
    """Sequences are read from folders; networks that correct nothing gain nothing."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            picture = np.random.default_rng(i).integers(0, 256, (8, 10, 3), dtype=np.uint8)
            picture = cv2.resize(picture, (80, 64), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(tmp_path / name / f"{i}.png"), picture)
    clips = judge.load_sequences(tmp_path, 2, (32, 48))
    assert {name: clip.shape for name, clip in clips.items()} == dict.fromkeys("ab", (2, 3, 32, 48))
    top_left = cv2.imread(str(tmp_path / "a" / "0.png"))[16, 16, ::-1] / 255
    assert clips["a"][0, :, 0, 0].numpy() == pytest.approx(top_left, abs=1e-6)
    model = build().eval()
    nn.init.zeros_(model.vae.head[-2].weight)
    nn.init.zeros_(model.vae.head[-2].bias)
    for name, diet in DIETS.items():
        tests = diet.tests({key: torch.cat([clip, clip.flip(0)[1:]]) for key, clip in clips.items()})
        line = judge.judge(model, tests)
        assert line.count("(+0.00, worst +0.00)") == len(tests) > 0, f"{name}: {line}"


def test_the_easier_clips_are_fewer_during_the_decay(pool_folder):
    """What is drawn for a step depends on it, the seed and whether the decay has begun."""
    config = replace(CONFIG, clean=1.0, clean_at_end=0.0, one_step=1.0)
    drawing = Restoring(pool_folder, config, CHANNELS)
    before, after, again = (drawing.draw(np.random.default_rng(5), Moment(3, late)) for late in (False, True, True))
    assert torch.equal(after.batch.degraded, again.batch.degraded)
    assert torch.equal(before.noise, after.noise)
    assert before.batch.sharp.shape == after.batch.sharp.shape
    assert not torch.equal(before.batch.degraded, after.batch.degraded)
    assert (after.times == 1).all()


def test_a_run_goes_on_only_as_it_was(start, tmp_path):
    trainer = start(tmp_path)
    trainer.advance()
    trainer.save()
    with pytest.raises(ConfigError, match="rate"):
        start(tmp_path, config=replace(CONFIG, rate=CONFIG.rate * 2))
    assert start(tmp_path, config=replace(CONFIG, steps=CONFIG.steps + 1)).step == 1
