"""Deblurring without training, on a picture that moves in a known way under a known shutter."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from vrestore.errors import ConfigError, PriorError
from vrestore.exposure import exposure, to_light, to_values
from vrestore.flow import FlowPair, flow_pair
from vrestore.priors import find_prior
from vrestore.sampling import ddim_ladder, flow_ladder
from vrestore.shutter import CLOSED, estimate_shutter, last_explained, streaks
from vrestore.zero_shot import (
    REACH,
    SHORT,
    ZeroShot,
    believed,
    consistent,
    deblur,
    deblurred,
    smooth_keeping_edges,
    through,
    unevenness,
)

SIZE = (48, 64)
INSTANTS = 9


def world(seed=0):
    """Blocks with sharp edges over a smooth texture, (3, height, width), with a margin of 64 pixels."""
    draw = np.random.default_rng(seed)
    height, width = SIZE[0] + 128, SIZE[1] + 128
    canvas = cv2.GaussianBlur(draw.random((height, width, 3), np.float32), (0, 0), 3)
    canvas = cv2.normalize(canvas, None, 0.2, 0.8, cv2.NORM_MINMAX)
    for _ in range(160):
        y, x = draw.integers(0, height), draw.integers(0, width)
        canvas[y : y + draw.integers(4, 16), x : x + draw.integers(4, 16)] = draw.random(3)
    return torch.from_numpy(canvas).permute(2, 0, 1)


def view(dx, dy):
    """What the camera sees of the world after it has moved by whole or broken pixels."""
    shift = np.float32([[1, 0, dx - 64], [0, 1, dy - 64]])
    picture = cv2.warpAffine(world().permute(1, 2, 0).numpy(), shift, SIZE[::-1], flags=cv2.INTER_CUBIC)
    return torch.from_numpy(picture).permute(2, 0, 1).clamp(0, 1)


def film(frames, speed, shutter):
    """(blurred, sharp) of what moves evenly, by ``speed`` a frame."""
    return filmed(frames, lambda time: (time * speed[0], time * speed[1]), shutter)


def filmed(frames, place, shutter):
    """(blurred, sharp): light that falls in while the shutter is open, stored in 8 bits; ``place`` at any time."""
    sharp = torch.stack([view(*place(i)) for i in range(frames)])
    times = [shutter * ((k + 0.5) / INSTANTS - 0.5) for k in range(INSTANTS)]
    light = [sum(to_light(view(*place(i + t))) for t in times) / INSTANTS for i in range(frames)]
    return (to_values(torch.stack(light)) * 255).round() / 255, sharp


def shaken(time):
    """Held by hand: seven pixels to and fro, almost once a frame and so faster than frames can tell."""
    return 7 * float(np.sin(5.1 * time + 0.4)), 0.0


def psnr(one, two):
    return float(-10 * (one - two)[..., 8:-8, 8:-8].square().mean().log10())


@pytest.fixture(scope="module")
def moving():
    return film(5, (5.0, -2.0), 1.0)


def test_blurred_frames_become_sharper(moving):
    """Against the truth, on every frame, first and last included."""
    blurred, sharp = moving
    found = deblur(blurred, ZeroShot(shutter=1.0))
    gains = [psnr(x, t) - psnr(y, t) for x, y, t in zip(found, blurred, sharp, strict=True)]
    assert min(gains) > 2
    assert sum(gains) / len(gains) > 3
    assert found.min() >= 0
    assert found.max() <= 1


def test_rounds_pay(moving):
    blurred, sharp = moving
    plain, more = (psnr(deblur(blurred, ZeroShot(shutter=1.0, refine=False, rounds=n)), sharp) for n in (0, 2))
    assert more > plain + 0.5


def test_the_flow_is_found_again_where_blur_hid_it():
    """Faster than the texture is coarse: the first result shows better where it moves."""
    blurred, sharp = film(3, (5.0, -2.0), 1.0)
    plain, refined = (deblur(blurred, ZeroShot(shutter=1.0, rounds=0, refine=on)) for on in (False, True))
    assert not torch.equal(plain, refined)
    assert psnr(refined, sharp) > psnr(blurred, sharp) + 3


def test_the_result_explains_what_was_seen(moving):
    """Blurred again it is the input, nearer than the input blurred again is; also from a useless prediction."""
    blurred, _ = moving
    flows = [flow_pair(a, b) for a, b in pairwise(blurred)]
    seen_by = exposure(flows[1], flows[2], 1.0)

    def left(frame):
        return psnr(to_values(seen_by.apply(to_light(frame))), blurred[2])

    assert left(consistent(blurred[2], blurred[2], seen_by)) > left(blurred[2]) + 10
    useless = torch.full_like(blurred[2], 0.5)
    assert left(consistent(useless, blurred[2], seen_by)) > left(useless) + 10


def test_a_wrong_motion_is_not_believed(moving):
    """The exposure runs across the blur: its inversion would be worse than nothing, and the frame stays."""
    blurred, sharp = moving
    before, after = (flow_pair(blurred[i], blurred[i + 1]) for i in (1, 2))
    right = exposure(before, after, 1.0)
    across = [
        FlowPair(
            *(torch.stack([4 * f[:, 1], 2 * f[:, 0]], 1) for f in (p.forward, p.backward)), p.left_seen, p.right_seen
        )
        for p in (before, after)
    ]
    wrong = exposure(*across, 1.0)
    results = [(consistent(blurred[2], blurred[2], one), one) for one in (right, wrong)]
    (good, kept), (bad, refused) = [(x, believed(x, blurred[2], one)) for x, one in results]
    base = psnr(blurred[2], sharp[2])
    assert psnr(bad, sharp[2]) < base - 1
    assert psnr(refused, sharp[2]) > base - 0.1
    assert psnr(kept, sharp[2]) > psnr(good, sharp[2]) - 0.1


def test_a_closed_shutter_changes_nothing(moving):
    blurred, _ = moving
    found = deblur(blurred, ZeroShot(shutter=0.0, rounds=0))
    assert (found - blurred).abs().max() < 1e-5


def test_what_stands_still_stays():
    blurred, _ = film(3, (0.0, 0.0), 1.0)
    found = deblur(blurred, ZeroShot(shutter=1.0, rounds=0))
    assert (found - blurred).abs().max() < 1 / 255


@pytest.mark.parametrize("window", [1, 2, 5])
def test_windows_do_not_show(window):
    """A prior that looks at single frames: the same bits whatever is held together, and nothing beyond is held.

    The speed changes by less than a pixel a frame, and so the frames are held to themselves by what is found around.
    """
    blurred = filmed(10, lambda time: (4 * time + 0.04 * time**3, 0.0), 1.0)[0][:, :, :32, :40]
    how = ZeroShot(shutter=1.0, rounds=1, instants=5)
    held = []

    def restore(frames):
        held.append(len(frames))
        return smooth_keeping_edges(frames)

    whole = deblur(blurred, how)
    parts = list(deblurred(iter(blurred), ZeroShot(shutter=1.0, rounds=1, instants=5, window=window), restore))
    assert torch.equal(torch.stack(parts), whole)
    assert max(held) <= window + 2 * REACH


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_short_shots(moving, frames):
    blurred = moving[0][:frames, :, :24, :32]
    found = list(deblurred(iter(blurred), ZeroShot(shutter=0.5)))
    assert len(found) == frames
    assert all(frame.shape == blurred.shape[1:] for frame in found)


def test_any_prior_holds_it_together(moving, tiny_prior):
    """Encode, predict, decode; the frames' size need not suit the prior. What comes back still explains the data."""
    prior = find_prior(str(tiny_prior)).load(torch.device("cpu"), torch.float32)
    blurred = moving[0][:3, :, :33, :45]
    restore = through(prior, steps=2)
    predicted = restore(blurred)
    assert predicted.shape == blurred.shape
    found = deblur(blurred, ZeroShot(shutter=1.0, rounds=1, refine=False), restore)
    seen_by = exposure(flow_pair(blurred[0], blurred[1]), flow_pair(blurred[1], blurred[2]), 1.0)
    again = [psnr(to_values(seen_by.apply(to_light(frames[1]))), blurred[1]) for frames in (found, predicted)]
    assert again[0] > again[1] + 3
    assert not torch.equal(found, deblur(blurred, ZeroShot(shutter=1.0, rounds=1, refine=False)))


