"""Temporal attention in windows and in bands: diffusers' own where that is right, and right at the tail too."""

from copy import deepcopy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNetMotionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from diffusers.pipelines.free_noise_utils import AnimateDiffFreeNoiseMixin
from directed_networks import Networks

from vrestore.attention import attending, directed
from vrestore.attention_time import Sizes, _forward, in_time
from vrestore.errors import PlanError, PriorError
from vrestore.executor import Executor
from vrestore.plan import DirectedPlan, WindowsPlan
from vrestore.plan.attend import SpectralTime, WindowedTime

INFINITE = float("inf")


@pytest.fixture(scope="module")
def unet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNetMotionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), norm_num_groups=4,
            down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"), layers_per_block=1,
            up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"), cross_attention_dim=8, num_attention_heads=2,
            motion_num_attention_heads=2, motion_max_seq_length=16,
        ).eval()  # fmt: skip
        for name, parameter in network.named_parameters():
            if "motion_modules" in name and "proj_out" in name:  # they start at zero
                torch.nn.init.normal_(parameter, std=0.3)
        return network.requires_grad_(False)


def call(unet, frames):
    z = torch.randn(1, 4, frames, 8, 8, generator=torch.Generator().manual_seed(1))
    return unet(z, torch.tensor(300.0), torch.ones(frames, 3, 8)).sample


def block_of(places=40):
    torch.manual_seed(2)
    block = BasicTransformerBlock(
        8, 2, 4, double_self_attention=True, positional_embeddings="sinusoidal", num_positional_embeddings=places
    )
    return block.eval().requires_grad_(False)


@pytest.mark.parametrize("frames", [24, 32])
def test_it_is_freenoise_of_diffusers_where_windows_fit(unet, frames):
    """With one layer a block: of two, diffusers fuses the second only."""

    class Holder(AnimateDiffFreeNoiseMixin):
        pass

    theirs, ours = deepcopy(unet), deepcopy(unet)
    holder = Holder()
    holder.unet, holder.device, holder.dtype = theirs, unet.device, unet.dtype
    holder.motion_adapter = SimpleNamespace(config=SimpleNamespace(motion_max_seq_length=16))
    holder.enable_free_noise(context_length=16, context_stride=4)
    for module in (*theirs.modules(), *ours.modules()):
        if isinstance(module, AnimateDiffTransformer3D):
            for block in module.transformer_blocks:
                block.attn2 = None
    with in_time(ours, WindowedTime(16, 4)):
        found = call(ours, frames)
    torch.testing.assert_close(found, call(theirs, frames), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[:, :, :16], call(ours, 16), atol=1e-3)


