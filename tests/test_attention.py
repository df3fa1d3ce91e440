"""Cross-window attention: on small random networks of diffusers, against attention written out."""

import pytest
import torch
import torch.nn.functional as F
from directed_networks import FRAMES, Networks, call, part, written_out

from vrestore.attention import Consistent, CrossWindow, attending, directed
from vrestore.attention_bank import Bank, Entry
from vrestore.errors import PlanError, PriorError
from vrestore.noise import chosen

kinds = pytest.mark.parametrize("kind", [{}, {"motion": True, "control": False}, {"motion": True}])


# ---- without a directive


@kinds
def test_without_a_directive_it_is_diffusers_own_to_the_bit(kind):
    plain, ours, inputs = Networks(**kind), Networks(**kind), call(2)
    expected = plain(*inputs)
    handle = attending(*ours.networks)
    assert torch.equal(ours(*inputs), expected)
    assert torch.equal(directed(handle, None, ours, *inputs), expected)
    directed(handle, CrossWindow(alone=(0,), together=(3,)), ours, *inputs)
    assert torch.equal(ours(*inputs), expected)


@kinds
def test_a_directive_to_the_own_frame_alone_changes_nothing(kind):
    networks, inputs = Networks(**kind), call(2)
    expected = networks(*inputs)
    handle = attending(*networks.networks)
    torch.testing.assert_close(directed(handle, CrossWindow(downsampling=1), networks, *inputs), expected)
    assert handle.bank.misses == 0


def test_networks_are_directed_once():
    """Doing it again leaves one layer of processors, of the new handle."""
    networks, inputs = Networks(), call()
    attending(*networks.networks)
    handle = attending(*networks.networks)
    first = directed(handle, CrossWindow(together=(0,), downsampling=1), networks, *inputs)
    assert not torch.allclose(first, networks(*inputs))
    assert torch.equal(networks(*inputs), Networks()(*inputs))


# ---- against attention written out


@pytest.mark.parametrize("guidance", ["one", "two"])
@pytest.mark.parametrize("downsampling", [1, 2])
@kinds
def test_frames_of_the_window_give_keys_and_values(kind, downsampling, guidance):
    networks, inputs = Networks(**kind, guidance=guidance), call(2)
    with written_out(networks, FRAMES, [[0, 1, 3], [1, 3], [2, 1, 3], [3, 1]], downsampling):
        expected = networks(*inputs)
    handle = attending(*networks.networks)
    found = directed(handle, CrossWindow(together=(1, 3), downsampling=downsampling), networks, *inputs)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, networks(*inputs), atol=1e-3)


def test_without_the_own_frame_it_is_the_sparse_causal_attention_of_lovecon():
    networks, inputs = Networks(), call(2)
    with written_out(networks, FRAMES, [[0, 1, 3]] * 4, 1):
        expected = networks(*inputs)
    handle = attending(*networks.networks)
    found = directed(handle, CrossWindow(together=(0, 1, 3), own=False, downsampling=1), networks, *inputs)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("guidance", ["one", "two"])
def test_context_gives_what_it_has_by_itself(guidance):
    """Frames 4 and 5 are context; without motion they go through a batch by themselves if they see only themselves."""
    networks, inputs = Networks(guidance=guidance), call(2, FRAMES + 2)
    sources = [[i, 4, 5, *([3] if i != 3 else [])] for i in range(FRAMES)] + [[4], [5]]
    with written_out(networks, FRAMES + 2, sources, 1):
        expected = networks(*inputs)
    handle = attending(*networks.networks)
    directive = CrossWindow(alone=(4, 5), together=(3,), context=(4, 5), downsampling=1)
    found = directed(handle, directive, networks, *inputs)
    torch.testing.assert_close(found[:, :FRAMES], expected[:, :FRAMES])
    assert not found[:, FRAMES:].any()


