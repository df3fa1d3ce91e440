"""The embedded networks: alignment, independence of frames and windows, and what zero corrections give."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vrestore.priors.embedded_nets import (
    AlignedMixing,
    BridgeVideoDenoiser,
    GuidedAutoencoder,
    align,
    bounded,
    time_features,
)

CHANNELS, FRAMES, SIDE = 4, 6, 4
REACH = 2
"""Frames to either side that the tiny denoiser's two mixing layers can reach."""


@pytest.fixture
def vae():
    return GuidedAutoencoder(latent_channels=CHANNELS, width=8, latent_width=8, decoder_blocks=1).eval()


@pytest.fixture
def unet():
    """Nothing in it starts as zero, so that everything that is connected shows."""
    model = BridgeVideoDenoiser(latent_channels=CHANNELS, width=8, deep_width=8, depth=(1, 1, 2))
    for layer in [*model.mix_before, *model.mix_after]:
        nn.init.normal_(layer.out.weight)
    nn.init.normal_(model.leave.weight)
    return model.eval()


def inputs(batch=1, time=FRAMES, visibility=1.0):
    """Random arguments of the denoiser; still frames."""
    motion = torch.zeros(batch, time, 6, SIDE, SIDE)
    motion[:, :, [2, 5]] = visibility
    return {
        "latents": torch.randn(batch, time, CHANNELS, SIDE, SIDE) * 0.5,
        "times": torch.rand(batch, time),
        "degraded_latents": torch.randn(batch, time, CHANNELS, SIDE, SIDE) * 0.5,
        "degraded": torch.rand(batch, time, 3, 8 * SIDE, 8 * SIDE),
        "motion": motion,
    }


def part(arguments, rows=slice(None), frames=slice(None)):
    return {name: value[rows, frames] for name, value in arguments.items()}


def alone(frames):
    """What a frame without neighbours sees of them."""
    return torch.zeros(len(frames), 6, *frames.shape[-2:])


@torch.no_grad()
def test_shapes(vae, unet):
    frames = torch.rand(3, 3, 32, 48)
    latents = vae.encode(frames)
    assert latents.shape == (3, CHANNELS, 4, 6)
    assert vae.decode(latents, frames, alone(frames)).shape == frames.shape
    assert unet(**inputs(batch=2, time=5)).shape == (2, 5, CHANNELS, SIDE, SIDE)
    assert unet(**inputs(time=1)).shape == (1, 1, CHANNELS, SIDE, SIDE)


def test_mixing_starts_as_the_identity():
    x, motion = torch.randn(6, 8, 5, 7), torch.randn(2, 3, 6, 5, 7)
    assert torch.equal(AlignedMixing(8)(x, motion), x)


@torch.no_grad()
def test_mixing_takes_each_neighbour_by_its_own_flow():
    """Weights that copy: the output minus the input is previous + 10 * next, each moved by its flow."""
    mix = AlignedMixing(1)
    for value in mix.parameters():
        value.zero_()
    mix.neighbours.weight[0, :, 1, 1] = torch.tensor([1.0, 10.0])
    mix.out.weight.fill_(1)
    x = torch.rand(3, 1, 4, 6)
    motion = torch.zeros(1, 3, 6, 4, 6)
    motion[:, :, 0], motion[:, :, 4] = 1, -1  # previous: one to the right; next: one up
    motion[:, :, [2, 5]] = 1
    moved = mix(x, motion) - x
    right = torch.cat([x[..., 1:], x[..., -1:]], -1)
    above = torch.cat([x[..., :1, :], x[..., :-1, :]], -2)
    expected = torch.stack([10 * above[1], right[0] + 10 * above[2], right[1]])
    assert torch.allclose(moved, expected, atol=1e-4)
    motion[:, :, 2], motion[:, :, 5] = 0, 0.5
    assert torch.allclose(mix(x, motion) - x, 5 * torch.stack([above[1], above[2], 0 * x[0]]), atol=1e-4)


@torch.no_grad()
def test_one_time_per_frame_equals_calls_with_one_time(unet):
    """Where no neighbour is visible, a window with mixed times is its frames, each called alone with its time."""
    arguments = inputs(visibility=0)
    together = unet(**arguments)
    alone = [unet(**part(arguments, frames=slice(i, i + 1))) for i in range(FRAMES)]
    assert torch.allclose(together, torch.cat(alone, dim=1), atol=1e-5)
    same = arguments | {"times": torch.full((1, FRAMES), 0.3)}
    assert (unet(**same) - together).abs().amax((0, 2, 3, 4)).min() > 1e-4  # the time does matter


@torch.no_grad()
def test_a_time_reaches_as_far_as_mixing(unet):
    arguments = inputs()
    before = unet(**arguments)
    arguments["times"] = arguments["times"].clone()
    arguments["times"][0, 0] = 1 - arguments["times"][0, 0]
    changed = (unet(**arguments) - before).abs().amax((0, 2, 3, 4))
    assert (changed[: REACH + 1] > 1e-6).all()
    assert torch.equal(changed[REACH + 1 :], torch.zeros(FRAMES - REACH - 1))


@torch.no_grad()
def test_a_window_sees_nothing_of_another(unet):
    """Changing one window of a batch leaves the others as they are, and they are what they would be alone."""
    arguments = inputs(batch=3)
    before = unet(**arguments)
    other = part(inputs(batch=3), rows=slice(1, 2))
    replaced = {name: torch.cat([v[:1], other[name], v[2:]]) for name, v in arguments.items()}
    after = unet(**replaced)
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert not torch.equal(after[1], before[1])
    for i in range(3):
        assert torch.allclose(unet(**part(arguments, rows=slice(i, i + 1)))[0], before[i], atol=1e-5)


