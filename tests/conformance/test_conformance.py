"""The committed table of what outputs keep, held cell by cell against files that are written and decoded here."""

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("conformance_table", Path(__file__).with_name("table.py"))
table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(table)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return table.Bench(tmp_path_factory.mktemp("conformance"))


@pytest.mark.parametrize("row", table.ROWS, ids=lambda row: row.__name__)
@pytest.mark.parametrize("column", table.COLUMNS, ids=lambda column: column.name)
def test_cell(bench, column, row):
    assert row(bench, column) == table.committed()[row.__doc__, column.name]


def test_the_page_has_these_cells_and_no_others():
    cells = {(row.__doc__, column.name) for row in table.ROWS for column in table.COLUMNS}
    assert set(table.committed()) == cells
