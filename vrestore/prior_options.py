"""Settings of public priors. Heads have them by a mix-in; a prior says which it takes, and any other is refused."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from vrestore.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PriorOptions:
    """What a public prior may be told; None leaves it to the prior. As a mix-in it stands before another config."""

    prompt: Annotated[str | None, "What the picture shows, for priors that take text."] = None
    negative_prompt: Annotated[str | None, "What the picture shall not show, for priors that take text."] = None
    guidance_scale: Annotated[
        float | None, "How strongly the prompts count, 1 (no guidance) or more; left out: the prior's own."
    ] = None
    noise_level: Annotated[
        int | None, "Noise that the x4 upscaler adds to the picture it enlarges, 0 or more; left out: 20."
    ] = None
    strength: Annotated[
        float | None,
        "Share of the noise ladder that is walked, above 0 to 1: 1 starts from noise, less from the degraded picture "
        "and noise; left out: the prior's own.",
    ] = None
    controlnet: Annotated[
        str | None,
        "Folder of a ControlNet (or hf:owner/name@revision), for Stable Diffusion; to edit, one for all controls, one "
        "for each, separated by commas, or none.",
    ] = None
    control_scale: Annotated[float | None, "Weight of the ControlNet, 0 or more; left out: 1."] = None
    warp: Annotated[
        Literal["trained", "exact"] | None,
        "How StableVSR brings a neighbour into place: as in its training, which shifts by up to half a pixel, or "
        "exactly; left out: trained.",
    ] = None
    shutter: Annotated[
        float | None,
        "Degrees that the shutter was open, 0 to 360, for the prior exposure; left out: measured.",
    ] = None
    least_blur: Annotated[
        float | None,
        "Pixels of blur, 0 or more, below which less and less of it is undone, for the prior exposure; left out: 2, or "
        "3.5 where the shutter was measured and is not certain.",
    ] = None
    blended: Annotated[
        int | None,
        "Neighbouring frames that every frame is the mean of, 1 (none) to 8, for the prior exposure: frame blending, "
        "or a shutter that stays open over several; left out: measured.",
    ] = None
    download: Annotated[
        bool, "Fetch public weights that are named (vrestore weights list, or hf:owner/name@revision) and not here yet."
    ] = False

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        following = getattr(super(), "__post_init__", None)
        if following is not None:
            following()
        if self.guidance_scale is not None and not 1 <= self.guidance_scale < float("inf"):
            raise ConfigError(f"guidance_scale is {self.guidance_scale}; give 1 or more")
        if self.noise_level is not None and self.noise_level < 0:
            raise ConfigError(f"noise_level is {self.noise_level}; give 0 or more")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ConfigError(f"strength is {self.strength}; give a number above 0, to 1")
        if self.control_scale is not None and not 0 <= self.control_scale < float("inf"):
            raise ConfigError(f"control_scale is {self.control_scale}; give 0 or more")
        if self.shutter is not None and not 0 <= self.shutter <= 360:
            raise ConfigError(f"shutter is {self.shutter}; give 0 to 360 degrees")
        if self.least_blur is not None and not 0 <= self.least_blur < float("inf"):
            raise ConfigError(f"least_blur is {self.least_blur}; give 0 or more pixels")
        if self.blended is not None and not 1 <= self.blended <= 8:
            raise ConfigError(f"blended is {self.blended}; give 1 (frames are none's mean) to 8")
        if self.warp not in (None, "trained", "exact"):
            raise ConfigError(f"warp is {self.warp!r}; give trained or exact")

    def given(self) -> dict[str, object]:
        """The options that are not left to the prior."""
        names = [one.name for one in fields(_kind(self)) if one.name != "download"]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True, kw_only=True)
class EditOptions(PriorOptions):
    """What a prior for editing may be told besides. A head with this mix-in gets such a prior."""

    control_weights: Annotated[
        tuple[float, ...] | None, "Weight of each control, 0 or more, in their order; left out: 1 each."
    ] = None
    motion_adapter: Annotated[
        str | None,
        "Folder of a motion adapter of AnimateDiff (or hf:owner/name@revision), or none; left out: the one in the "
        "prior's folder, if there is one.",
    ] = None
    checkpoint: Annotated[
        Path | None,
        "Single .safetensors file of the SD 1.5 family that takes the place of the weights in the prior's folder; its "
        "settings and tokenizer stay.",
    ] = None
    lora: Annotated[Path | None, "LoRA as a .safetensors file, merged into the networks."] = None
    lora_scale: Annotated[float | None, "Weight of the LoRA; left out: 1."] = None

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        super().__post_init__()
        for weight in self.control_weights or ():
            if not 0 <= weight < float("inf"):
                raise ConfigError(f"control_weights holds {weight}; give 0 or more for each control")
        if self.lora_scale is not None and not abs(self.lora_scale) < float("inf"):
            raise ConfigError(f"lora_scale is {self.lora_scale}; give a finite number")
        for name in ("checkpoint", "lora"):
            value = getattr(self, name)
            if value is not None and value.suffix != ".safetensors":
                raise ConfigError(f"{name} is {str(value)!r}; give a .safetensors file: others can run code when read")


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(EditOptions):
    """What a prior may be told that makes frames anew; with these, such a one is sought."""

    motion: Annotated[
        int | None, "How much the picture shall move, 0 to 255, for Stable Video Diffusion; left out: 127."
    ] = None
    picture_noise: Annotated[
        float | None,
        "Deviation of the noise that the picture gets, 0 or more, for Stable Video Diffusion: more frees the motion; "
        "left out: 0.02.",
    ] = None
    rate: Annotated[int | None, "Frames per second that the prior is told, where it asks."] = None
    offload: Annotated[
        bool | None,
        "Keep the weights in the machine's memory and bring layer by layer to the device; left out: where they do not "
        "fit there.",
    ] = None
    small_weights: Annotated[
        bool | None,
        "Store the weights in 8 bits and cast them up layer by layer: less memory, a little less exact.",
    ] = None

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        super().__post_init__()
        if self.motion is not None and not 0 <= self.motion <= 255:
            raise ConfigError(f"motion is {self.motion}; give 0 to 255")
        if self.picture_noise is not None and not 0 <= self.picture_noise < float("inf"):
            raise ConfigError(f"picture_noise is {self.picture_noise}; give 0 or more")


def options_of(config: object) -> PriorOptions:
    """The part of a head's config that is for its prior; nothing if it has none."""
    if not isinstance(config, PriorOptions):
        return PriorOptions()
    kind = _kind(config)
    return kind(**{one.name: getattr(config, one.name) for one in fields(kind)})


def edit_options(options: PriorOptions) -> EditOptions:
    """The same options for a prior for editing; what they do not hold is left to it."""
    if isinstance(options, EditOptions):
        return options
    return EditOptions(**{one.name: getattr(options, one.name) for one in fields(PriorOptions)})


def generation_options(options: PriorOptions) -> GenerationOptions:
    """The same options for a prior that makes frames anew; what they do not hold is left to it."""
    if isinstance(options, GenerationOptions):
        return options
    return GenerationOptions(**{one.name: getattr(options, one.name) for one in fields(_kind(options))})


def _kind(options: PriorOptions) -> type[PriorOptions]:
    kinds: tuple[type[PriorOptions], ...] = (GenerationOptions, EditOptions)
    return next((kind for kind in kinds if isinstance(options, kind)), PriorOptions)
