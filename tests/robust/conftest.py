"""Makes the programs of this folder importable by its tests, and starts the server of runs once."""

import importlib.util
import sys
from pathlib import Path

import pytest

for name in ("material", "forks", "kills", "fuzz"):  # in this order: the last two use the others
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


@pytest.fixture(scope="session")
def server():
    """Processes of vrestore with the head that changes nothing, without the seconds that a start takes."""
    with sys.modules["forks"].Server() as started:
        yield started
