"""Temporal attention in windows: diffusers' own where that is right, and right at the tail where it is not."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import UNetMotionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.pipelines.free_noise_utils import AnimateDiffFreeNoiseMixin

from vrestore.attention_time import WindowedTime, windowed_in_time
from vrestore.errors import PlanError, PriorError


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


@pytest.mark.parametrize("frames", [24, 32])
def test_it_is_freenoise_of_diffusers_where_windows_fit(unet, frames):
    class Holder(AnimateDiffFreeNoiseMixin):
        pass

    holder = Holder()
    holder.unet, holder.device, holder.dtype = unet, unet.device, unet.dtype
    holder.motion_adapter = SimpleNamespace(config=SimpleNamespace(motion_max_seq_length=16))
    holder.enable_free_noise(context_length=16, context_stride=4)
    try:
        expected = call(unet, frames)
    finally:
        holder.disable_free_noise()
    with windowed_in_time(unet, WindowedTime(16, 4)):
        found = call(unet, frames)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[:, :, :16], call(unet, 16), atol=1e-3)


@pytest.mark.parametrize("frames", [17, 26, 27, 33])
def test_attention_that_says_nothing_changes_nothing(frames):
    """The weights of every frame add up to one, whatever is left over at the tail."""
    from vrestore.attention_time import _forward

    block = BasicTransformerBlock(
        8, 2, 4, double_self_attention=True, positional_embeddings="sinusoidal", num_positional_embeddings=40
    ).eval()
    for layer in (block.attn1, block.attn2):
        torch.nn.init.zeros_(layer.to_out[0].weight)
        torch.nn.init.zeros_(layer.to_out[0].bias)
    x = torch.randn(6, frames, 8)
    found = _forward(WindowedTime(16, 4), block.forward)(block, hidden_states=x)
    torch.testing.assert_close(found, block(x), rtol=1e-5, atol=1e-6)


def test_short_calls_are_plain_and_the_network_is_left_as_it_was(unet):
    plain = call(unet, 12)
    with windowed_in_time(unet, WindowedTime(16, 4)):
        assert torch.equal(call(unet, 12), plain)
    assert not any("forward" in vars(module) for module in unet.modules())
    with windowed_in_time(unet, WindowedTime(4, 2)):
        assert not torch.allclose(call(unet, 12), plain, atol=1e-3)


def test_impossible_windows_are_refused(unet):
    for windows, error, message in (
        (WindowedTime(17, 4), PriorError, "Windows of 17 frames .* use 16"),
        (WindowedTime(16, 0), PlanError, "overlap of 16"),
        (WindowedTime(8, 9), PlanError, "overlap of -1"),
    ):
        with pytest.raises(error, match=message), windowed_in_time(unet, windows):
            pass
    with pytest.raises(PriorError, match="no motion modules"), windowed_in_time(torch.nn.Linear(1, 1), WindowedTime()):
        pass
