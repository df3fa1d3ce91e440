"""How overlapping spans cover an extent, in time (windows) and in the picture (tiles), with nothing left out."""

from dataclasses import dataclass
from functools import cached_property

from vrestore.errors import PlanError


@dataclass(frozen=True)
class Cover:
    """Spans of equal ``size`` that cover ``range(extent)``, neighbours sharing at least ``overlap`` positions.

    Span k starts at ``k * stride``; the last one is shifted back to end exactly at ``extent``, never dropped and never
    shortened. An extent that fits into one span is covered by one span of its own length.

    Raises:
        PlanError: ``extent`` or ``size`` below 1, or ``overlap`` outside ``[0, size)``.
    """

    extent: int
    size: int
    overlap: int

    def __post_init__(self) -> None:
        if self.extent < 1:
            raise PlanError(f"There is nothing to cover: extent is {self.extent}, at least 1 is needed.")
        if self.size < 1:
            raise PlanError(f"A window or tile of size {self.size} covers nothing; use at least 1.")
        if not 0 <= self.overlap < self.size:
            raise PlanError(
                f"An overlap of {self.overlap} does not fit a size of {self.size}; use 0 to {self.size - 1}."
            )

    @cached_property
    def stride(self) -> int:
        """Distance between the starts of neighbouring spans, the last one excepted."""
        return self.size - self.overlap

    @cached_property
    def length(self) -> int:
        """Length of every span: ``size``, or the whole extent where that is shorter."""
        return min(self.size, self.extent)

    @cached_property
    def count(self) -> int:
        """Number of spans."""
        return 1 + -(-(self.extent - self.length) // self.stride)

    @cached_property
    def shift(self) -> int:
        """By how much the last span is shifted back, in [0, stride)."""
        return (self.count - 1) * self.stride - (self.extent - self.length)

    def start(self, k: int) -> int:
        """First position of span k, for k in ``range(count)``."""
        return min(k * self.stride, self.extent - self.length)

    def starts(self) -> tuple[int, ...]:
        """First positions of all spans, ascending."""
        return tuple(self.start(k) for k in range(self.count))
