"""What every prior must do: its facts are true, shapes fit, calls are independent, and bad folders are named."""

import json
import shutil
import socket

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vrestore.errors import PriorError
from vrestore.prior import Prior, PriorFacts
from vrestore.priors import FAMILIES, find_prior
from vrestore.priors.guided import guided
from vrestore.priors.interpolation import BetweenPrior
from vrestore.weights import EMBEDDED

CPU = torch.device("cpu")


@pytest.fixture(params=FAMILIES)
def folder(request):
    """A small folder of weights for every family."""
    return request.getfixturevalue(
        {"EmbeddedPrior": "tiny_prior", "InterpolationPrior": "tiny_between_prior"}[request.param]
    )


@pytest.fixture(params=[{}, {"propagation": 1.0, "guidance": 1.0}], ids=["plain", "guided"])
def prior(folder, request):
    """As it is, and guided along the motion."""
    return guided(find_prior(str(folder)).load(CPU, torch.float32), **request.param)


@pytest.fixture
def size(prior):
    """(height, width): small, and large enough for motion to be found."""
    return 2 * prior.facts.size_multiple, 4 * prior.facts.size_multiple


@pytest.fixture
def clip(clips, size):
    """Four frames that move."""
    return torch.from_numpy(clips.scene(4, size).astype(np.float32) / 255).permute(0, 3, 1, 2).contiguous()


def whole(prior, clip):
    """The conditioning of a clip as one window, a batch of one."""
    entries = list(prior.conditions(iter(clip)))
    beside = [None, *entries, None]
    entries = [
        entry | prior.surroundings(before, entry, after)
        for before, entry, after in zip(beside, entries, beside[2:], strict=False)
    ]
    return {name: torch.stack([entry[name] for entry in entries])[None] for name in entries[0]}


def gathered(prior, clip):
    """What `predict` takes of that."""
    return {name: value for name, value in whole(prior, clip).items() if name in prior.facts.conditionings}


def times(prior, batch, frames, time=1.0):
    return torch.full((batch, frames), time)


def test_facts_are_known_before_loading(folder):
    facts = find_prior(str(folder)).facts
    assert isinstance(facts, PriorFacts)
    assert facts.licence
    assert min(facts.window, facts.latent_channels, facts.spatial_factor, facts.call_bytes, facts.frame_bytes) > 0
    assert facts.size_multiple % facts.spatial_factor == 0


def test_the_prior_follows_the_protocol(prior, folder):
    assert isinstance(prior, Prior)
    assert prior.facts == find_prior(str(folder)).facts
    assert prior.device == CPU


