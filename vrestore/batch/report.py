"""What a batch did: a row per clip, for people as a table, for machines as JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

SOME_FAILED = 3
"""Exit code of a batch of which some clips failed."""
ROWS_SHOWN = 40
"""Clips that went well in the table; failures are always shown."""

State = Literal["done", "skipped", "failed", "open"]


@dataclass(frozen=True)
class Row:
    """A clip. ``skipped``: it was done already, or by another process; ``open``: not begun, or interrupted."""

    source: str
    output: str
    status: State
    attempts: int = 0
    frames: int = 0
    seconds: float = 0.0
    error: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """The result of a batch."""

    command: str
    source: str
    target: str
    rows: Sequence[Row]
    ignored: Mapping[str, int]
    """Files that are no clips, by suffix or reason."""
    seconds: float
    interrupted: bool
    versions: Mapping[str, str]
    settings: Mapping[str, Mapping[str, Any]]

    @property
    def counts(self) -> dict[str, int]:
        """Clips by what became of them."""
        return dict(Counter(row.status for row in self.rows))

    @property
    def exit_code(self) -> int:
        """3 if some failed, else 0."""
        return SOME_FAILED if "failed" in self.counts else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [asdict(row) for row in self.rows]
        return {**{k: v for k, v in vars(self).items() if k != "rows"}, "counts": self.counts, "clips": rows}

    def lines(self) -> list[str]:
        """The table and a line that sums up."""
        well = [row for row in self.rows if row.status != "failed"]
        shown = set(well[:ROWS_SHOWN])
        cells = [("clip", "status", "tries", "frames", "seconds", "")]
        for row in self.rows:
            if row.status == "failed" or row in shown:
                numbers = (str(row.attempts or ""), str(row.frames or ""), f"{row.seconds:.1f}" if row.seconds else "")
                cells.append((row.source, row.status, *numbers, row.error.partition("\n")[0]))
        widths = [max(len(line[column]) for line in cells) for column in range(5)]
        lines = ["  ".join([*map(str.ljust, line, widths), line[5]]).rstrip() for line in cells] if self.rows else []
        if len(well) > ROWS_SHOWN:
            lines.append(f"... and {len(well) - ROWS_SHOWN} more that did not fail")
        return [*lines, self._summary()]

    def _summary(self) -> str:
        counted = ", ".join(f"{number} {status}" for status, number in self.counts.items()) or "no clips"
        others = ", ".join(f"{number} {kind}" for kind, number in self.ignored.items())
        ignored = f"; {sum(self.ignored.values())} other files ignored ({others})" if others else ""
        return f"{counted} in {self.seconds:.1f} s{ignored}"
