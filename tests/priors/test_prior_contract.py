"""What every prior must do: its facts are true, shapes fit, calls are independent, and bad folders are named."""

import json
import shutil
import socket
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from vrestore.conditioning import given
from vrestore.errors import PriorError
from vrestore.prior import Prior, PriorFacts, Streams
from vrestore.prior_options import EditOptions, GenerationOptions, PriorOptions
from vrestore.priors import FAMILIES, WITHOUT_WEIGHTS, find_prior
from vrestore.priors.guided import MOTION, guided
from vrestore.priors.interpolation import BetweenPrior
from vrestore.weights import EMBEDDED

CPU = torch.device("cpu")


TINY = {
    "EmbeddedPrior": "tiny_prior",
    "InterpolationPrior": "tiny_between_prior",
    "StableDiffusionUpscalePipeline": "tiny_upscaler",
    "StableVSRPipeline": "tiny_stablevsr",
    "StableDiffusionControlNetImg2ImgPipeline": "tiny_control",
    "AnimateDiffVideoToVideoControlNetPipeline": "tiny_animated",
    "MarigoldDepthPipeline": "tiny_depth",
    "StableVideoDiffusionPipeline": "tiny_svd",
    "WanPipeline": "tiny_wan",
}
"""A fixture for every adapter."""
ANEW = ("tiny_svd", "tiny_wan")
"""Those that make videos anew and nothing else: found by who seeks such a prior, and never guided along a motion."""


@pytest.fixture(params=TINY)
def tiny(request):
    """The name of a fixture."""
    return TINY[request.param]


@pytest.fixture
def folder(request, tiny):
    """A small folder of weights for every adapter."""
    return request.getfixturevalue(tiny)


@pytest.fixture
def options(tiny):
    """What a prior is sought with."""
    return GenerationOptions() if tiny in ANEW else PriorOptions()


def test_every_adapter_is_tested():
    ours = {adapter for adapter in FAMILIES.values() if adapter.startswith("vrestore.")}  # tests add one of their own
    assert {FAMILIES[family] for family in TINY} == ours


@pytest.fixture(params=[{}, {"propagation": 1.0, "guidance": 1.0}], ids=["plain", "guided"])
def guidance(request, tiny):
    """Every prior as it is, and guided along the motion."""
    if request.param and tiny in ANEW:
        pytest.skip("no head guides it")
    return request.param


@pytest.fixture
def prior(folder, options, guidance):
    return guided(find_prior(str(folder), options).load(CPU, torch.float32), **guidance)


