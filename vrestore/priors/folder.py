"""Folders in diffusers' layout: what they must hold, and their parts, loaded whole or refused."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from vrestore.errors import PriorError

Network = TypeVar("Network", bound=ModelMixin)
TextNetwork = TypeVar("TextNetwork", bound=PreTrainedModel)

NETWORK = "diffusion_pytorch_model"
"""Stem of the weights of diffusers' networks."""
TEXT = "model"
"""Stem of the weights of transformers' networks."""
ADVICE = "copy or download the whole folder, weights as .safetensors, or name another prior"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a prior. PriorError if it is missing or is none."""
    if not path.is_file():
        raise PriorError(f"the prior lacks {path}; {ADVICE}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PriorError(f"{path} is not JSON ({error}); {ADVICE}") from error
    if not isinstance(found, dict):
        raise PriorError(f"{path} holds no settings; {ADVICE}")
    return found


def part_folder(folder: Path, part: str) -> Path:
    """Where a part of a prior lies: in its folder, or where several priors share it."""
    return shared_folders(folder).get(part, folder / part)


def shared_folders(folder: Path) -> dict[str, Path]:
    """Folders of the parts that lie elsewhere, because several priors share them.

    A ``model_index.json`` may say ``"_shared": {"vae": "../autoencoder"}``, relative to its folder.
    """
    index = folder / "model_index.json"
    shared = read_json(index).get("_shared", {}) if index.is_file() else {}
    found = dict[str, Path]()
    for part, named in shared.items() if isinstance(shared, dict) else ():
        if not isinstance(named, str):
            raise PriorError(f"{index} gives {named!r} as the shared folder of {part}; it must be a relative path")
        found[part] = (folder / named).resolve()
    return found


def licence_of(folder: Path, usual: str) -> str:
    """What a ``model_index.json`` says of its weights' licence (``_licence``), or what those of its layout have."""
    index = folder / "model_index.json"
    said = read_json(index).get("_licence") if index.is_file() else None
    return said if isinstance(said, str) else usual


def variant_of(folder: Path, stem: str) -> str | None:
    """The variant of the weights ``stem`` in a folder: None for the plain ones, "fp16" if only such are there.

    Raises:
        PriorError: there are no weights, or none as safetensors: other files can run code when they are read.
    """
    for variant, infix in ((None, ""), ("fp16", ".fp16")):
        names = (f"{stem}{infix}.safetensors", f"{stem}.safetensors.index{infix}.json")
        if any((folder / name).is_file() for name in names):
            return variant
    raise PriorError(f"the prior lacks {folder / stem}.safetensors; {ADVICE}")


def weights_of(folder: Path, stem: str) -> list[Path]:
    """The files of the weights that are read, in order."""
    infix = ".fp16" if variant_of(folder, stem) else ""
    whole = folder / f"{stem}{infix}.safetensors"
    if whole.is_file():
        return [whole]
    index = read_json(folder / f"{stem}.safetensors.index{infix}.json")
    return [folder / name for name in sorted(set(index.get("weight_map", {}).values()))]


def load_network(kind: type[Network], folder: Path, dtype: torch.dtype) -> Network:
    """A network from its folder, with every weight that it needs and none that it does not. Never downloads."""
    read_json(folder / "config.json")
    variant = variant_of(folder, NETWORK)
    try:
        network, found = kind.from_pretrained(
            folder,
            local_files_only=True,
            torch_dtype=dtype,
            variant=variant,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # whatever a damaged file makes of the libraries that read it
        raise PriorError(f"no usable weights in {folder}: {_first_line(error)}; {ADVICE}") from error
    refuse_unfit(folder, found, ("missing_keys", "unexpected_keys", "mismatched_keys"))
    loaded: Network = network.eval().requires_grad_(False)
    return loaded


def refuse_unfit(folder: Path, found: dict[str, Any], kinds: Iterable[str]) -> None:
    """PriorError where weights are missing or of another network: random numbers would stand in for them."""
    wrong = [str(name) for kind in kinds for name in found.get(kind) or () if not str(name).endswith("position_ids")]
    if wrong:
        raise PriorError(
            f"the weights in {folder} are of another network: {len(wrong)} do not fit, such as {wrong[0]}; {ADVICE}"
        )


def load_text(kind: type[TextNetwork], folder: Path, dtype: torch.dtype = torch.float32) -> TextNetwork:
    """A network of transformers from its folder; its answer is small, and made once, so that float32 costs little."""
    read_json(folder / "config.json")
    variant = variant_of(folder, TEXT)
    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        network, found = kind.from_pretrained(
            folder,
            local_files_only=True,
            dtype=dtype,
            variant=variant,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # whatever a damaged file makes of the libraries that read it
        raise PriorError(f"no usable weights in {folder}: {_first_line(error)}; {ADVICE}") from error
    finally:
        if shown:
            enable_progress_bar()
    refuse_unfit(folder, found, ("missing_keys", "mismatched_keys"))
    loaded: TextNetwork = network.eval().requires_grad_(False)
    return loaded


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].replace(os.linesep, " ")
