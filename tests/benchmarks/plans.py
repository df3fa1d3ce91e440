"""Plans of long sequences side by side: their costs, and what they do to an exact prior. See README.md beside this."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path
from typing import get_args

import click
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "plan"))
import exact

from vrestore.attention_time import in_time
from vrestore.noise_sources import Independent, Rescheduled
from vrestore.plan import BandsPlan, CutsPlan, DiagonalPlan, GridsPlan, HierarchyPlan, WindowsPlan, outline
from vrestore.plan.attend import WindowedTime
from vrestore.plan.families import autoregressive, fifo, nuwa_xl
from vrestore.plans import PlanName, plan_for
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
@click.option("--levels", default=48, show_default=True, help="Of the exact prior.")
@click.option("--only", default="", help="Part of the names of the plans to run.")
@click.option("--prior", help="Name or folder of a prior that generates: its four plans are compared on it as well.")
@click.option("--prompt", default="red waves at sunset", show_default=True)
@click.option("--frames", default=1440, show_default=True)
@click.option("--steps", default=6, show_default=True, help="Of the prior.")
@click.option("--size", type=int, help="Side of the pictures; left out: the prior's own.")
@click.option("--guidance", type=float, help="1: none, half the cost; left out: the prior's own.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for contact sheets.")
def table(levels, only, prior, prompt, frames, steps, size, guidance, out) -> None:
    """Costs at 1,440 frames, and figures on the exact prior at 96 frames; drift at 192, with a fault of .03."""
    known, true, faulty = (exact.GaussianPrior(**kind) for kind in ({}, {"slow": 60}, {"slow": 60, "bias": 0.03}))
    truth = {f"at {k}": round(float(known.covariance(k)), 2) for k in (8, 16, 32, 60)}
    click.echo(json.dumps({"plan": "truth", "variance": 1.0, "jump": 1.0, "worst": 1.0} | truth))

    def figures(short, far, options) -> dict:
        values = exact.figures(known, exact.sample(short, known, **options))
        row = {key: round(float(value), 2) for key, value in values.items()}
        if "start" not in options:
            one, other = (exact.sample(far, each, shape=(1, 1, 1), **options) for each in (faulty, true))
            row["drift"] = round(exact.drift(one - other), 3)
        return row

    if prior is not None:
        import generated

        more = {"width": size, "height": size, "guidance_scale": guidance}
        settings = {"prior": prior, "prompt": prompt, "frames": frames, "steps": steps, **more}
        for name in (name for name in get_args(PlanName) if only in name):
            row = generated.run(name, settings, out)
            short, far = (plan_for(name, n, exact.FACTS, levels) for n in (96, 192))
            click.echo(json.dumps(row | {"exact": figures(short, far, {})}))
        return
    long, medium = plans(1440, levels), plans(192, levels)
    for name, (plan, options) in plans(96, levels).items():
        if only in name:
            row = costs(long[name][0]) | figures(plan, medium[name][0], options)
            click.echo(json.dumps({"plan": name} | row))


def tiny_unet():
    from diffusers import UNetMotionModel

    torch.manual_seed(0)
    return UNetMotionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(32, 64), norm_num_groups=8,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"), layers_per_block=1,
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"), cross_attention_dim=16, num_attention_heads=2,
        motion_num_attention_heads=2, motion_max_seq_length=16,
    ).eval().requires_grad_(False)  # fmt: skip


def called(unet, frames: int, batch: int = 1):
    z = torch.zeros(batch, 4, frames, 16, 16)
    return unet(z, torch.tensor(300.0), torch.ones(batch * frames, 5, 16)).sample


def ours(unet, frames: int, most: int = 136, overlap: int = 8) -> None:
    """One level of a plan in equal windows of at most so many frames, of which the network's attention sees smaller."""
    count = max(1, -(-(frames - overlap) // (most - overlap)))
    plan = WindowsPlan(frames, -(-(frames + (count - 1) * overlap) // count), overlap, 1)
    with in_time(unet, WindowedTime(16, 4)):
        for steps in plan.ticks():
            for step in steps:
                called(unet, len(step.frames))


def free_noise(unet) -> None:
    """That of diffusers, switched on."""
    from types import SimpleNamespace

    from diffusers.pipelines.free_noise_utils import AnimateDiffFreeNoiseMixin

    holder = type("Holder", (AnimateDiffFreeNoiseMixin,), {})()
    holder.device, holder.dtype = unet.device, unet.dtype
    holder.unet, holder.motion_adapter = unet, SimpleNamespace(config=SimpleNamespace(motion_max_seq_length=16))
    holder.enable_free_noise(context_length=16, context_stride=4)


@main.command()
@click.argument("how", type=click.Choice(["ours", "theirs"]))
@click.argument("frames", type=int)
@click.option("--repeats", default=1)
def one(how: str, frames: int, repeats: int) -> None:
    """One level of so many frames: seconds, and what memory grew by. For `freenoise`."""
    unet = tiny_unet()
    if how == "theirs":
        free_noise(unet)
    seconds = []
    with torch.inference_mode():
        called(unet, 16)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(repeats):
            start = time.process_time()
            (ours if how == "ours" else called)(unet, frames)
            seconds.append(time.process_time() - start)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    click.echo(json.dumps({"cpu_seconds": round(statistics.median(seconds), 2), "mib": round(grown)}))


@main.command()
@click.option("--lengths", default="64,128,256,512", show_default=True)
@click.option("--repeats", default=1, show_default=True, help="Of each; the median is taken.")
def freenoise(lengths: str, repeats: int) -> None:
    """Against FreeNoise of diffusers on the same small UNetMotionModel, each run in a process of its own.

    Memory is that of runs whose freed blocks go back at once: otherwise the allocator's leftovers are counted too.
    """
    at_once = {"MALLOC_MMAP_THRESHOLD_": "131072"}
    for frames in lengths.split(","):
        row = {"frames": int(frames)}
        for how in ("ours", "theirs"):
            for key, more, times in (("cpu_seconds", {}, repeats), ("mib", at_once, 1)):
                command = [sys.executable, __file__, "one", how, frames, "--repeats", str(times)]
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | more)
                row[f"{how}_{key}"] = json.loads(done.stdout)[key]
        click.echo(json.dumps(row | {"time_ratio": round(row["ours_cpu_seconds"] / row["theirs_cpu_seconds"], 2)}))


@main.command()
@click.option("--frames", default=256, show_default=True)
@click.option("--repeats", default=5, show_default=True, help="In turn; medians are taken, of times and of ratios.")
def attention(frames: int, repeats: int) -> None:
    """What windows within the network cost over plain windows, at one level: processor and wall time."""
    unet = tiny_unet()

    def within(calls: int) -> None:
        with in_time(unet, WindowedTime(16, 4)):
            for _ in range(calls):
                called(unet, frames // calls)

    ways = {
        "plain windows of 16, touching": lambda: [called(unet, 16) for _ in range(frames // 16)],
        "plain windows of 16, overlap 8": lambda: [called(unet, 16) for _ in range(frames // 8 - 1)],
        "FreeNoise within the network, calls that touch": lambda: within(max(1, frames // 128)),
        "the same, calls that overlap by 8": lambda: ours(unet, frames),
    }
    times: dict = {name: [] for name in ways}
    with torch.inference_mode():
        called(unet, 16)
        for _ in range(repeats):
            for name, run in ways.items():
                wall, cpu = time.perf_counter(), time.process_time()
                run()
                times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    first = next(iter(times.values()))
    for name, found in times.items():
        cpu, wall = (statistics.median(each) for each in zip(*found, strict=True))
        ratio = statistics.median(own[0] / plain[0] for own, plain in zip(found, first, strict=True))
        row = {"cpu_seconds": round(cpu, 3), "seconds": round(wall, 3), "over_touching": round(ratio, 3)}
        click.echo(json.dumps({"windows": name} | row))


@main.command()
@click.option("--frames", default=1024, show_default=True)
@click.option("--levels", default=4, show_default=True)
@click.option("--batch", default=16, show_default=True, help="Calls made together, where they do not wait for another.")
def parallel(frames: int, levels: int, batch: int) -> None:
    """NUWA-XL's claim: keyframes, all windows of a depth together, against chunks one after the other."""
    unet, rows = tiny_unet(), []
    for name, plan in (
        ("keyframes", HierarchyPlan(frames, 16, levels)),
        ("NUWA-XL", nuwa_xl(frames, 16, levels)),
        ("chunks of 8 behind 8", autoregressive(frames, levels, 8, 8)),
    ):
        wall, cpu, together = time.perf_counter(), time.process_time(), 0
        with torch.inference_mode():
            for steps in plan.ticks():
                for width, same in groupby(steps, lambda step: len(step.frames)):
                    for some in batched(same, batch):
                        called(unet, width, len(some))
                        together += 1
        row = costs(plan) | {"calls": plan.calls, "batched_calls": together}
        row |= {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - wall}
        rows.append(row)
        click.echo(json.dumps({"plan": name} | {key: round(value, 2) for key, value in row.items()}))
    for name, row in zip(("keyframes", "NUWA-XL"), rows, strict=False):
        ratios = {key: round(rows[-1][key] / row[key], 2) for key in ("critical_path", "batched_calls", "cpu_seconds")}
        click.echo(json.dumps({"chunks_over": name} | ratios))


def batched(items, size: int):
    """Lists of at most so many."""
    items = list(items)
    return [items[i : i + size] for i in range(0, len(items), size)]


if __name__ == "__main__":
    main()
