"""The weights that come with vrestore, each in its own folder in diffusers' layout, with a card (README.md)."""

from importlib.resources import files
from pathlib import Path

from vrestore.errors import PriorError

if __name__ != "vrestore.weights":
    raise ImportError("import this as vrestore.weights; as a top-level package it would be a second copy")

EMBEDDED = ("restoration", "interpolation", "editing", "depth", "generation")
"""Names of the embedded priors."""


def locate(name: str) -> Path:
    """The folder of an embedded prior. PriorError if it is not one, or was not installed."""
    folder = Path(str(files(__name__).joinpath(name)))
    if name not in EMBEDDED or not (folder / "model_index.json").is_file():
        raise PriorError(f"no embedded weights {name!r} in this installation; embedded are {', '.join(EMBEDDED)}")
    return folder
