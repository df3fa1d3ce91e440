"""What is asked of every unit of a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from vrestore.batch.units import STATE
from vrestore.report import RunOptions
from vrestore.settings import build
from vrestore.task import Task


@dataclass(frozen=True)
class Order:
    """What is asked of every unit, in plain values that any process understands."""

    head: str
    """``module:Class``. Workers import the module; what it registers when it is imported is there, too."""
    source: str
    target: str
    settings: Mapping[str, Any]
    """Of the head and of the run, by name."""
    asked: str
    """Hash of the settings and the weights."""
    lease_s: float
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The settings as a preset has them, for the records."""
    held: Sequence[str] = ()
    """Names of the settings that were asked for, and stay also where memory is short."""

    @property
    def state(self) -> Path:
        """The folder for the batch's own files."""
        return Path(self.target) / STATE

    def task(self) -> Task:
        """The head, with its settings."""
        module, _, name = self.head.partition(":")
        head = getattr(import_module(module), name)
        task: Task = head(build(head.config_type, self.settings))
        return task

    def options(self, changes: Mapping[str, Any] | None = None) -> RunOptions:
        """Those of a run, which goes on where an earlier one was."""
        options: RunOptions = build(RunOptions, self.settings)
        return replace(options, **{"resume": True, "held": frozenset(self.held), **(changes or {})})
