"""One unit, as every worker does it, wherever it runs: claim, restore in a folder of its own, publish, record.

State lies in ``OUT_DIR/.vrestore``: ``leases/``, ``work/`` with the job folder of what is under way, ``records/`` of
what is done (each a preset), ``failures/``. The work folder is renamed to its new owner's, and copied if the former
owner may still be running somewhere: whatever that one does then reaches no file of the new one.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any, Literal
from uuid import uuid4

from vrestore.batch.lease import Lease, look
from vrestore.batch.order import Order
from vrestore.batch.parts import find_parts, forget_parts, join_clip, keep_part, part_is_kept, parts_of, restore_part
from vrestore.batch.units import Unit, make_place
from vrestore.checkpoint import fingerprint
from vrestore.errors import OutputError, ResumeError, VRestoreError
from vrestore.record import versions, write_json
from vrestore.report import Progress, RunResult

Status = Literal["done", "skipped", "failed", "busy"]


@dataclass(frozen=True)
class Outcome:
    """What became of a unit."""

    status: Status
    error: str = ""
    frames: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    token: str = ""
    """Of a failure's record, by which other processes know whose it is."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Outcome":
        """From what `plain` gave, back from JSON."""
        return cls(**{**values, "warnings": tuple(values["warnings"])})


class LeaseLostError(VRestoreError):
    """Another process has taken the unit over, as no heartbeat of ours reached it in time."""


def work(order: Order, unit: Unit, gone: int | None = None, check: Callable[[], None] | None = None) -> Outcome:
    """Do a unit if it is free and not done; what goes wrong with it becomes its outcome.

    ``gone`` is the generation of a lease that was found silent; ``check`` is called after every frame and may raise.
    KeyboardInterrupt and its like pass; the unit is then free, and goes on later from its last checkpoint.
    """
    if not order.state.is_dir():
        return Outcome("failed", f"{order.state} is not there; every worker must see the output folder")
    lease = Lease.claim(order.state / "leases", unit.slug, gone)
    if lease is None:
        return Outcome("busy")
    warnings: list[str] = []
    try:
        with lease.beating(order.lease_s), _collected(warnings):
            return replace(_claimed(order, unit, lease, check), warnings=tuple(warnings))
    except LeaseLostError:
        return Outcome("busy")
    except Exception as error:
        if not lease.held():  # the work folder was taken from under us
            return Outcome("busy")
        text = str(error) if isinstance(error, VRestoreError) else f"{type(error).__name__}: {error}"
        return replace(fail(order, unit, text), warnings=tuple(warnings))
    finally:
        lease.release()


def _claimed(order: Order, unit: Unit, lease: Lease, check: Callable[[], None] | None) -> Outcome:
    start_s = time.monotonic()
    key = unit_key(order, unit)
    if is_done(order, unit.clip, key):
        return Outcome("skipped")

    def told(now: Progress) -> None:
        if check is not None:
            check()
        if lease.lost(order.lease_s):
            raise LeaseLostError(unit.target)

    if unit.step == "shots":
        if parts_of(order, unit, key):
            return Outcome("skipped")
        find_parts(order, unit, key)
        frames = 0
    elif unit.step == "part":
        if part_is_kept(order, unit, key):
            return Outcome("skipped")
        frames = _part(order, unit, lease, key, told)
    else:
        frames = _whole(order, unit, lease, key, told)
    (order.state / "failures" / f"{unit.slug}.json").unlink(missing_ok=True)
    return Outcome("done", frames=frames, seconds=time.monotonic() - start_s)


def _part(order: Order, unit: Unit, lease: Lease, key: str, told: Callable[[Progress], None]) -> int:
    """Restore a part and keep it for the join; its frames."""
    folder = _adopt(order, unit, lease)
    with _kept_if_worth(folder):
        result = _anew_if_other(lambda more: restore_part(order, unit, folder, key, more), told)
        _check_still(order, unit, lease, key)
        keep_part(order, unit, folder, key)
    return result.frames


def _whole(order: Order, unit: Unit, lease: Lease, key: str, told: Callable[[Progress], None]) -> int:
    """Restore a clip, or join its parts, and publish the output; its frames."""
    source, place = Path(order.source, unit.source), make_place(Path(order.target), unit.target)
    folder = _adopt(order, unit, lease)
    made = folder / f"output{PurePath(unit.target).suffix}"
    with _kept_if_worth(folder):
        if place.exists() and not order.options().overwrite:
            raise OutputError(f"{place} exists; remove it, or allow --overwrite")
        if unit.step == "join":
            result, workers = join_clip(order, unit, made, key)
        else:
            result, workers = _anew_if_other(lambda more: _run(order, source, made, more), told), []
        _check_still(order, unit, lease, key)
        beside = _published_beside(result, place)
        _publish(made, place)
    done = replace(result, input=str(source), output=str(place), beside=beside)
    size = place.stat().st_size
    record = {**_kept(order), "key": key, "bytes": size, "result": done.as_dict()}
    write_json(_record(order, unit), record | ({"parts": workers} if workers else {}))
    shutil.rmtree(folder, ignore_errors=True)
    forget_parts(order, unit)
    return result.frames


