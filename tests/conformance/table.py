"""What an output keeps, by container and codec: every cell is found by decoding outputs of the engine again.

``python tests/conformance/table.py > tests/conformance/README.md`` writes the page; the test beside this file holds the
committed one against what the cells show. A new codec is a line of `COLUMNS` in ``columns.py``.
"""

import logging
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
import sources  # noqa: E402
from columns import COLUMNS, Column  # noqa: E402
from facts import Facts, Pictures  # noqa: E402
from rows import KEY, ROWS, WARNED  # noqa: E402


class Run:
    """An input, the output that the engine makes of it, and what it warned of."""

    def __init__(self, folder: Path, column: Column, kind: str, span: dict[str, str]) -> None:
        lossless = column.lossless and not column.pictures
        suffix = ".mkv" if kind != "camera" or lossless or column.sound != "aac" else ".mov"
        name = f"{kind}_{column.name.replace(' ', '_')}"
        self.column, self.source = column, folder / f"{name}{suffix}"
        number = ".%04d" if column.pictures else ""
        self.output = folder / f"{name}_{'_'.join(span.values())}out{number}{column.suffix}"
        self.refusal = ""
        if not self.source.exists():
            getattr(sources, kind)(self.source, column)
        self.warnings = self._run(span)

    def _run(self, span: dict[str, str]) -> str:
        import vrestore.priors
        from vrestore import engine
        from vrestore.errors import ConfigError
        from vrestore.report import RunOptions
        from vrestore.video.formats import Formats

        if "identity_head" not in sys.modules:
            sys.path.insert(0, str(HERE.parent / "identity"))
        import identity_head

        vrestore.priors.FAMILIES["IdentityPrior"] = "identity_head"
        records: list[str] = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("vrestore").addHandler(handler)
        try:
            head = identity_head.Identity(identity_head.IdentityConfig(window=8, overlap=2))
            engine.run(head, self.source, self.output, RunOptions(**span, formats=Formats(**self.column.settings)))
        except ConfigError as error:
            self.refusal = str(error)
        finally:
            logging.getLogger("vrestore").removeHandler(handler)
        return "\n".join(records)

    @cached_property
    def before(self) -> Facts:
        return Facts(self.source)

    @cached_property
    def after(self) -> Any:
        assert not self.refusal, self.refusal
        if not self.column.pictures:
            return Facts(self.output, self.column.depth)
        files = sorted(self.output.parent.glob(self.output.name.replace("%04d", "*")))
        return Pictures(files, self.column.film_depth)

    def warned(self, *words: str) -> str:
        """The cell of something that is not there: it must have been named."""
        for word in words:
            said = f"{self.output.name} lacks {word}, and nothing was said of it: {self.warnings!r}"
            assert word in self.warnings, said
        return WARNED


class Bench:
    """Runs what the cells ask for, each thing once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._runs = folder, dict[tuple[Any, ...], Run]()

    def run(self, column: Column, kind: str, **span: str) -> Run:
        key = (column.name, kind, *span.items())
        if key not in self._runs:
            self._runs[key] = Run(self._folder, column, kind, span)
        return self._runs[key]


def committed() -> dict[tuple[str, str], str]:
    """The cells of README.md by row and column."""
    lines = [line for line in (HERE / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {(row[0], name): cell for row in rows for name, cell in zip(head[1:], row[1:], strict=True)}


def written(bench: Bench) -> str:
    """The whole page."""
    names = [column.name for column in COLUMNS]
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for row in ROWS:
        lines.append(f"| {row.__doc__} | {' | '.join(row(bench, column) for column in COLUMNS)} |")
    table = "\n".join(lines)
    return f"""\
# What an output keeps

Found by running the engine with a head that changes nothing, and decoding what it wrote again. A test compares every
cell; `python tests/conformance/table.py > tests/conformance/README.md` writes the page anew.

{table}

{KEY}
"""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        page = written(Bench(Path(name)))
    sys.stdout.write(page)
