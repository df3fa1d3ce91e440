"""Priors by name, and by the class that a folder in diffusers' layout names."""

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from vrestore.errors import PriorError
from vrestore.prior import Prior, PriorFacts
from vrestore.weights import EMBEDDED, locate

FAMILIES = {
    "EmbeddedPrior": "vrestore.priors.embedded",
    "InterpolationPrior": "vrestore.priors.interpolation",
}
"""Module of the adapter for every `_class_name` of a `model_index.json`."""
WITHOUT_WEIGHTS = {"flow": "vrestore.priors.interpolation:FlowPrior"}
"""Priors that have no weights, by name: "module:class"."""


@dataclass(frozen=True)
class PriorSource:
    """A prior that has been found but not loaded: its folder and its adapter."""

    folder: Path | None
    """None: it has no weights."""
    adapter: Any

    @property
    def facts(self) -> PriorFacts:
        """Known before anything is loaded."""
        facts: PriorFacts = self.adapter.facts
        return facts

    def weights(self) -> list[Path]:
        """Its files of weights, in order."""
        return [] if self.folder is None else sorted(self.folder.rglob("*.safetensors"))

    def load(self, device: torch.device, dtype: torch.dtype) -> Prior:
        """Read the weights. PriorError if they are missing or do not fit."""
        prior: Prior = self.adapter.from_pretrained(self.folder, device, dtype)
        return prior


def find_prior(name: str) -> PriorSource:
    """A prior by its name, or the one in a folder. PriorError if there is none; never downloads."""
    if name in WITHOUT_WEIGHTS:
        module, _, adapter = WITHOUT_WEIGHTS[name].partition(":")
        return PriorSource(None, getattr(import_module(module), adapter))
    folder = locate(name) if name in EMBEDDED else Path(name)
    index = folder / "model_index.json"
    if not index.is_file():
        known = ", ".join((*EMBEDDED, *WITHOUT_WEIGHTS))
        raise PriorError(f"no prior {name!r}: neither one by name ({known}) nor a folder with a model_index.json")
    try:
        family = str(json.loads(index.read_text())["_class_name"])
    except (ValueError, KeyError, TypeError) as error:
        raise PriorError(f"{index} does not name a class; it must be a folder in diffusers' layout") from error
    if family not in FAMILIES:
        raise PriorError(f"{folder} holds a {family}, which is not supported; supported are {', '.join(FAMILIES)}")
    return PriorSource(folder, getattr(import_module(FAMILIES[family]), family))
