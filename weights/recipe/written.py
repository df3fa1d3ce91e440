"""A trained prior as a folder in diffusers' layout: networks in fp16, schedule, and the index that names its parts."""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

TOLD: dict[str, Any] = {
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "vae": ["diffusers", "AutoencoderDC"],
    "_shared": {"vae": "../autoencoder"},
    "_licence": "Apache-2.0",
}
"""Of priors that words lead, in the latents of the shared autoencoder: what the index says of parts elsewhere."""


def write_folder(folder: Path, pipeline: str, parts: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    """Write every part under its name, networks in fp16, and the index; the parts themselves stay as they are.

    ``pipeline``: the class that runs them. ``parts``: of diffusers or transformers, or made like theirs. ``more``: what
    the index says beside them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"_class_name": pipeline}
    for name, part in parts.items():
        index[name] = [type(part).__module__.partition(".")[0], type(part).__name__]
        write_part(part, folder / name)
    (folder / "model_index.json").write_text(json.dumps(index | dict(more), indent=2) + "\n")


def write_part(part: object, folder: Path) -> None:
    """Write one part, a network in fp16; it stays as it is."""
    saved: Any = deepcopy(part).cpu().to(torch.float16) if isinstance(part, nn.Module) else part
    saved.save_pretrained(folder)
    _forget_origin(folder / "config.json")


def _forget_origin(config: Path) -> None:
    """Leave out where the weights came from that training started with."""
    values = json.loads(config.read_text()) if config.is_file() else {}
    if values.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(values, indent=2) + "\n")