@torch.no_grad()
def test_a_new_denoiser_answers_the_degraded_latents(vae):
    model = BridgeVideoDenoiser(latent_channels=CHANNELS, width=8, deep_width=8, depth=(1, 1, 2))
    arguments = inputs()
    arguments["degraded_latents"] = vae.encode(arguments["degraded"].flatten(0, 1))[None]
    assert torch.equal(model(**arguments), arguments["degraded_latents"])


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_bounded_never_enlarges(scale, seed):
    latents = torch.randn(2, CHANNELS, 3, 5, generator=torch.Generator().manual_seed(seed)) * scale
    found = bounded(latents)
    assert (found.abs() <= latents.abs()).all()
    assert found.square().mean(1).sqrt().max() <= 1.05 + 1e-5
    cosine = torch.nn.functional.cosine_similarity(found, latents, dim=1)
    assert torch.allclose(cosine, torch.ones(2, 3, 5), atol=1e-5)
    small = latents.square().mean(1, keepdim=True).sqrt() < 1.049
    assert torch.equal(found * small, latents * small)


@given(contrast=st.floats(0, 100))
@settings(max_examples=15, deadline=None)
def test_encoded_latents_are_within_bounds(contrast):
    """Of any picture, also one far outside [0, 1]; so `bounded` leaves them as they are."""
    torch.manual_seed(0)
    model = GuidedAutoencoder(latent_channels=CHANNELS, width=8, latent_width=8, decoder_blocks=1)
    with torch.no_grad():
        latents = model.encode((torch.rand(1, 3, 32, 32) - 0.5) * contrast)
    assert latents.square().mean(1).sqrt().max() <= 1
    assert torch.equal(bounded(latents), latents)


@torch.no_grad()
def test_no_correction_is_the_guide(vae):
    nn.init.zeros_(vae.head[-2].weight)
    nn.init.zeros_(vae.head[-2].bias)
    guide = torch.rand(2, 3, 32, 32)
    assert torch.equal(vae.decode(torch.randn(2, CHANNELS, 4, 4), guide, torch.randn(2, 6, 32, 32)), guide)


@torch.no_grad()
def test_the_decoder_reads_latents_and_guide(vae):
    guide, latents = torch.rand(1, 3, 32, 32), torch.randn(1, CHANNELS, 4, 4)
    still, differs = alone(guide), torch.rand(1, 6, 32, 32)
    correction = vae.decode(latents, guide, still) - guide
    assert not torch.allclose(vae.decode(-latents, guide, still) - guide, correction, atol=1e-5)
    assert not torch.allclose(vae.decode(latents, 1 - guide, still) - (1 - guide), correction, atol=1e-5)
    assert not torch.allclose(vae.decode(latents, guide, differs) - guide, correction, atol=1e-5)


def test_aligned_neighbours_differ_only_in_what_moved_into_view():
    """A texture that moves by whole pixels: brought back, both neighbours show the frame itself."""
    texture = torch.rand(3, 32, 64)
    window = torch.stack([texture[:, :, 8 * n : 8 * n + 32] for n in (2, 1, 0)])[None]  # moves 8 pixels to the right
    motion = torch.zeros(1, 3, 6, 4, 4)
    motion[:, :, 0], motion[:, :, 3] = -1, 1  # one latent pixel: 8 pixels
    motion[:, :, 2], motion[:, :, 5] = 1, 1
    aligned = align(window, motion).unflatten(0, (1, 3))[0]
    assert aligned[1, :3, :, 8:].abs().max() < 1e-5  # the previous frame shows all but what came in at the left
    assert aligned[1, 3:, :, :-8].abs().max() < 1e-5
    assert aligned[1, :3, :, :8].abs().max() > 0.1
    assert torch.equal(aligned[0, :3], torch.zeros(3, 32, 32))  # no neighbour in the window
    assert torch.equal(aligned[2, 3:], torch.zeros(3, 32, 32))
    motion[:, :, [2, 5]] = 0  # not visible
    assert torch.equal(align(window, motion), torch.zeros(3, 6, 32, 32))


def test_time_features_tell_times_apart():
    times = torch.linspace(0, 1, 101)
    features = time_features(times)
    assert features.shape == (101, 64)
    distances = torch.cdist(features, features) + torch.eye(101) * 100
    assert distances.min() > 1


@torch.no_grad()
def test_folders_hold_the_same_networks(vae, unet, tmp_path):
    vae.save_pretrained(tmp_path / "vae")
    unet.save_pretrained(tmp_path / "unet")
    read_vae = GuidedAutoencoder.from_pretrained(tmp_path / "vae", local_files_only=True)
    read_unet = BridgeVideoDenoiser.from_pretrained(tmp_path / "unet", local_files_only=True)
    frames = torch.rand(1, 3, 32, 32)
    assert torch.equal(read_vae.encode(frames), vae.encode(frames))
    given = vae.encode(frames), frames, alone(frames)
    assert torch.equal(read_vae.decode(*given), vae.decode(*given))
    arguments = inputs()
    assert torch.equal(read_unet(**arguments), unet(**arguments))
    assert {p.suffix for p in tmp_path.rglob("*") if p.is_file()} == {".json", ".safetensors"}