@contextmanager
def _kept_if_worth(folder: Path) -> Iterator[None]:
    """After a failure a work folder goes, unless it holds a job to resume."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            folder.rmdir()
        raise


def _check_still(order: Order, unit: Unit, lease: Lease, key: str) -> None:
    """LeaseLostError, or VRestoreError if the input is another now than when it was begun."""
    if unit_key(order, unit) != key:
        source = Path(order.source, unit.source)
        raise VRestoreError(f"{source} changed while it was read; run the same command again")
    if not lease.held():
        raise LeaseLostError(unit.target)


def _run(order: Order, source: Path, made: Path, options: dict[str, Any]) -> RunResult:
    from vrestore.engine import run  # a tree of 10,000 files is looked through without it

    return run(order.task(), source, made, order.options(options))


def _anew_if_other(run: Callable[[dict[str, Any]], RunResult], told: Callable[[Progress], None]) -> RunResult:
    """Go on from where an earlier attempt left it, unless that was of other settings, or is damaged."""
    try:
        return run({"progress": told})
    except ResumeError:
        return run({"progress": told, "resume": False})


def _published_beside(result: RunResult, place: Path) -> dict[str, str]:
    """Give the files beside an output their places beside ``place``; which these are."""
    from vrestore.video import output_beside

    places = {name: output_beside(place, name) for name in result.beside}
    for name, made in result.beside.items():
        _publish(Path(made), places[name])
    return {name: str(path) for name, path in places.items()}


def _publish(made: Path, place: Path) -> None:
    try:
        made.replace(place)
    except OSError as error:
        raise OutputError(f"{place} cannot be written: {error.strerror}") from error


def _adopt(order: Order, unit: Unit, lease: Lease) -> Path:
    """The unit's work folder, with what an earlier owner left."""
    own = order.state / "work" / f"{unit.slug}.{lease.token}"
    for old in sorted(own.parent.glob(f"{_escaped(unit.slug)}.*")):
        with suppress(FileNotFoundError):
            if own.exists():
                shutil.rmtree(old)
            elif not lease.from_sleeper:
                old.rename(own)
            else:  # one who may wake up with open files: those stay behind
                aside = old.rename(old.with_name(f"{own.name}.{uuid4().hex}"))
                shutil.copytree(aside, own)
                shutil.rmtree(aside)
    own.mkdir(exist_ok=True)
    return own


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _record(order: Order, unit: Unit) -> Path:
    return order.state / "records" / f"{unit.slug}.json"


def _kept(order: Order) -> dict[str, Any]:
    return {"command": f"batch {next(iter(order.tables), '')}", "versions": versions(), "settings": order.tables}


def unit_key(order: Order, unit: Unit) -> str:
    """Hash of a unit's input, the settings and the weights: what its output depends on."""
    return sha256(f"{order.asked} {fingerprint(Path(order.source, unit.source))}".encode()).hexdigest()


def is_done(order: Order, unit: Unit, key: str) -> bool:
    """Whether the output is there, as it was written for this key."""
    record = _read(_record(order, unit))
    try:
        return record.get("key") == key and Path(order.target, unit.target).stat().st_size == record.get("bytes")
    except OSError:
        return False


def fail(order: Order, unit: Unit, text: str) -> Outcome:
    """Leave word of a failure for processes that share the folder."""
    outcome = Outcome("failed", text, token=uuid4().hex)
    with suppress(VRestoreError):  # a full disk: the outcome itself still says it
        write_json(order.state / "failures" / f"{unit.slug}.json", {"token": outcome.token, "error": text})
    return outcome


def failure(order: Order, unit: Unit) -> Outcome | None:
    """The last failure that any process left for a unit."""
    found = _read(order.state / "failures" / f"{unit.slug}.json")
    return Outcome("failed", str(found.get("error")), token=str(found.get("token"))) if found else None


def in_work(order: Order, unit: Unit) -> bool:
    """Whether somebody has a lease of it."""
    return look(order.state / "leases", unit.slug) is not None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _collected(texts: list[str]) -> Iterator[None]:
    """Warnings of the library while the block runs."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    logger, handler = logging.getLogger("vrestore"), Collector(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
