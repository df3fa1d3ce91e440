"""List, fetch and check weights: those that come along, and public ones pinned to a revision."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from vrestore.errors import ConfigError, PriorError
from vrestore.weights import EMBEDDED, locate

CHUNK = 1 << 20
NETWORK, SETTINGS = "diffusion_pytorch_model.safetensors", "config.json"
STABLE_DIFFUSION = (
    "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json", "text_encoder/model.safetensors",
    "tokenizer/merges.txt", "tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json", f"unet/{SETTINGS}", f"unet/{NETWORK}", f"vae/{SETTINGS}", f"vae/{NETWORK}",
)  # fmt: skip
HALF_CONTROLNET = (SETTINGS, "diffusion_pytorch_model.fp16.safetensors")
ANNOTATORS, ANNOTATORS_AT = "lllyasviel/Annotators", "982e7edaec38759d914a963c48c4726685de7d96"
RAIL = "CreativeML Open RAIL-M"


@dataclass(frozen=True)
class Public:
    """Public weights: a repository of the hub at a commit, and the files of it that are used.

    The commits were read in public sources; none of these repositories could be reached where this was written.
    """

    repository: str
    revision: str
    files: tuple[str, ...]
    megabytes: int
    """About."""
    licence: str
    serves: str
    """What it is named for."""
    main: str = ""
    """The file that an option names, where it is no folder."""


PUBLIC: Mapping[str, Public] = {
    "sd15": Public(
        "stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14", STABLE_DIFFUSION,
        4270, RAIL, "--prior: Stable Diffusion 1.5",
    ),
    "x4-upscaler": Public(
        "stabilityai/stable-diffusion-x4-upscaler", "572c99286543a273bfd17fac263db5a77be12c4c",
        (*STABLE_DIFFUSION, "low_res_scheduler/scheduler_config.json"),
        3480, "CreativeML Open RAIL++-M", "--prior: enlarges four times",
    ),
    "controlnet-canny": Public(
        "lllyasviel/control_v11p_sd15_canny", "115a470d547982438f70198e353a921996e2e819", HALF_CONTROLNET,
        723, RAIL, "--controlnet: canny",
    ),
    "controlnet-softedge": Public(
        "lllyasviel/control_v11p_sd15_softedge", "b5bcad0c48e9b12f091968cf5eadbb89402d6bc9", HALF_CONTROLNET,
        723, RAIL, "--controlnet: softedge",
    ),
    "controlnet-depth": Public(
        "lllyasviel/control_v11f1p_sd15_depth", "539f99181d33db39cf1af2e517cd8056785f0a87", HALF_CONTROLNET,
        723, RAIL, "--controlnet: maps of depth",
    ),
    "controlnet-normal": Public(
        "lllyasviel/control_v11p_sd15_normalbae", "cb7296e6587a219068e9d65864e38729cd862aa8", HALF_CONTROLNET,
        723, RAIL, "--controlnet: maps of normals",
    ),
    "controlnet-pose": Public(
        "lllyasviel/control_v11p_sd15_openpose", "9ae9f970358db89e211b87c915f9535c6686d5ba", HALF_CONTROLNET,
        723, RAIL, "--controlnet: maps of poses",
    ),
    "controlnet-shuffle": Public(
        "lllyasviel/control_v11e_sd15_shuffle", "8cf275970f984acf5cc0fdfa537db8be098936a3", HALF_CONTROLNET,
        723, RAIL, "--controlnet: shuffle",
    ),
    "animatediff": Public(
        "guoyww/animatediff-motion-adapter-v1-5-2", "6167b88ffe39b4441fdf2113e77b99a6f56b7906", (SETTINGS, NETWORK),
        1820, "Apache-2.0 (see its card)", "--motion-adapter: AnimateDiff",
    ),
    "animatelcm": Public(
        "wangfuyun/AnimateLCM", "6cdc714205bbc04c3b2031ee63725cd6e54dbe56", (SETTINGS, NETWORK),
        1820, "see its card", "--motion-adapter: AnimateLCM, with --lora and --sampler lcm",
    ),
    "animatelcm-lora": Public(
        "wangfuyun/AnimateLCM", "6cdc714205bbc04c3b2031ee63725cd6e54dbe56", ("AnimateLCM_sd15_t2v_lora.safetensors",),
        118, "see its card", "--lora: AnimateLCM", "AnimateLCM_sd15_t2v_lora.safetensors",
    ),
    **{
        f"detector-{name}": Public(ANNOTATORS, ANNOTATORS_AT, files, size, "see its card", f"--control: {control}")
        for name, files, size, control in (
            ("hed", ("ControlNetHED.pth",), 29, "softedge-hed"),
            ("lineart", ("sk_model.pth", "sk_model2.pth"), 34, "lineart-drawn"),
            ("lineart-anime", ("netG.pth",), 218, "lineart-anime"),
            ("mlsd", ("mlsd_large_512_fp32.pth",), 6, "mlsd"),
            ("normal", ("scannet.pt",), 291, "normal"),
            ("pose", ("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth"), 511, "pose"),
        )
    },
}  # fmt: skip
"""By the names that options take, and what ``vrestore weights pull`` fetches."""

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
