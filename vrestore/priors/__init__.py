"""Priors by name, and by the class that a folder in diffusers' layout names."""

import json
import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from vrestore.errors import ConfigError, PriorError
from vrestore.prior import Prior, PriorFacts
from vrestore.prior_options import EditOptions, GenerationOptions, PriorOptions, options_of
from vrestore.task import TaskConfig
from vrestore.torchvision_mend import mend_torchvision
from vrestore.weights import EMBEDDED, locate

mend_torchvision()  # before any adapter imports transformers

log = logging.getLogger(__name__)

STABLE_VSR = "StableVSRPipeline"
ANIMATED = (
    "AnimateDiffPipeline", "AnimateDiffControlNetPipeline", "AnimateDiffVideoToVideoPipeline",
    "AnimateDiffVideoToVideoControlNetPipeline",
)  # fmt: skip
WAN = ("WanPipeline", "WanImageToVideoPipeline")
DEPTH = ("MarigoldDepthPipeline", "MarigoldPipeline", "RollingDepthPipeline")
"""What makes depth of pictures, and nothing else."""
FAMILIES = {
    "EmbeddedPrior": "vrestore.priors.embedded",
    "InterpolationPrior": "vrestore.priors.interpolation",
    "StableDiffusionUpscalePipeline": "vrestore.priors.upscaler:UpscalerPrior",
    STABLE_VSR: "vrestore.priors.stablevsr:StableVSRPrior",
    "StableDiffusionPipeline": "vrestore.priors.control_tile:ControlTilePrior",
    "StableDiffusionImg2ImgPipeline": "vrestore.priors.control_tile:ControlTilePrior",
    "StableDiffusionControlNetPipeline": "vrestore.priors.control_tile:ControlTilePrior",
    "StableDiffusionControlNetImg2ImgPipeline": "vrestore.priors.control_tile:ControlTilePrior",
    "StableVideoDiffusionPipeline": "vrestore.priors.svd:PicturePrior",
    **dict.fromkeys(WAN, "vrestore.priors.wan:WanPrior"),
    **dict.fromkeys(DEPTH, "vrestore.priors.marigold:MarigoldPrior"),
    **dict.fromkeys(ANIMATED, "vrestore.priors.editing:EditPrior"),
}
"""Module of the adapter for every `_class_name` of a `model_index.json`, and the adapter's name where it differs."""
EDITING = {
    family: "vrestore.priors.editing:EditPrior"
    for family, adapter in FAMILIES.items()
    if adapter.endswith("ControlTilePrior")
}
"""Adapters of families that have another one for a head that edits."""
USUAL = ("guidance_scale", "strength")
"""Options that a folder may say the usual value of."""
WITHOUT_WEIGHTS = {
    "flow": "vrestore.priors.interpolation:FlowPrior",
    "exposure": "vrestore.priors.exposure:ExposurePrior",
}
"""Priors that have no weights, by name: "module:class"."""


@dataclass(frozen=True)
class PriorSource:
    """A prior that has been found but not loaded: its folder, its adapter and what it is told."""

    folder: Path | None
    """None: it has no weights."""
    adapter: Any
    options: PriorOptions = field(default_factory=PriorOptions)

    @property
    def takes(self) -> frozenset[str]:
        """Names of the options that the prior takes."""
        return frozenset(getattr(self.adapter, "options", ()))

    @property
    def _public(self) -> bool:
        """Whether the adapter reads its facts from the folder, and takes options, be they none."""
        return hasattr(self.adapter, "facts_of")

    @cached_property
    def facts(self) -> PriorFacts:
        """Known before anything is loaded. PriorError for a part that is missing."""
        facts: PriorFacts = self.adapter.facts_of(self.folder, self.options) if self._public else self.adapter.facts
        return facts

    def weights(self) -> list[Path]:
        """Its files of weights. PriorError for a part that is missing."""
        if self.folder is None:
            return []
        if self._public:
            files: list[Path] = self.adapter.weights_of(self.folder, self.options)
            return files
        from vrestore.priors.folder import shared_folders  # which brings diffusers

        folders = (self.folder, *shared_folders(self.folder).values())
        return sorted(path for folder in folders for path in folder.rglob("*.safetensors"))

    def load(self, device: torch.device, dtype: torch.dtype) -> Prior:
        """Read the weights. PriorError if they are missing or do not fit."""
        more = {"options": self.options} if self._public else {}
        prior: Prior = self.adapter.from_pretrained(self.folder, device, dtype, **more)
        return prior

    def check(self, steps: int, source: tuple[int, int], output: tuple[int, int]) -> None:
        """Whether the prior can be used so; sizes are (height, width). Warns of far fewer steps than it is made for.

        Raises:
            ConfigError: the output has the wrong size for it, or there are too many steps.
            PriorError: a part is missing.
        """
        facts, _ = self.facts, self.weights()
        if facts.scale is not None and output != (facts.scale * source[0], facts.scale * source[1]):
            raise ConfigError(
                f"the prior {facts.name} makes the output {facts.scale} times larger, {facts.scale * source[1]}x"
                f"{facts.scale * source[0]} here, not {output[1]}x{output[0]}; ask for that size, or name another prior"
            )
        if facts.most_steps is not None and steps > facts.most_steps:
            raise ConfigError(f"steps is {steps}; the prior {facts.name} takes at most {facts.most_steps} here")
        if steps * 4 < facts.usual_steps:
            log.warning(
                "the prior %s is made for about %d steps: --steps %d shows it at less than it can do",
                facts.name, facts.usual_steps, steps,
            )  # fmt: skip


