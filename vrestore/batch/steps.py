"""From clips to the units that are worked on, and back: the steps of a clip whose units are shots."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from vrestore.batch.order import Order
from vrestore.batch.parts import parts_of
from vrestore.batch.units import Unit
from vrestore.batch.work import Outcome, unit_key


@dataclass
class _Clip:
    """What has become of a clip's steps by now."""

    open: set[int] = field(default_factory=set)
    failure: Outcome | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    tries: int = 0


class Steps:
    """Follows clips from step to step: called with a settled unit, it gives those that can be done now.

    ``told`` hears of each clip that is settled.
    """

    def __init__(self, order: Order, told: Callable[[Unit, Outcome, int], None]) -> None:
        self._order, self._told = order, told
        self._clips: dict[Unit, _Clip] = {}

    def __call__(self, unit: Unit, outcome: Outcome, tries: int) -> Sequence[Unit]:
        """The units that follow a settled one."""
        clip = self._clips.setdefault(unit.clip, _Clip())
        clip.seconds += outcome.seconds
        clip.warnings = tuple(dict.fromkeys((*clip.warnings, *outcome.warnings)))
        clip.tries = max(clip.tries, tries)
        if unit.step == "shots" and outcome.status != "failed":
            return self._found(unit, clip)
        if unit.step == "part":
            clip.open.discard(unit.part)
            clip.failure = clip.failure or (outcome if outcome.status == "failed" else None)
            if clip.open:
                return []
            if clip.failure is None:
                return [replace(unit.clip, step="join")]
        whole = replace(clip.failure or outcome, seconds=clip.seconds, warnings=clip.warnings)
        self._told(unit.clip, whole, clip.tries)
        return []

    def _found(self, unit: Unit, clip: _Clip) -> Sequence[Unit]:
        try:
            count = len(parts_of(self._order, unit, unit_key(self._order, unit)))
        except OSError:
            count = 1  # the input is gone: the worker says so
        if count < 2:  # one part; or none any more, because another process has joined them: the worker will see
            return [unit.clip]
        clip.open = set(range(count))
        return [replace(unit.clip, step="part", part=number) for number in range(count)]
