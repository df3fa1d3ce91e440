"""Batches drawn ahead of the network by threads of their own, and brought to its device."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Batch = TypeVar("Batch")
Own = TypeVar("Own", bound="Tensors")


@dataclass(frozen=True)
class Tensors:
    """A batch: a dataclass whose fields are tensors, or batches themselves. Other fields stay as they are."""

    def each(self: Own, change: Callable[[Tensor], Tensor]) -> Own:
        """The same with every tensor changed."""
        made: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensors):
                made[field.name] = value.each(change)
            elif isinstance(value, Tensor):
                made[field.name] = change(value)
        return replace(self, **made)

    def pinned(self: Own) -> Own:
        """The same in memory from which a GPU copies while it computes."""
        return self.each(Tensor.pin_memory)

    def to(self: Own, device: torch.device) -> Own:
        """The same on a device."""
        return self.each(lambda part: part.to(device, non_blocking=True))


class Ahead(Generic[Batch]):
    """Takes what ``draw`` makes of 0, 1, 2 ... in order; threads make the next while one is used.

    What comes is the same for any number of threads if ``draw`` depends on its argument alone.
    """

    def __init__(self, draw: Callable[[int], Batch], first: int, threads: int) -> None:
        self._draw, self._next = draw, first
        # with more, they and those that compute wait for one another
        self._workers = ThreadPoolExecutor(threads, "draw", torch.set_num_threads, (1,))
        self._waiting = deque[Future[Batch]]()
        self._depth = threads + 1

    def take(self) -> Batch:
        """The next; an error in its making is raised here."""
        while len(self._waiting) < self._depth:
            self._waiting.append(self._workers.submit(self._draw, self._next))
            self._next += 1
        return self._waiting.popleft().result()

    def __enter__(self) -> "Ahead[Batch]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.shutdown(cancel_futures=True)
