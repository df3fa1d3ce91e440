"""Leases: who works on a unit, on one machine or on several that share a file system.

A lease is a file ``<unit>.<generation>``, made with O_EXCL, so that of all who try one succeeds; its text names the
owner, its time of change is the heartbeat. The highest generation counts. A lease whose owner is gone is taken over by
making the next generation, again with O_EXCL: nobody removes another's file, so a slow taker cannot hit a living lease.
An owner that was only asleep finds the higher generation at its next heartbeat.
"""

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

BEATS = 8
"""Heartbeats in the time after which a silent owner counts as gone."""


@cache
def machine() -> str:
    """Tells process numbers of one machine from those of others: its name, this boot, and the container."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


@dataclass(frozen=True)
class Seen:
    """A lease as it was seen: its generation, the heartbeat's time and the owner."""

    generation: int
    beat_ns: int
    owner: dict[str, Any]

    def ended(self) -> bool:
        """Whether the owner is a process of this machine that is no more."""
        pid = self.owner.get("pid")
        if self.owner.get("machine") != machine() or not isinstance(pid, int):
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # someone else's
            return False
        return _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits for its parent to ask how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def look(folder: Path, unit: str) -> Seen | None:
    """The lease that counts, None if the unit is free."""
    generation = _highest(folder, unit)
    if generation is None:
        return None
    try:
        with _path(folder, unit, generation).open("rb") as file:  # opening asks a network file system for the truth
            beat, text = os.fstat(file.fileno()).st_mtime_ns, file.read()
    except FileNotFoundError:
        return None
    try:
        owner = json.loads(text)
    except ValueError:  # its owner was stopped while it wrote
        owner = {}
    return Seen(generation, beat, owner if isinstance(owner, dict) else {})


def _path(folder: Path, unit: str, generation: int) -> Path:
    return folder / f"{unit}.{generation}"


def _highest(folder: Path, unit: str) -> int | None:
    ends = (name.removeprefix(f"{unit}.") for name in os.listdir(folder) if name.startswith(f"{unit}."))
    return max((int(end) for end in ends if end.isdecimal()), default=None)


class Watch:
    """Tells silent owners from living ones by this process's own clock, as those of machines differ."""

    def __init__(self, folder: Path, silence_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._silence_s, self._clock = folder, silence_s, clock
        self._since: dict[str, tuple[int, int, float]] = {}

    def gone(self, unit: str) -> int | None:
        """The generation of a lease whose owner is gone, None while the owner lives."""
        seen = look(self._folder, unit)
        if seen is None:
            self._since.pop(unit, None)
            return None
        if seen.ended():
            return seen.generation
        generation, beat, since_s = self._since.get(unit, (-1, 0, 0.0))
        if (generation, beat) != (seen.generation, seen.beat_ns):
            self._since[unit] = (seen.generation, seen.beat_ns, self._clock())
            return None
        return seen.generation if self._clock() - since_s >= self._silence_s else None


class Lease:
    """A unit that is ours until it is released, or taken over because no heartbeat came."""

    def __init__(self, folder: Path, unit: str, before: Seen | None) -> None:
        self.generation, self.token = 0 if before is None else before.generation + 1, uuid4().hex
        self.from_sleeper = before is not None and not before.ended()
        """Whether the former owner may still be running somewhere."""
        self._folder, self._unit = folder, unit
        self._lost = threading.Event()
        self._beaten_s = time.monotonic()

    @classmethod
    def claim(cls, folder: Path, unit: str, gone: int | None = None) -> "Lease | None":
        """Take a unit that is free, or whose owner's process has ended, or whose generation ``gone`` a `Watch` has
        found silent. None if someone has it."""
        seen = look(folder, unit)
        if seen is not None and not seen.ended() and seen.generation != gone:
            return None
        lease = cls(folder, unit, seen)
        owner = {"owner": lease.token, "machine": machine(), "host": platform.node(), "pid": os.getpid()}
        try:
            file = os.open(_path(folder, unit, lease.generation), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return None
        with os.fdopen(file, "w") as text:
            json.dump(owner, text)
        if lease.held():
            return lease
        _path(folder, unit, lease.generation).unlink(missing_ok=True)  # a higher one stands, which is being released
        return None

    def held(self) -> bool:
        """Whether it is still ours."""
        if not self._lost.is_set() and _highest(self._folder, self._unit) != self.generation:
            self._lost.set()
        return not self._lost.is_set()

    def lost(self, silence_s: float) -> bool:
        """Whether it is ours no more: what the last heartbeat found, or a look if that is long ago."""
        late = time.monotonic() - self._beaten_s > silence_s / 2
        return not self.held() if late else self._lost.is_set()

    def beat(self) -> bool:
        """Show that we live; whether the lease is still ours."""
        self._beaten_s = time.monotonic()
        try:
            os.utime(_path(self._folder, self._unit, self.generation))
        except OSError:
            self._lost.set()
        return self.held()

    @contextlib.contextmanager
    def beating(self, silence_s: float) -> Iterator[None]:
        """A heartbeat from a thread while the block runs."""
        over = threading.Event()

        def beats() -> None:
            while not over.wait(silence_s / BEATS) and self.beat():
                pass

        thread = threading.Thread(target=beats, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def release(self) -> None:
        """Give the unit back. Lower generations go first, so that none of them counts again."""
        if not self.held():
            return
        for generation in range(self.generation + 1):
            _path(self._folder, self._unit, generation).unlink(missing_ok=True)