def test_context_is_no_neighbour_in_time():
    """Temporal layers see the window and nothing else: context that gives no keys in any layer changes nothing."""
    networks, inputs = Networks(motion=True), call(1, FRAMES + 1)
    handle = attending(*networks.networks)
    expected = networks(*part(inputs, frames=slice(FRAMES)))
    far = CrossWindow(alone=(4,), context=(4,), downsampling=64)
    torch.testing.assert_close(directed(handle, far, networks, *inputs)[:, :FRAMES], expected)
    near = CrossWindow(alone=(4,), context=(4,), downsampling=1)
    assert not torch.allclose(directed(handle, near, networks, *inputs)[:, :FRAMES], expected, atol=1e-3)


# ---- the bank


@kinds
def test_an_anchor_is_computed_once_and_the_same_for_every_window(kind):
    """Alone, in a batch, from the bank, inside its own window: an anchor's keys and values are the same."""
    networks, inputs = Networks(**kind), call(3, FRAMES + 1)
    for value in (inputs[0], *inputs[2].values()):
        value[:, FRAMES] = value[:1, FRAMES]  # the anchor of all three windows
    directive = CrossWindow(alone=(4,), together=(3,), context=(4,), downsampling=1)
    apart = [
        directed(attending(*networks.networks), directive, networks, *part(inputs, slice(i, i + 1))) for i in range(3)
    ]
    handle = attending(*networks.networks)
    networks.frames_seen = 0
    together = directed(handle, directive, networks, *inputs)
    assert networks.frames_seen == 1 + 3 * FRAMES
    torch.testing.assert_close(together, torch.cat(apart))
    networks.frames_seen = 0
    again = directed(handle, directive, networks, *part(inputs, slice(1, 3)))
    assert networks.frames_seen == 2 * FRAMES
    torch.testing.assert_close(again, torch.cat(apart[1:]))
    assert (len(handle.bank), handle.bank.misses, handle.bank.hits) == (1, 1, 1)

    # In its own window the anchor gives what it has by itself as well, and attends to its own tokens once.
    own = part(inputs, slice(0, 1), [FRAMES, 0, 1, 2])
    directed(handle, CrossWindow(alone=(0,), together=(3,), downsampling=1), networks, *own)
    assert (len(handle.bank), handle.bank.misses, handle.bank.hits) == (1, 1, 2)


def test_what_the_bank_holds_does_not_change_a_bit():
    """A run that is resumed has an empty one, and sees all its frames of context at once."""
    networks, inputs = Networks(motion=True), call(1, FRAMES + 2)
    directive = CrossWindow(alone=(4, 5), together=(3,), context=(4, 5), downsampling=1)
    expected = directed(attending(*networks.networks), directive, networks, *inputs)
    full = attending(*networks.networks)
    first = CrossWindow(alone=(4,), context=(4,), downsampling=1)
    directed(full, first, networks, *part(inputs, frames=slice(0, 5)))
    assert torch.equal(directed(full, directive, networks, *inputs), expected)
    assert (full.bank.hits, full.bank.misses) == (1, 2)


def test_another_level_text_or_latent_is_another_entry():
    networks, inputs = Networks(), call(1, FRAMES + 1)
    handle = attending(*networks.networks)
    directive = CrossWindow(alone=(4,), context=(4,))
    directed(handle, directive, networks, *inputs)
    for change in (inputs[0], inputs[1], inputs[2]["text"], inputs[2]["control"]):
        change[:, 4] += 1
        directed(handle, directive, networks, *inputs)
    assert (len(handle.bank), handle.bank.hits) == (5, 0)
    handle.bank.clear()
    assert (len(handle.bank), handle.bank.size) == (0, 0)


def test_without_room_in_the_bank_the_result_is_the_same():
    networks, inputs = Networks(), call(1, FRAMES + 1)
    directive = CrossWindow(alone=(4,), context=(4,), downsampling=1)
    expected = directed(attending(*networks.networks), directive, networks, *inputs)
    handle = attending(*networks.networks, bank_bytes=1000)
    for _ in range(2):
        assert torch.equal(directed(handle, directive, networks, *inputs), expected)
    assert (len(handle.bank), handle.bank.hits) == (0, 0)