def prior_of(config: TaskConfig) -> PriorSource:
    """The prior that a head's config names, with its options. Raises as `find_prior`."""
    return find_prior(config.prior, options_of(config))


def find_prior(name: str, options: PriorOptions | None = None) -> PriorSource:
    """A prior by its name, the one in a folder, or one of the hub as hf:owner/name@revision.

    Downloads only where ``options.download`` allows it.

    Raises:
        PriorError: there is none of that name, or of a kind that is not supported.
        ConfigError: an option that this prior does not take.
    """
    found = _found(name, options or PriorOptions())
    taken = found.takes
    for option, value in found.options.given().items():
        if option not in taken:
            these = ", ".join(sorted(taken)) or "no such settings"
            raise ConfigError(f"{option} is {value!r}, but the prior {name} takes {these}; leave it out")
    return found


def _found(name: str, options: PriorOptions) -> PriorSource:
    if name in WITHOUT_WEIGHTS:
        module, _, adapter = WITHOUT_WEIGHTS[name].partition(":")
        return PriorSource(None, _fit(name, getattr(import_module(module), adapter), options), options)
    folder = _folder(name, options)
    index = folder / "model_index.json"
    if not index.is_file():
        known = ", ".join((*EMBEDDED, *WITHOUT_WEIGHTS))
        raise PriorError(f"no prior {name!r}: neither one by name ({known}) nor a folder with a model_index.json")
    try:
        content = json.loads(index.read_text())
        family = str(content["_class_name"])
    except (ValueError, KeyError, TypeError) as error:
        raise PriorError(f"{index} does not name a class; it must be a folder in diffusers' layout") from error
    edits = isinstance(options, EditOptions)
    if family not in FAMILIES:
        raise PriorError(f"{folder} holds a {family}, which is not supported; supported are {', '.join(FAMILIES)}")
    if not edits and family.startswith("StableDiffusion") and "controlnet" in content and _sees_source(folder):
        family = STABLE_VSR  # its authors' pipeline has gone by several names; the UNet tells
    module, _, attribute = ((EDITING.get(family) if edits else None) or FAMILIES[family]).partition(":")
    kind = _fit(name, getattr(import_module(module), attribute or family), options)
    return PriorSource(folder, kind, _with_usual(options, content.get("_usual")))


def _fit(name: str, adapter: type, options: PriorOptions) -> type:
    """The adapter. PriorError where it cannot do what its options are for."""
    if isinstance(options, GenerationOptions):
        if hasattr(adapter, "told"):
            return adapter
        raise PriorError(
            f"the prior {name} makes nothing anew; name one in the layout of AnimateDiff, Stable Diffusion, Stable "
            "Video Diffusion or Wan"
        )
    if getattr(adapter, "only_makes", False):
        raise PriorError(f"the prior {name} makes videos anew, and nothing else; name another one")
    if isinstance(options, EditOptions) and not hasattr(adapter, "embed"):
        raise PriorError(f"the prior {name} takes no text, so it cannot edit; name one of the Stable Diffusion family")
    return adapter


def _with_usual(options: PriorOptions, usual: object) -> PriorOptions:
    """The options, those left out as the folder itself says they usually are (``_usual`` in its model_index.json)."""
    if not isinstance(usual, dict):
        return options
    blank = {name: value for name, value in usual.items() if name in USUAL and getattr(options, name) is None}
    return replace(options, **blank)


def _folder(name: str, options: PriorOptions) -> Path:
    if name in EMBEDDED:
        return locate(name)
    from vrestore.priors.hub import named_folder

    return named_folder(name, download=options.download)


def _sees_source(folder: Path) -> bool:
    """Whether the UNet takes a picture beside the latents."""
    try:
        return int(json.loads((folder / "unet" / "config.json").read_text())["in_channels"]) == 7
    except (OSError, ValueError, KeyError, TypeError):
        return False
