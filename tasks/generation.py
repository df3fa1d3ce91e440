"""Generation: video of any length from words, from pictures at its ends, or going on from another video.

Frames come from noise, after the prompt that holds for them. What is given stays as it is, but for the autoencoder:
a first and a last picture, and the end of a video, of which the output is what comes next.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, ClassVar

from vrestore.errors import ConfigError
from vrestore.maker import made, make
from vrestore.making import Given, MakingConfig, MakingResult
from vrestore.prior_options import GenerationOptions
from vrestore.prompts import Script, Timeline, read_prompts
from vrestore.report import MakeOptions
from vrestore.settings import ALIAS
from vrestore.shapes import OutputFrame


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(MakingConfig):
    """Settings of ``vrestore generate``."""

    prompt: Annotated[str | None, "What is to be seen, where --prompts says nothing else."] = None
    negative_prompt: Annotated[str | None, "What is not to be seen."] = field(
        default=None, metadata={ALIAS: "negative"}
    )
    prompts: Annotated[
        Path | None, "TOML file of prompts over time: by seconds or timecode, with transitions between them."
    ] = field(default=None, metadata={ALIAS: "timeline"})
    first: Annotated[Path | None, "Picture that is the first frame, or that Stable Video Diffusion sets in motion."] = (
        None
    )
    last: Annotated[Path | None, "Picture that is the last frame."] = None
    from_video: Annotated[
        Path | None, "Video that goes on: its last frames are seen, and the output is what comes after them."
    ] = field(default=None, metadata={ALIAS: "from"})
    context: Annotated[
        int | None, "Frames of the end of --from that are seen; left out: half of what the prior sees together."
    ] = None
    guidance_scale: Annotated[
        float | None, "How strongly the prompts count, 1 (no guidance) or more; left out: the prior's own."
    ] = field(default=None, metadata={ALIAS: "guidance"})
    motion: Annotated[
        int | None, "How much the picture moves, 0 to 255, for Stable Video Diffusion; left out: 127."
    ] = None
    picture_noise: Annotated[
        float | None,
        "Deviation of the noise that the picture gets, 0 or more, for Stable Video Diffusion: more frees the motion; "
        "left out: 0.02.",
    ] = None
    motion_adapter: Annotated[
        str | None,
        "Folder of a motion adapter of AnimateDiff (or hf:owner/name@revision), or none; left out: the one in the "
        "prior's folder, if there is one.",
    ] = None
    checkpoint: Annotated[
        Path | None,
        "Single .safetensors file of the SD 1.5 family that takes the place of the weights in the prior's folder.",
    ] = None
    lora: Annotated[Path | None, "LoRA as a .safetensors file, merged into the networks."] = None
    lora_scale: Annotated[float | None, "Weight of the LoRA; left out: 1."] = None
    offload: Annotated[
        bool | None,
        "Keep the weights in the machine's memory and bring layer by layer to the device; left out: where they do not "
        "fit there.",
    ] = None
    small_weights: Annotated[
        bool | None,
        "Store the weights in 8 bits and cast them up layer by layer: less memory, a little less exact.",
    ] = None
    download: Annotated[
        bool, "Fetch public weights that are named (vrestore weights list, or hf:owner/name@revision) and not here yet."
    ] = False

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range, or for settings that do not go together."""
        super().__post_init__()
        _options(self)
        if self.context is not None and self.context < 1:
            raise ConfigError(f"context is {self.context}; give 1 or more frames")
        if self.context is not None and self.from_video is None:
            raise ConfigError(f"context is {self.context}, but no video goes on; give one with --from")
        if self.first is not None and self.from_video is not None:
            raise ConfigError(f"first is {self.first}, but {self.from_video} goes on; leave one of them out")


class Generation:
    """The head behind ``vrestore generate``."""

    name: ClassVar[str] = "generate"
    summary: ClassVar[str] = "Make video from words or pictures, or go on from a video."
    config_type: ClassVar[type[MakingConfig]] = GenerationConfig
    config: GenerationConfig

    def __init__(self, config: GenerationConfig | None = None, **settings: object) -> None:
        """From a config, its fields by name, or both: the fields then change the config."""
        self.config = replace(config or GenerationConfig(), **settings)  # type: ignore[arg-type]

    def stream(self) -> Iterator[OutputFrame]:
        """Frames (3, height, width) in [0, 1], in order, each as soon as it is final."""
        yield from made(self)

    def options(self) -> GenerationOptions:
        """What the prior is told."""
        return _options(self.config)

    def given(self) -> Given:
        """What is given of the sequence."""
        config = self.config
        return Given(first=config.first, last=config.last, video=config.from_video, context=config.context)

    def script(self, fps: Fraction) -> Timeline | None:
        """The prompts, where there are any. Raises as `vrestore.prompts.read_prompts`."""
        if self.config.prompt is None and self.config.prompts is None:
            return None
        script = Script(()) if self.config.prompts is None else read_prompts(self.config.prompts)
        return script.timeline(self.config.prompt, fps)

    def files(self) -> tuple[Path, ...]:
        """Prompts, and what is given."""
        prompts = () if self.config.prompts is None else (self.config.prompts,)
        return (*prompts, *self.given().paths)


def _options(config: GenerationConfig) -> GenerationOptions:
    """The part of the settings that is for the prior. ConfigError for a value out of its range."""
    names = [one.name for one in fields(GenerationOptions) if hasattr(config, one.name)]
    return GenerationOptions(**{name: getattr(config, name) for name in names})


def generate(
    output: Path | str,
    config: GenerationConfig | None = None,
    *,
    options: MakeOptions | None = None,
    **settings: object,
) -> MakingResult:
    """Make a video, by a config or its fields by name (``prompt="a red ball"``, ``frames=240``).

    ``options``: how files are written, resuming, and callbacks that hear of the plan and of progress.

    Raises:
        VRestoreError: see `vrestore.errors`.
    """
    return make(Generation(config, **settings), output, options)
