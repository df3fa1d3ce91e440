"""Runs of vrestore as processes that start at once: see `server.py`."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NO_RECORD = {"VRESTORE_IDENTITY_RECORD": "0", "VRESTORE_SR_RECORD": "0"}
"""Without records beside the outputs: whatever else lies there is then one too many."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its exit code (negative: the signal that ended it), its output, and whether it took too long."""

    code: int
    out: str
    err: str
    timed_out: bool = False


class Run:
    """A process under way."""

    def __init__(self, server, files):
        self._server, self._files = server, files
        self.pid = int(server.answer())
        self._outcome = None

    def wait(self, limit_s=120.0):
        """How it ended; a run that takes longer than ``limit_s`` is killed."""
        if self._outcome is None:
            timed_out = not self._server.answers_within(limit_s)
            if timed_out:
                os.kill(self.pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(int(self._server.answer()))
            texts = [path.read_text(errors="replace") if path.exists() else "" for path in self._files]
            self._outcome = Outcome(code, *texts, timed_out)
        return self._outcome

    def ended_within(self, limit_s):
        return self._server.answers_within(limit_s)

    def signal(self, number):
        """Send a signal; the process is this one's until `wait` has seen its end."""
        os.kill(self.pid, number)


class Server:
    """``with Server() as server: server.run("identity", "in.mkv", "-o", "out.mkv")``, one run at a time."""

    def __enter__(self):
        self._files = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py"))], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **NO_RECORD},
        )  # fmt: skip
        self._unread = b""
        self.answer()
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._files.cleanup()

    def start(self, *arguments, kind="cli", folder=".", **limits):
        """Start a run in ``folder``. ``limits``: resource limits by name, such as ``RLIMIT_FSIZE=1000``."""
        files = [Path(self._files.name) / name for name in ("out", "err")]
        request = {"kind": kind, "arguments": [str(a) for a in arguments], "folder": str(folder), "limits": limits}
        request |= dict(zip(("out", "err"), map(str, files), strict=True))
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return Run(self, files)

    def run(self, *arguments, limit_s=120.0, **options):
        """Start a run and wait for its end."""
        return self.start(*arguments, **options).wait(limit_s)

    def answer(self):
        """The next line that the server writes."""
        while b"\n" not in self._unread:
            part = os.read(self._process.stdout.fileno(), 4096)
            if not part:
                raise RuntimeError("the server has ended")
            self._unread += part
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode()

    def answers_within(self, limit_s):
        """Whether there is a line to read, at the latest after ``limit_s``."""
        return b"\n" in self._unread or bool(select.select([self._process.stdout], [], [], max(0.0, limit_s))[0])
