"""One picture per head, made from one sharp clip: what goes in on the left, what comes out on the right.

Super-resolution gets the clip at a quarter of its size, deblurring gets it through a shutter that is open all the time,
interpolation gets every second frame.

python examples/heads.py clip.mp4 pictures/
"""

import sys
import tempfile
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

import vrestore
from vrestore.degradation import Resize, to_uint8
from vrestore.exposure import to_light, to_values
from vrestore.flow import between, flow_pair
from vrestore.video import open_reader, probe

FRAMES, SHOWN = 7, 3
INSTANTS = 9


def read(path: Path, count: int) -> torch.Tensor:
    """The first frames of a video, (count, 3, height, width), its sides cut to multiples of 16."""
    with open_reader(path) as reader:
        frames = torch.stack([torch.from_numpy(frame.rgb) for frame in reader.frames(0, count)])
    return frames[..., : frames.shape[-2] // 16 * 16, : frames.shape[-1] // 16 * 16]


def write(path: Path, frames: torch.Tensor) -> Path:
    """Losslessly."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width = frames.shape[-2:]
        stream.pix_fmt = "bgr0"
        for frame in to_uint8(frames).permute(0, 2, 3, 1).numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def exposed(frames: torch.Tensor) -> torch.Tensor:
    """All but the first and the last frame, as a shutter that never closes sees them."""
    flows = [flow_pair(a, b) for a, b in pairwise(frames)]
    seen = []
    for i in range(1, len(frames) - 1):
        light = to_light(frames[i])
        for k in range(1, INSTANTS // 2 + 1):
            later, earlier = k / INSTANTS, 1 - k / INSTANTS
            light = light + to_light(between(frames[i], frames[i + 1], flows[i], later).blend[0])
            light = light + to_light(between(frames[i - 1], frames[i], flows[i - 1], earlier).blend[0])
        seen.append(to_values(light / INSTANTS))
    return torch.stack(seen)


def side_by_side(path: Path, *pictures: torch.Tensor) -> None:
    """Pictures of one height beside one another, a white line between them."""
    line = torch.ones(3, pictures[0].shape[-2], 6)
    row = torch.cat([part for picture in pictures for part in (picture, line)][:-1], dim=-1)
    Image.fromarray(to_uint8(row).permute(1, 2, 0).numpy()).save(path, quality=92)


def main(source: str, output: str) -> None:
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    frames = read(Path(source), min(FRAMES, probe(source).frames))
    height, width = frames.shape[-2:]
    with tempfile.TemporaryDirectory() as work:
        given, made = Path(work) / "in.mkv", Path(work) / "out.mkv"

        low = Resize((height, width), (height // 4, width // 4)).apply(frames)
        vrestore.super_resolve(write(given, low), made)
        large = Resize((height // 4, width // 4), (height, width)).apply(low)
        side_by_side(folder / "sr.jpg", large[SHOWN], read(made, SHOWN + 1)[SHOWN])

        blurred = exposed(frames)
        options = vrestore.RunOptions(overwrite=True)
        vrestore.deblur(write(given, blurred), made, options=options)
        side_by_side(folder / "deblur.jpg", blurred[SHOWN - 1], read(made, SHOWN)[SHOWN - 1])

        vrestore.interpolate(write(given, frames[::2]), made, options=options)
        halfway = (frames[SHOWN - 1] + frames[SHOWN + 1]) / 2
        side_by_side(folder / "interpolate.jpg", halfway, read(made, SHOWN + 1)[SHOWN])
    print(f"{folder}/sr.jpg, deblur.jpg, interpolate.jpg")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except vrestore.VRestoreError as error:  # its message says what was wrong and what to do
        sys.exit(f"{error}")
