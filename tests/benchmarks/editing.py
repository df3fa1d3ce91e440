"""Benchmarks of ``vrestore edit``: structure, looks, masks, length. See README.md beside this file."""

import json
import tempfile
from itertools import pairwise
from pathlib import Path

import click
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from clips import write
from programs import reported

from vrestore.edges import canny_edges
from vrestore.temporal import MotionMeter, summarise
from vrestore.video import open_reader
from vrestore.weights.recipe.looks import LOOKS, rendered

NEAR = 2
"""Pixels that an edge may be away."""
OPTIONS = {"ignore_unknown_options": True}
SEEN = (128, 128)
"""Size of the pictures that the classifier sees."""


def read(path: Path) -> np.ndarray:
    """Frames uint8 (time, height, width, 3)."""
    with open_reader(path) as reader:
        return np.stack([np.rint(f.rgb * 255).astype(np.uint8).transpose(1, 2, 0) for f in reader.frames()])


def edited(clip: Path, output: Path, *options: str) -> dict:
    """Run the edit on a clip; see `reported`."""
    return reported(["-m", "vrestore", "edit"], clip, output, *options)


def canny(frame: np.ndarray) -> np.ndarray:
    """Edges, bool; thresholds by the picture's own median, so that a dark look has edges, too."""
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    gray = cv2.normalize(cv2.GaussianBlur(gray, (0, 0), 1.0), None, 0, 255, cv2.NORM_MINMAX)
    return canny_edges(gray, 60, 120) > 0


def agreement(found: np.ndarray, true: np.ndarray) -> float:
    """F-measure of edges that may be `NEAR` pixels apart."""
    if not found.any() or not true.any():
        return float(found.any() == true.any())
    ball = np.ones((2 * NEAR + 1, 2 * NEAR + 1), np.uint8)
    wide_found, wide_true = (cv2.dilate(one.astype(np.uint8), ball) > 0 for one in (found, true))
    precision, recall = wide_true[found].mean(), wide_found[true].mean()
    return float(2 * precision * recall / max(precision + recall, 1e-9))


def edges(source: np.ndarray, edit: np.ndarray) -> dict[str, float]:
    """Agreement of edges, and of each frame with that half a clip away: the floor."""
    ours, theirs = [canny(f) for f in edit], [canny(f) for f in source]
    away = len(ours) // 2
    floor = np.mean([agreement(one, theirs[(i + away) % len(theirs)]) for i, one in enumerate(ours)])
    return {
        "edges_f": float(np.mean([agreement(*pair) for pair in zip(ours, theirs, strict=True)])),
        "floor": float(floor),
    }


def moving(source: np.ndarray, edit: np.ndarray, bounds: list[int]) -> dict[str, float]:
    """Warping error by the source's flow, over that of the source, and the seam index at starts of windows."""
    meter = MotionMeter()
    reference, changes = [], []
    for (before, after), (first, second) in zip(pairwise(source), pairwise(edit), strict=True):
        motion = meter.motion(before, after)
        reference.append(meter.change(before, after, motion, is_reference=True))
        changes.append(meter.change(first, second, motion))
    scores = summarise(changes, reference, bounds)
    own = float(np.nanmean([change.warp for change in reference]))
    return {"warp": scores.warp, "excess_warp": scores.warp - own, "warp_rel": scores.warp_rel, "seam": scores.seam}


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command(context_settings=OPTIONS)
@click.argument("clip", type=click.Path(exists=True, path_type=Path))
@click.option("--frames", default=48, show_default=True)
@click.option("--window", default=16, show_default=True)
@click.option("--overlap", default=0, show_default=True)
@click.option("--way", "chosen", multiple=True, help="Left out: all.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def structure(
    clip: Path, frames: int, window: int, overlap: int, chosen: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """Edges, warping error and seams: with cross-window attention, in a single window, without, and frame by frame with
    one noise for all and with a noise for each. OPTIONS go to the edit."""
    size = ["--window", str(window), "--overlap", str(overlap), "--end", str(frames)]
    ways = {
        "crossed": [],
        "crossed, one window": ["--window", str(frames)],
        "windows": ["--no-cross-window"],
        "frames": ["--no-cross-window", "--window", "1", "--overlap", "0"],
        "frames, a noise each": ["--no-cross-window", "--window", "1", "--overlap", "0", "--no-one-noise"],
        "crossed, a noise each": ["--no-one-noise"],
    }
    source = read(clip)[:frames]
    bounds = list(range(window - overlap, len(source), window - overlap))
    for name in chosen or ways:
        with tempfile.TemporaryDirectory() as folder:
            report = edited(clip, Path(folder) / "out.mkv", *options, *size, *ways[name])
            found = read(Path(folder) / "out.mkv")
        row = {"way": name, "seconds_per_frame": report["seconds"] / len(found), "peak_mib": report["peak_mib"]}
        row |= edges(source, found) | moving(source, found, bounds)
        click.echo(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}))


