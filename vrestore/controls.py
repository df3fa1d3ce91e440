"""Control maps: what a ControlNet sees of the structure of a frame, made so that they do not flicker.

A map is (3, height, width) in [0, 1], of exactly the frame's size. What a map is measured by (thresholds, what counts
as a strong edge) is the same in all frames of a shot: fixed, or taken from its first few frames; what is random is
drawn once. Maps that networks make stand in `vrestore.controls_learned`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from kornia.filters import spatial_gradient
from numpy.typing import NDArray
from torch import Tensor

from vrestore.controls_learned import LEARNED
from vrestore.edges import canny_edges
from vrestore.errors import ConfigError
from vrestore.shapes import Frame

AHEAD = 4
"""Frames at the start of a shot from which a map takes its measure."""
USUAL_SIDE = 512
"""Shorter side in pixels of the pictures that ControlNets were trained on: widths of filters are meant for it."""
CANNY = (100, 200)
"""Lower and upper threshold, on gradients of 8-bit pictures, as ControlNet has them."""
STRONG = 0.99
"""Share of places that are weaker than a strong edge."""
FAINTEST = 0.03
"""An edge is never measured by less than this, so that noise on a flat picture stays dark."""
SHUFFLED = 256
"""Pixels from one independent displacement of the shuffle to the next, in pictures of the usual size."""

Make = Callable[[Frame], Frame]
"""A map of a frame."""
Plane = Float[Tensor, "height width"]
Maps = Float[Tensor, "maps height width"]


@dataclass(frozen=True)
class Control:
    """A kind of map."""

    summary: str
    begin: Callable[[Sequence[Frame], int], Make]
    """From the first frames of a shot and a seed, how maps of its frames are made."""
    ahead: int = 0
    """How many first frames that needs."""


class ControlMaps:
    """Maps of several kinds at once."""

    def __init__(self, controls: Sequence[Control], seed: int) -> None:
        self._controls, self._seed = controls, seed

    def __len__(self) -> int:
        return len(self._controls)

    def shot(self, frames: Iterator[Frame], begin: int = 0) -> Iterator[Maps]:
        """Of each frame of a shot, from its first one on, its maps one after another: (3 n, height, width).

        At most `AHEAD` frames are held. Frames before ``begin`` are only looked at and get maps of zeros.
        """
        stream = iter(frames)
        first = list(islice(stream, max((control.ahead for control in self._controls), default=0)))
        makers = [control.begin(first, self._seed) for control in self._controls]
        for position, frame in enumerate(chain(_used_up(first), stream)):
            if position < begin:
                yield frame.new_zeros(3 * len(makers), *frame.shape[-2:])
            else:
                yield torch.cat([make(frame.float()).to(frame) for make in makers])


def control_maps(names: Sequence[str], *, seed: int = 0) -> ControlMaps:
    """Maps by their names, in that order.

    Args:
        names: of `CONTROLS`, at least one.
        seed: of what is random in them.

    Raises:
        ConfigError: a name that there is not.
    """
    for name in names:
        if name not in CONTROLS:
            raise ConfigError(
                f"there is no control {name!r}; give {', '.join(CONTROLS)}, or a video of your own for it"
            )
    return ControlMaps([CONTROLS[name] for name in names], seed)


def _used_up(frames: list[Frame]) -> Iterator[Frame]:
    """The frames of a list, which lets go of each."""
    frames.reverse()
    while frames:
        yield frames.pop()


def _always(make: Make) -> Callable[[Sequence[Frame], int], Make]:
    return lambda first, seed: make


def _measured(
    plane: Callable[[Frame], Plane], measure: Callable[[Plane], float]
) -> Callable[[Sequence[Frame], int], Make]:
    """A grey map that is divided by what is measured in the first frames, the middle one of the values."""

    def begin(first: Sequence[Frame], seed: int) -> Make:
        unit = sorted(measure(plane(frame.float())) for frame in first)[len(first) // 2] if first else 1.0
        return lambda frame: _grey((plane(frame) / unit).clamp(0, 1))

    return begin


def _grey(plane: Plane) -> Frame:
    return plane.expand(3, -1, -1)


def luma(frame: Frame) -> Plane:
    """Luma, BT.601."""
    return torch.einsum("c,chw->hw", frame.new_tensor([0.299, 0.587, 0.114]), frame)


def canny(frame: Frame) -> Frame:
    """Canny's edges of the colour picture, white on black. Canny, PAMI 1986."""
    return _grey(torch.from_numpy(canny_edges(_bytes(frame), *CANNY)).to(frame) / 255)


def _sobel(frame: Frame) -> Plane:
    """Length of the gradient of the luma, per pixel."""
    return _slope(luma(frame))


