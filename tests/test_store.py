"""One contract for both stores, and what is particular to the memory-mapped one."""

import resource

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import OutputError, PlanError
from vrestore.store import MmapStore, RamStore, Store

SHAPE = (2, 3, 4)


@pytest.fixture(params=["ram", "mmap"])
def store(request, tmp_path):
    if request.param == "ram":
        yield RamStore()
    else:
        with MmapStore(tmp_path / "latents", slots=2) as mapped:
            yield mapped


def latent(value):
    return torch.arange(24, dtype=torch.float32).view(SHAPE) + value


def test_it_is_a_store(store):
    assert isinstance(store, Store)


@settings(max_examples=40, deadline=None)
@given(operations=st.lists(st.tuples(st.sampled_from(["put", "get", "release"]), st.integers(0, 6)), max_size=40))
def test_it_behaves_like_a_dictionary(tmp_path_factory, operations):
    for kept in (RamStore(), MmapStore(tmp_path_factory.mktemp("latents"), slots=2)):
        model, most = {}, 0
        for i, (operation, frame) in enumerate(operations):
            if operation == "put":
                kept.put(frame, latent(i))
                model[frame] = latent(i)
            elif frame not in model:
                with pytest.raises(PlanError, match=f"Frame {frame} is not in the store"):
                    kept.get(frame) if operation == "get" else kept.release(frame)
            elif operation == "get":
                assert torch.equal(kept.get(frame), model[frame])
            else:
                kept.release(frame)
                del model[frame]
            most = max(most, len(model))
            assert (kept.live, kept.peak, kept.bytes) == (len(model), most, 24 * 4 * len(model))
            assert all((n in kept) == (n in model) for n in range(7))
        if isinstance(kept, MmapStore):
            kept.close()


def test_what_is_put_and_got_is_a_copy(store):
    given_to = latent(0)
    store.put(3, given_to)
    given_to += 1
    got = store.get(3)
    assert torch.equal(got, latent(0))
    got += 1
    assert torch.equal(store.get(3), latent(0))


def test_latents_are_float32_to_the_bit(store):
    values = torch.tensor([1e-45, -0.0, 3e38, 1 / 3]).view(1, 2, 2)
    store.put(0, values)
    assert store.get(0).dtype == torch.float32
    assert np.array_equal(store.get(0).numpy().view(np.int32), values.numpy().view(np.int32))
    store.put(1, values.to(torch.bfloat16))
    assert torch.equal(store.get(1), values.to(torch.bfloat16).float())


def test_latents_of_another_shape_are_refused(store):
    store.put(0, latent(0))
    with pytest.raises(PlanError, match=r"Frame 1 has a latent of shape \(1, 3, 4\); the others have \(2, 3, 4\)"):
        store.put(1, latent(0)[:1])


def test_clear_forgets_everything(store):
    for n in range(5):
        store.put(n, latent(n))
    store.clear()
    assert (store.live, store.bytes) == (0, 0)
    store.put(9, latent(9))
    assert torch.equal(store.get(9), latent(9))


def test_the_disk_holds_what_was_live_at_most(tmp_path):
    folder = tmp_path / "latents"
    with MmapStore(folder, slots=4) as mapped:
        for n in range(100):
            mapped.put(n, latent(n))
            if n >= 5:
                mapped.release(n - 5)
        assert mapped.peak == 6
        assert sum(file.stat().st_size for file in folder.iterdir()) == 8 * 24 * 4
    assert list(folder.iterdir()) == []


def test_a_closed_store_is_empty_and_takes_other_shapes(tmp_path):
    mapped = MmapStore(tmp_path)
    mapped.put(0, latent(0))
    mapped.close()
    assert 0 not in mapped
    mapped.put(0, torch.zeros(1, 1, 1))
    assert mapped.get(0).shape == (1, 1, 1)
    mapped.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    mapped = MmapStore(tmp_path / "file" / "latents")
    with pytest.raises(OutputError, match=r"Cannot hold latents in .*file"):
        mapped.put(0, latent(0))
    assert mapped.live == 0


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    mapped = MmapStore(tmp_path, slots=1000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))  # files may not grow beyond this, as on a full disk
    try:
        with pytest.raises(OutputError, match="Free some space"):
            mapped.put(0, latent(0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    mapped.put(0, latent(0))  # there is room again
    assert torch.equal(mapped.get(0), latent(0))
    mapped.close()