@pytest.fixture
def size(prior):
    """(height, width): small, and large enough for motion to be found."""
    least = 16 * (prior.facts.scale or 2)
    height = prior.facts.size_multiple * -(-least // prior.facts.size_multiple)
    return height, height + prior.facts.size_multiple


@pytest.fixture
def clip(prior, clips, size):
    """Frames that move, of four latents."""
    frames = 1 + 3 * prior.facts.temporal_factor
    return torch.from_numpy(clips.scene(frames, size).astype(np.float32) / 255).permute(0, 3, 1, 2).contiguous()


def whole(prior, clip):
    """The conditioning of a clip as one window, a batch of one, with what the engine gives."""
    entries = list(prior.conditions(iter(clip)))
    for i, entry in enumerate(entries):
        source = F.avg_pool2d(clip[i], prior.facts.scale or 1)
        entry |= given(prior.facts, source, entry["degraded_latents"], seed=0, frame=i)
    beside = [None, *entries, None]
    entries = [
        entry | prior.surroundings(before, entry, after)
        for before, entry, after in zip(beside, entries, beside[2:], strict=False)
    ]
    return {name: torch.stack([entry[name] for entry in entries])[None] for name in entries[0]}


def gathered(prior, clip):
    """What `predict` takes of that."""
    return {name: value for name, value in whole(prior, clip).items() if name in prior.facts.conditionings}


def times(prior, *levels):
    """Times of the levels of four steps, (batch, frames)."""
    ladder = prior.ladder(4)
    return torch.tensor([[ladder.time[level] for level in row] for row in levels])


def test_facts_are_known_before_loading(folder, options):
    facts = find_prior(str(folder), options).facts
    assert isinstance(facts, PriorFacts)
    assert facts.licence
    assert min(facts.window, facts.latent_channels, facts.spatial_factor, facts.call_bytes, facts.frame_bytes) > 0
    assert facts.size_multiple % facts.spatial_factor == 0


def test_the_prior_follows_the_protocol(prior, folder, options, guidance):
    assert isinstance(prior, Prior)
    facts = find_prior(str(folder), options).facts
    if guidance:
        facts = replace(facts, conditionings=facts.conditionings | {MOTION}, window=max(2, facts.window))
    assert prior.facts == facts
    assert prior.device == CPU


def test_encode_and_decode(prior, clip, size):
    facts = prior.facts
    conditioning = {name: value[0] for name, value in whole(prior, clip).items()}
    latents = prior.encode(clip)
    assert latents.shape == (4, facts.latent_channels, *(side // facts.spatial_factor for side in size))
    assert latents.dtype == torch.float32
    assert latents.isfinite().all()
    decoded = prior.decode(latents, conditioning)
    assert decoded.shape == clip.shape
    if isinstance(prior, Streams):
        one_by_one = list(map(prior.decoder(), latents))
    else:
        one_by_one = [
            prior.decode(latents[i : i + 1], {k: v[i : i + 1] for k, v in conditioning.items()}) for i in range(4)
        ]
    assert torch.allclose(decoded, torch.cat(one_by_one), atol=1e-5)
    assert decoded.isfinite().all()


def test_conditions_of_every_frame(prior, clip):
    entries, factor = list(prior.conditions(iter(clip))), prior.facts.temporal_factor
    firsts = [clip[max(0, 1 + factor * (i - 1))] for i in range(4)]  # of every latent
    latents = [prior.encode(frame[None])[0] for frame in firsts] if factor == 1 else prior.encode(clip)
    for entry, frame, latent in zip(entries, firsts, latents, strict=True):
        assert prior.facts.conditionings - {"source", "noise"} <= entry.keys()
        assert torch.equal(entry["degraded"], frame)
        assert torch.equal(entry["degraded_latents"], latent)


def test_conditions_read_no_farther_ahead_than_they_say(prior, clip):
    read = []

    def frames():
        for i, frame in enumerate(clip):
            read.append(i)
            yield frame

    for i, _ in enumerate(prior.conditions(frames())):
        assert len(read) <= prior.facts.temporal_factor * i + 1 + prior.facts.ahead
    assert len(read) == len(clip)


def test_conditions_of_one_frame_and_of_none(prior, clip):
    assert len(list(prior.conditions(iter(clip[:1])))) == 1
    assert list(prior.conditions(iter(()))) == []


@pytest.mark.parametrize("steps", [1, 4])
def test_the_ladder(prior, steps):
    ladder = prior.ladder(steps)
    assert ladder.levels == steps
    assert ladder.time[0] == 0
    assert ladder.kind != "bridge" or ladder.time[-1] == 1
    assert list(ladder.time) == sorted(ladder.time)
    assert list(ladder.sigma) == sorted(ladder.sigma)
    assert list(ladder.alpha) == sorted(ladder.alpha, reverse=True)


def test_predict_takes_a_level_per_frame(prior, clip):
    """Where the facts say so, the time of each frame counts by itself; elsewhere it is refused."""
    conditioning = gathered(prior, clip)
    latents = torch.randn(1, 4, *prior.encode(clip).shape[1:])
    mixed = times(prior, (4, 4, 4, 1))
    if not prior.facts.per_frame_levels:
        with pytest.raises(PriorError, match="one level"):
            prior.predict(latents, mixed, conditioning)
        return
    one, two = (
        prior.predict(latents, times(prior, (4, 4, 4, 4)), conditioning),
        prior.predict(latents, mixed, conditioning),
    )
    assert one.shape == latents.shape
    assert not torch.equal(one[0, 3], two[0, 3])
    if prior.facts.window == 1:
        apart = prior.predict(
            latents[:, 3:], mixed[:, 3:], {name: value[:, 3:] for name, value in conditioning.items()}
        )
        assert torch.allclose(two[:, 3:], apart, atol=1e-5)


def test_predict_sees_neighbours(prior, clip):
    """As far as it was trained to; frames of an image prior's window do not touch one another."""
    conditioning = gathered(prior, clip)
    if isinstance(prior, BetweenPrior):  # whose frames see what is between them, and that sees them
        conditioning["motion"][:, :, [2, 5]] = 1
    latents = prior.encode(clip)[None]
    changed = latents.clone()
    changed[0, 1] = -changed[0, 1]
    one, two = (prior.predict(z, times(prior, (4, 4, 4, 4)), conditioning) for z in (latents, changed))
    others = [0, 2, 3]
    assert torch.equal(one[0, others], two[0, others]) == (prior.facts.window == 1)


def test_calls_made_together_are_independent(prior, clip):
    first, second = gathered(prior, clip), gathered(prior, clip.flip(-1))
    both = {name: torch.cat([first[name], second[name]]) for name in first}
    latents = torch.stack([prior.encode(clip), prior.encode(clip.flip(-1))])
    level = times(prior, (4, 3, 2, 1) if prior.facts.per_frame_levels else (4, 4, 4, 4), (3, 3, 3, 3))
    together = prior.predict(latents, level, both)
    for i, one in enumerate((first, second)):
        apart = prior.predict(latents[i : i + 1], level[i : i + 1], one)
        assert torch.allclose(together[i], apart[0], atol=1e-5)


def test_lower_precision_is_close(folder, prior, options, guidance, clip):
    low = guided(find_prior(str(folder), options).load(CPU, torch.bfloat16), **guidance)
    latents = prior.encode(clip)
    conditioning = {name: value[0] for name, value in whole(prior, clip).items()}
    assert low.encode(clip).dtype == torch.float32
    level, given_clip = times(prior, (4, 4, 4, 4)), gathered(prior, clip)
    found = [one.predict(latents[None], level, given_clip) for one in (low, prior) if one.ladder(4)]
    assert found[0].dtype == torch.float32
    assert (found[0] - found[1]).abs().mean() < 0.05 * found[1].abs().mean()
    assert (low.decode(latents, conditioning) - prior.decode(latents, conditioning)).abs().mean() < 0.01


def test_an_attention_that_it_has_not_is_refused(prior, clip):
    conditioning = gathered(prior, clip)
    with pytest.raises(PriorError, match="attention"):
        prior.predict(prior.encode(clip)[None], times(prior, (4, 4, 4, 4)), conditioning, attend=object())


def test_latents_of_the_embedded_prior_are_of_unit_size(tiny_prior, clips):
    prior = find_prior(str(tiny_prior)).load(CPU, torch.float32)
    clip = torch.from_numpy(clips.scene(2, (32, 64)).astype(np.float32) / 255).permute(0, 3, 1, 2)
    assert prior.encode(clip).square().mean(1).max() <= 1.0001


# ---------------------------------------------------------------- folders


def test_an_unknown_name():
    names = ", ".join((*EMBEDDED, *WITHOUT_WEIGHTS))
    with pytest.raises(PriorError, match=rf"no prior 'magic': neither one by name \({names}\) nor a folder"):
        find_prior("magic")


@pytest.mark.parametrize(
    "index", ["not json", "[]", "{}", '{"_class_name": "Other"}', '{"_class_name": ["x"]}', "\xff"]
)
def test_an_index_that_names_no_family(tmp_path, index):
    (tmp_path / "model_index.json").write_bytes(index.encode("latin-1"))
    with pytest.raises(PriorError, match=str(tmp_path)):
        find_prior(str(tmp_path))


def weights_of(folder):
    """With those of the autoencoder first."""
    return sorted(folder.rglob("*.safetensors"), reverse=True)


def missing(folder):
    weights_of(folder)[0].unlink()


def no_config(folder):
    (folder / "vae" / "config.json").unlink()


def truncated(folder):
    file = weights_of(folder)[0]
    file.write_bytes(file.read_bytes()[:-100])


def a_tensor_lost(folder):
    tensors = load_file(weights_of(folder)[0])
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, weights_of(folder)[0], metadata={"format": "pt"})


def a_tensor_of_another_shape(folder):
    tensors = load_file(weights_of(folder)[0])
    tensors[sorted(tensors)[0]] = torch.zeros(3)
    save_file(tensors, weights_of(folder)[0], metadata={"format": "pt"})


def a_tensor_too_many(folder):
    tensors = load_file(weights_of(folder)[0]) | {"more": torch.zeros(3)}
    save_file(tensors, weights_of(folder)[0], metadata={"format": "pt"})


@pytest.mark.parametrize(
    "damage", [missing, no_config, truncated, a_tensor_lost, a_tensor_of_another_shape, a_tensor_too_many]
)
def test_weights_that_do_not_fit_are_refused(folder, options, tmp_path, damage):
    """Never random numbers in place of what is missing."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy)
    with pytest.raises(PriorError, match="copy"):
        find_prior(str(copy), options).load(CPU, torch.float32)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_downloaded(tmp_path, monkeypatch, family):
    """A folder without weights, and a name like one on a hub: refused without a connection being tried."""
    tried = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: tried.append(a))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": family}))
    for options in (PriorOptions(), EditOptions(), GenerationOptions()):
        with pytest.raises(PriorError):
            find_prior(str(tmp_path), options).load(CPU, torch.float32)
    for name in ("someone/some-model", "hf:someone/some-model@main"):
        with pytest.raises(PriorError):
            find_prior(name)
    assert tried == []


def test_the_embedded_names():
    assert EMBEDDED == ("restoration", "interpolation", "editing", "depth", "generation")