def test_a_full_bank_keeps_what_goes_round_and_forgets_what_is_past():
    entry = Entry(((0, torch.zeros(10), torch.zeros(10)),))
    bank = Bank(3 * entry.size)
    for _ in range(5):  # five levels go round, three fit
        for level in range(5):
            key = bytes([level])
            if bank.get(key) is None:
                bank.put(key, entry)
    assert (len(bank), bank.size, bank.hits) == (3, 3 * entry.size, 4 * 3)
    for _ in range(100):  # another shot
        for level in range(5, 10):
            key = bytes([level])
            if bank.get(key) is None:
                bank.put(key, entry)
    kept = {level for level in range(10) if bank.get(bytes([level]))}
    assert len(kept) == 3
    assert kept <= set(range(5, 10))


# ---- sampled attention


def test_every_frame_sees_a_share_of_the_tokens_of_the_others():
    networks, inputs = Networks(control=False), call(2)
    handle = attending(*networks.networks)
    whole = Consistent(frames=(7, 8, 9, 10), level=5, share=1.0, downsampling=1)
    with written_out(networks, FRAMES, [[i, *(j for j in range(4) if j != i)] for i in range(4)], 1):
        expected = networks(*inputs)
    handle = attending(*networks.networks)
    torch.testing.assert_close(directed(handle, whole, networks, *inputs), expected)
    half = Consistent(frames=(7, 8, 9, 10), level=5, share=0.5, downsampling=1)
    found = directed(handle, half, networks, *inputs)
    assert torch.equal(directed(handle, half, networks, *inputs), found)
    assert not torch.allclose(found, expected, atol=1e-3)
    one = part(inputs, frames=slice(1))
    torch.testing.assert_close(directed(handle, Consistent((7,), 5, downsampling=1), networks, *one), networks(*one))


def test_tokens_drawn_depend_on_their_place_alone():
    first = chosen(1, 2, 3, 4, 100, 50)
    assert len(set(first.tolist())) == 50
    assert (first == chosen(1, 2, 3, 4, 100, 50)).all()
    for other in ((0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)):
        assert (first != chosen(*other, 100, 50)).any()
    counts = sum(torch.bincount(torch.from_numpy(chosen(1, n, 3, 4, 64, 32)), minlength=64) for n in range(400))
    assert counts.min() > 150  # of 400, each token about 200 times
    assert counts.max() < 250


# ---- what is refused


def test_directives_that_cannot_be_are_refused():
    for arguments in ({"alone": (-1,)}, {"together": (1, 1)}, {"context": (2,)}, {"own": False}, {"downsampling": 0}):
        with pytest.raises(PlanError):
            CrossWindow(**arguments)
    with pytest.raises(PlanError, match="share of 0"):
        Consistent(frames=(0, 1), level=1, share=0.0)
    networks, inputs = Networks(control=False), call()
    handle = attending(*networks.networks)
    with pytest.raises(PriorError, match="call of 5 frames; this one has 4"):
        directed(handle, CrossWindow(together=(4,)), networks, *inputs)
    with pytest.raises(PriorError, match="call of 2 frames; this one has 4"):
        directed(handle, Consistent(frames=(0, 1), level=1), networks, *inputs)
    with pytest.raises(PriorError, match="'all' is not known"):
        directed(handle, "all", networks, *inputs)
    with pytest.raises(PriorError, match="Linear has no self-attention"):
        attending(torch.nn.Linear(1, 1))


def test_a_prior_that_runs_frames_in_parts_is_refused():
    networks, inputs = Networks(control=False), call()

    def in_parts(latents, times, conditioning):
        return torch.cat([networks(*part((latents, times, conditioning), frames=slice(i, i + 1))) for i in range(4)], 1)

    with pytest.raises(PriorError, match="runs all of them together"):
        directed(attending(*networks.networks), CrossWindow(together=(3,), downsampling=1), in_parts, *inputs)


def test_sizes_that_halve_unevenly_take_part_where_they_should():
    """7x5 latents have 4x3 tokens in the middle."""
    networks = Networks(control=False)
    latents, times, conditioning = call()
    latents = latents[..., :7, :5]
    handle = attending(*networks.networks)
    plain = networks(latents, times, conditioning)
    found = directed(handle, CrossWindow(together=(0,), downsampling=2), networks, latents, times, conditioning)
    assert not torch.allclose(found, plain, atol=1e-4)
    assert F.mse_loss(found[:, 0], plain[:, 0]) < 1e-8  # it had itself already
