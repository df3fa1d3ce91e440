"""Workers on Ray: a task per unit, placed by its cores and GPUs. Ray places and reports; retries and leases are ours.

Every machine needs vrestore at the same version, and sees the input and output folders under the same paths.
"""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from typing import Any

from vrestore.batch.config import BatchConfig
from vrestore.batch.order import Order
from vrestore.batch.schedule import Died
from vrestore.batch.units import Unit
from vrestore.batch.work import Outcome, work
from vrestore.errors import ConfigError, DeviceError

LOCAL = "local"
IN_FLIGHT = 1000
"""Units given to Ray at a time; as many as its machines hold run, the others wait for no lease."""
STOP_S, KNOCK_S = 20.0, 10.0


class RayPool:
    """Units as tasks on a Ray cluster, or on one that is started here (``local``) and ends with the ``with`` block.

    Raises:
        ConfigError: Ray is not installed.
        DeviceError: the cluster cannot be reached, or no machine of it has the GPUs asked for.
    """

    def __init__(self, order: Order, config: BatchConfig) -> None:
        if find_spec("ray") is None:
            raise ConfigError("--ray needs Ray, which is not installed: pip install 'vrestore[ray]'")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it reports to its makers
        import ray

        self._ray, self._order = ray, order
        self._prints = redirect_stdout(sys.stderr)  # Ray speaks of dead workers there, but ours is for the report
        self._jobs = config.jobs or IN_FLIGHT
        self._running: dict[object, Unit] = {}
        self._connect(str(config.ray))
        try:
            self._task = ray.remote(**_needs(ray.nodes(), config, str(order.settings.get("device", "auto"))))(_do)
        except BaseException:
            ray.shutdown()
            raise

    def _connect(self, address: str) -> None:
        try:
            _knock(address)
            with _own_signals():
                self._ray.init(
                    address=address,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    runtime_env=_environment(),
                    **({"include_dashboard": False} if address == LOCAL else {}),
                )
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise DeviceError(f"no Ray cluster answers at {address!r}: {reason}; give 'local' or HOST:PORT") from error

    def __enter__(self) -> "RayPool":
        self._prints.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Interrupt what runs, so that its leases are given back, and let go of the cluster."""
        try:
            for reference in self._running:
                self._ray.cancel(reference)
            if self._running:
                self._ray.wait(list(self._running), num_returns=len(self._running), timeout=STOP_S)
        finally:
            self._ray.shutdown()
            self._prints.__exit__(None, None, None)

    def free(self) -> bool:
        """Whether another unit may be given to Ray."""
        return len(self._running) < self._jobs

    def busy(self) -> bool:
        """Whether Ray has any unit."""
        return bool(self._running)

    def start(self, unit: Unit, gone: int | None) -> None:
        """Give a unit to Ray."""
        self._running[self._task.remote(self._order, unit, gone)] = unit

    def wait(self, timeout_s: float) -> list[tuple[Unit, Outcome | Died]]:
        """Tasks that have ended, and those whose worker or machine has."""
        ended, _ = self._ray.wait(list(self._running), timeout=timeout_s) if self._running else ([], [])
        return [(self._running.pop(reference), self._outcome(reference)) for reference in ended]

    def _outcome(self, reference: object) -> Outcome | Died:
        try:
            return Outcome.of(self._ray.get(reference))
        except self._ray.exceptions.RayTaskError as error:
            return Outcome("failed", f"the worker cannot start: {error.cause!r}")
        except self._ray.exceptions.RayError as error:
            return Died(f"Ray: {type(error).__name__}")


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the program's answer to SIGTERM: Ray puts its own in place when it starts."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _environment() -> dict[str, dict[str, str]]:
    """Where workers find modules that are not installed, such as a head of the caller's own."""
    own = [path for path in sys.path if path and not path.startswith((sys.prefix, sys.base_prefix))]
    return {"env_vars": {"PYTHONPATH": os.pathsep.join(own)}} if own else {}


def _knock(address: str) -> None:
    """Whether anything listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), KNOCK_S).close()


def _do(order: Order, unit: Unit, gone: int | None) -> dict[str, Any]:
    """The task."""
    _share_cores()
    return work(order, unit, gone).plain()


def _share_cores() -> None:
    """As many threads as the cores that Ray has counted for this task."""
    import cv2
    import ray
    import torch

    threads = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)) or 1
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def _needs(nodes: "list[dict[str, Any]]", config: BatchConfig, device: str) -> dict[str, Any]:
    """The resources of a task, from what the machines of the cluster have."""
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    cores = max((int(machine.get("CPU", 0)) for machine in machines), default=0)
    gpus = max((machine.get("GPU", 0.0) for machine in machines), default=0.0)
    wanted = config.ray_gpus
    if wanted is None:
        wanted = 1.0 if gpus and device.partition(":")[0] in ("auto", "cuda") else 0.0
    if wanted > gpus:
        raise DeviceError(f"no machine of the Ray cluster has {wanted:g} GPUs (the most is {gpus:g}); lower --ray-gpus")
    return {"num_cpus": max(1, min(config.ray_cpus, cores)), "num_gpus": wanted, "max_retries": 0, "max_calls": 0}
