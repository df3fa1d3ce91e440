"""Hands units to workers until every one is settled: here, or by another process that shares the folder."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from vrestore.batch.lease import Watch
from vrestore.batch.units import Unit
from vrestore.batch.work import Order, Outcome, fail, failure, in_work

POLL_S = 0.3
"""How often units that others have are looked at."""


@dataclass(frozen=True)
class Died:
    """A worker ended before it could say what became of its unit."""

    how: str


@runtime_checkable
class Pool(Protocol):
    """Workers, of processes or of Ray."""

    def free(self) -> bool:
        """Whether another unit may be started."""
        ...

    def start(self, unit: Unit, gone: int | None) -> None:
        """Give a unit to a worker, with the generation of its lease that was found silent."""
        ...

    def wait(self, timeout_s: float) -> list[tuple[Unit, Outcome | Died]]:
        """What has ended, at once if anything has."""
        ...

    def busy(self) -> bool:
        """Whether any unit is with a worker."""
        ...


@dataclass
class Schedule:
    """The units of one process's run. ``told`` hears of each that is settled."""

    order: Order
    attempts: int
    told: Callable[[Unit, Outcome, int], None]
    tries: Counter[Unit] = field(default_factory=Counter)

    def run(self, units: Sequence[Unit], pool: Pool) -> None:
        """Until every unit is settled; units that others have are waited for, and taken over if their owner is gone."""
        watch = Watch(self.order.state / "leases", self.order.lease_s)
        old = {unit: found.token for unit in units if (found := failure(self.order, unit))}
        ready: deque[tuple[Unit, int | None]] = deque((unit, None) for unit in units)
        elsewhere: list[Unit] = []
        while ready or elsewhere or pool.busy():
            while ready and pool.free():
                unit, gone = ready.popleft()
                known = failure(self.order, unit)
                if known is not None and known.token != old.get(unit) and not self.tries[unit]:
                    self.told(unit, known, 0)  # another process has tried it since we began
                else:
                    self.tries[unit] += 1
                    pool.start(unit, gone)
            for unit, ended in pool.wait(POLL_S):
                if isinstance(ended, Died):
                    self._retry(unit, ended, ready)
                elif ended.status == "busy":
                    self.tries[unit] -= 1
                    elsewhere.append(unit)
                else:
                    self.told(unit, ended, self.tries[unit])
            elsewhere = [unit for unit in elsewhere if not self._freed(unit, watch, ready)]

    def _retry(self, unit: Unit, died: Died, ready: "deque[tuple[Unit, int | None]]") -> None:
        if self.tries[unit] < self.attempts:
            ready.appendleft((unit, None))
            return
        times = "once" if self.attempts == 1 else f"{self.attempts} times"
        self.told(unit, fail(self.order, unit, f"its worker ended {times}, last by {died.how}"), self.tries[unit])

    def _freed(self, unit: Unit, watch: Watch, ready: "deque[tuple[Unit, int | None]]") -> bool:
        gone = watch.gone(unit.slug)
        if gone is None and in_work(self.order, unit):
            return False
        ready.append((unit, gone))
        return True