def test_encode_and_decode(prior, clip, size):
    facts = prior.facts
    conditioning = {name: value[0] for name, value in whole(prior, clip).items()}
    latents = prior.encode(clip)
    frames = len(clip) // facts.temporal_factor
    assert latents.shape == (frames, facts.latent_channels, *(side // facts.spatial_factor for side in size))
    assert latents.dtype == torch.float32
    assert latents.square().mean(1).max() <= 1.0001
    decoded = prior.decode(latents, conditioning)
    assert decoded.shape == clip.shape
    one_by_one = [
        prior.decode(latents[i : i + 1], {k: v[i : i + 1] for k, v in conditioning.items()}) for i in range(4)
    ]
    assert torch.allclose(decoded, torch.cat(one_by_one), atol=1e-5)
    assert decoded.isfinite().all()


def test_conditions_of_every_frame(prior, clip):
    entries = list(prior.conditions(iter(clip)))
    assert len(entries) == len(clip)
    for entry, frame in zip(entries, clip, strict=True):
        assert prior.facts.conditionings <= entry.keys()
        assert torch.equal(entry["degraded"], frame)
        assert torch.equal(entry["degraded_latents"], prior.encode(frame[None])[0])


def test_conditions_read_one_frame_ahead(prior, clip):
    read = []

    def frames():
        for i, frame in enumerate(clip):
            read.append(i)
            yield frame

    for i, _ in enumerate(prior.conditions(frames())):
        assert len(read) <= i + 2
    assert len(read) == len(clip)


def test_conditions_of_one_frame_and_of_none(prior, clip):
    assert len(list(prior.conditions(iter(clip[:1])))) == 1
    assert list(prior.conditions(iter(()))) == []


@pytest.mark.parametrize("steps", [1, 4])
def test_the_ladder(prior, steps):
    ladder = prior.ladder(steps)
    assert ladder.levels == steps
    assert ladder.time[0] == 0
    assert ladder.time[-1] == 1
    assert list(ladder.time) == sorted(ladder.time)


def test_predict_takes_a_level_per_frame(prior, clip):
    """Where the facts say so, the time of each frame counts by itself."""
    assert prior.facts.per_frame_levels
    conditioning = gathered(prior, clip)
    latents = conditioning["degraded_latents"]
    level = times(prior, 1, 4)
    other = level.clone()
    other[0, 3] = 0.25
    one, two = prior.predict(latents, level, conditioning), prior.predict(latents, other, conditioning)
    assert one.shape == latents.shape
    assert not torch.equal(one[0, 3], two[0, 3])


def test_predict_sees_neighbours(prior, clip):
    conditioning = gathered(prior, clip)
    if isinstance(prior, BetweenPrior):  # whose frames see what is between them, and that sees them
        conditioning["motion"][:, :, [2, 5]] = 1
    latents = conditioning["degraded_latents"]
    changed = latents.clone()
    changed[0, 1] = -changed[0, 1]
    one, two = (prior.predict(z, times(prior, 1, 4), conditioning) for z in (latents, changed))
    assert not torch.equal(one[0, 0], two[0, 0])


def test_calls_made_together_are_independent(prior, clip):
    first, second = gathered(prior, clip), gathered(prior, clip.flip(-1))
    both = {name: torch.cat([first[name], second[name]]) for name in first}
    level = torch.tensor([[1.0, 0.75, 0.5, 0.25], [0.5, 0.5, 0.5, 0.5]])
    together = prior.predict(both["degraded_latents"], level, both)
    for i, one in enumerate((first, second)):
        apart = prior.predict(one["degraded_latents"], level[i : i + 1], one)
        assert torch.allclose(together[i], apart[0], atol=1e-5)


def test_lower_precision_is_close(folder, prior, clip):
    low = find_prior(str(folder)).load(CPU, torch.bfloat16)
    latents = prior.encode(clip)
    conditioning = {name: value[0] for name, value in whole(prior, clip).items()}
    assert low.encode(clip).dtype == torch.float32
    assert (low.decode(latents, conditioning) - prior.decode(latents, conditioning)).abs().mean() < 0.01


def test_an_attention_that_it_has_not_is_refused(prior, clip):
    conditioning = gathered(prior, clip)
    with pytest.raises(PriorError, match="attention"):
        prior.predict(conditioning["degraded_latents"], times(prior, 1, 4), conditioning, attend=object())


# ---------------------------------------------------------------- folders


def test_an_unknown_name():
    with pytest.raises(PriorError, match=r"no prior 'magic': neither one by name \(restoration.*flow\) nor a folder"):
        find_prior("magic")


@pytest.mark.parametrize(
    "index", ["not json", "[]", "{}", '{"_class_name": "Other"}', '{"_class_name": ["x"]}', "\xff"]
)
def test_an_index_that_names_no_family(tmp_path, index):
    (tmp_path / "model_index.json").write_bytes(index.encode("latin-1"))
    with pytest.raises(PriorError, match=str(tmp_path)):
        find_prior(str(tmp_path))


def weights_of(folder):
    return sorted(folder.rglob("*.safetensors"))


def missing(folder):
    weights_of(folder)[0].unlink()


def no_config(folder):
    next(folder.rglob("config.json")).unlink()


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
def test_weights_that_do_not_fit_are_refused(folder, tmp_path, damage):
    """Never random numbers in place of what is missing."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy)
    with pytest.raises(PriorError, match="copy"):
        find_prior(str(copy)).load(CPU, torch.float32)


def test_nothing_is_downloaded(tmp_path, monkeypatch):
    """A folder without weights, and a name like one on a hub: refused without a connection being tried."""
    tried = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: tried.append(a))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": next(iter(FAMILIES))}))
    with pytest.raises(PriorError):
        find_prior(str(tmp_path)).load(CPU, torch.float32)
    with pytest.raises(PriorError):
        find_prior("someone/some-model")
    assert tried == []


def test_the_embedded_names():
    assert EMBEDDED == ("restoration",)
