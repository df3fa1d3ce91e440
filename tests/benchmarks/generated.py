"""The same words made by every plan on a network: what they cost, and proxies of what they keep. See README.md beside.

`python tests/benchmarks/plans.py table --prior FOLDER` runs it. No weights judge: features are colours, luma and flow.
"""

import itertools
import time
from pathlib import Path

import cv2
import numpy as np

from vrestore.maker import made, prepare
from vrestore.plan import DiagonalPlan, HierarchyPlan, outline
from vrestore.report import MakeOptions
from vrestore.tasks.generation import Generation, GenerationConfig

SHEET = (4, 6)
"""Rows and columns of a contact sheet."""
PART = 0.15
"""Of the sequence, at each end, for the drift."""


def joints(plan) -> np.ndarray:
    """Frames that begin a window or chunk: where a seam would be. Of keyframes, those of the finest depth."""
    if isinstance(plan, HierarchyPlan):
        found = plan.lanes[-1].starts
    elif isinstance(plan, DiagonalPlan):
        found = range(0, plan.frames, plan.chunk)
    else:
        found = plan.starts
    return np.array([n for n in found if 0 < n < plan.frames])


class Watching:
    """What is kept of each frame: colours of its middle and of its border, luma, small; and of neighbours the flow."""

    def __init__(self, frames: int) -> None:
        rows, columns = SHEET
        self._shown = set(np.linspace(0, frames - 1, rows * columns).round().astype(int).tolist())
        self.sheet: list[np.ndarray] = []
        self.subject: list[np.ndarray] = []
        self.background: list[np.ndarray] = []
        self.layout: list[np.ndarray] = []
        self.lab: list[np.ndarray] = []
        self.flow: list[float] = []
        self.change: list[float] = []
        self._last: np.ndarray | None = None

    def add(self, number: int, frame) -> None:
        picture = np.ascontiguousarray(frame.permute(1, 2, 0).clamp(0, 1).float().numpy())
        height, width = picture.shape[:2]
        middle = np.zeros((height, width), bool)
        middle[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
        self.subject.append(histogram(picture[middle]))
        self.background.append(histogram(picture[~middle]))
        luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        self.layout.append(cv2.resize(luma, (16, 16), interpolation=cv2.INTER_AREA).ravel())
        self.lab.append(cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).mean((0, 1)))
        codes = (luma * 255).round().astype(np.uint8)
        if self._last is not None:
            flow = cv2.calcOpticalFlowFarneback(self._last, codes, None, 0.5, 3, 15, 2, 5, 1.1, 0)
            self.flow.append(float(np.hypot(flow[..., 0], flow[..., 1]).mean()))
            self.change.append(float(np.abs(codes.astype(float) - self._last).mean()))
        self._last = codes
        if number in self._shown:
            self.sheet.append((picture[..., ::-1] * 255).round().astype(np.uint8))

    def figures(self, seams: np.ndarray) -> dict:
        """Rounded."""
        change, lab = np.array(self.change), np.array(self.lab)
        part = max(1, round(PART * len(lab)))
        at = np.zeros(len(change), bool)
        at[seams - 1] = True
        row = {
            "subject": kept(self.subject, overlap),
            "background": kept(self.background, overlap),
            "layout": kept(self.layout, correlation),
            "motion_px": np.mean(self.flow),
            "seam": change[at].mean() / change[~at].mean() if at.any() else 1.0,
            "worst_jump": change.max() / np.median(change),
            "drift_de": np.linalg.norm(lab[-part:].mean(0) - lab[:part].mean(0)),
        }
        return {name: round(float(value), 3) for name, value in row.items()}

    def contact_sheet(self, path: Path) -> None:
        """A PNG of frames an equal time apart."""
        rows, columns = SHEET
        blank = np.zeros_like(self.sheet[0])
        cells = self.sheet + [blank] * (rows * columns - len(self.sheet))
        lines = [np.concatenate(cells[i * columns : (i + 1) * columns], 1) for i in range(rows)]
        cv2.imwrite(str(path), np.concatenate(lines))


def histogram(colours: np.ndarray) -> np.ndarray:
    """Shares of 6 x 6 x 6 colours, a colour being shared among its neighbours by a small blur."""
    found = np.histogramdd(colours.reshape(-1, 3), bins=6, range=[(0, 1)] * 3)[0]
    for axis in range(3):
        padded = np.pad(found, [(1, 1) if i == axis else (0, 0) for i in range(3)], "edge")
        low, here, high = (np.take(padded, range(i, i + 6), axis) for i in range(3))
        found = 0.25 * low + 0.5 * here + 0.25 * high
    return (found / found.sum()).ravel()


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """What two histograms have in common, 0 to 1."""
    return float(np.minimum(one, other).sum())


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of two small pictures; flat ones are alike."""
    one, other = one - one.mean(), other - other.mean()
    size = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / size) if size > 1e-9 else 1.0


def kept(features: list, alike) -> float:
    """As VBench's consistency: each frame against the first and against the one before, averaged."""
    pairs = itertools.pairwise(features)
    return float(np.mean([(alike(features[0], here) + alike(before, here)) / 2 for before, here in pairs]))


def run(name: str, settings: dict, out: Path | None) -> dict:
    """One plan: costs, figures, a contact sheet."""
    task = Generation(GenerationConfig(plan=name, **settings))
    plan = prepare(task, None, MakeOptions()).score.plan
    costs, watching = outline(plan), Watching(plan.frames)
    cpu, wall = time.process_time(), time.perf_counter()
    for number, one in enumerate(made(task)):
        watching.add(number, one)
    row = {
        "plan": name,
        "calls_per_frame": round(costs.calls_per_frame, 2),
        "critical_path": costs.critical_path,
        "live": costs.live,
        "cpu_seconds": round(time.process_time() - cpu),
        "seconds": round(time.perf_counter() - wall),
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        watching.contact_sheet(out / f"{name}.png")
    return row | watching.figures(joints(plan))
