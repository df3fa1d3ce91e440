"""A process that has loaded everything once, and forks for each run: a real process that takes no seconds to start.

Reads a request per line (JSON: kind, arguments, out, err, limits), writes the child's process number and, when the
child has ended, how. Used by `forks.py`; not meant to be called by hand.
"""

import importlib.util
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path

import torch

import vrestore.cli
import vrestore.cli_progress
import vrestore.video.read_decord
from vrestore import engine
from vrestore.errors import VRestoreError
from vrestore.report import RunOptions
from vrestore.video import open_reader

CRASHED, INCONSISTENT = 70, 71


def identity_head():
    """The module of the head that changes nothing, installed."""
    path = Path(__file__).parents[1] / "identity" / "identity_head.py"
    spec = importlib.util.spec_from_file_location("identity_head", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["identity_head"] = module
    spec.loader.exec_module(module)
    module.install()
    return module


def restore(source, output):
    """A run through the Python interface: 0 and an output with all its frames, or the exit code of an error of ours.

    Anything else that is raised is `CRASHED`.
    """
    head = sys.modules["identity_head"]
    try:
        task = head.Identity(head.IdentityConfig(device="cpu", dtype="float32"))
        result = engine.run(task, source, output, RunOptions())
    except VRestoreError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return CRASHED
    with open_reader(output) as reader:
        found = sum(1 for _ in reader.frames())
    if found != result.frames:
        sys.stderr.write(f"{found} frames in the output, {result.frames} reported\n")
        return INCONSISTENT
    return 0


def child(request):
    """What a forked process does; its exit code."""
    for name, size in request["limits"].items():
        limit = getattr(resource, name)
        resource.setrlimit(limit, (size, resource.getrlimit(limit)[1]))
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, request["out"], None), (2, request["err"], None)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if flags is None else flags)
        os.dup2(opened, number)
    os.chdir(request["folder"])
    torch.set_num_threads(1)
    if request["kind"] == "cli":
        return vrestore.cli.main(request["arguments"])
    return restore(*request["arguments"])


def main():
    identity_head()
    answers = os.fdopen(os.dup(1), "w")
    answers.write("ready\n")
    answers.flush()
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if pid == 0:
            code = CRASHED
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                code = child(json.loads(line))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        answers.write(f"{pid}\n")
        answers.flush()
        answers.write(f"{os.waitpid(pid, 0)[1]}\n")
        answers.flush()


if __name__ == "__main__":
    main()
