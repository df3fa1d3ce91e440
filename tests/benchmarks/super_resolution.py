"""Benchmarks of ``vrestore sr``: speed, memory, seams, tiles. See README.md beside this file."""

import json
import os
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np

from vrestore import CompareConfig, compare
from vrestore.plan import WindowsPlan
from vrestore.video import probe

PRIOR_STAGES = ("encode", "denoise", "reconstruct")


IDENTITY = Path(__file__).parents[1] / "identity" / "identity_head.py"
HEADS = {"sr": ["-m", "vrestore", "sr"], "identity": [str(IDENTITY), "identity"]}
MIB = 1 << 20


def restore(clip: Path, output: Path, *options: str, head: str = "sr") -> dict:
    """Run the program on a clip; its report, with the peak memory of the whole process in MiB."""
    command = [sys.executable, *HEADS[head], str(clip), "-o", str(output), "--json", "--quiet", *options]
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise click.ClickException(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
        out.seek(0)
        return json.load(out) | {"peak_mib": usage.ru_maxrss / 1024}


def made_clip(path: Path, frames: int, height: int = 48, width: int = 64) -> Path:
    """A drifting texture, losslessly."""
    texture = np.random.default_rng(0).integers(0, 256, (height * 2, width * 2, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        for n in range(frames):
            part = np.roll(texture, (n // 2, n), (0, 1))[:height, :width]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(part), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.argument("clip", type=click.Path(exists=True, path_type=Path))
def speed(clip: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = restore(clip, Path(folder) / "out.mkv")
    shares = report["shares"]
    overhead = shares["engine"] / sum(shares[stage] for stage in PRIOR_STAGES)
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
def memory(steps: str) -> None:
    for count in steps.split(","):
        with tempfile.TemporaryDirectory() as folder:
            peaks = {}
            for frames in (200, 2000):
                clip = made_clip(Path(folder) / f"{frames}.mkv", frames)
                report = restore(clip, Path(folder) / "out.mkv", "--steps", count)
                peaks[frames] = report["peak_mib"]
                live = report["peak_live_latents"]
        row = {"steps": int(count), "peak_mib": peaks, "ratio": peaks[2000] / peaks[200], "live_latents": live}
        click.echo(json.dumps(row))


@main.command()
@click.argument("lowres", type=click.Path(exists=True, path_type=Path))
@click.argument("truth", type=click.Path(exists=True, path_type=Path))
def seams(lowres: Path, truth: Path) -> None:
    frames = probe(lowres).frames
    with tempfile.TemporaryDirectory() as folder:
        whole, out = Path(folder) / "whole.mkv", Path(folder) / "out.mkv"
        restore(lowres, whole, "--window", str(frames), "--overlap", "0")
        for window, overlap in ((8, 2), (8, 4), (16, 2), (16, 4)):
            starts = WindowsPlan(frames, window, overlap, 1).starts[1:]
            restore(lowres, out, "--window", str(window), "--overlap", str(overlap))
            scores, control = (
                compare(lowres, path, CompareConfig(ref=truth, bounds=starts)).scores["b"] for path in (out, whole)
            )
            row = {"window": window, "overlap": overlap, "starts": starts}
            row |= {"seam": scores["seam"], "seam_without_windows": control["seam"], "jump": scores["jump"]}
            click.echo(json.dumps(row))


@main.command()
@click.argument("lowres", type=click.Path(exists=True, path_type=Path))
def tiles(lowres: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder) / "whole.mkv", Path(folder) / "parts.mkv"
        restore(lowres, whole)
        for tile in ("256", "384"):
            restore(lowres, parts, "--tile", tile)
            scores = compare(whole, parts).scores["b"]
            click.echo(json.dumps({"tile": int(tile), "psnr_rgb_db": scores["psnr_rgb"]}))


if __name__ == "__main__":
    main()
