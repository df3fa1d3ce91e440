"""Groups of a stream and what stands beside them."""

from itertools import count, islice

from hypothesis import given
from hypothesis import strategies as st

from vrestore.neighbours import with_neighbours

FEW = st.integers(0, 5)


@given(st.integers(0, 40), st.integers(1, 7), FEW, FEW)
def test_every_item_is_in_one_group_with_the_neighbours_that_there_are(length, size, before, after):
    first = 0
    for held, group in with_neighbours(range(length), size, before, after):
        assert [held[i] for i in group] == list(range(first, min(first + size, length)))
        assert held == list(range(max(0, first - before), min(length, first + size + after)))
        first += len(group)
    assert first == length


@given(st.integers(1, 7), FEW, FEW)
def test_no_more_is_read_than_is_held(size, before, after):
    endless = count()
    groups = list(islice(with_neighbours(endless, size, before, after), 3))
    assert len(groups) == 3
    assert next(endless) == 3 * size + after
