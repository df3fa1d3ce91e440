"""Benchmarks of the heads that restore: speed, memory, seams, tiles. See README.md beside this file."""

import json
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np
from programs import reported

from vrestore import CompareConfig, compare
from vrestore.plan import WindowsPlan
from vrestore.video import probe

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


head_option = click.option("--head", type=click.Choice(list(SIZES)), default="sr", show_default=True)


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
@head_option
def memory(steps: str, head: str) -> None:
    for count in steps.split(","):
        with tempfile.TemporaryDirectory() as folder:
            peaks = {}
            for frames in (200, 2000):
                clip = made_clip(Path(folder) / f"{frames}.mkv", frames, *SIZES[head])
                report = restore(clip, Path(folder) / "out.mkv", "--steps", count, head=head)
                peaks[frames] = round(report["peak_mib"])
                live = report["peak_live_latents"]
        row = {"head": head, "steps": int(count), "peak_mib": peaks, "ratio": round(peaks[2000] / peaks[200], 3)}
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
def tiles(degraded: Path, head: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder) / "whole.mkv", Path(folder) / "parts.mkv"
        restore(degraded, whole, head=head)
        for tile in ("256", "384"):
            restore(degraded, parts, "--tile", tile, head=head)
            scores = compare(whole, parts).scores["b"]
            click.echo(json.dumps({"tile": int(tile), "psnr_rgb_db": scores["psnr_rgb"]}))


if __name__ == "__main__":
    main()
