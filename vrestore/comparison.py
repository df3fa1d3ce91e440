"""Compare two videos or stills, with or without the truth, and show them beside one another.

The measures are those of ``metrics`` and ``temporal``, taken in one pass that holds two frames of each file. The
module is not called ``compare`` because ``vrestore.compare`` is the function: a submodule of the same name would take
its place in the package as soon as anything imported it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from math import hypot, isnan
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from vrestore import metrics
from vrestore.errors import ConfigError
from vrestore.montage import Montage, Pictures
from vrestore.temporal import Change, Motion, MotionMeter, summarise
from vrestore.video import FrameReader, VideoInfo, open_reader

Picture = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What to measure and what to draw."""

    ref: Annotated[Path | None, "The truth: A and B are both measured against it. Without it, B against A."] = None
    lowres: Annotated[Path | None, "The low-resolution input, to measure how well A and B agree with it."] = None
    bounds: Annotated[tuple[int, ...], "Frames at which windows start, as 8,16: for the seam index."] = ()
    crop: Annotated[int, "Pixels to leave out at every border (fidelity measures)."] = 0
    every: Annotated[int, "VIF, GMSD, HaarPSI, sharpness and consistency: on every Nth frame."] = 5
    side_by_side: Annotated[
        Path | None, "Write A, B and the truth beside one another: one frame (.png, .jpg ...) or a video (.mp4 ...)."
    ] = None
    frame: Annotated[int | None, "Which frame a side-by-side picture shows; the middle one if not given."] = None

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise ConfigError(f"crop is {self.crop}; allowed are 0 and more pixels.")
        if self.every < 1:
            raise ConfigError(f"every is {self.every}; allowed are 1 (each frame) and more.")
        if any(bound < 1 for bound in self.bounds):
            raise ConfigError(f"bounds are {self.bounds}; a window start is a frame number of 1 or more.")


class Measure(NamedTuple):
    """How a measure is shown."""

    key: str
    label: str
    decimals: int
    best: str


MEASURES = (
    Measure("psnr_y", "PSNR-Y (dB)", 2, "higher"),
    Measure("psnr_rgb", "PSNR-RGB (dB)", 2, "higher"),
    Measure("ssim_y", "SSIM-Y", 4, "higher"),
    Measure("vif", "VIF", 4, "higher"),
    Measure("gmsd", "GMSD", 4, "lower"),
    Measure("haarpsi", "HaarPSI", 4, "higher"),
    Measure("sharpness", "sharpness over reference", 3, "near 1"),
    Measure("shift", "misalignment (px)", 3, "lower"),
    Measure("consistency", "consistency PSNR-Y (dB)", 2, "higher"),
    Measure("warp", "warping error (levels)", 3, "near reference"),
    Measure("warp_rel", "warping error over reference", 3, "near 1"),
    Measure("tof", "flow difference tOF (px)", 3, "lower"),
    Measure("flicker", "flicker where still (levels)", 3, "near reference"),
    Measure("flicker_rel", "flicker over reference", 3, "near 1"),
    Measure("seam", "seam index", 3, "near 1"),
    Measure("jump", "worst jump", 3, "near 1"),
)


@dataclass(frozen=True)
class Comparison:
    """Scores by role (``a``, ``b``) of each measured file; a measure that does not apply (nan) is left out."""

    files: Mapping[str, str]
    """Path by role: ``a``, ``b`` and, where given, ``ref`` and ``lowres``."""
    reference: str
    """The role that the others are measured against."""
    frames: int
    width: int
    height: int
    scores: Mapping[str, Mapping[str, float]]

    def as_dict(self) -> dict[str, object]:
        """Plain values, fit for JSON."""
        return asdict(self)

    def rows(self) -> list[tuple[str, ...]]:
        """Header and one row per measure: label, a number per file, and which direction is better."""
        names = (f"{role}: {Path(self.files[role]).name}" for role in self.scores)
        table: list[tuple[str, ...]] = [("measure", *names, "better")]
        for key, label, decimals, best in MEASURES:
            values = [scores.get(key) for scores in self.scores.values()]
            if any(v is not None for v in values):
                table.append((label, *("-" if v is None else f"{v:.{decimals}f}" for v in values), best))
        return table


