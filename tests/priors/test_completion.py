"""The network that completes depth: what it starts as, what sizes it takes, where it is found and what it changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from vrestore.errors import PriorError
from vrestore.parallax import LEAST, Evidence
from vrestore.priors.completion import FOLDER, DepthCompletion, completion_in
from vrestore.weights import locate
from vrestore.weights.recipe.written import write_part

WIDTHS = (8, 12, 16)
LIKELY = torch.tensor([0.2, 0.9])


def seen(rows, columns, seed=0):
    """Evidence without sense, each kind of it in its range."""
    random = np.random.default_rng(seed)
    first, found, says, surer, apart, trusted, odd = random.random((7, rows, columns), np.float32)
    luma = random.integers(0, 256, (rows, columns)).astype(np.uint8)
    return Evidence(luma, first, found, 3 * says - 1, 50 * surer, apart, trusted, 4 * odd, 0.7)


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = DepthCompletion(WIDTHS)
    nn.init.normal_(model.tell.weight, std=0.1)
    nn.init.normal_(model.coarse[1].look.out_proj.weight, std=0.3)
    return model.eval()


@pytest.fixture
def folder(network, tmp_path):
    write_part(network, tmp_path / FOLDER)
    return tmp_path


def test_a_new_network_is_the_correction_by_hand():
    planes = torch.from_numpy(np.stack([seen(20, 30, n).planes() for n in (0, 1)]))
    assert torch.equal(DepthCompletion(WIDTHS)(planes, LIKELY), planes[:, 2])


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (48, 72), (5, 90)])
def test_maps_of_any_size(network, size):
    planes = torch.from_numpy(seen(*size).planes())[None]
    found = network(planes, torch.tensor([0.5]))
    assert found.shape == (1, *size)
    assert (found - planes[:, 2]).abs().max() > 1e-3


@torch.no_grad()
def test_frames_of_a_batch_do_not_see_one_another(network):
    planes = torch.from_numpy(np.stack([seen(20, 30, n).planes() for n in (0, 1)]))
    both = network(planes, LIKELY)
    for frame in (0, 1):
        assert torch.allclose(network(planes[frame : frame + 1], LIKELY[frame : frame + 1])[0], both[frame], atol=1e-5)


@torch.no_grad()
def test_all_that_is_seen_counts(network):
    plain = seen(20, 30)
    before = network(torch.from_numpy(plain.planes())[None], torch.tensor([plain.likely]))
    for plane in range(len(plain.planes())):
        other = plain.planes()
        other[plane] = other[plane] + 0.1
        assert not torch.equal(network(torch.from_numpy(other)[None], torch.tensor([plain.likely])), before)
    assert not torch.equal(network(torch.from_numpy(plain.planes())[None], torch.tensor([0.1])), before)


@torch.no_grad()
def test_every_place_looks_at_all_others(network):
    far = seen(48, 400).planes()
    before = network(torch.from_numpy(far)[None], torch.tensor([0.5]))
    far[1, :, -16:] += 0.5
    after = network(torch.from_numpy(far)[None], torch.tensor([0.5]))
    assert (after - before)[..., :16].abs().max() > 1e-5


def test_it_is_found_in_the_folder_of_a_prior(folder, network):
    complete = completion_in(folder)
    evidence = seen(20, 30)
    planes, likely = torch.from_numpy(evidence.planes())[None], torch.tensor([evidence.likely])
    with torch.no_grad():
        expected = (network(planes, likely) + network(planes.flip(-1), likely).flip(-1))[0].numpy() / 2
    found = complete(evidence)
    assert found.dtype == np.float32
    assert np.abs(found - np.clip(expected, LEAST, None)).max() < 0.01  # written in 16 bits


def test_left_and_right_are_alike_to_it(folder):
    complete = completion_in(folder)
    evidence = seen(24, 30)
    turned = {name: np.ascontiguousarray(value[:, ::-1]) for name, value in vars(evidence).items() if name != "likely"}
    assert np.abs(complete(replace(evidence, **turned))[:, ::-1] - complete(evidence)).max() < 1e-5


def test_a_prior_without_one(tmp_path):
    assert completion_in(tmp_path) is None


def test_weights_of_another_network_are_refused(folder):
    (folder / FOLDER / "config.json").write_text('{"_class_name": "DepthCompletion", "widths": [8, 12, 20]}')
    with pytest.raises(PriorError, match="completion"):
        completion_in(folder)


def test_the_one_that_comes_along_says_something_of_its_own():
    evidence = seen(48, 72)
    found = completion_in(locate("depth"))(evidence)
    assert found.shape == (48, 72)
    assert np.isfinite(found).all()
    assert found.min() >= LEAST
    assert np.abs(found - evidence.found).mean() > 1e-3
