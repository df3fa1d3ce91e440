"""Hands units to workers until every one is settled: here, or by another process that shares the folder."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from vrestore.batch.lease import Watch
from vrestore.batch.order import Order
from vrestore.batch.units import Unit
from vrestore.batch.work import Outcome, fail, failure, in_work

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
    """The units of one process's run. ``told`` hears of each that is settled, and may give some that follow it."""

    order: Order
    attempts: int
    told: Callable[[Unit, Outcome, int], Sequence[Unit] | None]
    tries: Counter[Unit] = field(default_factory=Counter)
    ready: "deque[tuple[Unit, int | None]]" = field(default_factory=deque)
    _old: dict[Unit, str] = field(default_factory=dict)
    """Failures of earlier runs."""

    def run(self, units: Sequence[Unit], pool: Pool) -> None:
        """Until every unit is settled; units that others have are waited for, and taken over if their owner is gone."""
        watch = Watch(self.order.state / "leases", self.order.lease_s)
        self._add(units)
        elsewhere: list[Unit] = []
        while self.ready or elsewhere or pool.busy():
            while self.ready and pool.free():
                unit, gone = self.ready.popleft()
                known = failure(self.order, unit)
                if known is not None and known.token != self._old.get(unit) and not self.tries[unit]:
                    self._settled(unit, known)  # another process has tried it since we began
                else:
                    self.tries[unit] += 1
                    pool.start(unit, gone)
            for unit, ended in pool.wait(POLL_S):
                if isinstance(ended, Died):
                    self._retry(unit, ended)
                elif ended.status == "busy":
                    self.tries[unit] -= 1
                    elsewhere.append(unit)
                else:
                    self._settled(unit, ended)
            elsewhere = [unit for unit in elsewhere if not self._freed(unit, watch)]

    def _add(self, units: Sequence[Unit]) -> None:
        """What follows a unit goes before the rest, so that one clip after the other is finished."""
        self._old |= {unit: found.token for unit in units if (found := failure(self.order, unit))}
        self.ready.extendleft((unit, None) for unit in reversed(units))

    def _settled(self, unit: Unit, outcome: Outcome) -> None:
        self._add(self.told(unit, outcome, self.tries[unit]) or ())

    def _retry(self, unit: Unit, died: Died) -> None:
        if self.tries[unit] < self.attempts:
            self.ready.appendleft((unit, None))
            return
        times = "once" if self.attempts == 1 else f"{self.attempts} times"
        self._settled(unit, fail(self.order, unit, f"its worker ended {times}, last by {died.how}"))

    def _freed(self, unit: Unit, watch: Watch) -> bool:
        gone = watch.gone(unit.slug)
        if gone is None and in_work(self.order, unit):
            return False
        self.ready.append((unit, gone))
        return True
