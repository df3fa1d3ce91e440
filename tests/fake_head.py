"""A head and an engine that stand in for real ones, to test the generic part of the command line.

Imported by the tests; as a program (``python fake_head.py fake in.mkv --behave numpy``) it is vrestore with this head.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated, ClassVar, Literal

from vrestore.errors import ConfigError, MissingInputError, UnreadableMediaError
from vrestore.report import Progress

ENTRY = "fake_head:Head"


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    steps: Annotated[int, "sampling steps"] = 1


@dataclass(frozen=True, kw_only=True)
class HeadConfig(BaseConfig):
    behave: Annotated[Literal["well", "missing", "damaged", "crash", "numpy", "torch", "swallow"], "what to do"] = (
        "well"
    )
    scale: Annotated[Literal[2, 4], "how much larger"] = 4
    strength: Annotated[float, "0 to 1"] = 0.5
    size: Annotated[str | None, "WIDTHxHEIGHT"] = None
    tile: Annotated[int | None, "tile size"] = None
    sharp_edges: Annotated[bool, "keep edges"] = True
    mask: Annotated[Path | None, "a picture"] = None
    bounds: Annotated[tuple[int, ...], "window starts"] = ()

    def __post_init__(self):
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"strength is {self.strength}; allowed are 0 to 1.")


class Head:
    """The fake head."""

    name: ClassVar[str] = "fake"
    summary: ClassVar[str] = "Pretend to work."
    config_type: ClassVar[type] = HeadConfig

    def __init__(self, config):
        self.config = config


class Result(SimpleNamespace):
    def as_dict(self):
        return vars(self)

    def lines(self):
        return [f"{key}={value}" for key, value in vars(self).items()]


def plan_job(task, input, output, options):
    return Result(calls=7, output=str(output))


def run(task, input, output, options):
    """Behave as the config says."""
    behave = task.config.behave
    options.progress(Progress(done=0, total=2, elapsed_s=0.0, stage="work"))
    if behave == "missing":
        raise MissingInputError(f"{input} does not exist; give the path of a video or picture.")
    if behave == "damaged":
        raise UnreadableMediaError(f"{input} is damaged.")
    if behave == "crash":
        raise RuntimeError("something unforeseen")
    if behave in ("numpy", "torch", "swallow"):
        _busy(behave, options.progress)
    options.progress(Progress(done=2, total=2, elapsed_s=1.0, stage="work"))
    return Result(output=str(output), frames=2, consistency_psnr_db=float("nan"), shares={"decode": 0.5}, options=None)


def _busy(behave, progress):
    """Half a minute of native code (or of code that swallows the interruption), unless something ends it."""
    if behave == "torch":
        import torch as library
    else:
        import numpy as library
    matrix = library.ones((600, 600))
    progress(Progress(done=1, total=2, elapsed_s=0.0, stage="busy"))
    end_s = time.monotonic() + 30
    while time.monotonic() < end_s:
        try:
            matrix = matrix @ matrix / 600
        except KeyboardInterrupt:
            if behave != "swallow":
                raise
        progress(Progress(done=1, total=2, elapsed_s=0.0, stage="busy"))


def engine():
    """The stand-in for ``vrestore.engine``."""
    module = ModuleType("vrestore.engine")
    vars(module).update(run=run, plan_job=plan_job)
    return module


if __name__ == "__main__":
    import vrestore.cli

    sys.modules["fake_head"] = sys.modules["__main__"]
    sys.modules["vrestore.engine"] = engine()
    vrestore.cli.TASKS = {"fake": ENTRY}
    sys.exit(vrestore.cli.main())
