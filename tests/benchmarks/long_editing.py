"""Ways to edit a long clip on the same networks, side by side: frames one by one, windows, windows with cross-window
attention, and a straightforward port of LOVECon's windowing. See README.md beside this."""

import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F

from vrestore.executor import Executor
from vrestore.inversion import Inversion, round_trip
from vrestore.noise import noise
from vrestore.padding import pad_to
from vrestore.plan import CrossedPlan, CrossWindow, WindowsPlan
from vrestore.prior_options import EditOptions
from vrestore.priors.editing import EditPrior
from vrestore.sampling import advance, start
from vrestore.temporal import MotionMeter, summarise
from vrestore.video import open_reader, probe

WAYS = ("frames", "windows", "overlapping", "crossed", "crossed-overlapping", "lovecon")


def tiny_prior(folder: Path) -> Path:
    """Small random networks in the layout of Stable Diffusion 1.5 with a ControlNet: for costs, not for looks."""
    spec = importlib.util.spec_from_file_location("made", Path(__file__).parents[1] / "priors" / "conftest.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    from diffusers import ControlNetModel, UNet2DConditionModel

    torch.manual_seed(3)
    made.save_text(folder)
    made.small_vae(4, 0.18215).save_pretrained(folder / "vae")
    blocks = {"down_block_types": ("CrossAttnDownBlock2D",) * 2, "up_block_types": ("CrossAttnUpBlock2D",) * 2}
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=2, norm_num_groups=8, cross_attention_dim=16,
        attention_head_dim=8, **blocks,
    )  # fmt: skip
    unet.save_pretrained(folder / "unet")
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 16))
    made.awake(control).save_pretrained(folder / "controlnet")
    made.save_scheduler(folder / "scheduler", beta_start=0.00085, beta_end=0.012, **made.DDIM)
    made.save_index(folder, "StableDiffusionControlNetPipeline", controlnet=["diffusers", "ControlNetModel"])
    return folder


class Run:
    """A clip on a prior: its conditioning, the latents that sampling starts from, and what it costs."""

    each = False
    """Whether each frame has a noise of its own."""

    def __init__(self, folder: Path, clip: Path, frames: int, size: int, steps: int, **told: object) -> None:
        options = EditOptions(**told)
        self.prior = EditPrior.from_pretrained(folder, torch.device("cpu"), torch.float32, options)
        self.ladder = self.prior.ladder(steps)
        with open_reader(probe(clip)) as reader:
            pictures = [torch.from_numpy(frame.rgb) for frame in islice(reader.frames(), frames)]
        height, width = pictures[0].shape[-2:]
        to = (round(height * size / max(height, width)), round(width * size / max(height, width)))
        small = (F.interpolate(one[None], to, mode="bilinear", antialias=True)[0].clamp(0, 1) for one in pictures)
        self.source = [pad_to(one, self.prior.facts.size_multiple) for one in small]
        with torch.inference_mode():
            self.entries = [dict(one) for one in self.prior.conditions(iter(self.source))]
        self.frames, self.rows = len(self.source), 0
        self.prior._parts.unet.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: object, arguments: tuple, options: dict) -> None:
        x = arguments[0] if arguments else options["sample"]
        self.rows += x.shape[0] * (x.shape[2] if x.ndim == 5 else 1)

    def start(self, frame: int) -> torch.Tensor:
        clean, place = self.clean(frame), frame if self.each else 0
        return start(self.ladder, clean, lambda level: noise(0, place, level, tuple(clean.shape)))

    def clean(self, frame: int) -> torch.Tensor:
        return self.entries[frame]["degraded_latents"].clone()

    def ask(self, prior, frames, levels, latents, attend) -> torch.Tensor:
        """Clean latents (W, C, h, w) of a call."""
        given = {name: torch.stack([self.entries[n][name] for n in frames])[None] for name in prior.facts.conditionings}
        times = torch.tensor([[self.ladder.time[level] for level in levels]])
        return prior.predict(latents[None], times, given, attend)[0]

    def predict(self, steps, latents, prior=None):
        prior = prior or self.prior
        return [
            self.ask(prior, s.frames.tolist(), s.level.tolist(), z, s.attend)
            for s, z in zip(steps, latents, strict=True)
        ]

    def step(self, frame, z, x0, level, to):
        return advance(self.ladder, z, x0, level, to, lambda at: noise(0, frame, at, tuple(z.shape)))

    def decoded(self, frame: int, latent: torch.Tensor) -> np.ndarray:
        picture = self.prior.decode(latent[None], {})[0].clamp(0, 1)
        return (picture * 255).round().byte().permute(1, 2, 0).numpy()


def ours(run: Run, plan: WindowsPlan | CrossedPlan) -> Iterator[np.ndarray]:
    for frame, latent in Executor(plan, run.predict, run.start, run.step).run():
        yield run.decoded(frame, latent)


def lovecon(run: Run, window: int, downsampling: int) -> Iterator[np.ndarray]:
    """LOVECon (Liao and Deng, 2023): one window after the other, each with the first frame and the last of the window
    before, both denoised anew and not kept; keys of these two and of the last frame, not of the own one."""
    started = [run.start(n) for n in range(run.frames)]  # all inverted latents are in memory
    for first in range(0, run.frames, window):
        frames = [0, max(first - 1, 0), *range(first, min(first + window, run.frames))]
        places = tuple(dict.fromkeys((0, 1, len(frames) - 1)))
        attend = CrossWindow(together=places, own=False, downsampling=downsampling)
        z = torch.stack([started[n] for n in frames])
        for level in range(run.ladder.levels, 0, -1):
            x0 = run.ask(run.prior, frames, [level] * len(frames), z, attend)
            z = torch.stack([run.step(n, a, b, level, level - 1) for n, a, b in zip(frames, z, x0, strict=True)])
        for frame, latent in zip(frames[2:], z[2:], strict=True):
            yield run.decoded(frame, latent)