@dataclass
class _Tally:
    """What is known so far of one measured file."""

    values: dict[str, list[float]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def add(self, key: str, value: float) -> None:
        self.values.setdefault(key, []).append(value)

    def scores(self, reference: Sequence[Change], bounds: Sequence[int]) -> dict[str, float]:
        known = {key: [v for v in values if not isnan(v)] for key, values in self.values.items()}
        means = {key: float(np.mean(values)) for key, values in known.items() if values}
        over_time = asdict(summarise(self.changes, reference, bounds)) if self.changes else {}
        return means | {key: value for key, value in over_time.items() if not isnan(value)}


def compare(
    a: Path | str,
    b: Path | str,
    config: CompareConfig | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Measure two videos, or two stills, of the same length.

    Files of different sizes are brought to the truth's size (without a truth: to the larger one's) by bicubic
    interpolation, so that a low-resolution input can stand beside its enlargement. Everything is measured on frames
    rounded to 8 bits: what a player shows. Streams; holds two frames of each file.

    Args:
        a, b: the files. With ``config.ref`` both are measured, without it B is measured against A.
        config: what to measure and draw; see :class:`CompareConfig`.
        progress: called with (frames done, frames in all) after every frame.

    Raises:
        ConfigError: lengths or shapes that do not fit together.
        MissingInputError, MediaError: a file that cannot be read.
        OutputError: the side-by-side picture or video cannot be written.
    """
    config = config or CompareConfig()
    measured = {"a": Path(a), "b": Path(b)}
    reference = "a" if config.ref is None else "ref"
    paths = measured | {k: p for k, p in (("ref", config.ref), ("lowres", config.lowres)) if p is not None}
    with ExitStack() as stack:
        readers = {role: stack.enter_context(open_reader(path)) for role, path in paths.items()}
        infos = {role: reader.info for role, reader in readers.items()}
        _check(infos)
        height, width = _size(infos)
        montage = None
        if config.side_by_side is not None:
            shown = {role: info.path.name for role, info in infos.items() if role != "lowres"}
            montage = stack.enter_context(
                Montage(config.side_by_side, shown, (height, width), infos["a"], config.frame)
            )
        run = _Run(config, reference, [role for role in measured if role != reference], infos["a"].frames)
        for index, (pts, pictures) in enumerate(_in_step(readers, (height, width))):
            run.frame(index, pictures)
            if montage is not None:
                montage.write(index, pts, pictures)
            if progress is not None:
                progress(index + 1, run.frames)
        if montage is not None:
            montage.finish()
    files = {role: str(path) for role, path in paths.items()}
    scores = {role: tally.scores(run.reference_changes, config.bounds) for role, tally in run.tallies.items()}
    return Comparison(files, reference, run.frames, width, height, scores)


class _Run:
    """One pass over the frames."""

    def __init__(self, config: CompareConfig, reference: str, measured: Sequence[str], frames: int) -> None:
        self.config, self.reference, self.frames = config, reference, frames
        self.tallies = {role: _Tally() for role in measured}
        self.reference_changes: list[Change] = []
        self._meter = MotionMeter()
        self._before: Pictures = {}

    def frame(self, index: int, pictures: Pictures) -> None:
        truth = pictures[self.reference]
        motion = self._motion(truth)
        for role, tally in self.tallies.items():
            self._fidelity(index, tally, pictures[role], truth, pictures.get("lowres"))
            if motion is not None:
                tally.changes.append(self._meter.change(self._before[role], pictures[role], motion))
        self._before = pictures

    def _motion(self, truth: Picture) -> Motion | None:
        if not self._before:
            return None
        before = self._before[self.reference]
        motion = self._meter.motion(before, truth)
        self.reference_changes.append(self._meter.change(before, truth, motion, is_reference=True))
        return motion

    def _fidelity(
        self, index: int, tally: _Tally, picture: Picture, truth: Picture, low_resolution: np.ndarray | None
    ) -> None:
        crop = self.config.crop
        for key in ("psnr_y", "psnr_rgb", "ssim_y"):
            tally.add(key, getattr(metrics, key)(picture, truth, crop))
        if index % self.config.every == 0:
            for key in ("vif", "gmsd", "haarpsi"):
                tally.add(key, getattr(metrics, key)(picture, truth, crop))
            tally.add("sharpness", metrics.sharpness(picture, truth))
            if low_resolution is not None:
                tally.add("consistency", metrics.consistency_psnr(picture, low_resolution))
        if index == self.frames // 2:
            tally.add("shift", hypot(*metrics.displacement(picture, truth)))


def _in_step(readers: Mapping[str, FrameReader], size: tuple[int, int]) -> Iterator[tuple[int, Pictures]]:
    """Frames of the same index of all files, as 8-bit pictures of one size (the low-resolution input as it is)."""
    for frames in zip(*(reader.frames() for reader in readers.values()), strict=True):
        pictures = {
            role: _picture(frame.rgb, None if role == "lowres" else size)
            for role, frame in zip(readers, frames, strict=True)
        }
        yield frames[0].pts, pictures


def _picture(rgb: Float32[np.ndarray, "3 h w"], size: tuple[int, int] | None) -> Picture:
    picture = metrics.to_uint8(np.ascontiguousarray(np.moveaxis(rgb, 0, -1)) * metrics.PEAK)
    if size is None or picture.shape[:2] == size:
        return picture
    return metrics.to_uint8(metrics.resize(picture, *size))


def _size(infos: Mapping[str, VideoInfo]) -> tuple[int, int]:
    """Height and width at which everything is measured."""
    if "ref" in infos:
        return infos["ref"].height, infos["ref"].width
    return max((infos["a"].height, infos["a"].width), (infos["b"].height, infos["b"].width))


def _check(infos: Mapping[str, VideoInfo]) -> None:
    """Same length and same shape, up to the rounding of a reduction."""
    first = infos["a"]
    for info in infos.values():
        if info.frames != first.frames:
            raise ConfigError(
                f"{first.path} has {first.frames} frames and {info.path} has {info.frames}; "
                "only files of the same length can be compared: cut the longer one first."
            )
        if abs(first.width * info.height - first.height * info.width) > max(
            first.width, first.height, info.width, info.height
        ):
            raise ConfigError(
                f"{first.path} is {first.width}x{first.height} and {info.path} is {info.width}x{info.height}; "
                "only pictures of the same aspect ratio can be compared: crop one of them first."
            )
