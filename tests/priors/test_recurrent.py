"""Features that travel along the motion: where they go, how far, and in which groups of frames they are worked out."""

import pytest
import torch
from torch import nn

from vrestore.priors.recurrent import GROUP, MARGIN, RecurrentGuide, in_groups, moved

SIDE = 4
"""Of a frame, in latent pixels."""


@pytest.fixture
def guide():
    torch.manual_seed(3)
    model = RecurrentGuide(width=8, depth=1, channels=6)
    nn.init.normal_(model.tell.weight)
    return model.eval()


def clip(frames, visibility=1.0):
    """Frames (1, t, 3, h, w) that stand still, and their motion."""
    motion = torch.zeros(1, frames, 6, SIDE, SIDE)
    motion[:, :, [2, 5]] = visibility
    return torch.rand(1, frames, 3, 8 * SIDE, 8 * SIDE), motion


def test_a_new_guide_says_nothing():
    assert not RecurrentGuide(width=8, depth=1)(*clip(3)).any()


@pytest.mark.parametrize("visibility", [0.0, 1.0])
def test_a_frame_hears_of_every_other_one_that_is_seen(guide, visibility):
    degraded, motion = clip(5, visibility)
    degraded.requires_grad_()
    guide(degraded, motion)[0, 2].square().sum().backward()
    heard = degraded.grad[0].abs().amax((1, 2, 3)) > 0
    assert heard.tolist() == ([True] * 5 if visibility else [False, False, True, False, False])


@torch.no_grad()
def test_time_reversed_motion_mirrors_who_is_heard_first(guide):
    degraded, motion = clip(4)
    found = guide(degraded, motion)
    assert found.shape == (1, 4, 6, 2 * SIDE, 2 * SIDE)
    changed = degraded.clone()
    changed[:, 3] = 0
    # the state that goes back tells the first frame of the last; without sight of its neighbour nothing would
    assert (guide(changed, motion) - found)[0, 0].abs().max() > 0
    motion[:, 2, 5] = 0  # the third frame does not see the last one
    assert torch.equal(guide(changed, motion)[0, :3], guide(degraded, motion)[0, :3])


def test_a_state_is_moved_by_twice_the_flow_in_latent_pixels():
    state = torch.rand(1, 5, 8, 8)
    field = torch.zeros(1, 3, 4, 4)
    field[:, 0], field[:, 2] = 1.5, 1.0  # everything lies 1.5 latent pixels to the right: three of the state's
    torch.testing.assert_close(moved(state, field)[..., :-3], state[..., 3:])
    field[:, 2] = 0.25
    torch.testing.assert_close(moved(state, field)[..., :-3], state[..., 3:] / 4)


def entries(count):
    return [{"place": torch.tensor(float(place))} for place in range(count)]


def around(held):
    """What a frame's group and margins are: the places that were told of it, as a sum of powers of two."""
    everything = sum(2 ** int(entry["place"]) for entry in held)
    return [torch.tensor(everything) for _ in held]


@pytest.mark.parametrize("count", [1, MARGIN, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP + MARGIN, 3 * GROUP])
def test_every_frame_comes_once_with_its_group_and_the_margins_beside_it(count):
    found = list(in_groups(iter(entries(count)), around))
    assert [int(entry["place"]) for entry in found] == list(range(count))
    for place, entry in enumerate(found):
        start = place // GROUP * GROUP
        heard = range(max(0, start - MARGIN), min(count, start + GROUP + MARGIN))
        assert int(entry["recalled"]) == sum(2**other for other in heard)


def test_it_may_begin_a_group_before_what_is_asked_for():
    whole, late = entries(4 * GROUP), entries(4 * GROUP)[GROUP:]
    expected = list(in_groups(iter(whole), around))[2 * GROUP :]
    assert [int(e["recalled"]) for e in list(in_groups(iter(late), around))[GROUP:]] == [
        int(e["recalled"]) for e in expected
    ]


def test_no_more_is_read_ahead_than_a_group_and_its_margin():
    stream = iter(entries(100))
    next(in_groups(stream, around))
    assert int(next(stream)["place"]) == GROUP + MARGIN
