"""``python -m vrestore.batch.worker``: reads an order and then units from stdin, answers each with its outcome."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from types import FrameType

from vrestore.batch.order import Order
from vrestore.batch.units import Unit
from vrestore.batch.work import work


class _Stop:
    """A signal to end: unwinds at once, or at the next frame if what ran then swallowed it."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self.ask)
        threading.Thread(target=self._mind, args=(os.getppid(),), daemon=True).start()

    def ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        raise KeyboardInterrupt

    def check(self) -> None:
        if self.asked:
            raise KeyboardInterrupt

    @staticmethod
    def _mind(parent: int) -> None:
        """End if the batch is killed."""
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print must not come between the answers
    stop = _Stop()
    with contextlib.suppress(KeyboardInterrupt):
        told = json.loads(sys.stdin.buffer.readline())
        order = Order(**told["order"])
        _share_cores(told["jobs"])
        for line in iter(sys.stdin.buffer.readline, b""):
            message = json.loads(line)
            outcome = work(order, Unit(**message["unit"]), message["gone"], stop.check)
            answers.write(json.dumps(outcome.plain()).encode() + b"\n")


def _share_cores(parts: int) -> None:
    """Take this process's part of the cores; more threads than cores cost far more than they give."""
    import cv2
    import torch

    threads = max(1, torch.get_num_threads() // parts)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


if __name__ == "__main__":
    main()
