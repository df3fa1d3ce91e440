"""The optimiser: what it moves, and by how much."""

import pytest
import torch
from torch import nn

from vrestore.weights.recipe.muon import Optimiser, orthogonal


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    found = orthogonal(u @ torch.diag(torch.linspace(1.0, 0.2, min(shape))) @ v)
    inside = u.T @ found @ v.T
    assert 0.6 < inside.diagonal().min() <= inside.diagonal().max() < 1.3
    assert (inside - torch.diag(inside.diagonal())).abs().max() < 0.1  # in bf16


def test_the_size_of_a_step_is_that_of_the_rate_whatever_the_gradient():
    layer = nn.Conv2d(4, 16, 3, bias=False)
    for gain in (1e-4, 1e4):
        before = layer.weight.detach().clone()
        optimiser = Optimiser(layer, 0.01)
        torch.manual_seed(0)
        layer.weight.grad = gain * torch.randn_like(layer.weight)
        optimiser.step(0.01)
        moved = (layer.weight.detach() - before).square().mean().sqrt()
        assert 0.5 * 0.2 * 0.01 < moved < 1.3 * 0.2 * 0.01  # as AdamW's: a fifth of the rate, root mean square


def test_ends_tables_and_shifts_are_left_to_adamw():
    model = nn.ModuleDict({"conv_in": nn.Linear(4, 4), "inner": nn.Linear(4, 4), "embedding": nn.Embedding(3, 4)})
    chosen = Optimiser(model, 0.01).state_dict()
    assert [len(part["param_groups"][0]["params"]) for part in chosen] == [1, 4]
    alone = Optimiser(model, 0.01, muon=False)
    assert [len(part["param_groups"][0]["params"]) for part in alone.state_dict()] == [5]
    assert alone.rate == 0.01


def test_it_learns_what_adamw_learns():
    torch.manual_seed(0)
    wanted, model = torch.randn(8, 8), nn.Linear(8, 8)
    optimiser = Optimiser(model, 0.2)
    for step in range(300):
        x = torch.randn(64, 8)
        optimiser.zero_grad()
        (model(x) - x @ wanted.T).square().mean().backward()
        optimiser.step(0.2 * (1 - step / 300))
    torch.testing.assert_close(model.weight, wanted, atol=0.02, rtol=0)