class Classifier(torch.nn.Module):
    """Names the look of a picture: a few convolutions, and the statistics of what they find."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        sides = [3, 24, 32, 48, 64]
        layers = [torch.nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(sides)]
        self.layers = torch.nn.Sequential(*(part for one in layers for part in (one, torch.nn.LeakyReLU(0.1))))
        self.head = torch.nn.Linear(2 * sides[-1] + 6, looks)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures (n, 3, h, w) in [0, 1] to scores."""
        found = self.layers(pictures * 2 - 1)
        parts = [found.mean((2, 3)), found.std((2, 3)), pictures.mean((2, 3)), pictures.std((2, 3))]
        return self.head(torch.cat(parts, 1))


def shown(picture: np.ndarray) -> np.ndarray:
    """As the classifier sees it: the middle square, made smaller."""
    side = min(picture.shape[:2])
    y, x = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    return cv2.resize(picture[y : y + side, x : x + side], SEEN, interpolation=cv2.INTER_AREA)


def classifier(stills: Path, steps: int) -> tuple[Classifier, float]:
    """Trained on stills in operator-made looks; with its share of right answers on stills that it has not seen."""
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    paths = sorted(p for p in stills.iterdir() if p.suffix in {".jpg", ".png"})
    pictures = [shown(cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB)) for p in paths]
    held, known = pictures[::5], [p for i, p in enumerate(pictures) if i % 5]
    names, model = list(LOOKS), Classifier(len(LOOKS))
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)

    def batch(of: list[np.ndarray], count: int) -> tuple[torch.Tensor, torch.Tensor]:
        answers = random.integers(len(names), size=count)
        made = [
            rendered(
                of[random.integers(len(of))].astype(np.float32) / 255, names[a], None, int(random.integers(1 << 30))
            )
            for a in answers
        ]
        return torch.from_numpy(np.stack(made).transpose(0, 3, 1, 2)), torch.from_numpy(answers)

    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        inputs, answers = batch(known, 24)
        optimiser.zero_grad()
        F.cross_entropy(model(inputs), answers).backward()
        optimiser.step()
    inputs, answers = batch(held, 320)
    with torch.no_grad():
        return model.eval(), float((model(inputs).argmax(1) == answers).float().mean())


