"""Keys and values of a clean history: against attention written out with a mask, and against computing anew."""

import pytest
import torch
from directed_networks import Networks, call

from vrestore.attention import attending, directed
from vrestore.attention_time import motion_blocks
from vrestore.errors import PlanError, PriorError
from vrestore.executor import Executor
from vrestore.plan import CleanHistory, DiagonalPlan, outline, validate
from vrestore.plan.families import ca2_vdm

HISTORY, FRAMES = 3, 7


class Masked:
    """A network whose motion modules are written out: the history sees itself alone, and is normalised by itself."""

    def __init__(self, unet):
        self.modules = [module for module in unet.modules() if hasattr(module, "motion_modules")]
        self.modules = [one for module in self.modules for one in module.motion_modules]

    def __enter__(self):
        for module in self.modules:
            module.forward = lambda x, *rest, module=module, **more: self.apply(module, x, FRAMES)

    def __exit__(self, *error):
        for module in self.modules:
            del module.forward

    def apply(self, module, x, frames):
        rows, channels, height, width = x.shape
        clips = x.view(-1, frames, channels, height, width).transpose(1, 2)
        normed = torch.cat([module.norm(clips[:, :, :HISTORY]), module.norm(clips[:, :, HISTORY:])], 2)
        tokens = module.proj_in(normed.permute(0, 3, 4, 2, 1).reshape(-1, frames, channels))
        seen = torch.ones(frames, frames, dtype=torch.bool)
        seen[:HISTORY, HISTORY:] = False
        for block in module.transformer_blocks:
            for layer, norm in ((block.attn1, block.norm1), (block.attn2, block.norm2)):
                here = norm(tokens) + block.pos_embed.pe[:, :frames]
                q, k, v = (p(here).unflatten(-1, (layer.heads, -1)) for p in (layer.to_q, layer.to_k, layer.to_v))
                scores = torch.einsum("bihd,bjhd->bhij", q, k) / q.shape[-1] ** 0.5
                shares = scores.masked_fill(~seen, -torch.inf).softmax(-1)
                tokens = tokens + layer.to_out[0](torch.einsum("bhij,bjhd->bihd", shares, v).flatten(2))
            tokens = tokens + block.ff(block.norm3(tokens))
        out = module.proj_out(tokens).view(-1, height, width, frames, channels).permute(0, 3, 4, 1, 2)
        return out.reshape(rows, channels, height, width) + x


@pytest.mark.parametrize("guidance", ["one", "two"])
def test_it_is_attention_that_looks_back_only(guidance):
    """Two windows, each behind a history of its own."""
    networks, inputs = Networks(motion=True, control=False, guidance=guidance), call(2, FRAMES)
    with Masked(networks.unet):
        expected = networks(*inputs)
    assert not torch.allclose(expected, networks(*inputs), atol=1e-3)
    handle = attending(*networks.networks)
    found = directed(handle, CleanHistory((0, 1, 2)), networks, *inputs)
    torch.testing.assert_close(found[:, HISTORY:], expected[:, HISTORY:], rtol=1e-4, atol=1e-5)
    assert not found[:, :HISTORY].any()
    assert not any("forward" in vars(block) for block in motion_blocks(networks.unet))


def test_what_is_kept_is_what_would_be_computed_again_to_the_bit():
    """The second step of a chunk costs the chunk alone; another history is not taken for it."""
    networks, inputs = Networks(motion=True), call(1, FRAMES)
    handle, told = attending(*networks.networks), CleanHistory((0, 1, 2))
    directed(handle, told, networks, *inputs)
    inputs[0][:, HISTORY:] += 1
    inputs[1][:, HISTORY:] -= 100
    networks.frames_seen = 0
    found = directed(handle, told, networks, *inputs)
    assert (networks.frames_seen, handle.bank.hits) == (FRAMES - HISTORY, 1)
    assert torch.equal(directed(attending(*networks.networks), told, networks, *inputs), found)
    inputs[0][:, 0] += 1
    assert not torch.allclose(directed(handle, told, networks, *inputs), found, atol=1e-3)
    assert (len(handle.bank), handle.bank.hits) == (2, 1)


def test_chunks_of_a_plan_keep_their_history():
    """Each chunk's history goes through the network once, not once a level."""
    plan = ca2_vdm(10, 3, 3, 4)
    validate(plan)
    assert outline(plan).calls == outline(DiagonalPlan(10, 3, 3, 3, history=4)).calls
    networks = Networks(motion=True, control=False)
    handle = attending(*networks.networks)

    def predict(steps, latents):
        z = torch.stack(list(latents))
        times = torch.tensor([[100.0 * level for level in step.level] for step in steps])
        given = {"text": torch.ones(*z.shape[:2], 5, 6), "control": torch.zeros(*z.shape[:2], 1)}
        return list(directed(handle, steps[0].attend, networks, z, times, given))

    def start(frame):
        return torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(frame))

    run = Executor(plan, predict, start, lambda n, z, x0, level, to: z + (x0 - z) / level)
    assert len(list(run.run())) == 10
    # chunks of 3, 3, 3 and 1 frames at three levels, behind 0, 3, 4 and 4 frames
    assert networks.frames_seen == 3 * 10 + 3 + 4 + 4
    assert (handle.bank.misses, handle.bank.hits) == (3, 3 * 2)


def test_what_could_not_be_kept_is_refused():
    for context in ((), (1, 2), (0, 2), (1, 0)):
        with pytest.raises(PlanError, match="no clean history"):
            CleanHistory(context)
    for history, held in ((0, 0), (2, 1)):
        with pytest.raises(PlanError, match=f"history of {history} frames held at level {held} cannot be kept"):
            DiagonalPlan(20, 4, 4, 4, history=history, held=held, keeps=True)
    still, inputs = Networks(control=False), call()
    with pytest.raises(PriorError, match="as in a UNetMotionModel; the networks are UNet2DConditionModel"):
        directed(attending(*still.networks), CleanHistory((0,)), still, *inputs)
    networks = Networks(motion=True, control=False)
    handle = attending(*networks.networks)
    with pytest.raises(PriorError, match="4 frames has no room behind a history of 4"):
        directed(handle, CleanHistory((0, 1, 2, 3)), networks, *inputs)
    with pytest.raises(PriorError, match="which may have 8 frames"):
        directed(handle, CleanHistory((0,)), networks, *call(1, 9))