@pytest.mark.parametrize("ladder", [flow_ladder, partial(ddim_ladder, alphas_cumprod=[0.99, 0.7, 0.4, 0.1])])
def test_a_prior_may_start_from_noise(moving, tiny_prior, monkeypatch, ladder):
    """One that knows the answer finds it from any noise; drawn with one seed it is the same noise every time."""
    prior = find_prior(str(tiny_prior)).load(torch.device("cpu"), torch.float32)
    blurred = moving[0][:3, :, :32, :48]
    started = []

    def predict(latents, times, conditioning, attend=None):
        started.append(latents)
        return conditioning["degraded_latents"]

    plain = through(prior, steps=1)(blurred)
    monkeypatch.setattr(prior, "ladder", ladder)
    monkeypatch.setattr(prior, "predict", predict)
    one, two, other = (through(prior, steps=2, seed=seed)(blurred) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert torch.equal(started[0], started[2])
    assert not torch.equal(started[0], started[4])
    assert torch.allclose(one, other, atol=1e-4)
    assert one.shape == plain.shape


def test_a_prior_that_enlarges_is_refused(tiny_prior):
    prior = find_prior(str(tiny_prior)).load(torch.device("cpu"), torch.float32)
    prior.facts = replace(prior.facts, scale=4)
    with pytest.raises(PriorError, match="4 times larger"):
        through(prior)


def test_a_prior_is_given_noise_where_it_asks(moving, tiny_prior, monkeypatch):
    prior = find_prior(str(tiny_prior)).load(torch.device("cpu"), torch.float32)
    prior.facts = replace(prior.facts, conditionings=prior.facts.conditionings | {"noise"})
    seen = []

    def predict(latents, times, conditioning, attend=None):
        seen.append(conditioning["noise"])
        return latents

    monkeypatch.setattr(prior, "predict", predict)
    through(prior)(moving[0][:2, :, :32, :48])
    assert seen[0].shape == (1, 2, 16, 4, 6)
    assert not torch.equal(seen[0][0, 0], seen[0][0, 1])


def test_a_prior_that_wants_to_know_more_is_refused(moving, tiny_prior):
    prior = find_prior(str(tiny_prior)).load(torch.device("cpu"), torch.float32)
    prior.facts = replace(prior.facts, conditionings=prior.facts.conditionings | {"text"})
    with pytest.raises(PriorError, match="asks for text beside the frames"):
        through(prior)(moving[0][:2])


@pytest.mark.parametrize("bad", [{"shutter": 1.5}, {"rounds": -1}, {"window": 0}, {"weight": 0.0}, {"short": -1.0}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ConfigError, match="give"):
        ZeroShot(**{"shutter": 1.0} | bad)


@pytest.mark.parametrize("shutter", [0.25, 0.5, 1.0])
def test_the_shutter_is_found(shutter):
    """To an eighth."""
    blurred, _ = film(3, (8.0, -2.0), shutter)
    assert abs(estimate_shutter(blurred).share - shutter) <= 1 / 8


def texture(softness):
    """As much detail in any direction, (3, 400, 400)."""
    picture = np.random.default_rng(3).random((400, 400, 3), np.float32)
    picture = cv2.normalize(cv2.GaussianBlur(picture, (0, 0), softness), None, 0, 1, cv2.NORM_MINMAX)
    return torch.from_numpy(picture).permute(2, 0, 1)


def passing(softness, dx, dy, exposed):
    """Frames (4, 3, 160, 160) of what moves by whole pixels, of which the first ``exposed`` of each way are seen."""
    still, light = texture(softness), []
    for i in range(4):
        ways = [(100 + i * dx + j * np.sign(dx), 100 + i * dy + j * np.sign(dy)) for j in range(exposed)]
        light.append(sum(to_light(still[:, y : y + 160, x : x + 160]) for x, y in ways) / exposed)
    return (to_values(torch.stack(light)) * 255).round() / 255


@pytest.mark.parametrize("way", [(6, 0), (0, 6), (6, 6), (6, -6)])
def test_streaks_lie_along_the_motion(way):
    """Where the picture is sharp, or soft in all directions, there are as few along any motion."""
    flow = torch.tensor(way, dtype=torch.float32)[None, :, None, None].expand(1, 2, 160, 160)
    turned = flow.flip(1) * torch.tensor([1.0, -1.0])[:, None, None]
    everywhere = torch.ones(1, 1, 160, 160)
    streaked = passing(0.7, *way, 6)[0]
    assert streaks(streaked, flow, everywhere) < 0.5
    assert streaks(streaked, turned, everywhere) > 2
    for softness in (0.7, 2.5):
        assert streaks(passing(softness, *way, 1)[0], flow, everywhere) == pytest.approx(1, abs=0.2)


def test_of_soft_pictures_no_shutter_is_told():
    """Any shutter explains them: they show nothing that a longer one would have taken away."""
    assert estimate_shutter(passing(2.5, 6, 0, 1)) == CLOSED
    assert estimate_shutter(passing(2.5, 6, 0, 6)).share > 0.8


@pytest.mark.parametrize(
    ("unexplained", "steps"),
    [
        ((0.2, 0.1, 0.8, 0.9, 1, 1, 1, 1), 2),  # refused from there on
        ((0.1, 0.1, 0.2, 0.3, 0.6, 0.8, 0.9, 0.9), 4),  # within two steps
        ((0.2, 0.4, 0.5, 0.5, 0.7, 1, 1, 1), 4),
        ((0.1, 0.3, 0.5, 0.5, 0.4, 0.3, 0.1, 0.1), 8),  # never: open all the time
        ((0.1, 0.2, 0.3, 0.3, 0.3, 0.2, 0.2, 0.9), 7),
        ((0.1, 0.2, 0.25, 0.3, 0.34, 0.4, 0.45, 0.5), 0),  # a little less each
        ((0.1, 0.1, 0.2, 0.2, 0.2, 0.3, 0.34, 0.34), 0),
        ((0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9), 0),
    ],
)
def test_a_shutter_is_told_by_where_explanations_end(unexplained, steps):
    assert last_explained(np.array(unexplained)) == steps


@pytest.mark.parametrize(("speed", "short"), [(0.5, SHORT), (1.0, 2 * SHORT)])
def test_a_short_blur_is_hardly_undone_where_motion_may_be_wrong(speed, short):
    """Frames that are sharp, told to have been blurred by their motion."""
    sharp = film(3, (speed, 0.0), 0.0)[0]
    flows = [flow_pair(a, b) for a, b in pairwise(sharp)]
    found = consistent(sharp[1], sharp[1], exposure(flows[0], flows[1], 1.0), short=short)
    assert psnr(found, sharp[1]) > 40


@pytest.mark.parametrize("shutter", [0.25, 0.5])
def test_what_shakes_stays_as_it_was(shutter):
    """Sharp frames of a camera that shakes, told that they were exposed along their flow.

    They are soft enough for any motion to explain them.
    """
    pictures = [frame.permute(1, 2, 0).numpy() for frame in filmed(6, shaken, 0.0)[0]]
    sharp = torch.stack([torch.from_numpy(cv2.GaussianBlur(one, (0, 0), 0.7)).permute(2, 0, 1) for one in pictures])
    assert min(psnr(x, y) for x, y in zip(deblur(sharp, ZeroShot(shutter=shutter)), sharp, strict=True)) > 40


def test_unevenness_is_how_motion_changes_from_frame_to_frame():
    """By the most of what lies beside a frame, by the median of its places; a shot of two frames has none."""

    def moved(speed):
        flow = torch.full((1, 2, 4, 4), 0.0)
        flow[:, 0] = speed
        flow[..., 0, 0] += 50 * speed  # one place goes its own way
        return FlowPair(flow, -flow, *torch.ones(2, 1, 1, 4, 4))

    flows = [moved(speed) for speed in (2.0, 2.0, 2.0, 2.0, 5.0, 6.0)]
    assert [unevenness(flows, i) for i in range(7)] == [0, 0, 0, 3, 3, 3, 1]
    assert unevenness(flows[:1], 0) == 0


def test_no_motion_no_shutter():
    assert estimate_shutter(film(3, (0.0, 0.0), 1.0)[0]) == CLOSED
    assert estimate_shutter(film(1, (8.0, 0.0), 1.0)[0]) == CLOSED
