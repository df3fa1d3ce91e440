"""What deblurring without training gains, on the blur of a protocol: a line of JSON for every clip.

    python tests/benchmarks/zero_shot.py QUALITY CLIP... [--first 10 --frames 8 --crop 448x256]

QUALITY is a folder with ``degrade.py`` (``blur_interp``: seven sub-frames over 360 degrees), ``metrics.py`` and
``vio.py``; a CLIP is a video or a folder of pictures. Frames are given to and taken from the recipe in 8 bits.
"""

import json
import sys
import time
from pathlib import Path

import click
import numpy as np
import torch

from vrestore.shutter import estimate_shutter
from vrestore.zero_shot import ZeroShot, deblurred


def tensor(picture):
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255


def picture(frame):
    return (frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def centre(frame, crop):
    width, height = (int(side) for side in crop.split("x"))
    y, x = (max(0, a - b) // 2 for a, b in zip(frame.shape[:2], (height, width), strict=True))
    return frame[y : y + height, x : x + width]


@click.command()
@click.argument("quality", type=click.Path(exists=True, path_type=Path))
@click.argument("clips", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--first", default=10)
@click.option("--frames", default=8)
@click.option("--crop", default="448x256")
@click.option("--shutter", default="360", help="Degrees that the recipe is told; auto: estimated.")
@click.option("--instants", default=None, type=int, help="Sub-instants that the recipe is told.")
@click.option("--rounds", default=ZeroShot.rounds)
@click.option("--refine/--no-refine", default=ZeroShot.refine)
@click.option("--weight", default=ZeroShot.weight)
def main(quality, clips, first, frames, crop, shutter, instants, rounds, refine, weight):
    sys.path.insert(0, str(quality))
    import degrade
    import metrics
    import vio

    for clip in clips:
        sharp = [np.ascontiguousarray(centre(f, crop)) for f in vio.decode(str(clip), first, frames)]
        blurred, truth = degrade.blur_interp(sharp)
        given = [tensor(f) for f in blurred]
        start = time.monotonic()
        share = estimate_shutter(torch.stack(given)).share if shutter == "auto" else float(shutter) / 360
        how = ZeroShot(share, instants, rounds, refine, weight)
        found = [picture(f) for f in deblurred(given, how)]
        seconds = time.monotonic() - start
        scores = {
            name: np.mean([metrics.psnr_y(a, b) for a, b in zip(pictures, truth, strict=True)])
            for name, pictures in (("blurred", blurred), ("deblurred", found))
        }
        row = {"clip": clip.stem, "shutter": round(360 * share)}
        row |= {name: round(float(db), 2) for name, db in scores.items()}
        row["gain"] = round(float(scores["deblurred"] - scores["blurred"]), 2)
        row["seconds_per_megapixel"] = round(seconds / (len(given) * given[0][0].numel() / 1e6), 1)
        click.echo(json.dumps(row))


if __name__ == "__main__":
    main()
