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

import av
import click
import cv2
import numpy as np
import torch

from vrestore import engine
from vrestore.plan import SnippetsPlan
from vrestore.priors.marigold import MarigoldPrior
from vrestore.registration import Affine, Rolling, register, register_by_descent, sampled
from vrestore.report import RunOptions
from vrestore.tasks.depth import Depth

FAR = 0.01
"""One over metres: what is farther counts as sky, of which nothing is asked."""


def say(**values):
    click.echo(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}))


def scores(found, near):
    """AbsRel and delta1 after one scale and shift for all frames, least squares in inverse depth."""
    valid = near > FAR
    x, y = found[valid].astype(np.float64), near[valid].astype(np.float64)
    rows = np.stack([x, np.ones_like(x)], 1)
    fitted = np.clip(rows @ np.linalg.lstsq(rows.T @ rows, rows.T @ y, rcond=None)[0], y.min(), y.max())
    ratio = np.maximum(fitted / y, y / fitted)
    return float(np.abs(y / fitted - 1).mean()), float((ratio < 1.25).mean())


def gradient(near):
    """A vertical gradient, near below."""
    return np.broadcast_to(np.linspace(0, 1, near.shape[1])[None, :, None], near.shape)


def write_clip(path, size, frames):
    """RGB uint8 frames (h, w, 3), losslessly."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, "bgr0"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))


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
def worlds(data, clips, frames, seed):
    """AbsRel and delta1 of whole clips of worlds, beside a fitted vertical gradient."""
    found, plain = [], []
    with tempfile.TemporaryDirectory() as folder:
        for pictures, near in worlds_of(data, clips, frames, seed):
            source = Path(folder) / "in.mkv"
            write_clip(source, pictures.shape[1:3], pictures)
            maps, _ = depth_of(source, Path(folder), shots=((0, frames),))
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
            write_clip(source, pictures.shape[1:3], pictures)
            clean, _ = depth_of(source, folder, shots=whole)
            with Wandering(3):
                aligned, _ = depth_of(source, folder, shots=whole)
            with Wandering(3):
                loose, _ = depth_of(source, folder, Depth(align=False), shots=whole)
            single, _ = depth_of(source, folder, Depth(snippet=1, align=False), shots=whole)
            values = {"clean": clean, "aligned": aligned, "not aligned": loose, "frame by frame": single}
            warped = {name: temporal(maps, pictures) for name, maps in values.items()}
            for name, maps in values.items():
                say(clip=number, what=name, absrel=scores(maps, near)[0], **warped[name])


def temporal(maps, pictures):
    """Mean change along the motion of the pictures, and where they stand still, in parts of the maps' deviation."""
    changes, still = [], []
    gray = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    flow_of = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    y, x = np.mgrid[0 : maps.shape[1], 0 : maps.shape[2]].astype(np.float32)
    for i in range(len(maps) - 1):
        there, back = flow_of.calc(gray[i + 1], gray[i], None), flow_of.calc(gray[i], gray[i + 1], None)
        returned = cv2.remap(back, x + there[..., 0], y + there[..., 1], cv2.INTER_LINEAR)
        seen = np.hypot(*(there + returned).transpose(2, 0, 1)) < 1
        brought = cv2.remap(maps[i], x + there[..., 0], y + there[..., 1], cv2.INTER_LINEAR)
        changes.append(np.abs(maps[i + 1] - brought)[seen].mean())
        quiet = seen & (np.hypot(there[..., 0], there[..., 1]) < 0.3)
        if quiet.mean() > 0.01:
            still.append(np.abs(maps[i + 1] - maps[i])[quiet].mean())
    deviation = maps.std() + 1e-9
    return {"warped": float(np.mean(changes) / deviation), "still": float(np.mean(still or [0]) / deviation)}


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


@main.command()
@click.option("--frames", default=60, show_default=True)
@click.option("--long", default=600, show_default=True, help="Frames of the clip for blocks against the whole.")
def solvers(frames, long):
    """Registration on made data: closed form and descent, in time and error; blocks against the whole."""
    true, snippets, samples = made(frames)
    for name, solve in (("closed form", register), ("descent", register_by_descent)):
        began = time.perf_counter()
        found = solve(samples, snippets)
        say(solver=name, frames=frames, seconds=time.perf_counter() - began,
            error=error(merged(samples, snippets, found, frames), true))  # fmt: skip
    say(solver="none", frames=frames, error=error(merged(samples, snippets, Affine.none(len(snippets)), frames), true))
    true, snippets, samples = made(long)
    maps = samples.reshape(*samples.shape[:2], 30, 30)
    inner = np.stack([sampled(one, 900) for one in maps])
    began = time.perf_counter()
    whole = error(merged(samples, snippets, register(inner, snippets), long), true)
    say(solver="whole", frames=long, seconds=time.perf_counter() - began, error=whole)
    rolling, found, began = Rolling(50, points=900), [], time.perf_counter()
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
            write_clip(source, (180, 320), (wide[:, i : i + 320].astype(np.uint8) for i in place))
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
