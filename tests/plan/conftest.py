"""The exact prior, shared with the benchmarks."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def exact():
    """The module `exact.py` beside this."""
    spec = importlib.util.spec_from_file_location("exact", Path(__file__).with_name("exact.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["exact"] = module
    spec.loader.exec_module(module)
    return module
