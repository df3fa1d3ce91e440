"""How clips were reduced, as `vrestore sr` measures it, and what that gains. See README.md beside this."""

import json
import tempfile
from pathlib import Path

import click
import numpy as np
import torch
from clips import write

from vrestore.bicubic import BICUBIC, GAUSSIAN, Kernel
from vrestore.degradation import Resize, to_uint8
from vrestore.guidance import project
from vrestore.luma import psnr_y
from vrestore.reduction import Reduction
from vrestore.tasks.super_resolution import EXACT_PROJECTIONS, SuperResolution
from vrestore.weights.recipe.footage import footage_clips

KERNELS = {
    "bicubic": BICUBIC,
    "lanczos": Kernel(lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0), 3.0),
    "area": Kernel(lambda x: (np.abs(x) <= 0.5).astype(float), 0.5),
    "bilinear": Kernel(lambda x: np.maximum(1 - np.abs(x), 0), 1.0),
    "gaussian": GAUSSIAN,
}
BORDER = 8


@click.command(help=__doc__)
@click.argument("clips", type=click.Path(exists=True, path_type=Path))
@click.option("--most", default=10, show_default=True, help="Clips, evenly drawn.")
@click.option("--scale", type=click.Choice(["2", "4"]), default="4", show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(clips: Path, most: int, scale: str, threads: int) -> None:
    torch.set_num_threads(threads)
    found = footage_clips(clips, 5, 256)
    chosen = [found[i] for i in np.linspace(0, len(found) - 1, most).astype(int)]
    for name, kernel in KERNELS.items():
        rows = [judged(torch.from_numpy(clip).permute(0, 3, 1, 2) / 255, kernel, int(scale)) for clip in chosen]
        softness = np.concatenate([row[0] for row in rows])
        bicubic, measured = np.mean([row[1] for row in rows], 0)
        facts = {"softness": softness.mean(), "least": softness.min(), "most": softness.max()}
        gains = {"bicubic_gain_db": bicubic, "measured_gain_db": measured}
        click.echo(json.dumps({"reduced": name} | {k: round(float(v), 3) for k, v in (facts | gains).items()}))


def judged(truth: torch.Tensor, kernel: Kernel, scale: int) -> tuple[list[float], tuple[float, float]]:
    """Softness of every frame; dB gained over no projection at all by a bicubic one, and by what `finish` does."""
    size = (truth.shape[-2], truth.shape[-1])
    small = (size[0] // scale, size[1] // scale)
    low = to_uint8(Resize(size, small, kernel).apply(truth))
    with tempfile.TemporaryDirectory() as folder:
        source = write(Path(folder) / "in.mkv", low.permute(0, 2, 3, 1).numpy())
        free = torch.stack(list(SuperResolution(scale=scale, fidelity=0.49).stream(source)))
    low, reduction, up = low / 255, Reduction(size, small), Resize(small, size)
    bicubic = project(free, low, reduction.sharp.apply, up.apply, iterations=EXACT_PROJECTIONS)
    head = SuperResolution(scale=scale)
    measured = torch.stack([head.finish(x, y, exact=True) for x, y in zip(free, low, strict=True)])
    before = psnr_y(free, truth, BORDER)
    gains = (psnr_y(bicubic, truth, BORDER) - before, psnr_y(measured, truth, BORDER) - before)
    return [reduction.softness(x, y) for x, y in zip(free, low, strict=True)], gains


if __name__ == "__main__":
    main()
