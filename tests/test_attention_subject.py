"""The subject held from frame to frame: attention written out, and guidance against numeric differences."""

import pytest
import torch
from directed_networks import FRAMES, Networks, call, written_out

from vrestore.attention import Consistent, attending, directed
from vrestore.attention_subject import strangeness
from vrestore.errors import PlanError, PriorError
from vrestore.plan import Subject

kinds = pytest.mark.parametrize("kind", [{}, {"motion": True, "control": False}])


def told(mask, windows=2, seed=3):
    """Inputs of a call with the subject's masks."""
    latents, times, conditioning = call(windows, seed=seed)
    return latents, times, conditioning | {"subject": mask.expand(windows, FRAMES, 1, 8, 8)}


def left_half():
    mask = torch.zeros(1, FRAMES, 1, 8, 8)
    mask[..., :4] = 1
    return mask


@kinds
def test_nothing_to_see_changes_nothing(kind):
    """No neighbours, or no subject."""
    networks, plain = Networks(**kind), call(2)
    expected = networks(*plain)
    handle = attending(*networks.networks)
    for attend, mask in ((Subject(0, downsampling=1), left_half()), (Subject(1, downsampling=1), 0 * left_half())):
        torch.testing.assert_close(directed(handle, attend, networks, *told(mask)), expected)


def test_a_subject_that_is_everything_is_all_tokens_of_all_frames():
    networks, inputs = Networks(control=False), told(torch.ones(1, FRAMES, 1, 8, 8))
    handle = attending(*networks.networks)
    everything = Consistent(tuple(range(FRAMES)), 5, share=1.0, downsampling=1)
    expected = directed(handle, everything, networks, *call(2))
    found = directed(handle, Subject(FRAMES - 1, downsampling=1), networks, *inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    one = directed(handle, Subject(1, downsampling=1), networks, *inputs)
    with written_out(networks, FRAMES, [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3]], 1):
        torch.testing.assert_close(one, networks(*call(2)), rtol=1e-4, atol=1e-5)


def test_a_frame_sees_the_subject_of_its_neighbours_and_nothing_else_of_them():
    """By hand: a single layer, as it is told."""
    from vrestore.attention_subject import SeeingSubject

    torch.manual_seed(0)
    q, k, v = torch.randn(3, 3, 2, 4, 5)  # three frames, two heads, 2 x 2 tokens
    masks = torch.zeros(1, 3, 2, 2)
    masks[0, 0, 0, 1], masks[0, 2, 1, 0] = 1, 1  # token 1 of the first frame, token 2 of the last
    answer = SeeingSubject(1, 3, (2, 2), Subject(1, downsampling=1), masks=masks).attention(0, q, k, v)
    sources = {0: [], 1: [(0, 1), (2, 2)], 2: []}
    for frame, others in sources.items():
        keys = torch.cat([k[frame], *(k[n, :, t : t + 1] for n, t in others)], 1)
        values = torch.cat([v[frame], *(v[n, :, t : t + 1] for n, t in others)], 1)
        shares = (q[frame] @ keys.transpose(1, 2) / 5**0.5).softmax(-1)
        torch.testing.assert_close(answer[frame], shares @ values)


# ---- guidance


def uneven(inputs):
    """Later frames noisier."""
    return inputs[0], inputs[1] + torch.arange(FRAMES), inputs[2]


def test_guidance_without_strength_or_noisier_frames_changes_nothing():
    networks = Networks(control=False)
    handle = attending(*networks.networks)
    level, later = told(left_half()), uneven(told(left_half()))
    for inputs, strength in ((later, 0.0), (level, 5.0)):
        expected = directed(handle, Subject(1, 0.0, downsampling=1), networks, *inputs)
        assert torch.equal(directed(handle, Subject(1, strength, downsampling=1), networks, *inputs), expected)


def test_the_strangeness_of_a_subject_by_hand():
    said = torch.tensor([1.0, 3.0, 9.0, 6.0])[None, None, :, None, None].expand(1, 1, 4, 2, 1)
    everywhere = torch.ones(1, 4, 2, dtype=torch.bool)
    times = torch.tensor([[0.0, 0.0, 2.0, 1.0]])
    # remembered: 1, then .5 * 1 + .5 * 3 = 2; the last but one comes first: (6 - 2)^2; then .5 * 2 + .5 * 6 = 4
    assert strangeness(said, everywhere, times, 0.5).item() == pytest.approx((6 - 2) ** 2 + (9 - 4) ** 2)
    hidden = everywhere.clone()
    hidden[0, 3] = False
    assert strangeness(said, hidden, times, 0.5).item() == pytest.approx((9 - 2) ** 2)


def test_guidance_leads_noisier_frames_to_the_subject_of_the_others():
    """The gradient that was taken is that of numeric differences, frames at the least level stand still."""
    from vrestore.attention import _telling
    from vrestore.attention_subject import SeeingSubject, guided

    networks = Networks(control=False)
    networks.unet.double()
    handle, attend = attending(*networks.networks), Subject(0, 1.0, 0.5, downsampling=1)
    latents, times, given = uneven(told(left_half(), windows=1))
    given = {"text": given["text"].double(), "control": given["control"].double()}
    latents, masks = latents.double(), left_half()[:, :, 0]

    def predict(z, t, conditioning):
        return networks._run(z.flatten(0, 1), t.flatten(), conditioning["text"].flatten(0, 1), None, FRAMES)

    def telling(one):
        return _telling(handle, one)

    def loss(z):
        seen = SeeingSubject(1, FRAMES, (8, 8), attend, masks=masks, said=[])
        with telling(seen), torch.no_grad():
            predict(z, times, given)
        return sum(strangeness(said, seen.tokens(said.shape[3]), times, 0.5) for said in seen.said) / len(seen.said)

    moved = guided(attend, predict, telling, (latents, times, given), masks)
    assert torch.equal(moved[:, 0], latents[:, 0])
    assert loss(moved) < loss(latents)
    for place in ((0, 3, 2, 3, 4), (0, 3, 0, 7, 1)):  # of the last frame: nothing is remembered after it
        aside = torch.zeros_like(latents)
        aside[place] = 1e-4
        numeric = (loss(latents + aside) - loss(latents - aside)) / 2e-4
        torch.testing.assert_close((latents - moved)[place], numeric, rtol=1e-3, atol=1e-9)


def test_impossible_subjects_are_refused():
    for arguments in ({"neighbours": -1}, {"strength": -1.0}, {"strength": float("nan")}, {"memory": 1.0}):
        with pytest.raises(PlanError, match="A subject cannot be seen"):
            Subject(**arguments)
    networks = Networks(control=False)
    handle = attending(*networks.networks)
    with pytest.raises(PriorError, match="needs the conditioning 'subject'"):
        directed(handle, Subject(), networks, *call())
    latents, times, given = told(left_half())
    with pytest.raises(PriorError, match=r"of \(4, 8\), the latents of \(8, 8\)"):
        directed(handle, Subject(), networks, latents, times, given | {"subject": given["subject"][..., :4, :]})
