"""Depth: how near every pixel is, the same from frame to frame, for videos of any length.

Snippets of a few frames, next to one another and far apart, go through an image diffusion prior; registered by one
scale and shift each, they agree on the whole shot, as in RollingDepth. Values are relative: inverse depth up to a scale
and a shift, 0 the farthest and 1 the nearest place of a shot; a shot is never registered with another one.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import cv2
import torch
from torch import Tensor

from vrestore.clock import Clock
from vrestore.depth_finish import Finish, Range, sees, unit
from vrestore.depth_refine import SHARE
from vrestore.depth_walk import DepthWalk
from vrestore.engine import run, stream
from vrestore.errors import ConfigError, PlanError, PriorError
from vrestore.parallax import PIXEL_BYTES
from vrestore.plan import SnippetsPlan, Tile
from vrestore.plan.snippets import capped
from vrestore.prior import Prior
from vrestore.priors import PriorSource, prior_of
from vrestore.registration import Map
from vrestore.report import RunOptions, RunResult
from vrestore.shapes import Frame, OutputFrame
from vrestore.steadying import REACH
from vrestore.task import TaskConfig
from vrestore.video import DecodedFrame, Formats, VideoInfo
from vrestore.video.colormaps import COLORMAPS, coloured
from vrestore.video.encode import Encoding
from vrestore.video.info import ColorTags
from vrestore.video.maps import KINDS, choose_maps, is_gray, noted
from vrestore.video.output import AnyEncoding, choose_output
from vrestore.video.pictures import PictureEncoding
from vrestore.video.planes import has_alpha
from vrestore.video.stills import is_still_name

log = logging.getLogger(__name__)

MOST_REFINED, MOST_STEADY = 250, 30
"""Steps of a refinement, and frames over which maps are averaged."""
HDR = (16, 18)
"""Transfer functions of H.273 in whose codes a colour map would shine."""
UNUSED = ("fidelity", "window", "overlap", "propagation", "motion_guidance")


@dataclass(frozen=True, kw_only=True)
class DepthConfig(TaskConfig):
    """Settings of ``vrestore depth``."""

    prior: Annotated[str, "Name of a prior of depth, or a folder of Marigold or RollingDepth in diffusers' layout."] = (
        "depth"
    )
    view: Annotated[
        Literal["auto", "colour", "gray"],
        "What is written: colours to look at, or gray values of 16 bits and more as data. auto: data to .png, .tif, "
        ".exr, .npz and with --codec ffv1, colours elsewhere.",
    ] = "auto"
    colormap: Annotated[
        Literal["inferno", "magma", "viridis", "turbo", "spectral", "gray"], "Colours, from far to near."
    ] = "inferno"
    side_by_side: Annotated[bool, "The source at the left of the colours."] = False
    dilations: Annotated[
        str, "Distances between the frames of a snippet: 1,25 is fast, 1,10,25 a little better; capped in short shots."
    ] = "1,25"
    snippet: Annotated[int, "Frames of a snippet, 1 to 4. 1: every frame by itself."] = 3
    mirror: Annotated[
        bool, "Show the prior every second snippet mirrored, so that errors which depend on left and right even out."
    ] = True
    resolution: Annotated[
        int | None, "Longer side in pixels at which the prior sees the video; left out: what it was made for."
    ] = None
    parallax: Annotated[
        bool, "Correct maps where the camera moves: what is near moves more. For priors of inverse depth."
    ] = True
    steady: Annotated[
        int,
        "Frames to either side over which maps are averaged along the motion of the picture, 0 for none: less flicker.",
    ] = REACH
    refine: Annotated[
        int,
        "Steps in which registered maps go through the prior once more, 0 for none: 10 is RollingDepth's. For priors "
        "made for it; takes several times as long.",
    ] = 0
    align: Annotated[bool, "Register snippets with one another."] = True
    block: Annotated[
        int, "Frames that are registered together; longer shots go in linked blocks, which bounds memory."
    ] = 128
    exr_channel: Annotated[Literal["Z", "R", "RGB"], "Channel of .exr that holds depth."] = "Z"

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        super().__post_init__()
        if not 1 <= self.snippet <= 4:
            raise ConfigError(f"snippet is {self.snippet}; give 1 to 4 frames")
        if self.resolution is not None and not 32 <= self.resolution <= 4096:
            raise ConfigError(f"resolution is {self.resolution}; give 32 to 4096 pixels")
        if not 0 <= self.refine <= MOST_REFINED:
            raise ConfigError(f"refine is {self.refine}; give 0 to {MOST_REFINED} steps")
        if not 0 <= self.steady <= MOST_STEADY:
            raise ConfigError(f"steady is {self.steady}; give 0 to {MOST_STEADY} frames")
        if self.block < 1:
            raise ConfigError(f"block is {self.block}; give 1 or more frames")
        for name, allowed in (
            ("view", ("auto", "colour", "gray")),
            ("colormap", COLORMAPS),
            ("exr_channel", ("Z", "R", "RGB")),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; give one of {', '.join(allowed)}")
        if self.side_by_side and self.view == "gray":
            raise ConfigError("side_by_side shows colours, and view is gray; leave one of them out")
        self.distances()

    def distances(self) -> tuple[int, ...]:
        """The dilations as numbers. ConfigError if they are none."""
        try:
            found = tuple(int(part) for part in self.dilations.split(","))
            capped(found, 1, self.snippet)
        except (ValueError, PlanError) as error:
            raise ConfigError(
                f"dilations is {self.dilations!r}; give whole numbers from 1 on, such as 1,25 or 1,10,25"
            ) from error
        return found


class Depth:
    """The head behind ``vrestore depth``."""

    name: ClassVar[str] = "depth"
    summary: ClassVar[str] = "Estimate how near every pixel is, consistent over the whole shot."
    config_type: ClassVar[type[TaskConfig]] = DepthConfig
    config: DepthConfig

    def __init__(self, config: DepthConfig | None = None, **settings: object) -> None:
        """From a config, its fields by name, or both: the fields then change the config."""
        self.config = replace(config or DepthConfig(), **settings)  # type: ignore[arg-type]

    def stream(self, input: Path | str, options: RunOptions | None = None) -> Iterator[Frame]:
        """Output frames (3, height, width) in [0, 1], in order, when their shot has been seen."""
        for made in stream(self, input, options):
            yield made.frame

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The source's own; twice as wide side by side."""
        return height, width * (2 if self.config.side_by_side else 1)

    def degraded(self, source: Frame) -> OutputFrame:
        """The source as it is."""
        return source

    def finish(self, restored: OutputFrame, source: Frame, *, exact: bool) -> OutputFrame:
        """What was made, as it is."""
        return restored

    def consistency_db(self, output: OutputFrame, source: Frame) -> float:
        """Not a number: a map does not become its source again."""
        return float("nan")

    def checked(self, prior: PriorSource) -> None:
        """PriorError if the prior does not make depth. Warns of settings that other heads have."""
        defaults = TaskConfig.__dataclass_fields__
        for name in (one for one in UNUSED if getattr(self.config, one) != defaults[one].default):
            log.warning("%s has no meaning for depth, which goes by snippets", name)
        if not hasattr(prior.adapter, "nearer_is_larger"):
            raise PriorError(
                f"the prior {self.config.prior!r} makes no depth; name one that does, such as depth, or a folder of "
                "Marigold"
            )
        most = prior.facts.most_steps
        if most is not None and SHARE * self.config.refine > most:
            raise ConfigError(
                f"refine is {self.config.refine}; the prior {prior.facts.name} takes at most {most // SHARE}"
            )

    def seen_size(self, prior: PriorSource, height: int, width: int) -> tuple[int, int]:
        """(height, width) at which the prior sees a frame: its longer side as asked for, both sides what it takes."""
        return sees(prior, height, width, self.config.resolution)

    def plan(self, frames: int, steps: int, tiles: tuple[Tile, ...] | None, together: int) -> SnippetsPlan:
        """The snippets of a shot."""
        config = self.config
        distances = config.distances()
        return SnippetsPlan(frames, distances, config.snippet, steps, tiles, together, config.refine, config.mirror)

    def held_bytes(self, prior: PriorSource, height: int, width: int) -> int:
        """Maps that wait for their block, in 16 bits, flows that wait for their frame, and what is written of one."""
        rows, columns = self.seen_size(prior, height, width)
        span = (self.config.snippet - 1) * max(self.config.distances())
        slots = (self.config.block + 2 * span + 32) * len(self.config.distances()) * self.config.snippet
        watched = PIXEL_BYTES * rows * columns if self.config.parallax else 0
        return 2 * slots * rows * columns + watched + 40 * height * width

    def encoding(
        self, info: VideoInfo, output: Path, size: tuple[int, int], span: tuple[int, int], formats: Formats
    ) -> AnyEncoding:
        """As ``view`` asks, with a note of what the values mean. ConfigError for what cannot be."""
        path, formats = output, replace(formats, alpha=False)
        if self.config.side_by_side and path.suffix.lower() == ".npz":
            raise ConfigError(f"side_by_side shows colours, and {path.name} is to hold data; name a video")
        shown = replace(info, width=size[1], pix_fmt=_opaque(info.pix_fmt))
        if not self._is_gray(path, formats):
            if path.suffix.lower() == ".npz":
                raise ConfigError(f"{path.name} holds data, not colours; leave --view out")
            if info.color.transfer in HDR:  # the colours of a map are plain ones
                shown = replace(shown, color=ColorTags(), hdr=None)
            found = choose_output(shown, path, size, span, formats)
            return noted(found, self._note(), gray=False) if isinstance(found, Encoding) else found
        if path.suffix.lower() == ".npz":
            return choose_maps(path, self._note(), None, self.config.exr_channel, size)
        if path.suffix.lower() in KINDS:
            pictures = choose_output(shown, path, size, span, formats)
            number = pictures.first_number if isinstance(pictures, PictureEncoding) else None
            return choose_maps(path, self._note(), number, self.config.exr_channel, size)
        if is_still_name(path):
            return choose_maps(path, self._note(), None, self.config.exr_channel, size)  # which refuses it
        found = choose_output(shown, path, size, span, replace(formats, codec=formats.codec or "ffv1"))
        if not isinstance(found, Encoding):  # other pictures have been refused
            raise ConfigError(f"{path.name} holds no data of 16 bits; name one of {', '.join(KINDS)}, or an .mkv")
        return noted(found, self._note(), gray=True)

    def walk(
        self,
        prior: Prior,
        plan: SnippetsPlan,
        frames: Iterator[DecodedFrame],
        clock: Clock,
        *,
        size: tuple[int, int],
        encoding: AnyEncoding | None,
        begin: int,
    ) -> DepthWalk:
        """What makes the maps of a shot whose frames have ``size``."""
        source, config = prior_of(self.config), self.config
        gray = is_gray(encoding) if encoding is not None else config.view == "gray"

        def picture(found: Map, whole: Range, seen: Tensor | None) -> Tensor:
            large = cv2.resize(found, size[::-1], interpolation=cv2.INTER_LINEAR)
            low, high = (whole.low, whole.high) if gray else whole.usual
            values = unit(large, low, high)
            if gray:
                return torch.from_numpy(values).expand(3, -1, -1)
            colours = torch.from_numpy(coloured(values, config.colormap))
            return colours if seen is None else torch.cat([seen, colours], dim=-1)

        finish = Finish(
            size=self.seen_size(source, *size),
            picture=picture,
            with_source=config.side_by_side,
            align=config.align,
            block=config.block,
            nearer=_nearer(source),
            parallax=config.parallax,
            steady=config.steady,
        )
        return DepthWalk(prior, plan, frames, clock, finish, seed=config.seed, begin=begin)

    def _is_gray(self, output: Path, formats: Formats) -> bool:
        if self.config.view != "auto":
            return self.config.view == "gray"
        return (output.suffix.lower() in KINDS and not self.config.side_by_side) or formats.codec == "ffv1"

    def _note(self) -> dict[str, object]:
        """What the values mean, for the file's metadata."""
        inverse = _nearer(prior_of(self.config))
        return {
            "kind": "inverse depth" if inverse else "depth, negated",
            "known": "up to one scale and one shift for each shot",
            "near": 1,
            "far": 0,
            "range": "of each shot",
            "prior": self.config.prior,
        }


def estimate_depth(
    input: Path | str,
    output: Path | str,
    config: DepthConfig | None = None,
    *,
    options: RunOptions | None = None,
    **settings: object,
) -> RunResult:
    """Depth of ``input`` to ``output``, with a config or its fields by name (``view="gray"``).

    Raises:
        VRestoreError: see `vrestore.errors`.
    """
    return run(Depth(config, **settings), input, output, options)


def _nearer(source: PriorSource) -> bool:
    """Whether the prior's answers grow towards the camera."""
    nearer: bool = source.adapter.nearer_is_larger(source.folder)
    return nearer


def _opaque(pix_fmt: str) -> str:
    """A format without alpha like one that may have it."""
    return "rgb48le" if "64" in pix_fmt else "rgb24" if has_alpha(pix_fmt) else pix_fmt
