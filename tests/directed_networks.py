"""Small random networks of diffusers with directed attention, and attention written out."""

from contextlib import contextmanager
from copy import deepcopy
from functools import cache

import torch
from diffusers import ControlNetModel, MotionAdapter, UNet2DConditionModel, UNetMotionModel

FRAMES = 4


@cache
def unet():
    torch.manual_seed(1)
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=4, cross_attention_dim=6, attention_head_dim=4,
    ).eval()  # fmt: skip


@cache
def control_of():
    network = ControlNetModel.from_unet(unet(), conditioning_embedding_out_channels=(4, 4)).eval()
    for name, parameter in network.named_parameters():
        if "controlnet" in name and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return network


@cache
def moving():
    adapter = MotionAdapter(
        block_out_channels=(8, 16), motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=4,
        motion_max_seq_length=8,
    )  # fmt: skip
    network = UNetMotionModel.from_unet2d(unet(), adapter).eval()
    for name, parameter in network.named_parameters():
        if "motion_modules" in name and name.endswith("proj_out.weight"):
            torch.nn.init.normal_(parameter, std=0.3)
    return network


class Networks:
    """A prior's core: ControlNet and UNet, with motion or without, guided in one batch of both branches or in two."""

    def __init__(self, *, motion=False, control=True, guidance="one"):
        self.unet = deepcopy(moving() if motion else unet())
        self.control = deepcopy(control_of()) if control else None
        self.motion, self.guidance = motion, guidance
        self.frames_seen = 0

    @property
    def networks(self):
        return (self.unet, self.control) if self.control else (self.unet,)

    @torch.inference_mode()
    def __call__(self, latents, times, conditioning):
        windows, frames = latents.shape[:2]
        self.frames_seen += windows * frames
        flat = [value.flatten(0, 1) for value in (latents, times, conditioning["text"], conditioning["control"])]
        if self.guidance == "one":
            doubled = [torch.cat([value, value]) for value in flat]
            doubled[2] = torch.cat([0 * flat[2], flat[2]])
            away, towards = self._run(*doubled, frames).chunk(2)
        else:
            away, towards = self._run(flat[0], flat[1], 0 * flat[2], flat[3], frames), self._run(*flat, frames)
        return (away + 3 * (towards - away)).unflatten(0, (windows, frames))

    def _run(self, x, times, text, control, frames):
        more = {}
        if self.control:
            down, middle = self.control(x, times, text, control, return_dict=False)
            more = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        if not self.motion:
            return self.unet(x, times, text, return_dict=False, **more)[0]
        x = x.unflatten(0, (-1, frames)).transpose(1, 2)
        found = self.unet(x, times[0], text, return_dict=False, **more)[0]
        return found.transpose(1, 2).flatten(0, 1)


def call(windows=1, frames=FRAMES, seed=3):
    """Inputs of a call: latents, times and conditioning. All of a window are at one level."""
    torch.manual_seed(seed)
    times = torch.full((windows, frames), 300.0)
    conditioning = {"text": torch.randn(windows, frames, 5, 6), "control": torch.rand(windows, frames, 3, 16, 16)}
    return torch.randn(windows, frames, 4, 8, 8), times, conditioning


def part(inputs, window=slice(None), frames=slice(None)):
    latents, times, conditioning = inputs
    return (
        latents[window][:, frames],
        times[window][:, frames],
        {name: value[window][:, frames] for name, value in conditioning.items()},
    )


@contextmanager
def written_out(networks, frames, sources, downsampling, size=8):
    """Every self-attention within frames replaced by one whose keys are those of ``sources[frame]``, in one batch."""

    def processor(attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        rows, tokens, _ = hidden_states.shape
        q, k, v = (p(hidden_states).unflatten(-1, (attn.heads, -1)) for p in (attn.to_q, attn.to_k, attn.to_v))
        out = torch.empty_like(q)
        for row in range(rows):
            first, frame = row - row % frames, row % frames
            among = sources[frame] if tokens <= (size // downsampling) ** 2 else [frame]
            keys = torch.cat([k[first + j] for j in among])
            values = torch.cat([v[first + j] for j in among])
            weights = torch.einsum("qhd,khd->hqk", q[row], keys) / q.shape[-1] ** 0.5
            out[row] = torch.einsum("hqk,khd->qhd", weights.softmax(-1), values)
        return attn.to_out[0](out.flatten(2))

    before = []
    for network in networks.networks:
        for name, module in network.named_modules():
            if name.endswith("attn1") and "motion_modules" not in name:
                before.append((module, module.processor))
                module.processor = processor
    yield
    for module, old in before:
        module.processor = old
