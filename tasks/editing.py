"""Editing: give a video another look, by words; its structure and its motion stay.

Every frame is drawn anew after the prompt that holds for it, led by maps of its structure. A mask says where; outside
of it the source passes untouched.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from vrestore.controls import CONTROLS
from vrestore.depth_control import DEPTH, DepthMaps, depth_prior
from vrestore.direction import GAP, MASK, SIDE_BY_SIDE, EditDirection, Wish, control_name
from vrestore.engine import run, stream
from vrestore.errors import ConfigError
from vrestore.inversion import GUESSES
from vrestore.plan import ConsistentPlan, CrossedPlan, Plan, WindowsPlan
from vrestore.prior import Prior, PriorFacts
from vrestore.prior_options import EditOptions
from vrestore.prompts import Script, read_prompts
from vrestore.report import RunOptions, RunResult
from vrestore.settings import ALIAS, WHOLE
from vrestore.shapes import Frame
from vrestore.task import OwnSize, TaskConfig
from vrestore.video import VideoInfo
from vrestore.video.alongside import check_alongside

TILE, NONE, AUTO = "tile", "none", "auto:"
"""The frame itself as a map; no map; what stands before the words of an automatic mask."""
MOST_FEATHER = 256


@dataclass(frozen=True, kw_only=True)
class EditingConfig(EditOptions, TaskConfig):
    """Settings of ``vrestore edit``."""

    prompt: Annotated[str | None, "What the edit shows, where --prompts says nothing else."] = None
    negative_prompt: Annotated[str | None, "What the edit shall not show."] = field(
        default=None, metadata={ALIAS: "negative"}
    )
    source_prompt: Annotated[str | None, "What the source shows: for automatic masks and for --inversion."] = None
    prompts: Annotated[
        Path | None, "TOML file of prompts over time: by seconds, timecode or shot, with transitions between them."
    ] = None
    guidance_scale: Annotated[
        float | None, "How strongly the prompts count, 1 (no guidance) or more; left out: the prior's own."
    ] = field(default=None, metadata={ALIAS: "guidance"})
    control: Annotated[
        tuple[str, ...] | None,
        "Map of the structure that leads the edit, NAME or NAME:WEIGHT; more than one may be given. canny, sobel, "
        "softedge, lineart, luma, blur, shuffle, depth; tile: the frame itself; none: no map; any other name with "
        "--control-video. Left out: tile, where the prior has a ControlNet.",
    ] = None
    control_video: Annotated[
        tuple[str, ...], "Maps of your own as NAME=PATH, a video with a frame for each or a picture."
    ] = field(default=(), metadata={WHOLE: True})
    depth_prior: Annotated[str, "What makes the map depth: name or folder of a prior of depth."] = DEPTH
    mask: Annotated[
        tuple[str, ...],
        "Where to edit: a video or picture, white there; or auto:WORDS, where the source shows what they say (words of "
        "--source-prompt, if there is one). Of several, what all show.",
    ] = field(default=(), metadata={WHOLE: True})
    feather: Annotated[int, "Pixels to both sides of a mask's edge over which edit and source are mixed."] = 8
    mode: Annotated[
        Literal["attribute", "background", "shape", "style"] | None,
        "What the edit takes over of the source on its way. attribute: something looks different; shape: it has "
        "another form; background: all but what the mask shows is new; style: the whole look. Left out: nothing.",
    ] = None
    inversion: Annotated[
        Literal["none", "ddim", "exact"],
        "What the edit starts from. none: noise, or with --strength below 1 the source and noise; ddim: what leads "
        "back to the source; exact: the same, found without error, for six times the cost.",
    ] = "none"
    one_noise: Annotated[
        bool | None,
        "Whether all frames have the same noise: with one each, what a prior for single pictures makes up flickers, "
        "and colours change at cuts. Left out: where the prior has no motion modules, which are trained on one each.",
    ] = None
    cross_window: Annotated[bool, "Whether all frames attend to the first one of their shot: one look throughout."] = (
        True
    )
    window_ends: Annotated[
        bool | None,
        "Whether they also attend to the last frames of their window and of the one before, as in LOVECon. Left out: "
        "where the prior has motion modules; frames that are drawn one by one step visibly from window to window then.",
    ] = None
    consistent: Annotated[
        float,
        "In place of that: the share, up to 1, of the tokens of each other frame of its window that a frame attends to "
        "(StoryDiffusion); off at 0.",
    ] = 0.0
    save_control: Annotated[bool, "Write the maps of the structure, beside the output."] = False
    save_mask: Annotated[bool, "Write the mask, beside the output."] = False
    side_by_side: Annotated[bool, "Write source, maps and edit side by side, beside the output."] = False
    prior: Annotated[str, "Name of the prior, or a folder in the layout of Stable Diffusion."] = "editing"

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range, or for settings that do not go together."""
        self._weigh_controls()
        super().__post_init__()
        names = self.control or ()
        if len(set(names)) < len(names) or (NONE in names and len(names) > 1):
            raise ConfigError(f"control is {', '.join(names)}; give each once, or none alone")
        given = self.own_controls()
        for name in names:
            if name not in (*CONTROLS, DEPTH, NONE, *given):
                known = ", ".join((*CONTROLS, DEPTH))
                raise ConfigError(f"control is {name!r}; give {known}, {NONE}, or a video for it with --control-video")
        if not 0 <= self.feather <= MOST_FEATHER:
            raise ConfigError(f"feather is {self.feather}; give 0 to {MOST_FEATHER} pixels")
        if self.words and self.words not in self.shown:
            raise ConfigError(f"mask is {AUTO}{self.words}, but source_prompt is {self.source_prompt!r}; use its words")
        if sum(one.startswith(AUTO) for one in self.mask) > 1 or f"{AUTO}" in self.mask:
            raise ConfigError(f"mask is {', '.join(self.mask)}; give {AUTO} once, with words of what the source shows")
        if self.mode == "background" and not self.mask:
            raise ConfigError("mode is background, but there is no mask; show with --mask what stays")
        if self.save_mask and not self.mask:
            raise ConfigError("save_mask is on, but there is no mask; give one, or leave save_mask out")
        if self.save_control and names == (NONE,):
            raise ConfigError("save_control is on, but control is none; give one, or leave save_control out")
        if self.inversion not in ("none", "ddim", "exact"):
            raise ConfigError(f"inversion is {self.inversion!r}; give none, ddim or exact")
        if self.window_ends and not self.cross_window:
            raise ConfigError("window_ends is on, but cross_window is off; leave one out")
        if not 0 <= self.consistent <= 1:
            raise ConfigError(f"consistent is {self.consistent}; give a share from 0 (off) to 1")
        if self.mode not in (None, "attribute", "background", "shape", "style"):
            raise ConfigError(f"mode is {self.mode!r}; give attribute, background, shape or style")

    @property
    def words(self) -> str:
        """Words whose places are the mask; empty: none."""
        return next((one.removeprefix(AUTO).strip() for one in self.mask if one.startswith(AUTO)), "")

    @property
    def shown(self) -> str:
        """What the source shows; with no words for it those of the mask."""
        return self.words if self.source_prompt is None else self.source_prompt

    def drawn(self) -> tuple[Path, ...]:
        """Masks that the user has made."""
        return tuple(Path(one) for one in self.mask if not one.startswith(AUTO))

    def own_controls(self) -> dict[str, Path]:
        """Maps that the user has made, by name. ConfigError for one that is not named or not used."""
        found = {}
        for one in self.control_video:
            name, mark, path = one.partition("=")
            if not (mark and name and path):
                raise ConfigError(f"control_video is {one!r}; give NAME=PATH")
            if name not in (self.control or ()):
                raise ConfigError(f"control_video is {one!r}, but {name} is no --control; name it there")
            found[name] = Path(path)
        return found

    def _weigh_controls(self) -> None:
        """Tell the prior what the names of the controls say: their weights, or to do without."""
        if self.control == (NONE,):
            if self.controlnet not in (None, NONE):
                raise ConfigError(f"controlnet is {self.controlnet}, but control is {NONE}; leave one out")
            object.__setattr__(self, "controlnet", NONE)
        parts = [one.partition(":") for one in self.control or ()]
        if not any(mark for _, mark, _ in parts):
            return
        if self.control_weights is not None:
            raise ConfigError(f"control_weights is given beside {', '.join(self.control or ())}; leave one out")
        try:
            weights = tuple(float(weight) if mark else 1.0 for _, mark, weight in parts)
        except ValueError as error:
            raise ConfigError(f"control is {', '.join(self.control or ())}; give NAME or NAME:WEIGHT") from error
        object.__setattr__(self, "control", tuple(name for name, _, _ in parts))
        object.__setattr__(self, "control_weights", weights)


