"""Solvers, step by step, against diffusers' schedulers."""

import numpy as np
import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler

from vrestore.sampling import (
    advance,
    ddim,
    ddim_ladder,
    flow_euler,
    flow_ladder,
    lcm,
    lcm_ladder,
    undone,
)

SHAPE = (3, 2, 4, 5)  # time channels h w
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
PRODUCTS = torch.cumprod(1 - BETAS, 0)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("spacing", "offset"), [("leading", 1), ("trailing", 0)])
def test_ddim_is_that_of_diffusers(spacing, offset, eta):
    steps = 20
    theirs = DDIMScheduler(
        trained_betas=BETAS.numpy(), clip_sample=False, prediction_type="sample",
        timestep_spacing=spacing, steps_offset=offset,
    )  # fmt: skip
    theirs.alphas_cumprod, theirs.final_alpha_cumprod = PRODUCTS, torch.tensor(1.0, dtype=torch.float64)
    theirs.set_timesteps(steps)
    ladder = ddim_ladder(steps, PRODUCTS, spacing, offset=offset)
    assert [int(t) for t in theirs.timesteps] == list(ladder.time[:0:-1])
    ours = reference = normal(*SHAPE)
    for i, timestep in enumerate(theirs.timesteps):
        level = steps - i
        x0, noise = torch.tanh(reference), normal(*SHAPE, seed=level)
        reference = theirs.step(x0, int(timestep), reference, eta=eta, variance_noise=noise).prev_sample
        ours = ddim(ladder, ours, torch.tanh(ours), level, level - 1, noise, eta=eta)
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


def test_inversion_is_that_of_diffusers():
    steps = 20
    theirs = DDIMInverseScheduler(
        trained_betas=BETAS.numpy(), clip_sample=False, prediction_type="sample", set_alpha_to_one=False, steps_offset=1
    )
    theirs.alphas_cumprod, theirs.initial_alpha_cumprod = PRODUCTS, PRODUCTS[0]
    theirs.set_timesteps(steps)
    ladder = ddim_ladder(steps, PRODUCTS, "leading", offset=1, clean=False)
    ours = reference = normal(*SHAPE)
    for level, timestep in enumerate(theirs.timesteps):
        reference = theirs.step(torch.tanh(reference), int(timestep), reference).prev_sample
        ours = ddim(ladder, ours, torch.tanh(ours), level, level + 1)
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("steps", "original", "strength"), [(1, 50, 1.0), (4, 50, 1.0), (7, 50, 0.6), (3, 20, 0.5)])
def test_lcm_is_that_of_diffusers(steps, original, strength, monkeypatch):
    """On the same noise and predictions, step by step."""
    drawn = []
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_lcm.randn_tensor",
        lambda shape, **_: drawn.append(normal(*shape, seed=len(drawn))) or drawn[-1],
    )
    theirs = LCMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    theirs.set_timesteps(steps, original_inference_steps=original, strength=strength)
    ladder = lcm_ladder(steps, theirs.alphas_cumprod, original=original, strength=strength)
    assert [int(t) for t in ladder.time[:0:-1]] == theirs.timesteps.tolist()
    assert ladder.mixed == (strength < 1)
    z = z_theirs = normal(*SHAPE[1:], seed=99)
    for i, timestep in enumerate(theirs.timesteps):
        level = steps - i
        eps = torch.tanh(z_theirs) * 0.9
        z_theirs = theirs.step(eps, timestep, z_theirs, return_dict=False)[0]
        x0 = (z - ladder.sigma[level] * torch.tanh(z) * 0.9) / ladder.alpha[level]
        z = advance(ladder, z, x0, level, level - 1, lambda to, i=i: drawn[i])
        torch.testing.assert_close(z, z_theirs, rtol=1e-5, atol=1e-6)
    assert len(drawn) == steps - 1


def test_the_timesteps_of_lcm_are_those_of_diffusers():
    scheduler = LCMScheduler()
    for steps in range(1, 51):
        scheduler.set_timesteps(steps)
        assert [int(t) for t in lcm_ladder(steps, PRODUCTS).time[:0:-1]] == scheduler.timesteps.tolist()


def test_lcm_takes_a_level_for_each_frame():
    ladder, z, x0, fresh = lcm_ladder(4, PRODUCTS), *(normal(*SHAPE, seed=i) for i in range(3))
    level, to = torch.tensor([4, 2, 1]), torch.tensor([3, 2, 0])
    found = lcm(ladder, z, x0, level, to, fresh)
    for i in (0, 2):
        noise = fresh[i] if to[i] else None
        torch.testing.assert_close(found[i], lcm(ladder, z[i], x0[i], int(level[i]), int(to[i]), noise))
    assert torch.equal(found[1], z[1])


def test_the_first_guess_is_the_inversion_of_diffusers():
    """Its network is told the level to which it climbs, and sees what lies below."""
    scheduler = DDIMInverseScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False,
        timestep_spacing="leading", steps_offset=0,
    )  # fmt: skip
    scheduler.set_timesteps(5)
    ladder = ddim_ladder(5, scheduler.alphas_cumprod, "leading", clean=False)
    z = z_theirs = normal(*SHAPE)
    for level, timestep in enumerate(scheduler.timesteps):
        eps = torch.tanh(z_theirs)
        z_theirs = scheduler.step(eps, timestep, z_theirs, return_dict=False)[0]
        x0 = (z - ladder.sigma[level + 1] * torch.tanh(z)) / ladder.alpha[level + 1]
        z = undone(ladder, z, z, x0, level, level + 1)
        torch.testing.assert_close(z, z_theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_is_that_of_diffusers(shift):
    steps = 12
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    ladder = flow_ladder(steps, shift)
    np.testing.assert_allclose(theirs.sigmas.numpy(), ladder.sigma[::-1], rtol=1e-6)
    ours = reference = normal(*SHAPE).float()
    for i, timestep in enumerate(theirs.timesteps):
        level = steps - i
        velocity = (reference - torch.tanh(reference)) / ladder.sigma[level]
        reference = theirs.step(velocity, timestep, reference).prev_sample
        ours = flow_euler(ladder, ours, torch.tanh(ours), level, level - 1)
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)
