"""The completion of depth: its pool of evidence, its losses, its training and what is written."""

import json

import numpy as np
import pytest
import torch

from vrestore.errors import ConfigError
from vrestore.parallax import FARTHEST
from vrestore.priors.completion import DepthCompletion, completion_in
from vrestore.weights import locate
from vrestore.weights.recipe import depth_completion as completions
from vrestore.weights.recipe.arrays import opened
from vrestore.weights.recipe.depth import scores
from vrestore.weights.recipe.depth_evidence import EvidenceConfig, build_evidence, planes_of, prior_maps
from vrestore.weights.recipe.depth_pool import make_clip
from vrestore.weights.recipe.fit import Fit, FitConfig, Moment, fit
from vrestore.weights.recipe.textures import TextureBank

SMALL = EvidenceConfig(clips=3, frames=4, height=48, width=72, seed=11)
WIDTHS = (8, 12, 16)


@pytest.fixture(scope="module")
def pool(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence") / "pool"
    build_evidence(folder, (data, "depth"), SMALL, lambda text: None)
    return folder


@pytest.fixture
def clips(pool):
    return completions.Clips(pool)


def test_a_pool_holds_what_the_prior_and_the_motion_say(pool, data):
    arrays = opened(pool)
    pictures, near = make_clip(TextureBank(data / "stills"), SMALL, 1)
    maps = prior_maps(pictures, "depth")
    assert maps.shape == near.shape
    planes, likely = planes_of(pictures, maps)
    assert np.allclose(arrays["planes"][1], planes, atol=2e-3, rtol=2e-3)
    assert np.array_equal(arrays["likely"][1], likely)
    assert np.allclose(arrays["near"][1], near, rtol=2e-3)
    assert np.isfinite(planes).all()
    assert np.corrcoef(planes[:, 1].ravel(), maps.ravel())[0, 1] > 0.99


def test_a_pool_goes_on_and_is_told_from_others(pool, data):
    facts = json.loads((pool / "pool.json").read_text())
    before = np.array(opened(pool)["planes"])
    (pool / "pool.json").write_text(json.dumps(facts | {"done": 2}))
    assert len(opened(pool)["planes"]) == 2
    build_evidence(pool, (data, "depth"), SMALL, lambda text: None)
    assert np.array_equal(opened(pool)["planes"], before)
    with pytest.raises(ConfigError, match="holds another pool"):
        build_evidence(pool, (data, "depth"), EvidenceConfig(seed=12), lambda text: None)


def test_what_is_drawn_depends_on_chance_alone(clips):
    losses = completions.Completing(clips, 2)
    one, two, other = (losses.draw(np.random.default_rng(seed), Moment(0)) for seed in (1, 1, 2))
    assert one.planes.shape == (2, 3, 8, 48, 72)
    assert one.likely.shape == (2, 3)
    assert torch.equal(one.planes, two.planes)
    assert torch.equal(one.near, two.near)
    assert not torch.equal(one.planes, other.planes)


def test_doubts_show_parts_of_pictures_whose_evidence_is_worse(clips):
    draws = [
        completions.Completing(clips, 2, share).draw(np.random.default_rng(3), Moment(0)) for share in (0.0, 1.0, 1.0)
    ]
    plain, worse, again = draws
    rows, columns = worse.near.shape[-2:]
    assert 16 <= rows <= 48
    assert 32 <= columns < 72
    assert worse.planes.shape == (2, 3, 8, rows, columns)
    assert worse.target.shape == worse.near.shape
    assert torch.equal(worse.planes, again.planes)
    assert torch.isfinite(worse.planes).all()
    assert not torch.equal(worse.planes[:, :, 3], plain.planes[:, :, 3, :rows, :columns])


@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_the_loss_is_the_measure_itself(noise):
    random = np.random.default_rng(3)
    near = random.uniform(0.3, 1, (2, 3, 20, 30)).astype(np.float32)
    near[:, :, :4] = 0  # the sky, of which nothing is asked
    found = (7 * near + noise * random.normal(size=near.shape) + 2).astype(np.float32)
    expected = np.mean([scores(*pair)[0] for pair in zip(found, near, strict=True)])
    given = (torch.from_numpy(maps).flatten(1) for maps in (found, near))
    assert float(completions.absrel(*given)) == pytest.approx(expected, rel=0.03)


def test_what_lies_below_all_that_is_true_is_still_told_where_to_go():
    near = torch.linspace(0.5, 1, 60)[None]
    found = near.clone()
    found[0, 40] = -2
    found.requires_grad_()
    completions.absrel(found, near).backward()
    assert found.grad[0, 40] < 0


def test_clips_of_one_length_have_one_unit():
    near = torch.linspace(1, 3, 7 * 900).reshape(1, 1, 70, 90)
    found = completions.in_unit(torch.cat([near, 5 * near]))
    assert torch.allclose(found[0], found[1], atol=1e-4)
    low, high = np.percentile(found[0], [2, 98])
    assert (low, high) == pytest.approx((FARTHEST, 1 + FARTHEST), abs=0.01)


def test_training_lowers_the_loss_and_what_is_written_is_a_prior(clips, tmp_path):
    torch.manual_seed(0)
    losses = completions.Completing(clips, 2)
    config = FitConfig(steps=30, decay=10, rate=5e-3, warmup=2, ema=0.9, muon=True)

    def total(model):
        batch = losses.draw(np.random.default_rng(9), Moment(0))
        with torch.no_grad():
            return float(sum(losses.losses(model, batch, Moment(0)).values()))

    start = DepthCompletion(WIDTHS)
    before = total(start)
    best = fit(Fit(start, losses, tmp_path / "run", config), lambda line: None)
    assert total(best) < 0.95 * before
    told = json.loads(completions.told(best, clips))
    assert 0 < told["absrel"] < told["by hand"]
    completions.export(best, locate("depth"), tmp_path / "weights")
    assert json.loads((tmp_path / "weights" / "model_index.json").read_text())["completion"][1] == "DepthCompletion"
    assert (tmp_path / "weights" / "unet" / "config.json").is_file()
    assert completion_in(tmp_path / "weights") is not None
    again = completions.load(tmp_path / "weights")
    assert all(part.requires_grad for part in again.parameters())
    assert total(again) == pytest.approx(total(best), rel=0.01)  # written in 16 bits
