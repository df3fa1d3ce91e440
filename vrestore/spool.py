"""Arrays in a temporary file, in order: what a whole shot is needed of, and memory should not hold."""

import tempfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Spool:
    """Arrays of one shape on disk, in order."""

    shape: tuple[int, ...]
    kind: str
    file: Any = field(default_factory=tempfile.TemporaryFile)

    def put(self, values: np.ndarray) -> None:
        """Appends one."""
        self.file.write(np.ascontiguousarray(values, self.kind).tobytes())

    def get(self, place: int) -> np.ndarray:
        """That at a place."""
        size = int(np.prod(self.shape)) * np.dtype(self.kind).itemsize
        self.file.seek(place * size)
        return np.frombuffer(self.file.read(size), self.kind).reshape(self.shape)
