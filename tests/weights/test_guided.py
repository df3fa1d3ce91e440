"""Training that goes on with a guide: what learns, what stays, and that the prior restores as the training did."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from vrestore.errors import ConfigError
from vrestore.priors import find_prior
from vrestore.weights.recipe import judge
from vrestore.weights.recipe.batch import Batch, clip_motion
from vrestore.weights.recipe.export import export, load
from vrestore.weights.recipe.train import TrainConfig, decoding, guided, restoring

CONFIG = TrainConfig(steps=3, decay=1, warmup=1, opening=0, crop=32, one_step=0.5, batch=12, guided=True, muon=True)


def parts(model):
    """Copies of the weights of each network."""
    networks = {"unet": model.unet, "encoder": model.vae.encoder, "body": model.vae.body, "guide": model.guide}
    return {name: torch.cat([p.detach().flatten() for p in net.parameters()]) for name, net in networks.items()}


def pan(frames=12, size=64):
    """A texture that pans, (frames, 3, size, size)."""
    coarse = torch.from_numpy(np.random.default_rng(2).random((1, 1, 12, 24), np.float32))
    wide = nn.functional.interpolate(coarse, (size, 2 * size), mode="bicubic")[0].clamp(0, 1)
    return torch.stack([wide[:, :, 2 * i : 2 * i + size] for i in range(frames)]).expand(-1, 3, -1, -1).contiguous()


def test_only_the_decoder_and_the_guide_learn(pool_folder, build, tmp_path):
    run = restoring(pool_folder, tmp_path, CONFIG, "cpu", lambda: guided(build()))
    before = parts(run.model)
    for _ in range(3):
        run.advance()
    same = {name: torch.equal(now, before[name]) for name, now in parts(run.model).items()}
    assert same == {"unet": True, "encoder": True, "body": False, "guide": False}


def test_a_shared_denoiser_stays_and_is_not_written(pool_folder, build, tmp_path):
    config = replace(CONFIG, guided=False, shared=True)
    run = restoring(pool_folder, tmp_path / "run", config, "cpu", lambda: decoding(build()))
    before = run.model.vae.body[0].conv_out.weight.detach().clone()
    kept = {name: p.clone() for name, p in run.model.unet.state_dict().items()}
    for _ in range(3):
        run.advance()
    assert not torch.equal(run.model.vae.body[0].conv_out.weight, before)
    export(run.model, tmp_path / "restoration", "EmbeddedPrior")
    export(run.model, tmp_path / "other", "EmbeddedPrior", shared=True)
    assert sorted(part.name for part in (tmp_path / "other").iterdir()) == ["model_index.json", "vae"]
    for name, weight in load(tmp_path / "other").unet.state_dict().items():
        assert torch.allclose(weight, kept[name], atol=1e-3)  # in half precision
    prior = find_prior(str(tmp_path / "other")).load(torch.device("cpu"), torch.float32)
    beside = {"degraded": pan(1), "aligned": pan(1).repeat(1, 2, 1, 1)}
    assert prior.decode(prior.encode(pan(1)), beside).shape == (1, 3, 64, 64)


def test_a_new_guide_takes_the_place_of_the_decoders_own_blocks(build):
    plain = build()
    blocks, others = plain.vae.guide[2], dict(plain.vae.named_parameters())
    for block in blocks:  # then they add nothing, and nothing changes
        nn.init.zeros_(block.conv_out.weight)
        nn.init.zeros_(block.conv_out.bias)
    clip = pan(3)
    batch = Batch(clip[None], clip[None], clip_motion(clip)[None])
    expected = judge.restore(plain, batch)
    model = guided(plain)
    assert len(model.vae.guide[2]) == 0 < len(blocks)
    assert len(dict(model.vae.named_parameters())) == len(others) - 4 * len(blocks)
    assert torch.equal(judge.restore(model, batch), expected)
    assert guided(model).guide is model.guide  # one that is there goes on


def test_blocks_that_are_added_change_nothing_until_they_have_learned(build):
    clip = pan(3)
    batch = Batch(clip[None], clip[None], clip_motion(clip)[None])
    plain = guided(build())
    nn.init.normal_(plain.guide.tell.weight, std=0.3)
    sizes = plain.vae.config.decoder_blocks, plain.guide.config.depth
    expected = judge.restore(plain, batch)
    grown = guided(plain, sizes[0] + 2, sizes[1] + 1)
    assert (len(grown.vae.body), len(grown.guide.back[2])) == (sizes[0] + 2, sizes[1] + 1)
    assert torch.equal(judge.restore(grown, batch), expected)
    nn.init.normal_(grown.vae.body[-1].conv_out.weight, std=0.3)
    assert not torch.equal(judge.restore(grown, batch), expected)
    with pytest.raises(ConfigError, match=r"^decoder_blocks is 1; give \d+"):
        guided(grown, 1)


@pytest.mark.parametrize("frames", [1, 5, 12])
def test_the_prior_restores_as_the_training_does(build, tmp_path, frames):
    """In windows, groups and half precision all that is told of a frame is the same, but for frames far away."""
    model = guided(build())
    nn.init.normal_(model.guide.tell.weight, std=0.3)
    nn.init.normal_(model.vae.head[-2].weight, std=0.3)
    export(model, tmp_path, "EmbeddedPrior")
    clip = pan(frames)
    expected = judge.restore(load(tmp_path), Batch(clip[None], clip[None], clip_motion(clip)[None]))
    prior = find_prior(str(tmp_path)).load(torch.device("cpu"), torch.float32)
    entries = [None, *prior.conditions(iter(clip)), None]
    found = []
    window = {name: torch.stack([e[name] for e in entries[1:-1]])[None] for name in prior.facts.conditionings}
    latents = prior.predict(window["degraded_latents"], torch.ones(1, frames), window)[0]
    for i, here in enumerate(entries[1:-1]):
        known = here | prior.surroundings(entries[i], here, entries[i + 2])
        found.append(prior.decode(latents[i][None], {name: value[None] for name, value in known.items()})[0])
    sure = slice(0, 8 if frames > 8 else frames)
    change = (expected - clip)[sure].abs().mean()
    assert change > 0.01
    assert (torch.stack(found) - expected)[sure].abs().mean() < 0.05 * change  # training runs in bfloat16


def test_the_settings_of_a_run_say_whether_it_is_guided(pool_folder, build, tmp_path):
    run = restoring(pool_folder, tmp_path, CONFIG, "cpu", lambda: guided(build()))
    frames = {run.drawn(step)[1].batch.sharp.shape[1] for step in range(4)}
    assert frames == {6}  # as long as the pool's clips
    plain = restoring(pool_folder, tmp_path / "plain", replace(CONFIG, guided=False), "cpu", build)
    assert {plain.drawn(step)[1].batch.sharp.shape[1] for step in range(8)} == {3, 6}