class Editing(OwnSize):
    """The head behind ``vrestore edit``."""

    name: ClassVar[str] = "edit"
    summary: ClassVar[str] = "Give a video another look, by words; its structure and its motion stay."
    config_type: ClassVar[type[TaskConfig]] = EditingConfig
    config: EditingConfig

    def __init__(self, config: EditingConfig | None = None, **settings: object) -> None:
        """From a config, its fields by name, or both: the fields then change the config."""
        self.config = replace(config or EditingConfig(), **settings)  # type: ignore[arg-type]

    def stream(self, input: Path | str, options: RunOptions | None = None) -> Iterator[Frame]:
        """Edited frames (3, height, width) in [0, 1], in order, each as soon as it is final."""
        for restored in stream(self, input, options):
            yield restored.frame

    def checked(self, info: VideoInfo, facts: PriorFacts) -> None:
        """ConfigError where nothing says what the edit shows, a file does not go with the video, or a map with the
        prior; MediaError for a file that cannot be read."""
        if self.config.prompt is None and self.config.prompts is None:
            raise ConfigError("nothing says what the edit shows; give --prompt or --prompts")
        self._script().timeline(self.config.prompt, info.fps)
        for path in self.config.drawn():
            check_alongside(path, info, "mask")
        for path in self.config.own_controls().values():
            check_alongside(path, info, "control video")
        self._depth_files()
        if self._controls(facts) and "control" not in facts.conditionings:
            raise ConfigError(
                f"control is {', '.join(self._controls(facts))}, but the prior {facts.name} has no ControlNet; name "
                f"one with --controlnet, or give --control {NONE}"
            )
        if self.config.save_control and not self._controls(facts):
            raise ConfigError(
                f"save_control is on, but the prior {facts.name} has no ControlNet; leave save_control out"
            )

    def files(self) -> tuple[Path, ...]:
        """Prompts, masks, control videos, and the weights of the map depth."""
        prompts = [] if self.config.prompts is None else [self.config.prompts]
        return (*prompts, *self.config.drawn(), *self.config.own_controls().values(), *self._depth_files())

    def beside(self, height: int, width: int, facts: PriorFacts) -> Mapping[str, tuple[int, int]]:
        """The files that are wanted, and their sizes."""
        config, controls = self.config, self._controls(facts)
        found = {control_name(name): (height, width) for name in controls if config.save_control}
        if config.save_mask:
            found[MASK] = (height, width)
        if config.side_by_side:
            found[SIDE_BY_SIDE] = (height, (2 + len(controls)) * (width + GAP) - GAP)
        return found

    def held_bytes(self, height: int, width: int, facts: PriorFacts) -> int:
        """Maps and mask of a frame, in 8 bits."""
        return height * width * (3 * len(self._controls(facts)) + bool(self.config.mask))

    def plan(self, windows: WindowsPlan, facts: PriorFacts) -> Plan:
        """The windows, one after the other where they only touch, and the attention that is asked for."""
        if windows.overlap == 0:
            windows = replace(windows, order="apart")
        if not self.crosses():
            return windows
        if self.config.consistent > 0:
            return ConsistentPlan(windows, self.config.consistent, self.config.seed)
        ends = facts.window > 1 if self.config.window_ends is None else self.config.window_ends
        return CrossedPlan(windows, previous=ends, last=ends)

    def crosses(self) -> bool:
        """Whether frames attend to others; guidance along the motion is for neighbours alone."""
        wanted = self.config.cross_window or self.config.consistent > 0
        return wanted and self.config.propagation == self.config.motion_guidance == 0

    def passes(self) -> int:
        """Twice with an inversion."""
        return 1 if self.config.inversion == "none" else 2

    def direct(self, prior: Prior, info: VideoInfo, levels: int) -> EditDirection:
        """What the settings ask for."""
        config = self.config
        height, width = info.height, info.width
        wish = Wish(
            prompts=self._script().timeline(config.prompt, info.fps),
            source=config.shown,
            controls=self._controls(prior.facts),
            given=config.own_controls(),
            shots={DEPTH: self._depth(prior, info).shot} if self._makes_depth() else {},
            masks=config.drawn(),
            words=config.words,
            guesses={"none": 0, "ddim": 1, "exact": GUESSES}[config.inversion],
            mode=config.mode,
            feather=config.feather,
            levels=levels,
            seed=config.seed,
            one_noise=prior.facts.window == 1 if config.one_noise is None else config.one_noise,
            beside=tuple(self.beside(height, width, prior.facts)),
        )
        return EditDirection(prior, info, wish)

    def _makes_depth(self) -> bool:
        return DEPTH in (self.config.control or ()) and DEPTH not in self.config.own_controls()

    def _depth_files(self) -> list[Path]:
        """PriorError where they are missing."""
        return depth_prior(self.config.depth_prior).weights() if self._makes_depth() else []

    def _depth(self, prior: Prior, info: VideoInfo) -> DepthMaps:
        return DepthMaps(info, depth_prior(self.config.depth_prior), prior.device, self.config.seed)

    def _script(self) -> Script:
        return Script(()) if self.config.prompts is None else read_prompts(self.config.prompts)

    def _controls(self, facts: PriorFacts) -> tuple[str, ...]:
        """The maps that lead: those asked for, else the frame itself where the prior takes maps."""
        if self.config.control is None:
            return (TILE,) if "control" in facts.conditionings else ()
        return () if self.config.control == (NONE,) else self.config.control


def edit(
    input: Path | str,
    output: Path | str,
    config: EditingConfig | None = None,
    *,
    options: RunOptions | None = None,
    **settings: object,
) -> RunResult:
    """Edit ``input`` to ``output``, with a config or its fields by name (``prompt="night"``).

    Raises:
        VRestoreError: see `vrestore.errors`.
    """
    return run(Editing(config, **settings), input, output, options)