def _slope(plane: Plane) -> Plane:
    gradient: Tensor = spatial_gradient(plane[None, None], "sobel", 1)[0, 0]
    return gradient.square().sum(0).sqrt()


def _soft_edges(frame: Frame) -> Plane:
    """The strongest gradient of the luma over three widths of smoothing, each measured by its width.

    Lindeberg, "Edge Detection and Ridge Detection with Automatic Scale Selection", IJCV 1998, with gamma = 1.
    """
    grey, side = luma(frame), _scale(frame)
    found = []
    for width in (1.0, 2.0, 4.0):
        smooth = _smooth(grey[None], width * side)[0]
        found.append(width * _slope(smooth))
    return torch.stack(found).amax(0)


def _lines(frame: Frame) -> Plane:
    """What is darker than its surroundings: lines of a drawing, in light. Of the channel where it is least so."""
    return (_smooth(frame, 6 * _scale(frame)) - frame).amin(0).clamp(min=0)


def _middle_line(lines: Plane) -> float:
    """Twice the strength of an ordinary line, so that it becomes half as bright as can be."""
    seen = lines[lines > 8 / 255]
    return 2 * max(16 / 255, float(seen.median()) if len(seen) else 0.0)


def _strong_edge(edges: Plane) -> float:
    return max(FAINTEST, float(torch.quantile(edges.flatten()[:: max(1, edges.numel() // 2**20)], STRONG)))


def _blur(frame: Frame) -> Frame:
    """Smoothed over an eighth of what ControlNets were trained on: colours and where they are, no structure."""
    return _smooth(frame, 8 * _scale(frame)).clamp(0, 1)


def _shuffle(first: Sequence[Frame], seed: int) -> Make:
    """The picture with its parts displaced by a smooth random field, the same in all frames: colours, no structure."""
    fields: dict[tuple[int, int], Tensor] = {}

    def make(frame: Frame) -> Frame:
        height, width = frame.shape[-2:]
        if (height, width) not in fields:
            fields[height, width] = _places(height, width, SHUFFLED * _scale(frame), seed)
        return F.grid_sample(
            frame[None], fields[height, width].to(frame), mode="bilinear", padding_mode="border", align_corners=True
        )[0]

    return make


def _places(height: int, width: int, step: float, seed: int) -> Float[Tensor, "1 height width 2"]:
    """Where each place takes its colour from, -1 to 1: smooth noise, stretched to reach all of the picture."""
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((2, int(height / step) + 4, int(width / step) + 4))
    planes = []
    for plane in coarse:
        large = cv2.resize(plane, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
        cut = large[top : top + height, left : left + width]
        planes.append((cut - cut.min()) / max(float(np.ptp(cut)), 1e-6) * 2 - 1)
    return torch.from_numpy(np.stack(planes, axis=-1)[None].astype(np.float32))


def _scale(frame: Frame) -> float:
    """How many times larger than usual a picture is."""
    return min(frame.shape[-2:]) / USUAL_SIDE


def _smooth(picture: Maps, sigma: float) -> Maps:
    """Gaussian smoothing, edges mirrored."""
    planes: NDArray[np.float32] = np.ascontiguousarray(picture.detach().cpu().numpy().transpose(1, 2, 0))
    found = cv2.GaussianBlur(planes, (0, 0), sigmaX=max(sigma, 0.3), borderType=cv2.BORDER_REFLECT)
    return torch.from_numpy(np.atleast_3d(found).transpose(2, 0, 1).copy()).to(picture)


def _bytes(frame: Frame) -> NDArray[np.uint8]:
    """8 bits, (height, width, 3)."""
    rounded = (frame.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(rounded.permute(1, 2, 0).cpu().numpy())


CONTROLS = {
    "canny": Control("thin edges, white on black", _always(canny)),
    "sobel": Control("gradient of the brightness", _measured(_sobel, _strong_edge), AHEAD),
    "softedge": Control("soft edges of three widths", _measured(_soft_edges, _strong_edge), AHEAD),
    "lineart": Control("dark lines, in light on black", _measured(_lines, _middle_line), AHEAD),
    "tile": Control("the frame itself", _always(lambda frame: frame.clamp(0, 1))),
    "blur": Control("the frame without its detail", _always(_blur)),
    "luma": Control("the frame without its colours", _always(lambda frame: _grey(luma(frame).clamp(0, 1)))),
    "shuffle": Control("the frame's colours without its structure", _shuffle),
    **{name: Control(f"by {one.detector} of controlnet-aux", one.begin) for name, one in LEARNED.items()},
}
"""Kinds of maps by name."""
