"""Items of a stream that are worked on in groups, each with some neighbours to both sides."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def with_neighbours(items: Iterable[Item], size: int, before: int, after: int) -> Iterator[tuple[list[Item], range]]:
    """Groups of ``size`` items in order, the last one perhaps smaller: the items that are held, and which of them form
    the group.

    Held are up to ``before`` items ahead of a group and up to ``after`` behind it, as far as there are any.
    """
    stream, held, first = iter(items), list[Item](), 0
    while True:
        held = held + list(islice(stream, first + size + after - len(held)))
        group = range(first, min(first + size, len(held)))
        if not group:
            return
        yield held, group
        dropped = max(0, group.stop - before)
        held, first = held[dropped:], group.stop - dropped
