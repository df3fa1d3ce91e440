"""How natural the world looks: its gradients, spectrum and motion beside those of photographs and footage."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from vrestore.flow import dense, luma8
from vrestore.weights.recipe.batch import frames_of
from vrestore.weights.recipe.footage import footage_clips
from vrestore.weights.recipe.textures import TextureBank
from vrestore.weights.recipe.world import WorldConfig, render_exposed

EDGES = np.concatenate([[0], np.geomspace(1, 128, 15), [256]])
"""Of the histogram of absolute gradients, in 8-bit levels."""
QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True)
class Statistics:
    """Of many clips, (t, 3, size, size) each, or of stills."""

    gradients: np.ndarray
    """Share of gradients in each bin of `EDGES`."""
    kurtosis: float
    """Of the gradients: 3 is Gaussian, photographs have more."""
    slope: float
    """Exponent of the power spectrum over spatial frequency, about -2 for photographs."""
    motion_px: tuple[float, ...]
    """Quantiles of the motion from frame to frame, in pixels; empty for stills."""

    def distance(self, other: "Statistics") -> float:
        """Kullback and Leibler's divergence of the histograms of gradients, in bits, from the other's to this."""
        p, q = (np.maximum(s.gradients, 1e-9) for s in (other, self))
        return float((p * np.log2(p / q)).sum())


def measure(clips: Iterable[Tensor]) -> Statistics:
    """The statistics of clips of one size, frames in [0, 1]."""
    gradients, powers, motion = [], [], []
    for clip in clips:
        luma = [luma8(frame) for frame in clip]
        picture = luma[0].astype(np.float64)
        gradients += [np.diff(picture, axis=0).ravel(), np.diff(picture, axis=1).ravel()]
        powers.append(_power(picture))
        if len(luma) > 1:
            motion.append(np.linalg.norm(dense(luma[0], luma[1]), axis=-1).ravel()[::16])
    found = np.concatenate(gradients)
    counts = np.histogram(np.abs(found), EDGES)[0]
    frequency = np.arange(len(powers[0]))
    used = (frequency >= 4) & (frequency <= len(frequency) * 0.7)
    slope = np.polyfit(np.log(frequency[used]), np.log(np.mean(powers, 0)[used]), 1)[0]
    moved = tuple(float(v) for v in np.quantile(np.concatenate(motion), QUANTILES)) if motion else ()
    return Statistics(counts / counts.sum(), float((found**4).mean() / (found**2).mean() ** 2), float(slope), moved)


def _power(picture: np.ndarray) -> np.ndarray:
    """Power over radial frequency in cycles per picture, of a square picture under a Hann window."""
    size = len(picture)
    window = np.outer(np.hanning(size), np.hanning(size))
    power = np.abs(np.fft.fft2((picture - picture.mean()) * window)) ** 2
    index = np.fft.fftfreq(size, 1 / size)
    radius = np.hypot(index[:, None], index[None]).round().astype(int).ravel()
    sums = np.bincount(radius, power.ravel())[: size // 2]
    return np.asarray(sums / np.bincount(radius)[: size // 2])


def compare(data: Path, clips: int, size: int, seed: int) -> dict[str, Statistics]:
    """Statistics of the world (sharp), of the stills that it is made of and of footage: ``clips`` of each at most."""
    bank, rng = TextureBank(data / "stills"), np.random.default_rng(seed)
    config = WorldConfig(size=size, frames=2)
    world = [render_exposed(np.random.default_rng([seed, i]), bank, config, 0.0, 1)[0] for i in range(clips)]
    footage = footage_clips(data / "clips", 2, size)
    picked = [frames_of(footage[i]) for i in rng.permutation(len(footage))[:clips]]
    return {
        "world": measure(world),
        "stills": measure([_still(data / "stills", rng, size) for _ in range(clips)]),
        "footage": measure(picked),
    }


def _still(folder: Path, rng: np.random.Generator, size: int) -> Tensor:
    """A crop of a photograph at half its size, (1, 3, size, size): as sharp as the world, which is made likewise."""
    paths = sorted(folder.glob("*.jpg")) + sorted(folder.glob("*.png"))
    while True:
        photo = cv2.cvtColor(cv2.imread(str(paths[rng.integers(len(paths))])), cv2.COLOR_BGR2RGB)
        half = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        if min(half.shape[:2]) < size:
            half = photo
        if min(half.shape[:2]) >= size:
            y, x = (int(rng.integers(n - size + 1)) for n in half.shape[:2])
            return torch.from_numpy(half[y : y + size, x : x + size].copy()).permute(2, 0, 1)[None].float() / 255


def table(found: dict[str, Statistics]) -> str:
    """Lines of text, one for each source."""
    lines = []
    for name, s in found.items():
        moved = " ".join(f"{v:.2f}" for v in s.motion_px) or "-"
        apart = " ".join(f"{other} {s.distance(t):.3f}" for other, t in found.items() if other != name)
        lines.append(
            f"{name}: gradient kurtosis {s.kurtosis:.1f}, spectrum slope {s.slope:.2f}, motion at 50, 90 and 99 % "
            f"{moved} px, gradients' divergence in bits from {apart}"
        )
    return "\n".join(lines)
