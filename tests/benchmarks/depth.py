"""Figures of `vrestore depth`: on worlds that training never saw, on RGB-D frames, of its consistency, memory and time.

See README.md beside this.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from clips import write

from vrestore import engine
from vrestore.depth_walk import DepthWalk
from vrestore.noise import noise
from vrestore.plan import SnippetsPlan
from vrestore.priors.marigold import MarigoldPrior
from vrestore.registration import Affine, Rolling, register, register_by_descent, sampled
from vrestore.report import RunOptions
from vrestore.tasks.depth import Depth
from vrestore.video import open_reader
from vrestore.weights.recipe.depth import FAR, scores


def say(**values):
    click.echo(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}))


def gradient(near):
    """A vertical gradient, near below."""
    return np.broadcast_to(np.linspace(0, 1, near.shape[1])[None, :, None], near.shape)


def depth_of(source, folder, task=None, **options):
    """Maps (t, h, w) of a file, and what the run reports."""
    output = folder / "found.npz"
    result = engine.run(task or Depth(), source, output, RunOptions(**options))
    with np.load(output) as kept:
        return kept["depth"], result


def worlds_of(data, clips, frames, seed):
    """Clips of worlds and one over their depths."""
    from vrestore.weights.recipe.depth_pool import DepthPoolConfig, make_clip
    from vrestore.weights.recipe.textures import TextureBank

    bank, config = TextureBank(Path(data) / "stills"), DepthPoolConfig(frames=frames, seed=seed)
    for index in range(clips):
        pictures, near = make_clip(bank, config, index)
        if (near > FAR).mean() > 0.1:
            yield pictures, near


@click.group(help=__doc__)
@click.option("--threads", default=2, show_default=True)
def main(threads):
    torch.set_num_threads(threads)


@main.command()
@click.argument("data", type=click.Path(exists=True))
@click.option("--clips", default=24, show_default=True)
@click.option("--frames", default=6, show_default=True)
@click.option("--seed", default=2000, show_default=True, help="Of worlds; training had 0 and 1000.")
@click.option("--parallax/--no-parallax", default=True, show_default=True)
def worlds(data, clips, frames, seed, parallax):
    """AbsRel and delta1 of whole clips of worlds, beside a fitted vertical gradient."""
    found, plain = [], []
    with tempfile.TemporaryDirectory() as folder:
        for pictures, near in worlds_of(data, clips, frames, seed):
            source = Path(folder) / "in.mkv"
            write(source, pictures)
            maps, _ = depth_of(source, Path(folder), Depth(parallax=parallax), shots=((0, frames),))
            found.append(scores(maps, near))
            plain.append(scores(gradient(near), near))
    (absrel, delta1), (absrel_plain, delta1_plain) = np.mean(found, 0), np.mean(plain, 0)
    say(clips=len(found), absrel=float(absrel), delta1=float(delta1), absrel_gradient=float(absrel_plain),
        delta1_gradient=float(delta1_plain), less=float(1 - absrel / absrel_plain))  # fmt: skip


@main.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--unit", default=5000.0, show_default=True, help="Depth codes of one metre.")
def frames(folder, unit):
    """The same of stills with measured depth: FOLDER/color/N.png and FOLDER/depth/N.*, one fit for each."""
    found, plain, constant = [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        for picture in sorted((folder / "color").iterdir()):
            (measured,) = (folder / "depth").glob(f"{picture.stem}.*")
            depth = cv2.imread(str(measured), cv2.IMREAD_UNCHANGED) / unit
            near = np.where(depth > 0.1, 1 / np.maximum(depth, 0.1), 0)[None]
            maps, _ = depth_of(picture, Path(temporary))
            found.append(scores(maps, near))
            plain.append(scores(gradient(near), near))
            constant.append(scores(np.zeros(near.shape), near))
    for name, values in (("depth", found), ("gradient", plain), ("constant", constant)):
        absrel, delta1 = np.mean(values, 0)
        say(what=name, frames=len(values), absrel=float(absrel), delta1=float(delta1))


class Wandering:
    """Every snippet's answer under another scale and shift."""

    def __init__(self, size):
        self._size, self._slots, self._random = size, 0, np.random.default_rng(0)
        self._plain = MarigoldPrior.decode

    def __enter__(self):
        def decode(prior, latents, conditioning):
            if self._slots % self._size == 0:
                self._scale = float(np.exp(self._random.normal(0, 0.35)))
                self._shift = float(self._random.normal(0, 0.3))
            self._slots += 1
            return self._scale * self._plain(prior, latents, conditioning) + self._shift

        MarigoldPrior.decode = decode

    def __exit__(self, *error):
        MarigoldPrior.decode = self._plain


