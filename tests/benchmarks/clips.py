"""Clips that benchmarks write, losslessly, and read."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from vrestore.video import open_reader


def write(path: Path, pictures: Iterable[np.ndarray]) -> Path:
    """RGB uint8 (height, width, 3), at 25 a second, losslessly."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        for number, picture in enumerate(pictures):
            if not number:
                stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "bgr0"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read(path: Path) -> torch.Tensor:
    """All frames, (time, 3, height, width) in [0, 1]."""
    with open_reader(path) as reader:
        return torch.stack([torch.from_numpy(frame.rgb) for frame in reader.frames()])