@pytest.mark.parametrize(("frames", "starts"), [(24, (0, 4, 8)), (26, (0, 4, 8, 10)), (27, (0, 4, 8, 11))])
def test_it_is_freenoise_of_its_authors_at_any_length(frames, starts):
    """Each layer written out: plain attention in every window, fused by the pyramid before the output projection."""
    block = block_of()
    x = torch.randn(6, frames, 8, generator=torch.Generator().manual_seed(3))
    found = _forward(block, block.forward, WindowedTime(16, 4), Sizes(), hidden_states=x)
    ramp = torch.tensor([*range(1, 9), *range(8, 0, -1)])[:, None]
    for layer, norm in ((block.attn1, block.norm1), (block.attn2, block.norm2)):
        total, count = torch.zeros(6, frames, 8), torch.zeros(frames, 1)
        for start in starts:
            span = slice(start, start + 16)
            tokens = norm(x[:, span]) + block.pos_embed.pe[:, :16]
            q, k, v = (p(tokens).unflatten(-1, (2, 4)) for p in (layer.to_q, layer.to_k, layer.to_v))
            shares = (torch.einsum("bihd,bjhd->bhij", q, k) / 2).softmax(-1)
            total[:, span] += ramp * torch.einsum("bhij,bjhd->bihd", shares, v).flatten(2)
            count[span] += ramp
        x = x + layer.to_out[0](total / count)
    torch.testing.assert_close(found, block.ff(block.norm3(x)) + x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("told", [WindowedTime(16, 4), SpectralTime(16, 4, downsampling=1)])
@pytest.mark.parametrize("frames", [17, 26, 33])
def test_attention_that_says_nothing_changes_nothing(told, frames):
    """The weights of every frame add up to one, whatever is left over at the tail."""
    block = block_of()
    for layer in (block.attn1, block.attn2):
        torch.nn.init.zeros_(layer.to_out[0].weight)
        torch.nn.init.zeros_(layer.to_out[0].bias)
    x = torch.randn(6, frames, 8)
    found = _forward(block, block.forward, told, Sizes((2, 3), (2, 3)), hidden_states=x)
    torch.testing.assert_close(found, block(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("told", [WindowedTime(16, 4), SpectralTime(16, 4)])
def test_short_calls_are_plain_and_the_network_is_left_as_it_was(unet, told):
    plain = call(unet, 12)
    with in_time(unet, told):
        assert torch.equal(call(unet, 12), plain)
    assert not any("forward" in vars(module) or module._forward_pre_hooks for module in unet.modules())
    with in_time(unet, WindowedTime(4, 2)):
        assert not torch.allclose(call(unet, 12), plain, atol=1e-3)


def test_layers_within_frames_are_the_same_in_parts(unet):
    """Motion modules that say nothing leave 40 frames what they are one by one."""
    still = deepcopy(unet)
    for name, parameter in still.named_parameters():
        if "motion_modules" in name and "proj_out" in name:
            torch.nn.init.zeros_(parameter)
    with in_time(still, WindowedTime(16, 4)):
        torch.testing.assert_close(
            call(still, 40)[:, :, 16:24],
            still(
                torch.randn(1, 4, 40, 8, 8, generator=torch.Generator().manual_seed(1))[:, :, 16:24],
                torch.tensor(300.0),
                torch.ones(8, 3, 8),
            ).sample,
            rtol=1e-4,
            atol=1e-5,
        )


# ---- two bands


def mixed(told, x, block, size=(2, 3)):
    """What the first layer of a block says under a directive."""
    return partial(_forward, block, block.forward, told, Sizes(size, size))(hidden_states=x)


def test_all_frames_at_every_frequency_is_plain_attention():
    """Twenty frames have places of their own in a module that knows forty."""
    block, x = block_of(), torch.randn(6, 20, 8, generator=torch.Generator().manual_seed(3))
    everything = SpectralTime(16, 4, cutoff=INFINITE, space=INFINITE, downsampling=1)
    torch.testing.assert_close(mixed(everything, x, block), block(x), rtol=1e-4, atol=1e-5)


def test_coarse_layers_alone_see_all_frames():
    block, x = block_of(), torch.randn(6, 20, 8, generator=torch.Generator().manual_seed(3))
    windows, bands = WindowedTime(16, 4), SpectralTime(16, 4, downsampling=2)
    assert torch.equal(mixed(bands, x, block), mixed(windows, x, block))
    coarse = partial(_forward, block, block.forward, bands, Sizes((2, 3), (4, 6)))(hidden_states=x)
    assert not torch.allclose(coarse, mixed(windows, x, block), atol=1e-3)


def test_the_slow_part_is_of_all_frames_and_the_fast_part_of_near_ones():
    """By hand, one layer, one place: with a narrow low-pass only the mean over time is that of all frames."""
    block = block_of()
    block.attn2, block.pos_embed = None, None
    for layer in block.ff.net:
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 20, 8, generator=torch.Generator().manual_seed(3))
    far = block(x) - x
    near = mixed(WindowedTime(16, 4), x, block) - x
    both = mixed(SpectralTime(16, 4, cutoff=1e-3, downsampling=1), x, block, (1, 1)) - x
    torch.testing.assert_close(both, near - near.mean(1) + far.mean(1), rtol=1e-4, atol=1e-5)
    wide = mixed(SpectralTime(16, 4, cutoff=0.25, downsampling=1), x, block, (1, 1)) - x
    share = torch.exp(-0.5 * (2 * torch.fft.fftfreq(20) / 0.25) ** 2)[:, None]
    blended = torch.fft.ifft(share * torch.fft.fft(far, dim=1) + (1 - share) * torch.fft.fft(near, dim=1), dim=1).real
    torch.testing.assert_close(wide, blended, rtol=1e-4, atol=1e-5)


def test_more_frames_than_a_module_knows_are_spread_over_its_places():
    """Thirty-one frames, sixteen places: every second frame has one of its own, those between the mean of two."""
    torch.manual_seed(4)
    block = block_of(16)
    block.attn2 = None
    x = torch.randn(2, 31, 8)
    found = mixed(SpectralTime(16, 4, cutoff=INFINITE, space=INFINITE, downsampling=1), x, block, (1, 2))
    known = block.pos_embed.pe[0]
    places = torch.zeros(31, 8)
    places[::2], places[1::2] = known, (known[1:] + known[:-1]) / 2
    tokens = block.norm1(x) + places
    q, k, v = (
        p(tokens).unflatten(-1, (2, 4)).transpose(1, 2) for p in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v)
    )
    seen = x + block.attn1.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(found, block.ff(block.norm3(seen)) + seen, rtol=1e-4, atol=1e-5)


def test_a_network_in_two_bands_is_itself_where_bands_agree(unet):
    """With infinite cutoffs and calls within its positions a network is what it is without a directive."""
    whole = call(unet, 16)
    with in_time(unet, SpectralTime(8, 4, cutoff=INFINITE, space=INFINITE, downsampling=1)):
        torch.testing.assert_close(call(unet, 16), whole, rtol=1e-4, atol=1e-5)
    with in_time(unet, SpectralTime(8, 4)):
        assert not torch.allclose(call(unet, 16), whole, atol=1e-3)


def test_plans_carry_them_to_calls_longer_than_a_module_knows():
    """FreeLong on thirty frames in calls of twenty, by motion modules that know eight."""
    networks = Networks(motion=True, control=False)
    handle, told = attending(*networks.networks), []

    def predict(steps, latents):
        told.append((int(steps[0].level[0]), steps[0].attend))
        z = torch.stack(list(latents))
        given = {"text": torch.ones(*z.shape[:2], 5, 6), "control": torch.zeros(*z.shape[:2], 1)}
        return list(directed(handle, steps[0].attend, networks, z, torch.full(z.shape[:2], 300.0), given))

    def start(frame):
        return torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(frame))

    bands, windows = SpectralTime(8, 4), WindowedTime(8, 4)
    plan = DirectedPlan(WindowsPlan(30, 20, 8, 2), bands, windows, turn=1)
    run = Executor(plan, predict, start, lambda n, z, x0, level, to: z + (x0 - z) / level)
    assert len(list(run.run())) == 30
    assert sorted(told, key=str) == sorted([(1, windows)] * 2 + [(2, bands)] * 2, key=str)


def test_impossible_windows_are_refused(unet):
    with pytest.raises(PriorError, match=r"Windows of 17 frames .* use 16"), in_time(unet, WindowedTime(17, 4)):
        pass
    with pytest.raises(PriorError, match="no motion modules"), in_time(torch.nn.Linear(1, 1), WindowedTime()):
        pass
    for stride in (0, 17):
        with pytest.raises(PlanError, match=f"cannot begin {stride} apart; use 1 to 16"):
            WindowedTime(16, stride)
    with pytest.raises(PlanError, match=r"cutoffs .* 0.0 and 0.25; use positive"):
        SpectralTime(cutoff=0.0)
    with pytest.raises(PlanError, match="downsampled 0 times"):
        SpectralTime(downsampling=0)
