"""A picture of a clip's depth: the source above, its depth below, at three times.

python examples/depth_picture.py clip.mp4 depth.jpg [SECONDS]

Of a longer clip the first SECONDS (3) are taken.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import vrestore
from vrestore.degradation import to_uint8
from vrestore.video import open_reader, probe

TIMES, WIDTH = 3, 480
LINE = 4
"""Pixels between pictures."""


def small(frame: torch.Tensor) -> np.ndarray:
    """(height, width, 3) bytes, `WIDTH` wide."""
    picture = Image.fromarray(to_uint8(frame).permute(1, 2, 0).numpy())
    return np.asarray(picture.resize((WIDTH, round(WIDTH * picture.height / picture.width)), Image.Resampling.LANCZOS))


def read(path: Path, places: list[int]) -> list[np.ndarray]:
    """Frames of a video at some places."""
    with open_reader(path) as reader:
        return [small(torch.from_numpy(next(reader.frames(place, place + 1)).rgb)) for place in places]


def joined(pictures: list[np.ndarray], axis: int) -> np.ndarray:
    """Pictures along an axis, a white line between them."""
    shape = list(pictures[0].shape)
    shape[axis] = LINE
    line = np.full(shape, 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, line)][:-1], axis)


def main(source: str, output: str, seconds: str = "3") -> None:
    info = probe(source)
    count = max(1, min(info.frames, round(float(seconds) * info.fps)))
    places = [round(k * (count - 1) / (TIMES - 1)) for k in range(TIMES)]
    with tempfile.TemporaryDirectory() as work:
        made = Path(work) / "depth.mkv"
        vrestore.estimate_depth(source, made, options=vrestore.RunOptions(end=str(count)))
        rows = [joined(read(Path(path), places), 1) for path in (source, made)]
    Image.fromarray(joined(rows, 0)).save(output, quality=90)
    print(f"{output}: frames {', '.join(map(str, places))} of {source}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except vrestore.VRestoreError as error:  # its message says what was wrong and what to do
        sys.exit(f"{error}")
