"""A batch from its folders to its report."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from vrestore.batch.config import BatchConfig
from vrestore.batch.local import LocalPool
from vrestore.batch.order import Order
from vrestore.batch.ray_pool import RayPool
from vrestore.batch.report import BatchReport, Row
from vrestore.batch.schedule import Schedule
from vrestore.batch.steps import Steps
from vrestore.batch.units import Found, Unit, check_folders, find_units
from vrestore.batch.work import Outcome, is_done, unit_key
from vrestore.checkpoint import fingerprint
from vrestore.errors import OutputError
from vrestore.priors import prior_of
from vrestore.record import versions, write_json
from vrestore.report import RunOptions
from vrestore.settings import build, plain, values_of
from vrestore.tasks import TASKS

log = logging.getLogger(__name__)

REPORT = "vrestore-report.json"
"""Name of the report in OUT_DIR."""

Told = Callable[[int, int], None]


def run_batch(
    head: str,
    source: Path | str,
    target: Path | str,
    config: BatchConfig | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    progress: Told | None = None,
    dry_run: bool = False,
) -> BatchReport:
    """Do every clip of the folder ``source`` into the folder ``target``, whose tree is the same.

    ``head`` is a command (``sr``) or ``module:Class``, ``settings`` are those of the head and of `RunOptions` by name.
    A clip that is done for the same input, settings and weights is skipped; one that fails does not stop the others.
    ``progress`` is called with the clips that are settled and all of them. ``dry_run`` only looks.

    Raises:
        UsageError: no such folder, settings that cannot be, Ray asked for but not installed or not there.
        OutputError: ``target`` cannot be written.
    """
    config = config or BatchConfig()
    source, target = Path(source), Path(target)
    check_folders(source, target)
    order = _order(head, source, target, config, settings or {})
    found = find_units(source, target, config)
    batch = _Batch(order, found, progress, config)
    todo = batch.look()
    if not dry_run:
        batch.do(todo)
    return batch.report(interrupted=False)


def _order(head: str, source: Path, target: Path, config: BatchConfig, settings: Mapping[str, Any]) -> Order:
    """Checks the settings by making the configs of them."""
    entry = TASKS.get(head, head)
    module, _, name = entry.partition(":")
    kind = getattr(import_module(module), name)
    own, options = build(kind.config_type, settings), build(RunOptions, settings)
    full = {key: plain(value) for key, value in {**values_of(own), **values_of(options)}.items()}
    weights = prior_of(own).weights()
    what = [kind.name, {**full, "overwrite": None, "download": None}, [fingerprint(path) for path in weights]]
    asked = json.dumps(what, sort_keys=True)
    tables = {kind.name: full, "batch": {key: plain(value) for key, value in asdict(config).items()}}
    return Order(
        head=entry,
        source=str(source.resolve()),
        target=str(target.resolve()),
        settings=full,
        asked=sha256(asked.encode()).hexdigest(),
        lease_s=config.lease,
        tables=tables,
        held=tuple(sorted(settings)),
    )


class _Batch:
    """The units of one call and what has become of them."""

    def __init__(self, order: Order, found: Found, progress: Told | None, config: BatchConfig) -> None:
        self._order, self._found, self._progress, self._config = order, found, progress, config
        self._start_s = time.monotonic()
        self._rows: dict[Unit, Row] = {}
        for unit, why in found.clashes:
            self.settle(unit, Outcome("failed", why), 0)

    def look(self) -> list[Unit]:
        """Settle what is done already, and return the rest."""
        todo = []
        for unit in self._found.units:
            try:
                done = is_done(self._order, unit, unit_key(self._order, unit))
            except OSError:  # the worker says what is wrong with it
                done = False
            if done:
                self.settle(unit, Outcome("skipped"), 0)
            else:
                todo.append(unit)
        return todo

    def do(self, todo: list[Unit]) -> None:
        """Work until all are settled; the report is written however it ends."""
        self._make_state()
        complete = False
        try:
            if todo:
                units = [replace(unit, step="shots") for unit in todo] if self._config.units == "shot" else todo
                with self._pool() as pool:
                    Schedule(self._order, self._config.attempts, Steps(self._order, self.settle)).run(units, pool)
            complete = True
        finally:
            report = self.report(interrupted=not complete)
            write_json(Path(self._order.target, REPORT), report.as_dict())

    def _pool(self) -> "AbstractContextManager[LocalPool | RayPool]":
        if self._config.ray is not None:
            return RayPool(self._order, self._config)
        return LocalPool(self._order, self._config.jobs or 1)

    def _make_state(self) -> None:
        try:
            for name in ("leases", "work", "parts", "records", "failures"):
                (self._order.state / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write in {self._order.target}: {error.strerror}; name another folder") from error

    def settle(self, unit: Unit, outcome: Outcome, attempts: int) -> None:
        """Count a unit, and say at once what went wrong."""
        status = "open" if outcome.status == "busy" else outcome.status
        self._rows[unit] = Row(
            unit.source, unit.target, status, attempts, outcome.frames, outcome.seconds, outcome.error, outcome.warnings
        )
        for text in outcome.warnings:
            log.warning("%s: %s", unit.source, text)
        if outcome.status == "failed":
            log.error("%s: %s", unit.source, outcome.error)
        if self._progress is not None:
            self._progress(len(self._rows), len(self._found.units) + len(self._found.clashes))

    def report(self, *, interrupted: bool) -> BatchReport:
        """What has become of every clip by now."""
        units = sorted([*self._found.units, *(unit for unit, _ in self._found.clashes)], key=lambda unit: unit.source)
        return BatchReport(
            command=f"batch {next(iter(self._order.tables))}",
            source=self._order.source,
            target=self._order.target,
            rows=[self._rows.get(unit) or Row(unit.source, unit.target, "open") for unit in units],
            ignored=self._found.ignored,
            seconds=time.monotonic() - self._start_s,
            interrupted=interrupted,
            versions=versions(),
            settings=self._order.tables,
        )