def pictures_of(run: Run, way: str, window: int, downsampling: int) -> tuple[Iterator[np.ndarray], list[int]]:
    """The edited pictures, and the frames at which windows start."""
    overlap = window // 2 if way.endswith("overlapping") else 0
    if way == "lovecon":
        return lovecon(run, window, downsampling), list(range(0, run.frames, window))
    length, order = 1 if way == "frames" else window, "wavefront" if overlap else "apart"
    windows = WindowsPlan(run.frames, length, overlap, run.ladder.levels, order=order)
    bounds = [] if way == "frames" else list(windows.starts)
    if way.startswith("crossed"):
        return ours(run, CrossedPlan(windows, downsampling=downsampling)), bounds
    return ours(run, windows), bounds


def report(run: Run, way: str, window: int, downsampling: int) -> dict:
    before, begun, used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(), time.process_time()
    made, bounds = pictures_of(run, way, window, downsampling)
    pictures = list(made)
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    meter = MotionMeter()
    source = [(one * 255).round().byte().permute(1, 2, 0).numpy() for one in run.source]
    motions = [meter.motion(a, b) for a, b in pairwise(source)]
    own = [meter.change(a, b, m, is_reference=True) for (a, b), m in zip(pairwise(source), motions, strict=True)]
    edit = [meter.change(a, b, m) for (a, b), m in zip(pairwise(pictures), motions, strict=True)]
    scores = summarise(edit, own, bounds)
    return {
        "way": way,
        "network_frames_per_frame_and_step": round(run.rows / run.frames / run.ladder.levels, 3),
        "seconds_per_frame": round(seconds / run.frames, 3),
        "processor_seconds_per_frame": round(used / run.frames, 3),
        "peak_mib": round(after / 1024),
        "more_than_loaded_mib": round((after - before) / 1024),
        "warping_error": round(scores.warp, 3),
        "of_the_source": round(scores.warp / scores.warp_rel, 3),
        "seam": round(scores.seam, 3),
        "jump": round(scores.jump, 3),
    }


def trip(run: Run, window: int, guesses: int, downsampling: int) -> dict:
    """Inverted and sampled back without guidance, in crossed windows: error of the latents, and of the pictures."""
    windows = WindowsPlan(run.frames, window, 0, run.ladder.levels, order="apart")
    plan = CrossedPlan(windows, downsampling=downsampling)
    inverting = run.prior.inverting()

    def predict(steps, latents):
        return run.predict(steps, latents, inverting)

    begun = time.perf_counter()
    inversion = Inversion(plan, predict, run.clean, run.ladder, guesses=guesses)
    errors, noises = [], []
    for frame, latent, _ in round_trip(inversion, plan, predict, run.clean, run.ladder):
        back, itself = (run.decoded(frame, one).astype(float) for one in (latent, run.clean(frame)))
        noises.append(((back - itself) ** 2).mean())
        errors.append(float((latent - run.clean(frame)).square().mean() / run.clean(frame).square().mean()))
    return {
        "guesses": guesses,
        "latent_error": round(float(np.mean(errors)) ** 0.5, 6),
        "psnr_db_against_the_autoencoder": round(float(10 * np.log10(255**2 / max(np.mean(noises), 1e-6))), 2),
        "residual": round(inversion.residual, 6),
        "seconds_per_frame": round((time.perf_counter() - begun) / run.frames, 3),
    }


@click.command(help=__doc__)
@click.argument("clip", type=click.Path(exists=True, path_type=Path))
@click.option("--prior", type=click.Path(exists=True, path_type=Path), help="Folder; left out: small random networks.")
@click.option("--prompt", default="a sharp picture", show_default=True)
@click.option("--guidance", default=7.5, show_default=True)
@click.option("--strength", default=1.0, show_default=True)
@click.option("--each", is_flag=True, help="A noise of its own for each frame, not one for all.")
@click.option("--frames", default=32, show_default=True)
@click.option("--size", default=128, show_default=True, help="The longer side in pixels.")
@click.option("--window", default=8, show_default=True)
@click.option("--steps", default=10, show_default=True)
@click.option("--downsampling", default=2, show_default=True, help="Of the layers that look beyond the own frame.")
@click.option("--guesses", multiple=True, type=int, help="Round trip of an inversion, with so many guesses a level.")
@click.option("--way", type=click.Choice(WAYS), multiple=True, help="Left out: all, each in a process of its own.")
def main(clip, prior, each, frames, size, window, steps, downsampling, guesses, way, **told) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if len(way) == 1 or guesses:
            told["guidance_scale"] = told.pop("guidance")
            run = Run(prior or tiny_prior(Path(folder)), clip, frames, size, steps, **told)
            run.each = each
            for count in guesses:
                click.echo(json.dumps(trip(run, window, count, downsampling)))
            if not guesses:
                click.echo(json.dumps(report(run, way[0], window, downsampling)))
            return
    for one in way or WAYS:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--way", one], check=True)


if __name__ == "__main__":
    main()
