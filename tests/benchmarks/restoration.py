"""Benchmarks of the heads that restore: speed, memory, seams, tiles. See README.md beside this file."""

import json
import tempfile
from pathlib import Path

import click
import numpy as np
import torch
from clips import read, write
from programs import reported

from vrestore import CompareConfig, compare
from vrestore.degradation import add_noise, through_h264, to_uint8
from vrestore.luma import psnr_y
from vrestore.plan import WindowsPlan
from vrestore.video import probe
from vrestore.weights.recipe.judge import load_sequences

PRIOR_STAGES = ("encode", "denoise", "reconstruct")


IDENTITY = Path(__file__).parents[1] / "identity" / "identity_head.py"
HEADS = {name: ["-m", "vrestore", name] for name in ("sr", "deblur", "interpolate")}
HEADS |= {"identity": [str(IDENTITY), "identity"]}
SIZES = {"sr": (48, 64), "deblur": (192, 256), "interpolate": (192, 256)}
"""Height and width of the clips that memory is measured on."""
MIB = 1 << 20


def restore(clip: Path, output: Path, *options: str, head: str = "sr") -> dict:
    """Run a head on a clip; see `reported`."""
    return reported(HEADS[head], clip, output, *options)


def made_clip(path: Path, frames: int, height: int, width: int) -> Path:
    """A drifting texture, losslessly."""
    texture = np.random.default_rng(0).integers(0, 256, (height * 2, width * 2, 3), np.uint8)
    return write(path, (np.roll(texture, (n // 2, n), (0, 1))[:height, :width] for n in range(frames)))


@click.group(help=__doc__)
def main() -> None:
    pass


head_option = click.option("--head", type=click.Choice(list(SIZES)), default="sr", show_default=True)
more = click.argument("options", nargs=-1, metavar="[-- OPTIONS]")


@main.command()
@click.argument("clip", type=click.Path(exists=True, path_type=Path))
@head_option
def speed(clip: Path, head: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = restore(clip, Path(folder) / "out.mkv", head=head)
    shares = report["shares"]
    overhead = shares["engine"] / max(sum(shares[stage] for stage in PRIOR_STAGES), 1e-9)
    click.echo(json.dumps({k: report[k] for k in ("frames", "width", "height", "seconds", "seconds_per_megapixel")}))
    click.echo(
        json.dumps({"shares": {k: round(v, 4) for k, v in shares.items()}, "engine_overhead": round(overhead, 4)})
    )


@main.command()
@click.option("--frames", default=24, show_default=True)
@click.option("--heads", default="identity,sr", show_default=True)
@click.option("--suffix", default=".mp4", show_default=True, help="Of the outputs: their codec takes memory, too.")
def estimate(frames: int, heads: str, suffix: str) -> None:
    """The estimated peak and that of a whole run, over a run of one small frame (the program itself)."""
    for head in heads.split(","):
        for width, height in ((854, 480), (1920, 1080)):
            scale = 4 if head == "sr" else 1
            with tempfile.TemporaryDirectory() as folder:
                output = Path(folder) / f"out{suffix}"
                clip = made_clip(Path(folder) / "in.mkv", frames, height // scale // 2 * 2, width // scale // 2 * 2)
                least = made_clip(Path(folder) / "least.mkv", 1, 64, 64)
                plan = restore(clip, output, "--dry-run", head=head)
                found = restore(clip, output, head=head)["peak_mib"] - restore(least, output, head=head)["peak_mib"]
            planned = plan["peak_bytes"] / MIB
            row = {"head": head, "output": plan["output_size"], "codec": plan["codec"], "tiles": plan["tiles"]}
            row |= {"estimated_mib": round(planned), "measured_mib": round(found), "ratio": round(found / planned, 2)}
            click.echo(json.dumps(row))


@main.command()
@click.option("--steps", default="1,8", show_default=True)
@click.option(
    "--frames", default=200, show_default=True, help="Of the shorter clip; the longer one has ten times as many."
)
@head_option
@more
def memory(steps: str, frames: int, head: str, options: tuple[str, ...]) -> None:
    for count in steps.split(","):
        with tempfile.TemporaryDirectory() as folder:
            peaks = {}
            for length in (frames, 10 * frames):
                clip = made_clip(Path(folder) / f"{length}.mkv", length, *SIZES[head])
                report = restore(clip, Path(folder) / "out.mkv", "--steps", count, *options, head=head)
                peaks[length] = round(report["peak_mib"])
                live = report["peak_live_latents"]
        ratio = round(peaks[10 * frames] / peaks[frames], 3)
        row = {"head": head, "steps": int(count), "peak_mib": peaks, "ratio": ratio}
        click.echo(json.dumps(row | {"live_latents": live}))


@main.command()
@click.argument("degraded", type=click.Path(exists=True, path_type=Path))
@click.argument("truth", type=click.Path(exists=True, path_type=Path))
@head_option
def seams(degraded: Path, truth: Path, head: str) -> None:
    """Interpolation bridges one gap at a time: its seams are the frames that it was given, every second one."""
    frames = probe(degraded).frames
    with tempfile.TemporaryDirectory() as folder:
        whole, out = Path(folder) / "whole.mkv", Path(folder) / "out.mkv"
        if head == "interpolate":
            restore(degraded, whole, head=head)
            restore(whole, out, "--end", str(probe(truth).frames), head="identity")  # it holds its last frame
            starts = tuple(range(2, 2 * frames - 1, 2))
            scores = compare(truth, out, CompareConfig(ref=truth, bounds=starts)).scores["b"]
            click.echo(json.dumps({key: scores[key] for key in ("seam", "jump", "warp_rel")}))
            return
        restore(degraded, whole, "--window", str(frames), "--overlap", "0", head=head)
        for window, overlap in ((8, 2), (8, 4), (16, 2), (16, 4)):
            starts = WindowsPlan(frames, window, overlap, 1).starts[1:]
            restore(degraded, out, "--window", str(window), "--overlap", str(overlap), head=head)
            scores, control = (
                compare(degraded, path, CompareConfig(ref=truth, bounds=starts)).scores["b"] for path in (out, whole)
            )
            row = {"window": window, "overlap": overlap, "starts": starts}
            row |= {"seam": scores["seam"], "seam_without_windows": control["seam"], "jump": scores["jump"]}
            click.echo(json.dumps(row | {"warp_rel": scores["warp_rel"]}))


@main.command()
@click.argument("degraded", type=click.Path(exists=True, path_type=Path))
@head_option
@more
def tiles(degraded: Path, head: str, options: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder) / "whole.mkv", Path(folder) / "parts.mkv"
        restore(degraded, whole, *options, head=head)
        for tile in ("256", "384"):
            restore(degraded, parts, "--tile", tile, *options, head=head)
            scores = compare(whole, parts).scores["b"]
            click.echo(json.dumps({"tile": int(tile), "psnr_rgb_db": scores["psnr_rgb"]}))


CLEANUPS = {
    "noise 8": (8, None),
    "noise 3": (3, None),
    "noise 4, crf 26": (4, 26),
    "crf 28": (0, 28),
    "crf 34": (0, 34),
}
"""Deviation of the noise, in 8-bit levels, and the constant rate factor of H.264, if any."""


@main.command()
@click.argument("sequences", type=click.Path(exists=True, path_type=Path))
@click.option("--frames", default=9, show_default=True)
@click.option("--size", default="256x448", show_default=True, help="Of the part that is taken of the middle.")
@click.option("--denoise", default="0,1", show_default=True)
def cleanup(sequences: Path, frames: int, size: str, denoise: str) -> None:
    """PSNR-Y gained by ``--scale 1`` on every folder of frames in SEQUENCES, noisy or compressed."""
    height, width = map(int, size.split("x"))
    gains = {(name, how): [] for name in CLEANUPS for how in denoise.split(",")}
    with tempfile.TemporaryDirectory() as folder:
        seen, out = Path(folder) / "in.mkv", Path(folder) / "out.mkv"
        for truth in load_sequences(sequences, frames, (height, width)).values():
            for name, (deviation, crf) in CLEANUPS.items():
                noisy = to_uint8(add_noise(truth, deviation, 0.0, torch.Generator().manual_seed(0)))
                pictures = list(noisy.permute(0, 2, 3, 1).numpy())
                write(seen, pictures if crf is None else through_h264(pictures, crf))
                before = psnr_y(read(seen), truth)
                for how in denoise.split(","):
                    restore(seen, out, "--scale", "1", "--denoise", how)
                    gains[name, how].append(psnr_y(read(out), truth) - before)
    for (name, how), found in gains.items():
        row = {"degradation": name, "denoise": float(how), "gain_db": round(float(np.mean(found)), 2)}
        click.echo(json.dumps(row | {"worst_db": round(min(found), 2)}))


if __name__ == "__main__":
    main()
