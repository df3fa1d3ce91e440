"""Where the time goes: exclusive wall time per stage, for the report of a run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Stages may nest, also through generators: the inner stage's time is not counted to the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = self._mark = time.perf_counter()
        self._running = ["engine"]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside to ``name``."""
        self._book()
        self._running.append(name)
        try:
            yield
        finally:
            self._book()
            self._running.pop()

    def total(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._began

    def shares(self) -> dict[str, float]:
        """Share of the total per stage; ``engine`` is what no stage claims. They add up to one."""
        self._book()
        total = sum(self.seconds.values())
        return {name: seconds / total for name, seconds in self.seconds.items()}

    def _book(self) -> None:
        now = time.perf_counter()
        name = self._running[-1]
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._mark
        self._mark = now
