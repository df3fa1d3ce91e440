"""Plans of long sequences side by side: their costs, and what they do to an exact prior. See README.md beside this."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import click
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "plan"))
import exact

from vrestore.attention_time import WindowedTime, windowed_in_time
from vrestore.noise_sources import Independent, Rescheduled
from vrestore.plan import BandsPlan, CutsPlan, DiagonalPlan, GridsPlan, HierarchyPlan, WindowsPlan, outline
from vrestore.plan.families import autoregressive, fifo, nuwa_xl
from vrestore.spectral import SpectralBlend
from vrestore.synthesis import Sampler


def plans(frames: int, levels: int) -> dict:
    """By name: a plan, and how it is run."""
    renewed, start = Sampler(renew=round(0.9 * levels)), Rescheduled(Independent(0, exact.SHAPE, levels), 0)
    return {
        "full sequence": (DiagonalPlan(frames, levels, pace=0), {}),
        "windows, overlap 8": (WindowsPlan(frames, 16, 8, levels), {}),
        "windows, FreeNoise start": (WindowsPlan(frames, 16, 8, levels), {"start": start}),
        "windows, FlowLong": (WindowsPlan(frames, 16, 8, levels), {"moves": renewed}),
        "cuts": (CutsPlan(frames, 16, 4, levels), {}),
        "grids (RAVE)": (GridsPlan(frames, 16, levels), {}),
        "two bands": (BandsPlan(frames, 16, 8, levels), {"reduce": SpectralBlend(0.25)}),
        "FIFO": (fifo(frames, 16, levels // 16), {}),
        "diagonal, chunks of 4": (DiagonalPlan(frames, levels, 4, levels // 4, history=4), {}),
        "chunks of 8 behind 8": (autoregressive(frames, levels, 8, 8), {}),
        "chunks of 8 behind 8, held": (autoregressive(frames, levels, 8, 8, held=1), {}),
        "NUWA-XL, windows of 6": (nuwa_xl(frames, 6, levels), {}),
        "keyframes": (HierarchyPlan(frames, 16, levels), {}),
        "keyframes, streaming": (HierarchyPlan(frames, 16, levels, order="streaming"), {}),
    }


def costs(plan) -> dict:
    found = outline(plan)
    return {
        "calls_per_frame": round(found.calls_per_frame, 2),
        "critical_path": found.critical_path,
        "live": found.live,
    }


@click.group(help=__doc__)
def main() -> None:
    torch.set_num_threads(1)


@main.command()
@click.option("--levels", default=48, show_default=True)
@click.option("--only", default="", help="Part of the names of the plans to run.")
def table(levels: int, only: str) -> None:
    """Costs at 1,440 frames, and figures on the exact prior at 96 frames; drift at 192, with a fault of .03."""
    prior, true, faulty = (exact.GaussianPrior(**kind) for kind in ({}, {"slow": 60}, {"slow": 60, "bias": 0.03}))
    truth = {f"at {k}": round(float(prior.covariance(k)), 2) for k in (8, 16, 32, 60)}
    click.echo(json.dumps({"plan": "truth", "variance": 1.0, "jump": 1.0, "worst": 1.0} | truth))
    long, medium = plans(1440, levels), plans(192, levels)
    for name, (plan, options) in plans(96, levels).items():
        if only not in name:
            continue
        row = {
            key: round(float(value), 2)
            for key, value in exact.figures(prior, exact.sample(plan, prior, **options)).items()
        }
        if "start" not in options:
            far = medium[name][0]
            one, other = (exact.sample(far, each, shape=(1, 1, 1), **options) for each in (faulty, true))
            row["drift"] = round(exact.drift(one - other), 3)
        click.echo(json.dumps({"plan": name} | costs(long[name][0]) | row))


def tiny_unet():
    from diffusers import UNetMotionModel

    torch.manual_seed(0)
    return UNetMotionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(32, 64), norm_num_groups=8,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"), layers_per_block=1,
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"), cross_attention_dim=16, num_attention_heads=2,
        motion_num_attention_heads=2, motion_max_seq_length=16,
    ).eval().requires_grad_(False)  # fmt: skip


def called(unet, frames: int):
    z = torch.zeros(1, 4, frames, 16, 16)
    return unet(z, torch.tensor(300.0), torch.ones(frames, 5, 16)).sample


def ours(unet, frames: int, size: int = 64, overlap: int = 8) -> None:
    """One level of a plan in windows, of which the network's attention sees smaller ones."""
    plan = WindowsPlan(frames, size, overlap, 1)
    with windowed_in_time(unet, WindowedTime(16, 4)):
        for steps in plan.ticks():
            for step in steps:
                called(unet, len(step.frames))


