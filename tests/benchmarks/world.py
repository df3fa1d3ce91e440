"""Heads on the procedural world, whose truth is known at any instant: pictures between frames, and exposures.

    python tests/benchmarks/world.py between DATA      # interpolate --factor 4: each quarter against the truth
    python tests/benchmarks/world.py exposures DATA    # deblur: each shutter against the sharp middle instants

DATA/stills holds photographs for the textures. Scenes are drawn from seeds that no training uses. Prints JSON lines.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
from clips import write
from torch import Tensor

from vrestore import Deblurring, Interpolation
from vrestore.degradation import to_uint8
from vrestore.flow import between, flow_pair
from vrestore.luma import psnr_y
from vrestore.weights.recipe.textures import TextureBank
from vrestore.weights.recipe.world import WorldConfig, render_exposed, render_scene

SEED = 1_000_000
QUARTERS = 4
BORDER = 8
SHUTTERS = (90, 180, 270, 360)
SUB_FRAMES = 15


def written(path: Path, frames: Tensor) -> Path:
    """Frames (t, 3, h, w) in [0, 1], losslessly."""
    return write(path, to_uint8(frames).permute(0, 2, 3, 1).numpy())


def rounded(frames: Tensor) -> Tensor:
    """To 8 bits."""
    return (frames.clamp(0, 1) * 255).round() / 255


def scenes(data: Path, count: int) -> Iterator[tuple[np.random.Generator, TextureBank]]:
    bank = TextureBank(data / "stills")
    for i in range(count):
        yield np.random.default_rng([SEED, i]), bank


@click.group(help=__doc__)
def main() -> None:
    torch.set_num_threads(1)


@main.command("between")
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--clips", default=12, show_default=True)
@click.option("--frames", default=7, show_default=True, help="Frames that are given of every clip.")
@click.option("--size", default=256, show_default=True)
def between_command(data: Path, clips: int, frames: int, size: int) -> None:
    """PSNR-Y at a quarter, half and three quarters of the way, of the head and of the flow alone."""
    found: dict[int, list[tuple[float, float]]] = {i: [] for i in range(1, QUARTERS)}
    times = np.arange((frames - 1) * QUARTERS + 1) / QUARTERS
    for rng, bank in scenes(data, clips):
        truth = rounded(render_scene(rng, bank, WorldConfig(size=size), times - times.mean()))
        with tempfile.TemporaryDirectory() as folder:
            source = written(Path(folder) / "in.mkv", truth[::QUARTERS])
            head = Interpolation(factor=QUARTERS)
            made = torch.stack([frame.cpu() for frame in head.stream(source)])
        for k in range(len(times)):
            if k % QUARTERS:
                left, right = truth[k - k % QUARTERS], truth[k - k % QUARTERS + QUARTERS]
                flow = between(left, right, flow_pair(left, right), k % QUARTERS / QUARTERS).blend[0]
                pair = psnr_y(made[k], truth[k], BORDER), psnr_y(rounded(flow), truth[k], BORDER)
                found[k % QUARTERS].append(pair)
    for quarter, pairs in found.items():
        ours, flow = np.mean(pairs, axis=0)
        click.echo(json.dumps({"time": f"{quarter}/{QUARTERS}", "psnr_y": round(ours, 2), "flow": round(flow, 2)}))


@main.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--clips", default=6, show_default=True)
@click.option("--frames", default=5, show_default=True)
@click.option("--size", default=256, show_default=True)
@click.option("--told/--measured", default=True, show_default=True, help="Whether the head is told the shutter.")
def exposures(data: Path, clips: int, frames: int, size: int, told: bool) -> None:
    """PSNR-Y of deblurred exposures and of the exposures themselves, and the least gain of a clip."""
    for shutter in SHUTTERS:
        pairs = []
        for rng, bank in scenes(data, clips):
            world = WorldConfig(size=size, frames=frames)
            sharp, seen = (rounded(x) for x in render_exposed(rng, bank, world, shutter / 360, SUB_FRAMES))
            with tempfile.TemporaryDirectory() as folder:
                source = written(Path(folder) / "in.mkv", seen)
                head = Deblurring(shutter=float(shutter) if told else None)
                made = torch.stack([frame.cpu() for frame in head.stream(source)])
            pairs.append((psnr_y(made, sharp, BORDER), psnr_y(seen, sharp, BORDER)))
        ours, before = np.mean(pairs, axis=0)
        gains = {"blurred": round(before, 2), "least_gain": round(min(a - b for a, b in pairs), 2)}
        click.echo(json.dumps({"shutter": shutter, "psnr_y": round(ours, 2), **gains}))


if __name__ == "__main__":
    main()