@main.command(context_settings=OPTIONS)
@click.argument("stills", type=click.Path(exists=True, path_type=Path))
@click.argument("clips", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--steps", default=3000, show_default=True, help="Of the classifier's training.")
@click.option("--frames", default=8, show_default=True)
@click.option("--looks", default=",".join(LOOKS), help="Separated by commas.")
@click.option("--edit-options", default="", help="For the edit.")
def looks(stills: Path, clips: tuple[Path, ...], steps: int, frames: int, looks: str, edit_options: str) -> None:
    """Whether edits have the look that was asked for, by a classifier trained on operator-made looks."""
    model, known = classifier(stills, steps)
    click.echo(json.dumps({"operator_made": round(known, 3)}))
    right: list[bool] = []
    for look in looks.split(","):
        mine: list[bool] = []
        for clip in clips:
            with tempfile.TemporaryDirectory() as folder:
                more = ["--prompt", look, "--end", str(frames), *edit_options.split()]
                edited(clip, Path(folder) / "out.mkv", *more)
                found = np.stack([shown(frame) for frame in read(Path(folder) / "out.mkv")])
            with torch.no_grad():
                said = model(torch.from_numpy(found.transpose(0, 3, 1, 2)).float() / 255).argmax(1)
            mine += [list(LOOKS)[int(one)] == look for one in said]
        right += mine
        click.echo(json.dumps({"look": look, "right": round(float(np.mean(mine)), 3)}))
    click.echo(json.dumps({"all": round(float(np.mean(right)), 3)}))


def made_scene(frames: int, height: int, width: int, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A disc of a colour moving over grey texture, and where it is, bool."""
    random = np.random.default_rng(0)
    ground = cv2.GaussianBlur(random.normal(128, 90, (height, width)).astype(np.float32), (0, 0), 3)
    ground = np.repeat(cv2.normalize(ground, None, 60, 190, cv2.NORM_MINMAX)[..., None], 3, axis=2).astype(np.uint8)
    pictures, places = [], []
    for n in range(frames):
        centre = (width // 3 + 2 * n, height // 2 + round(6 * np.sin(n / 3)))
        place = cv2.circle(np.zeros((height, width), np.uint8), centre, height // 5, 1, -1) > 0
        pictures.append(np.where(place[..., None], np.array(colour, np.uint8), ground))
        places.append(place)
    return np.stack(pictures), np.stack(places)


@main.command(context_settings=OPTIONS)
@click.option("--colour", default="red", show_default=True)
@click.option("--prompt", default="night", show_default=True)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def masks(colour: str, prompt: str, options: tuple[str, ...]) -> None:
    """A mask found by a word against the disc that it names, and what an edit within a drawn mask changes outside."""
    values = {"red": (210, 40, 35), "green": (50, 170, 60), "blue": (50, 80, 210)}[colour]
    frames, places = made_scene(12, 192, 256, values)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = write(folder / "in.mkv", frames)
        words = ["--source-prompt", colour, "--mask", f"auto:{colour}", "--feather", "0", "--save-mask"]
        report = edited(clip, folder / "auto.mkv", "--prompt", prompt, *words, *options)
        found = read(Path(report["beside"]["mask"]))[..., 0] > 127
        joint = (found & places).sum((1, 2)) / (found | places).sum((1, 2))
        drawn = write(folder / "mask.mkv", np.repeat(places[..., None], 3, 3).astype(np.uint8) * 255)
        within = ["--prompt", prompt, "--mask", str(drawn), "--feather", "8"]
        edited(clip, folder / "drawn.mkv", *within, *options)
        ball = np.ones((17, 17), np.uint8)
        outside = ~np.stack([cv2.dilate(one.astype(np.uint8), ball) > 0 for one in places])
        error = np.square(read(folder / "drawn.mkv").astype(float) - frames)[outside].mean()
    outside_db = float(10 * np.log10(255**2 / max(error, 1e-6)))
    click.echo(json.dumps({"iou": round(float(joint.mean()), 3), "outside_db": round(min(100.0, outside_db), 2)}))


@main.command(context_settings=OPTIONS)
@click.option("--lengths", default="150,1500", show_default=True)
@click.option("--side", default=256, show_default=True)
@click.option("--prompt", default="night", show_default=True)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def length(lengths: str, side: int, prompt: str, options: tuple[str, ...]) -> None:
    """Peak memory by length, and the colour drift from the first to the last 15 %, less the source's own, in dE."""
    for frames in map(int, lengths.split(",")):
        random = np.random.default_rng(0)
        ground = cv2.resize(
            random.integers(0, 256, (24, 24, 3), np.uint8), (2 * side, 2 * side), interpolation=cv2.INTER_CUBIC
        )
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            turns = (np.arange(frames) * 2 % side, np.arange(frames) % side)
            source = np.stack([ground[y : y + side, x : x + side] for x, y in zip(*turns, strict=True)])
            clip = write(folder / "in.mkv", source)
            report = edited(clip, folder / "out.mkv", "--prompt", prompt, *options)
            drift = colour_drift(read(folder / "out.mkv")) - colour_drift(source)
        row = {"frames": frames, "peak_mib": round(report["peak_mib"]), "drift_de": round(drift, 2)}
        click.echo(json.dumps(row | {"seconds_per_frame": round(report["seconds"] / frames, 3)}))


def colour_drift(frames: np.ndarray) -> float:
    """CIE 1976 difference of the mean colours of the first and last 15 %."""
    part = max(1, round(0.15 * len(frames)))
    means = []
    for some in (frames[:part], frames[-part:]):
        lab = [cv2.cvtColor(one.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).mean((0, 1)) for one in some]
        means.append(np.mean(lab, axis=0))
    return float(np.linalg.norm(means[0] - means[1]))


if __name__ == "__main__":
    main()
