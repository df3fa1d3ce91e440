"""The machine that the recipe runs on: its device, what makes that fast, and the processes that render for it."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch

from vrestore.device import resolve_device, resolve_dtype

CHUNK = 4
"""Pieces of work that a process is handed at once."""
MOST_THREADS = 6
"""That draw batches for a GPU: more wait for one another."""

Made = TypeVar("Made")


def training_device(name: str) -> torch.device:
    """``auto``: CUDA where there is any, else the CPU. A CUDA device may round its products to TensorFloat-32.

    DeviceError if this machine does not have what was asked for.
    """
    device = resolve_device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    return device


def precise(device: torch.device) -> torch.autocast:
    """The precision that networks learn and are judged in: bfloat16 where the device is faster in it, else float32."""
    found = resolve_dtype("auto", device)
    return torch.autocast(device.type, torch.bfloat16, enabled=found == torch.bfloat16)


def drawing_threads(device: torch.device) -> int:
    """How many threads draw batches for a network on ``device``: beside a CPU that computes, one."""
    return 1 if device.type == "cpu" else max(1, min(MOST_THREADS, (os.cpu_count() or 2) - 2))


def made(
    make: Callable[[int], Made], indices: Iterable[int], jobs: int, prepare: Callable[..., None], *told: object
) -> Iterator[Made]:
    """What ``make`` makes of each index, in order, in ``jobs`` processes that each called ``prepare(*told)`` first.

    With 0 jobs in this process. Either way with one thread of torch and OpenCV, so that the number changes no bit.
    ``make`` and ``prepare`` are functions of a module, ``told`` can be pickled.
    """
    if jobs == 0:
        threads = torch.get_num_threads(), cv2.getNumThreads()
        _begin(prepare, told)
        try:
            yield from map(make, indices)
        finally:
            torch.set_num_threads(threads[0])
            cv2.setNumThreads(threads[1])
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_begin, initargs=(prepare, told)) as workers:
        yield from workers.map(make, indices, chunksize=CHUNK)


def _begin(prepare: Callable[..., None], told: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    prepare(*told)


def kept(path: Path, kind: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    """A mapped array, of zeros when it is new."""
    if path.exists():
        found: np.ndarray = np.load(path, mmap_mode="r+")
        return found
    return np.lib.format.open_memmap(path, "w+", kind, shape)
