"""Priors by name from the Hugging Face hub: only what the user names, at a revision, and fetched only on request."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download

from vrestore.errors import ConfigError, PriorError
from vrestore.weights.public import PUBLIC
from vrestore.weights.registry import path_of, pull

PREFIX = "hf:"
NAME = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
FILES = ["model_index.json", "config.json", "*/*.json", "*/merges.txt", "*.safetensors"]
"""What is fetched: settings, tokenizers and safetensors."""
NOT_FILES = ["*.fp16.*", "*.non_ema.*", "*ema*", "*pruned*", "safety_checker/*", "*onnx*/*", "*openvino*/*"]
"""What is left out: other precisions, the whole model in one file once more, parts that no prior uses."""


def named_folder(name: str, *, download: bool) -> Path:
    """The folder that a user names: one of the registry's public weights, one of the hub's (`hub_folder`), or a path.

    What is missing is fetched if ``download``. Raises as `hub_folder`.
    """
    if name in PUBLIC:
        return pull(name) if download else path_of(name)
    return hub_folder(name, download=download) if name.startswith(PREFIX) else Path(name)


def hub_folder(name: str, *, download: bool) -> Path:
    """The folder of ``hf:owner/name@revision`` in the cache of the hub's client, fetched first if ``download``.

    ``HF_HUB_OFFLINE``, ``HF_HOME`` and the rest of the client's settings count.

    Raises:
        ConfigError: no such form of name.
        PriorError: not in the cache, and fetching was not allowed or failed.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"prior {name!r} is not of the form hf:owner/name@revision; a revision is a commit or tag")
    repository, revision = match["repository"], match["revision"]
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                local_files_only=not download,
                allow_patterns=FILES,
                ignore_patterns=NOT_FILES,
            )
        )
    except Exception as error:  # the client's errors and those of its network library
        if not download:
            raise PriorError(
                f"{repository} at {revision} is not in the hub's cache on this machine; allow --download, or give the "
                "path of a folder"
            ) from error
        raise PriorError(
            f"{repository} at {revision} could not be fetched ({type(error).__name__}: "
            f"{(str(error).splitlines() or [''])[0]}); check the name, the network and HF_HUB_OFFLINE, or give the "
            "path of a folder"
        ) from error
