"""The job folder beside an output: finished segments and a checkpoint, from which a killed run goes on.

`<output>.vrestore/` holds `job.json` (what was asked of which input, and how far it is), segments of encoded output,
and the executor's state at the end of the last segment. `job.json` changes last and at once, so it always describes a
state that is on disk.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vrestore.errors import OutputError, ResumeError
from vrestore.video import remove_stale

EDGE_BYTES = 1 << 20


def fingerprint(path: Path) -> str:
    """Tells one input from another without reading it whole: size, and the first and last mebibyte."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(EDGE_BYTES))
        file.seek(max(0, size - EDGE_BYTES))
        digest.update(file.read())
    return digest.hexdigest()


def record_beside(output: Path) -> Path:
    """``clip.mp4.vrestore.json`` for ``clip.mp4``: where the command line writes what a run was told and found."""
    return output.with_name(output.name + ".vrestore.json")


@dataclass
class JobState:
    """How far a job is: finished segments with their frames, and the place of the executor's checkpoint."""

    segments: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    """Segments of the files beside the output."""
    frames: int = 0
    shot: int = 0
    emitted: int = 0
    """Frames of the current shot that are in the segments."""
    first_pts: int | None = None
    last_pts: int | None = None
    consistency_sum_db: float = 0.0
    checkpoint: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def add(self, shot: int, times: Sequence[int]) -> None:
        """Count finished frames of a shot, given their pts."""
        if shot != self.shot:
            self.shot, self.emitted = shot, 0
        self.emitted += len(times)
        self.frames += len(times)
        if times:
            self.first_pts = times[0] if self.first_pts is None else self.first_pts
            self.last_pts = times[-1]


class JobFolder:
    """Creates, reopens and removes the folder of one job."""

    def __init__(self, output: Path, asked: dict[str, Any], plan: dict[str, Any]) -> None:
        self._output = output
        self.path = output.with_name(output.name + ".vrestore")
        self._asked: dict[str, Any] = json.loads(json.dumps(asked, default=str))
        self.plan = plan
        """How the job fits into memory: chosen at its start, and kept when it goes on, whatever is free then."""
        self.state = JobState()

    @property
    def digest(self) -> str:
        """Hash of what was asked of which input."""
        return hashlib.sha256(json.dumps(self._asked, sort_keys=True).encode()).hexdigest()

    def finished(self, size: int) -> dict[str, Any] | None:
        """The result of a run of this very job that has made the output, which has ``size`` bytes: from the record
        beside it. None without a record, or if that is of another job or another output, or the job is under way."""
        try:
            found = json.loads(record_beside(self._output).read_text(encoding="utf-8"))["result"]
            same = (found["job"], found["bytes"]) == (self.digest, size)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if same and not (self.path / "job.json").exists() else None

    def start(self) -> None:
        """Begin anew; what an earlier run left is removed. OutputError if the folder cannot be made."""
        try:
            with suppress(FileNotFoundError):
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True)
            remove_stale(self._output)
        except OSError as error:
            raise OutputError(
                f"cannot write in {self.path.parent}: {error.strerror}; choose another folder with -o"
            ) from error

    def resume(self) -> None:
        """Take up what is there, or begin anew. ResumeError if it belongs to another input or other settings."""
        manifest = self.path / "job.json"
        if not manifest.exists():
            self.start()
            return
        asked, plan, state = self._saved()
        changed = [k for k in self._asked if asked.get(k) != self._asked[k]]
        if changed:
            what = "; ".join(f"{k} was {asked.get(k)}, is {self._asked[k]}" for k in changed)
            raise ResumeError(
                f"{self.path} belongs to another job: {what}. Run it as before, or without --resume to start anew"
            )
        self.plan, self.state = plan, state
        self._check_complete()
        remove_stale(self._output)

    @classmethod
    def standing(cls, output: Path) -> "JobFolder":
        """The folder of an output as it stands, whatever was asked. ResumeError if it cannot be read."""
        folder = cls(output, {}, {})
        folder._asked, folder.plan, folder.state = folder._saved()
        folder._check_complete()
        return folder

    def _saved(self) -> tuple[dict[str, Any], dict[str, Any], JobState]:
        manifest = self.path / "job.json"
        try:
            saved = json.loads(manifest.read_text())
            return dict(saved["asked"]), dict(saved["plan"]), JobState(**saved["state"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResumeError(f"{manifest} cannot be read ({error}); start anew, without --resume") from error

    def _check_complete(self) -> None:
        files = [*self.state.segments, *self.state.beside, *([self.state.checkpoint] if self.state.checkpoint else [])]
        missing = [name for name in files if not (self.path / name).is_file()]
        if missing:
            raise ResumeError(f"{self.path} is incomplete, {missing[0]} is missing; start anew, without --resume")

    def again(self, plan: dict[str, Any]) -> None:
        """Go back to the last checkpoint, and on from there with another plan. OutputError as `save`."""
        manifest = self.path / "job.json"
        self.plan = plan
        if not manifest.exists():
            self.state = JobState()
            return
        self.state = JobState(**json.loads(manifest.read_text())["state"])
        try:
            self._describe()
        except OSError as error:
            raise OutputError(f"cannot write in {self.path}: {error}; free some space") from error

    def segment(self) -> Path:
        """Where the next segment goes."""
        return self.path / f"segment_{len(self.state.segments):05d}.nut"

    def segments(self) -> list[Path]:
        """The finished segments in order."""
        return [self.path / name for name in self.state.segments]

    def save(self, written: Sequence[Path], tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Count a finished segment: write the checkpoint at its end, then `job.json`, which changes at once.

        ``written``: the segment of the output, and those of the files beside it.

        Raises:
            OutputError: they cannot be written (a full disk).
        """
        names = [path.relative_to(self.path).as_posix() for path in written]
        self.state.segments.append(names[0])
        self.state.beside += names[1:]
        self.state.meta = meta
        old, self.state.checkpoint = self.state.checkpoint, f"state_{self.state.frames:08d}.safetensors"
        try:
            save_file({k: v.contiguous() for k, v in tensors.items()}, self.path / self.state.checkpoint)
            for name in (*names, self.state.checkpoint):
                _to_disk(self.path / name)
            self._describe()
        except (OSError, SafetensorError) as error:
            raise OutputError(f"cannot write a checkpoint in {self.path}: {error}; free some space") from error
        if old and old != self.state.checkpoint:
            (self.path / old).unlink(missing_ok=True)

    def _describe(self) -> None:
        """Write `job.json`, at once."""
        part = self.path / "job.json.part"
        part.write_text(json.dumps({"asked": self._asked, "plan": self.plan, "state": asdict(self.state)}, indent=1))
        _to_disk(part)
        part.replace(self.path / "job.json")

    def tensors(self) -> dict[str, Tensor]:
        """The checkpoint's tensors. ResumeError if they cannot be read."""
        if self.state.checkpoint is None:
            return {}
        file = self.path / self.state.checkpoint
        try:
            tensors: dict[str, Tensor] = load_file(file)
        except (OSError, SafetensorError) as error:
            raise ResumeError(f"{file} cannot be read ({error}); start anew, without --resume") from error
        return tensors

    def leave(self) -> None:
        """After a failure: keep the folder for a resume if it holds a checkpoint, else remove it."""
        if not (self.path / "job.json").exists():
            self.remove()

    def remove(self) -> None:
        """Remove the folder: the output is complete.

        `job.json` goes first: what a kill on the way leaves is nothing to go on with, and says so.
        """
        with suppress(OSError):
            (self.path / "job.json").unlink()
        shutil.rmtree(self.path, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """What a file holds survives a power cut from here on."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
