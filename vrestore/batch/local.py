"""Workers as processes of this machine. Each is a new interpreter, so a crash of native code costs one attempt only.

They speak JSON, a line each way, over the worker's stdin and stdout; `vrestore.batch.worker` is the other end.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from typing import IO, Any, cast

from vrestore.batch.order import Order
from vrestore.batch.schedule import Died
from vrestore.batch.units import Unit
from vrestore.batch.work import Outcome

STOP_S = 20.0
"""Time that workers get to unwind, to a job that can be resumed, before they are killed."""


@dataclass
class _Worker:
    process: "subprocess.Popen[bytes]"
    to: IO[bytes]
    back: IO[bytes]
    slot: int
    unit: Unit | None = None

    def say(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has died, which its silence will tell
            self.to.write(json.dumps(message).encode() + b"\n")
            self.to.flush()


class LocalPool:
    """At most ``jobs`` processes, started as they are needed; they end with the ``with`` block."""

    def __init__(self, order: Order, jobs: int) -> None:
        self._order, self._jobs = order, jobs
        self._workers: list[_Worker] = []

    def __enter__(self) -> "LocalPool":
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers by a signal that leaves a job to resume, and kill those that do not heed it."""
        for worker in self._workers:
            worker.process.terminate()
        end_s = time.monotonic() + STOP_S
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
            _bury(worker)

    def free(self) -> bool:
        """Whether a worker is idle or may be started."""
        return len(self._workers) < self._jobs or any(worker.unit is None for worker in self._workers)

    def busy(self) -> bool:
        """Whether any worker has a unit."""
        return any(worker.unit is not None for worker in self._workers)

    def start(self, unit: Unit, gone: int | None) -> None:
        """Give a unit to an idle worker, or to a new one."""
        worker = next((worker for worker in self._workers if worker.unit is None), None) or self._new()
        worker.unit = unit
        worker.say({"unit": asdict(unit), "gone": gone})

    def wait(self, timeout_s: float) -> list[tuple[Unit, Outcome | Died]]:
        """Answers, and deaths of workers that had a unit."""
        if not self._workers:
            time.sleep(timeout_s)
        ready = wait([worker.back.fileno() for worker in self._workers], timeout_s)
        ended: list[tuple[Unit, Outcome | Died]] = []
        for worker in [worker for worker in self._workers if worker.back.fileno() in ready]:
            line, unit, worker.unit = worker.back.readline(), worker.unit, None
            if line.endswith(b"\n"):
                answer: Outcome | Died = Outcome.of(json.loads(line))
            else:
                self._workers.remove(worker)
                answer = Died(_how(_bury(worker)))
            if unit is not None:
                ended.append((unit, answer))
        return ended

    def _new(self) -> _Worker:
        slot = min(set(range(self._jobs)) - {worker.slot for worker in self._workers})
        device = str(self._order.settings.get("device", "auto"))
        process = subprocess.Popen(
            [sys.executable, "-m", "vrestore.batch.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **_one_gpu(slot, device)},
            process_group=0,  # Ctrl-C comes to us alone, and we end them in order
        )
        worker = _Worker(process, cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout), slot)
        worker.say({"order": asdict(self._order), "jobs": self._jobs})
        self._workers.append(worker)
        return worker


def _bury(worker: _Worker) -> int:
    """Close the pipes of a worker that has ended, and return its exit status."""
    for pipe in (worker.to, worker.back):
        with contextlib.suppress(OSError):
            pipe.close()
    return worker.process.wait()


def _how(status: int) -> str:
    return f"signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"exit code {status}"


def _one_gpu(slot: int, device: str) -> dict[str, str]:
    """Of several GPUs the one for a worker, in turn, unless one is asked for by its number."""
    import torch

    count = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if count < 2:
        return {}
    named = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    return {"CUDA_VISIBLE_DEVICES": named.split(",")[slot % count]}