def theirs(unet, frames: int) -> None:
    called(unet, frames)


@main.command()
@click.argument("how", type=click.Choice(["ours", "theirs"]))
@click.argument("frames", type=int)
def one(how: str, frames: int) -> None:
    """One level of so many frames: seconds, and what memory grew by. For `freenoise`."""
    unet = tiny_unet()
    if how == "theirs":
        from types import SimpleNamespace

        from diffusers.pipelines.free_noise_utils import AnimateDiffFreeNoiseMixin

        holder = type("Holder", (AnimateDiffFreeNoiseMixin,), {})()
        holder.device, holder.dtype = unet.device, unet.dtype
        holder.unet, holder.motion_adapter = unet, SimpleNamespace(config=SimpleNamespace(motion_max_seq_length=16))
        holder.enable_free_noise(context_length=16, context_stride=4)
    called(unet, 16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    (ours if how == "ours" else theirs)(unet, frames)
    seconds = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    click.echo(json.dumps({"how": how, "frames": frames, "cpu_seconds": round(seconds, 2), "mib": round(grown)}))


@main.command()
@click.option("--lengths", default="64,128,256,512", show_default=True)
def freenoise(lengths: str) -> None:
    """Against FreeNoise of diffusers on the same small UNetMotionModel, each run in a process of its own."""
    for frames in lengths.split(","):
        for how in ("ours", "theirs"):
            done = subprocess.run(
                [sys.executable, __file__, "one", how, frames], capture_output=True, text=True, check=True
            )
            click.echo(done.stdout.strip())


@main.command()
@click.option("--frames", default=256, show_default=True)
def attention(frames: int) -> None:
    """What windows within the network cost over plain windows of a plan, at one level."""
    unet = tiny_unet()
    called(unet, 16)
    for name, run in (
        ("plain, no overlap", lambda: [called(unet, 16) for _ in range(frames // 16)]),
        ("plain, overlap 8", lambda: [called(unet, 16) for _ in range(frames // 8 - 1)]),
        ("within the network, calls of 64, overlap 8", lambda: ours(unet, frames)),
    ):
        times = []
        for _ in range(3):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        click.echo(json.dumps({"windows": name, "cpu_seconds": round(min(times), 2)}))


@main.command()
@click.option("--frames", default=1024, show_default=True)
@click.option("--levels", default=4, show_default=True)
@click.option("--batch", default=64, show_default=True)
def parallel(frames: int, levels: int, batch: int) -> None:
    """NUWA-XL's claim: keyframes, all windows of a depth together, against chunks one after the other."""
    unet, rows = tiny_unet(), []
    for name, plan in (
        ("keyframes", HierarchyPlan(frames, 16, levels)),
        ("chunks", autoregressive(frames, levels, 8, 8)),
    ):
        start = time.perf_counter()
        for steps in plan.ticks():
            for i in range(0, len(steps), batch):
                n, width = len(steps[i : i + batch]), max(len(step.frames) for step in steps)
                unet(torch.zeros(n, 4, width, 16, 16), torch.tensor(300.0), torch.ones(n * width, 5, 16))
        rows.append(outline(plan).critical_path)
        click.echo(json.dumps({"plan": name} | costs(plan) | {"seconds": round(time.perf_counter() - start, 1)}))
    click.echo(json.dumps({"critical_path_ratio": round(rows[1] / rows[0], 1)}))


if __name__ == "__main__":
    main()
