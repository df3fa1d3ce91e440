"""List, fetch and check weights: those that come along, and public ones pinned to a revision."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from vrestore.errors import ConfigError, PriorError
from vrestore.weights import EMBEDDED, locate
from vrestore.weights.public import PUBLIC, Public

CHUNK = 1 << 20

State = Literal["embedded", "here", "missing"]


@dataclass(frozen=True)
class Listed:
    """Weights as they are told of."""

    name: str
    state: State
    megabytes: float
    licence: str
    serves: str
    source: str


@dataclass(frozen=True)
class Remote:
    """A file of a repository: its size, and what its content hashes to."""

    size: int
    sha256: str | None
    """Of large files."""
    blob: str | None
    """Of the others: what git calls the content."""


@runtime_checkable
class Hub(Protocol):
    """Where public weights are fetched from."""

    def listing(self, repository: str, revision: str) -> Mapping[str, Remote]:
        """Every file of a repository at a commit."""
        ...

    def fetch(self, repository: str, revision: str, files: Sequence[str]) -> Path:
        """Fetch files that are not here yet; their folder."""
        ...


def listed() -> list[Listed]:
    """All weights: those that come along, then the public ones."""
    own = []
    for name in EMBEDDED:
        size = sum(path.stat().st_size for path in _tensors(locate(name)))
        own.append(Listed(name, "embedded", size / 1e6, "Apache-2.0", "--prior", "vrestore"))
    return own + [
        Listed(
            name, "here" if _found(entry) else "missing", float(entry.megabytes), entry.licence, entry.serves,
            f"{entry.repository}@{entry.revision}",
        )
        for name, entry in PUBLIC.items()
    ]  # fmt: skip


def path_of(name: str) -> Path:
    """Where weights lie: their folder, or the file that an option names.

    Raises:
        ConfigError: no such name.
        PriorError: they are not on this machine; the message says how to get them.
    """
    if name in EMBEDDED:
        return locate(name)
    entry = _entry(name)
    folder = _found(entry)
    if folder is None:
        raise PriorError(
            f"{name} is not on this machine: vrestore weights pull {name} fetches {entry.repository} (about "
            f"{entry.megabytes / 1000:.2g} GB, licence {entry.licence})"
        )
    return folder / entry.main if entry.main else folder


def pull(name: str, hub: Hub | None = None) -> Path:
    """Fetch public weights into the cache of the hub's client, check them, and say where they lie.

    What the hub says of each file is recorded beside the cache, for `verify`.

    Raises:
        ConfigError: no such name.
        PriorError: the hub cannot be reached or has something else, or what came is damaged.
    """
    if name in EMBEDDED:
        return locate(name)
    entry = _entry(name)
    hub = hub or _hugging_face()
    try:
        remote = hub.listing(entry.repository, entry.revision)
        absent = [file for file in entry.files if file not in remote]
        if absent:
            raise PriorError(f"{entry.repository} at {entry.revision} has no {absent[0]}; report this, it is pinned")
        folder = hub.fetch(entry.repository, entry.revision, entry.files)
    except PriorError:
        raise
    except Exception as error:  # the client's errors and those of its network library
        raise PriorError(
            f"{entry.repository} could not be fetched ({type(error).__name__}: {' '.join(str(error).split())[:200]}); "
            "check the network and HF_HUB_OFFLINE, or copy the folder here by hand and name its path"
        ) from error
    known = {file: remote[file] for file in entry.files}
    damaged = [file for file in entry.files if not _matches(folder / file, known[file])]
    if damaged:
        raise PriorError(f"{folder / damaged[0]} is damaged: not what {entry.repository} says of it; pull again")
    record = _record(name)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({file: vars(value) for file, value in known.items()}, indent=2) + "\n")
    return path_of(name)


def verify(name: str) -> dict[str, str]:
    """What is wrong with each file of some weights; nothing where all is well.

    Those that come along: whether each file is whole. Public ones: whether each file is what the hub said of it when
    it was pulled, or, where there is no record of that, what the name under which the client keeps it says.

    Raises:
        ConfigError, PriorError: as `path_of`.
    """
    folder = path_of(name)
    if name in EMBEDDED:
        checks = {str(path.relative_to(folder)): _readable(path) for path in _tensors(folder)}
        return {file: wrong for file, wrong in checks.items() if wrong}
    entry = _entry(name)
    folder = folder.parent if entry.main else folder
    record = _record(name)
    known = {file: Remote(**said) for file, said in json.loads(record.read_text()).items()} if record.is_file() else {}
    wrong: dict[str, str] = {}
    for file in entry.files:
        path = folder / file
        said = known.get(file) or _named(path)
        if said is not None and not _matches(path, said):
            wrong[file] = "damaged: not what it hashes to on the hub"
        elif said is None:
            wrong[file] = "unknown: there is no record of what it should be"
    return wrong


def _entry(name: str) -> Public:
    if name not in PUBLIC:
        raise ConfigError(f"no weights {name!r}; there are {', '.join((*EMBEDDED, *PUBLIC))}")
    return PUBLIC[name]


def _found(entry: Public) -> Path | None:
    """The folder in the client's cache, if every file is there."""
    from huggingface_hub import constants

    place = f"models--{entry.repository.replace('/', '--')}"
    folder = Path(constants.HF_HUB_CACHE) / place / "snapshots" / entry.revision
    return folder if all((folder / file).is_file() for file in entry.files) else None


def _record(name: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / "vrestore" / f"{name}.json"


def _named(path: Path) -> Remote | None:
    """What the client's cache calls a file: large ones by what they hash to, others by what git calls them."""
    name = path.resolve().name
    if path.is_symlink() and len(name) in (40, 64) and all(letter in "0123456789abcdef" for letter in name):
        large = len(name) == 64
        return Remote(path.stat().st_size, name if large else None, None if large else name)
    return None


def _matches(path: Path, said: Remote) -> bool:
    if not path.is_file() or path.stat().st_size != said.size:
        return False
    if said.sha256 is not None:
        return _hashed(path, hashlib.sha256()) == said.sha256
    return said.blob is None or _hashed(path, hashlib.sha1(b"blob %d\0" % said.size)) == said.blob


@runtime_checkable
class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def _hashed(path: Path, digest: _Digest) -> str:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _tensors(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def _readable(path: Path) -> str:
    """What is wrong with a safetensors file; nothing if it is whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return "" if list(file.keys()) else "damaged: it holds nothing"
    except (SafetensorError, OSError) as error:
        return f"damaged: {' '.join(str(error).split())}"


def _hugging_face() -> Hub:
    return HuggingFace()


class HuggingFace:
    """The hub itself, by its client; the client's settings (HF_HOME, HF_HUB_OFFLINE, HF_TOKEN ...) count."""

    def listing(self, repository: str, revision: str) -> dict[str, Remote]:
        """See `Hub.listing`."""
        from huggingface_hub import HfApi

        siblings = HfApi().model_info(repository, revision=revision, files_metadata=True).siblings or []
        return {
            one.rfilename: Remote(one.size or 0, one.lfs.sha256 if one.lfs else None, None if one.lfs else one.blob_id)
            for one in siblings
        }

    def fetch(self, repository: str, revision: str, files: Sequence[str]) -> Path:
        """See `Hub.fetch`."""
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))
