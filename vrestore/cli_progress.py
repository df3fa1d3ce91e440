"""What a running job shows on stderr: a live bar on a terminal, a line now and then otherwise."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_INTERVAL_S = 5.0
RATE_WINDOW_S = 60.0
FRAMES = "frames"

Report = Callable[[int, int, str], None]
"""Called by a job as it goes on: frames done, frames in all, what is being done."""


class _Handler(logging.Handler):
    """Log records as ``warning: text`` above the bar."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.levelname.lower()}: {record.getMessage()}"
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _FramesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Rate of the last minute."""
        return Text(f"{task.speed:.2f} fps" if task.speed else "")


class _Bar:
    """A live bar with rate and remaining time."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task: TaskID | None = None

    def __call__(self, done: int, total: int, stage: str) -> None:
        if self._task is None:
            self._task = self._bar.add_task(stage, total=total or None, completed=done)
        self._bar.update(self._task, description=stage, total=total or None, completed=done)


class _Lines:
    """A line at the start and the end, at every new stage, and every few seconds between."""

    def __init__(self, console: Console, unit: str) -> None:
        self._console, self._unit = console, unit
        self._stage: str | None = None
        self._first = (0, 0.0)
        self._last_s = 0.0

    def __call__(self, done: int, total: int, stage: str) -> None:
        now_s = time.monotonic()
        if self._stage is None:
            self._first = (done, now_s)
        if stage == self._stage and done < total and now_s - self._last_s < LINE_INTERVAL_S:
            return
        self._stage, self._last_s = stage, now_s
        self._console.print(self._line(done, total, now_s), markup=False, highlight=False, soft_wrap=True)

    def _line(self, done: int, total: int, now_s: float) -> str:
        text = f"{self._stage}: {done}/{total} {self._unit}"
        made, spent_s = done - self._first[0], now_s - self._first[1]
        if made <= 0 or spent_s <= 0:
            return text
        rate = f", {made / spent_s:.2f} fps" if self._unit == FRAMES else ""
        return f"{text}{rate}, {(total - done) * spent_s / made:.0f} s left"


def _nothing(done: int, total: int, stage: str) -> None:
    """The report of a quiet job."""


@contextmanager
def shown(*, quiet: bool, debug: bool, unit: str = FRAMES) -> Iterator[Report]:
    """Show progress, counted in ``unit``, and the library's log on stderr while the block runs.

    ``quiet`` leaves warnings only.
    """
    console = Console(stderr=True)
    logger, handler = logging.getLogger("vrestore"), _Handler(console)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    try:
        if quiet:
            yield _nothing
        elif console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                *([_FramesPerSecond()] if unit == FRAMES else []),
                TimeRemainingColumn(elapsed_when_finished=True),
            )
            with Progress(*columns, console=console, speed_estimate_period=RATE_WINDOW_S) as bar:
                yield _Bar(bar)
        else:
            yield _Lines(console, unit)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