@main.command()
@click.argument("data", type=click.Path(exists=True))
@click.option("--frames", default=40, show_default=True)
@click.option("--clips", default=2, show_default=True)
def consistency(data, frames, clips):
    """Random scales and shifts in every snippet, and what is left of them; flicker with and without snippets."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, (pictures, near) in enumerate(worlds_of(data, clips, frames, 3000)):
            source, whole = folder / "in.mkv", ((0, frames),)
            write(source, pictures)
            clean, _ = depth_of(source, folder, Depth(parallax=False), shots=whole)
            with Wandering(3):
                aligned, _ = depth_of(source, folder, Depth(parallax=False), shots=whole)
            with Wandering(3):
                loose, _ = depth_of(source, folder, Depth(parallax=False, align=False), shots=whole)
            values = {"clean": clean, "aligned": aligned, "not aligned": loose}
            for name, maps in (values | variants(source, folder, whole)).items():
                say(clip=number, what=name, absrel=scores(maps, near)[0], **temporal(maps, pictures, near))


def variants(source, folder, shots):
    """Maps of one clip by ways to make them; the default is what users get, and so is, without this head, the last."""
    ways = {
        "default": Depth(),
        "registered only": Depth(parallax=False, steady=0),
        "neither": Depth(parallax=False, steady=0, align=False),
        "frame by frame": Depth(parallax=False, steady=0, align=False, snippet=1),
        "frame by frame, steadied": Depth(parallax=False, align=False, snippet=1),
    }
    found = {name: depth_of(source, folder, task, shots=shots)[0] for name, task in ways.items()}
    with Scattered():
        own = depth_of(source, folder, ways["frame by frame"], shots=shots)[0]
    found["frame by frame, noise of its own"] = own
    low, high = (extreme(own, axis=(1, 2), keepdims=True) for extreme in (np.min, np.max))
    found["frame by frame, noise and range of its own"] = (own - low) / (high - low)
    return found


class Scattered:
    """Every frame starts from noise of its own, as it does in per-frame use of a prior."""

    def __enter__(self):
        self._plain = DepthWalk._start

        def start(walk, slot):
            like = walk._latent(walk._plan.source(slot))
            return noise(1, walk._plan.source(slot), walk._ladder.levels, tuple(like.shape)).to(like)

        DepthWalk._start = start

    def __exit__(self, *error):
        DepthWalk._start = self._plain


@main.command()
@click.argument("clips", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--frames", default=32, show_default=True)
@click.option("--side", default=480, show_default=True, help="Longer side of pictures and maps as they are compared.")
def flicker(clips, frames, side):
    """Change along the motion and where nothing moves, of real clips: the first frames, taken as one shot."""
    total = {}
    for clip in clips:
        with open_reader(clip) as reader:
            pictures = [shrunk(one.rgb.transpose(1, 2, 0), side) for one in reader.frames(0, frames)]
        pictures = (np.stack(pictures) * 255).round().astype(np.uint8)
        with tempfile.TemporaryDirectory() as temporary:
            source = Path(temporary) / "in.mkv"
            write(source, pictures)
            for name, maps in variants(source, Path(temporary), ((0, len(pictures)),)).items():
                total.setdefault(name, []).append(temporal(maps, pictures))
                say(clip=clip.stem, what=name, **total[name][-1])
    for name, found in total.items():
        say(clip="mean", what=name, **{key: float(np.mean([one[key] for one in found])) for key in found[0]})


def shrunk(picture, side):
    """With that longer side, both even."""
    scale = min(1, side / max(picture.shape[:2]))
    height, width = (2 * round(length * scale / 2) for length in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def temporal(maps, pictures, near=None):
    """Mean change along the motion of the pictures, and where they stand still, in parts of the maps' deviation.

    With ``near``, what is true, also how far the change along the motion is from the true one.
    """
    changes, still, wrong = [], [], []
    gray = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    flow_of = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    y, x = np.mgrid[0 : maps.shape[1], 0 : maps.shape[2]].astype(np.float32)
    scale = 1 if near is None else near.std() / (maps.std() + 1e-9)
    for i in range(len(maps) - 1):
        there, back = flow_of.calc(gray[i + 1], gray[i], None), flow_of.calc(gray[i], gray[i + 1], None)
        returned = cv2.remap(back, x + there[..., 0], y + there[..., 1], cv2.INTER_LINEAR)
        seen = np.hypot(*(there + returned).transpose(2, 0, 1)) < 1
        change = maps[i + 1] - cv2.remap(maps[i], x + there[..., 0], y + there[..., 1], cv2.INTER_LINEAR)
        changes.append(np.abs(change)[seen].mean())
        if near is not None:
            true = near[i + 1] - cv2.remap(near[i], x + there[..., 0], y + there[..., 1], cv2.INTER_LINEAR)
            wrong.append(np.abs(change - true / scale)[seen].mean())
        quiet = seen & (np.hypot(there[..., 0], there[..., 1]) < 0.3)
        if quiet.mean() > 0.01:
            still.append(np.abs(maps[i + 1] - maps[i])[quiet].mean())
    found = {"warped": changes, "still": still or [0]} | ({"wrong": wrong} if wrong else {})
    return {name: float(np.mean(values) / (maps.std() + 1e-9)) for name, values in found.items()}


def made(frames, points=900, seed=0):
    """True maps, snippets of them under random scales and shifts with noise and outliers."""
    random = np.random.default_rng(seed)
    base = random.uniform(0, 1, points)
    true = np.stack([base * np.exp(0.3 * np.sin(i / 40)) + 0.2 * np.sin(i / 30 + 5 * base) for i in range(frames)])
    snippets = SnippetsPlan(frames).snippets
    scale, shift = np.exp(random.normal(0, 0.35, len(snippets))), random.normal(0, 0.3, len(snippets))
    seen = true[snippets] + 0.03 * random.standard_normal((*snippets.shape, points))
    wrong = random.random(seen.shape) < 0.05
    seen[wrong] = random.uniform(-1, 2, wrong.sum())
    return true, snippets, ((seen - shift[:, None, None]) / scale[:, None, None]).astype(np.float32)


def error(maps, true):
    """Mean absolute error after one scale and shift for all, over the mean."""
    rows = np.stack([maps.ravel(), np.ones(maps.size)], 1)
    fitted = rows @ np.linalg.lstsq(rows.T @ rows, rows.T @ true.ravel(), rcond=None)[0]
    return float(np.abs(fitted - true.ravel()).mean() / np.abs(true).mean())


def merged(samples, snippets, found, frames):
    values = found.scale[:, None, None] * samples + found.shift[:, None, None]
    total, count = np.zeros((frames, samples.shape[2])), np.zeros((frames, 1))
    np.add.at(total, snippets.ravel(), values.reshape(-1, samples.shape[2]))
    np.add.at(count, snippets.ravel(), 1)
    return total / count


def compared(frames):
    """Closed form, descent and neither."""
    true, snippets, samples = made(frames)
    for name, solve in (("closed form", register), ("descent", register_by_descent)):
        began = time.perf_counter()
        found = solve(samples, snippets)
        say(solver=name, frames=frames, seconds=time.perf_counter() - began,
            error=error(merged(samples, snippets, found, frames), true))  # fmt: skip
    say(solver="none", frames=frames, error=error(merged(samples, snippets, Affine.none(len(snippets)), frames), true))


@main.command()
@click.option("--frames", default=60, show_default=True, help="Of the clip for both solvers; 0: leave that out.")
@click.option("--long", default=600, show_default=True, help="Frames of the clip for blocks against the whole.")
@click.option("--side", default=30, show_default=True, help="Of the maps of the long one, in points.")
def solvers(frames, long, side):
    """Registration on made data: closed form and descent, in time and error; blocks against the whole."""
    if frames:
        compared(frames)
    true, snippets, samples = made(long, side**2)
    maps = samples.reshape(*samples.shape[:2], side, side)
    inner = np.stack([sampled(one, side**2) for one in maps])
    began = time.perf_counter()
    whole = error(merged(samples, snippets, register(inner, snippets), long), true)
    say(solver="whole", frames=long, seconds=time.perf_counter() - began, error=whole)
    rolling, found, began = Rolling(50, points=side**2), [], time.perf_counter()
    for place, one in zip(snippets, maps, strict=True):
        found += [values.ravel() for _, values in rolling.add(place, one)]
    found += [values.ravel() for _, values in rolling.close()]
    blocks = error(np.stack(found), true)
    say(solver="blocks", frames=long, seconds=time.perf_counter() - began, error=blocks, more=blocks / whole - 1)


@main.command()
@click.option("--lengths", default="300,3000", show_default=True)
@click.option("--resolution", default=64, show_default=True)
def memory(lengths, resolution):
    """Largest resident set of runs of clips of these lengths (320x180, drifting noise, one shot)."""
    for length in map(int, lengths.split(",")):
        with tempfile.TemporaryDirectory() as temporary:
            source = Path(temporary) / "in.mkv"
            wide = cv2.resize(np.random.default_rng(0).random((12, 40, 3), np.float32), (620, 180)) * 255
            place = (np.abs(i % 600 - 300) for i in range(length))  # to and fro
            write(source, (wide[:, i : i + 320].astype(np.uint8) for i in place))
            asked = ["--threads", torch.get_num_threads(), "one", source, resolution, length]
            done = subprocess.run(
                [sys.executable, __file__, *map(str, asked)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            say(frames=length, **json.loads(done.stdout))


@main.command(hidden=True)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("resolution", type=int)
@click.argument("length", type=int)
def one(source, resolution, length):
    result = engine.run(
        Depth(resolution=resolution), source, source.with_name("o.mp4"), RunOptions(shots=((0, length),))
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(mebibytes=peak, calls=result.calls, seconds_per_frame=result.seconds / result.frames)


@main.command()
@click.argument("clip", type=click.Path(exists=True, path_type=Path))
@click.option("--end", default="60", show_default=True)
def speed(clip, end):
    """Seconds per frame and share of each part; calls as planned."""
    with tempfile.TemporaryDirectory() as temporary:
        output, options = Path(temporary) / "o.mp4", RunOptions(end=end)
        planned = engine.plan_job(Depth(), clip, output, options)
        result = engine.run(Depth(), clip, output, options)
    say(frames=result.frames, size=f"{result.width}x{result.height}", seconds_per_frame=result.seconds / result.frames,
        calls_planned=planned.calls, calls=result.calls, **{k: float(v) for k, v in result.shares.items()})  # fmt: skip


if __name__ == "__main__":
    main()
