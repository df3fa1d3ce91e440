"""Control maps that networks make: the detectors of controlnet-aux, which the extra ``controls`` installs.

Their weights are fetched by ``vrestore weights pull`` only. They are published as pickles; torch reads of them tensors
and nothing else. A detector works on a picture whose shorter side is 512 pixels and whose sides are multiples of 64;
its map is brought back to the very size of the frame.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vrestore.errors import PriorError
from vrestore.shapes import Frame
from vrestore.torchvision_mend import mend_torchvision
from vrestore.weights.registry import path_of

SIDE = 512
"""Shorter side in pixels of the picture that a detector sees."""
INSTALL = 'pip install "vrestore[controls]"'


@dataclass(frozen=True)
class Learned:
    """A detector."""

    detector: str
    """Its class in controlnet-aux."""
    weights: str
    """Its name in the registry."""

    def begin(self, first: Sequence[Frame], seed: int) -> Callable[[Frame], Frame]:
        """How maps of a shot's frames are made: none of these detectors measures a picture by itself.

        Raises:
            PriorError: its weights or its package are not on this machine.
        """
        detect = _loaded(self.detector, self.weights)

        def make(frame: Frame) -> Frame:
            height, width = frame.shape[-2:]
            rounded = (frame.clamp(0, 1) * 255).round().to(torch.uint8)
            picture: NDArray[np.uint8] = np.ascontiguousarray(rounded.permute(1, 2, 0).cpu().numpy())
            found = detect(picture, detect_resolution=SIDE, image_resolution=SIDE, output_type="np")
            whole = cv2.resize(np.asarray(found), (width, height), interpolation=cv2.INTER_LINEAR)
            return torch.from_numpy(whole).permute(2, 0, 1).to(frame) / 255

        return make


LEARNED = {
    "softedge-hed": Learned("HEDdetector", "detector-hed"),
    "lineart-drawn": Learned("LineartDetector", "detector-lineart"),
    "lineart-anime": Learned("LineartAnimeDetector", "detector-lineart-anime"),
    "mlsd": Learned("MLSDdetector", "detector-mlsd"),
    "normal": Learned("NormalBaeDetector", "detector-normal"),
    "pose": Learned("OpenposeDetector", "detector-pose"),
}
"""By the names of their maps."""


@cache
def _loaded(detector: str, weights: str) -> Any:  # noqa: ANN401
    folder = path_of(weights)
    made = getattr(_package(), detector)
    try:
        return made.from_pretrained(str(folder))
    except Exception as error:  # whatever a damaged file makes of it
        text = " ".join(str(error).split())[:200]
        raise PriorError(f"{weights} in {folder} cannot be used ({text}); vrestore weights verify {weights}") from error


def _package() -> ModuleType:
    """controlnet-aux; PriorError if it is not installed. What it warns of on import is of no use to anyone here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mend_torchvision()
            return import_module("controlnet_aux")
    except ImportError as error:
        raise PriorError(f"this control needs controlnet-aux ({error}); {INSTALL}") from error
