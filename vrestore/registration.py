"""Registration of snippets: one scale and one shift for each, so that all agree on the frames that they share.

The co-alignment of RollingDepth (Ke et al., "Video Depth without Video Models", CVPR 2025, section 3.3): a prior of
depth answers up to a scale and a shift, another one in every call; what a frame is in several calls tells how these
differ. Here the sum of absolute differences is minimised in closed steps (iteratively reweighted least squares; what
frames truly are is eliminated from each step), and by gradient descent for comparison, as its authors do.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int

from vrestore.errors import ConfigError

Samples = Float[np.ndarray, "snippets slots points"]
Slots = Int[np.ndarray, "snippets slots"]
PerSnippet = Float[np.ndarray, " snippets"]
Map = Float[np.ndarray, "rows columns"]

ITERATIONS = 12
SETTLED = 1e-4
"""Change of all scales (as a part) and shifts, below which nothing more is gained."""
REWEIGHTED, TOGETHER = 4, 64
"""Times that the graph is reweighted; frames that are worked on at once."""
TINY, TRACE = 1e-6, 1e-9
"""Spread below which a map is flat; how little what nothing else decides is drawn to where it was."""
HELD = 1e6
"""How much more what is held counts than what is sought."""
CODES = 8192.0
"""Maps are held in 16 bits: this many steps for one unit."""


@dataclass(frozen=True)
class Affine:
    """What brings snippet k to the others: ``scale[k] * values + shift[k]``."""

    scale: PerSnippet
    shift: PerSnippet

    @classmethod
    def none(cls, count: int) -> "Affine":
        """Everything as it is."""
        return cls(np.ones(count), np.zeros(count))


def register(samples: Samples, frames: Slots, *, held: Affine | None = None, iterations: int = ITERATIONS) -> Affine:
    """Scales and shifts of snippets that make them agree on shared frames, robustly and in closed steps.

    Iteratively reweighted: from what the snippets say now, a frame is their median; the points of a slot weigh one over
    how far it is from that (as the sum of absolute differences asks for); so weighted, its spread and mean against the
    median's tell the scale and shift that it wants, and least squares over the graph of snippets and frames, itself
    reweighted, makes the best of what all slots want. Spreads are compared, because a regression of one noisy map on
    another prefers small scales, and over a long clip scales would drift to nothing.

    Without ``held`` the logarithms of the scales and the shifts have the mean 0, which nothing else decides.

    Args:
        samples: of every snippet and slot the values at the same points of the picture.
        frames: what frame each slot is of; snippets in the order of their last frames, so that what overlaps is near.
        held: of the first snippets, which keep theirs.

    Raises:
        ConfigError: values that are not finite.
    """
    if not np.isfinite(samples).all():
        raise ConfigError("the maps to be registered hold values that are not finite; use another precision")
    graph = _Graph.of(frames)
    kept = 0 if held is None else len(held.scale)
    rows = samples[graph.snippet, graph.slot].astype(np.float64)
    low, middle, high = np.percentile(rows, [25, 50, 75], axis=1) if len(rows) else np.zeros((3, 0))
    scale = np.exp(graph.levelled(np.log(np.maximum(high - low, TINY)), None if held is None else np.log(held.scale)))
    found = Affine(scale, graph.levelled(scale[graph.snippet] * middle, None if held is None else held.shift))
    for _ in range(iterations if len(rows) else 0):
        before, found = found, _step(rows, graph, found, kept)
        change = max(np.abs(np.log(found.scale / before.scale)).max(), np.abs(found.shift - before.shift).max())
        if change < SETTLED:
            break
    return found


def register_by_descent(
    samples: Samples,
    frames: Slots,
    *,
    iterations: int = 2000,
    rate: float = 1e-3,
    groups: Int[np.ndarray, " snippets"] | None = None,
) -> Affine:
    """The same by gradient descent (Adam), in inverse depth and in depth, as the method's authors do it.

    The reference for `register`; slower, and for clips that fit into memory. ``groups``: dilation of every snippet, by
    which the penalties that keep scales from vanishing are averaged.
    """
    values = torch.from_numpy(samples - samples.min()).float()
    flat = torch.from_numpy(frames.ravel()).long()
    size = int(frames.max()) + 1
    members = torch.from_numpy(np.zeros(len(samples), int) if groups is None else groups)
    scale, shift = (torch.full((len(samples), 1, 1), v, requires_grad=True) for v in (1.0, 0.0))
    optimiser = torch.optim.Adam([scale, shift], lr=rate, betas=(0.5, 0.9))
    covered = torch.zeros(size).index_add_(0, flat, torch.ones(len(flat))).clamp(min=1)[:, None]

    def apart(moved: torch.Tensor) -> torch.Tensor:
        rows = moved.flatten(0, 1)
        target = (torch.zeros(size, rows.shape[1]).index_add_(0, flat, rows.detach()) / covered)[flat]
        return ((rows - target).abs().mean(1) / target.abs().mean(1).clamp(min=1e-6)).mean()

    for _ in range(iterations):
        moved = scale * values + shift
        loss = apart(moved) + apart(1 / moved.clamp(min=1e-3))
        for group in members.unique():
            own = members == group
            loss = loss + 0.1 * (1 - scale[own]).clamp(min=0).square().mean() + 10 * shift[own].square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    scales, shifts = (x.detach().flatten().double().numpy() for x in (scale, shift))
    return Affine(scales, shifts - scales * float(samples.min()))


@dataclass(frozen=True)
class _Graph:
    """Which snippets and slots show a frame that others show, too: the rows, frame by frame."""

    count: int
    """Snippets."""
    snippet: np.ndarray
    slot: np.ndarray
    frame: np.ndarray
    """Of every row, numbered from 0 without gaps."""
    pairs: tuple[np.ndarray, np.ndarray]
    """Rows of one frame, each with each."""

    @classmethod
    def of(cls, frames: Slots) -> "_Graph":
        order = np.argsort(frames, axis=None, kind="stable")
        snippet, slot = np.unravel_index(order, frames.shape)
        _, number, size = np.unique(frames.ravel()[order], return_inverse=True, return_counts=True)
        shared = size[number] > 1
        snippet, slot = snippet[shared], slot[shared]
        _, frame, size = np.unique(number[shared], return_inverse=True, return_counts=True)
        first = np.concatenate([[0], np.cumsum(size)[:-1]]) if len(size) else np.zeros(0, int)
        left = np.repeat(np.arange(len(frame)), size[frame] if len(size) else 0)
        within = np.arange(len(left)) - np.repeat(np.cumsum(size[frame]) - size[frame], size[frame])
        return cls(len(frames), snippet, slot, frame, (left, first[frame[left]] + within))

    def groups(self) -> Iterator[np.ndarray]:
        """Rows (frames, m) of frames that equally many slots show, some frames at a time."""
        size = np.bincount(self.frame)
        first = np.cumsum(size) - size
        for m in np.unique(size):
            every = first[size == m][:, None] + np.arange(m)
            yield from np.array_split(every, -(-len(every) // TOGETHER))

    def levelled(self, values: np.ndarray, held: np.ndarray | None) -> np.ndarray:
        """What to add to the values (rows,) of each snippet, so that those of a frame are alike: (snippets,).

        Least absolute differences, reweighted. The mean is 0, or as near to 0 beside ``held`` as the values want it.
        """
        kept = 0 if held is None else len(held)
        found = np.zeros(self.count)
        found[:kept] = 0 if held is None else held
        frames = int(self.frame.max()) + 1 if len(self.frame) else 0
        weight = np.ones(len(values))
        for _ in range(REWEIGHTED):
            total = np.bincount(self.frame, weight, frames)
            share = weight / total[self.frame]
            mean = np.bincount(self.frame, share * values, frames)[self.frame]
            left, right = self.pairs
            system = _System(self.count)
            system.add(self.snippet, self.snippet, weight)
            system.add(self.snippet[left], self.snippet[right], -weight[left] * share[right])
            wanted = -np.bincount(self.snippet, weight * (values - mean), self.count)
            found = system.solve(wanted, found, kept)
            if not kept:
                found -= found.mean()
            here = found[self.snippet] + values
            away = np.abs(here - np.bincount(self.frame, share * here, frames)[self.frame])
            weight = 1 / np.maximum(away, max(float(np.median(away)) if len(away) else 0.0, TINY))
        return found


class _System:
    """Symmetric equations whose unknowns are coupled with near ones only, kept as overlapping dense blocks."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._size = 1

    def add(self, row: np.ndarray, column: np.ndarray, value: np.ndarray) -> None:
        """Add numbers at places of the matrix."""
        self._entries.append((row, column, value))
        self._size = max(self._size, int(np.abs(row - column).max(initial=0)) + 1)

    def solve(self, right: np.ndarray, towards: np.ndarray, kept: int) -> np.ndarray:
        """The unknowns, the first ``kept`` held; a trace draws all ``towards`` a value, where nothing else decides."""
        n, count = min(self._size, self.count), self.count
        blocks = -(-count // n)
        row, column, value = (np.concatenate(part) for part in zip(*self._entries, strict=True))
        block = np.minimum(row, column) // n
        place = (block * 2 * n + row - block * n) * 2 * n + column - block * n
        parts = np.bincount(place, value, blocks * 4 * n * n).reshape(blocks, 2 * n, 2 * n).astype(float)
        usual = float(value[row == column].mean()) if len(value) else 1.0
        pull = np.full(blocks * n, TRACE * usual)
        pull[:kept] = HELD * usual
        parts[np.arange(blocks * n) // n, np.arange(blocks * n) % n, np.arange(blocks * n) % n] += pull
        whole = np.zeros(blocks * n)
        whole[:count] = right + pull[:count] * towards
        return _eliminated(parts, whole)[:count]


def _eliminated(parts: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solution of block-tridiagonal equations; block b of ``parts`` covers unknowns b n to (b + 2) n."""
    n = parts.shape[1] // 2
    own = parts[:, :n, :n].copy()
    own[1:] += parts[:-1, n:, n:]
    below, rows = parts[:-1, n:, :n], right.reshape(-1, n).copy()
    for b in range(1, len(own)):
        carried = np.linalg.solve(own[b - 1], np.column_stack([below[b - 1].T, rows[b - 1]]))
        own[b] -= below[b - 1] @ carried[:, :n]
        rows[b] -= below[b - 1] @ carried[:, n]
    found = [np.linalg.solve(own[-1], rows[-1])]
    for b in range(len(own) - 2, -1, -1):
        found.insert(0, np.linalg.solve(own[b], rows[b] - below[b].T @ found[0]))
    return np.concatenate(found)


def _step(rows: np.ndarray, graph: _Graph, found: Affine, kept: int) -> Affine:
    """Scales from the weighted spreads of all rows against those of their frames, then shifts from their means."""
    none = np.zeros(kept) if kept else None
    grown = np.empty(len(rows))
    for group, here, middle, weight in _weighed(rows, graph, found):
        spreads = []
        for one in (here, np.broadcast_to(middle, here.shape)):
            mean = np.einsum("fmp,fmp->fm", weight, one)[..., None]
            spreads.append(np.einsum("fmp,fmp->fm", weight, (one - mean) ** 2))
        grown[group] = 0.5 * np.log(np.maximum(spreads[0], TINY**2) / np.maximum(spreads[1], TINY**2))
    more = np.exp(graph.levelled(grown, none))
    found = Affine(found.scale * more, found.shift * more)
    moved = np.empty(len(rows))
    for group, here, middle, weight in _weighed(rows, graph, found):
        moved[group] = np.einsum("fmp,fmp->fm", weight, here - middle)
    shift = found.shift + graph.levelled(moved, none)
    return Affine(found.scale, shift if kept else shift - shift.mean())


def _weighed(
    rows: np.ndarray, graph: _Graph, found: Affine
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Rows (f, m) of some frames, what they say now (f, m, points), their median (f, 1, points), weights that add up to
    one for every row: one over the difference, but alike below the frame's usual one."""
    scale, shift = found.scale[graph.snippet], found.shift[graph.snippet]
    for group in graph.groups():
        here = scale[group][..., None] * rows[group] + shift[group][..., None]
        m, ordered = here.shape[1], np.sort(here, axis=1)
        middle = (ordered[:, (m - 1) // 2] + ordered[:, m // 2])[:, None] / 2
        away = np.abs(here - middle)
        usual = np.median(away[..., ::5], axis=(1, 2), keepdims=True)
        weight = 1 / np.maximum(away, np.maximum(usual, TINY))
        yield group, here, middle, weight / weight.sum(-1, keepdims=True)


def sampled(maps: np.ndarray, points: int, border: int = 2) -> np.ndarray:
    """Values (n, points') on a grid of about so many points of maps (n, height, width), away from the border."""
    height, width = maps.shape[1:]
    edge = border if min(height, width) > 4 * border else 0
    inner = maps[:, edge : height - edge, edge : width - edge]
    step = max(1, round((inner[0].size / points) ** 0.5))
    return np.asarray(inner[:, step // 2 :: step, step // 2 :: step].reshape(len(maps), -1), np.float32)


@dataclass
class _Snippet:
    frames: np.ndarray
    samples: np.ndarray
    maps: np.ndarray
    """int16, in `CODES`."""
    kind: int
    fixed: tuple[float, float] | None = None


@dataclass
class Rolling:
    """Registers snippets as they come, and gives every frame as soon as it is settled, in constant memory.

    Blocks of frames are solved one after the other, each together with what overlaps it; snippets of which a frame has
    been given are held from then on, and link the blocks. A clip of no more than a block is solved as a whole.

    Args:
        reach: frames between the first and the last frame of a snippet, at most.
        block: frames that are settled together.
        margin: frames beyond them, whose snippets are solved with them but not held.
        points: of every map, on which scales and shifts are found.
    """

    reach: int
    block: int = 128
    margin: int = 32
    points: int = 1500
    align: bool = True
    """Otherwise snippets are merged as they are: what co-alignment is measured against."""
    snippets: list[_Snippet] = field(default_factory=list)
    given: int = 0
    """Frames that have been given."""

    def __post_init__(self) -> None:
        """Raises ConfigError for an empty block."""
        if self.block < 1 or self.margin < 0 or self.reach < 0:
            raise ConfigError(f"a block of {self.block} frames, a margin of {self.margin} and a reach of {self.reach} "
                              "register nothing; give a block of 1 or more, the others 0 or more")  # fmt: skip

    def add(
        self, frames: Int[np.ndarray, " slots"], maps: Float[np.ndarray, "slots rows columns"], kind: int = 0
    ) -> Iterator[tuple[int, Map]]:
        """Takes a snippet, in the order of last frames; gives the frames that are settled by those before it.

        ``kind``: of how it was made. What snippets of one kind say of a frame counts as much as what another kind says.
        """
        if frames[-1] - self.given >= self.block + self.reach + self.margin:
            # all snippets that end before this one's last frame are here
            yield from self._settle(self.given + self.block)
        codes = np.clip(np.rint(maps * CODES), -32768, 32767).astype(np.int16)
        self.snippets.append(_Snippet(frames, sampled(maps, self.points), codes, kind))

    def close(self) -> Iterator[tuple[int, Map]]:
        """The frames that are left."""
        if self.snippets:
            yield from self._settle(int(max(one.frames[-1] for one in self.snippets)) + 1)

    def _settle(self, end: int) -> Iterator[tuple[int, Map]]:
        self.snippets.sort(key=lambda one: (one.fixed is None, one.frames[-1]))
        found = self._solved()
        for frame in range(self.given, end):
            yield frame, self._merged(frame, found)
        self.given = end
        left = []
        for one, scale, shift in zip(self.snippets, found.scale, found.shift, strict=True):
            if one.frames[0] < end:
                one.fixed = (float(scale), float(shift))
            if one.frames[-1] >= end:
                left.append(one)
        self.snippets = left

    def _solved(self) -> Affine:
        if not self.align:
            return Affine.none(len(self.snippets))
        fixed = [one.fixed for one in self.snippets if one.fixed is not None]
        held = Affine(np.array([s for s, _ in fixed]), np.array([t for _, t in fixed])) if fixed else None
        samples = np.stack([one.samples for one in self.snippets])
        return register(samples, np.stack([one.frames for one in self.snippets]), held=held)

    def _merged(self, frame: int, found: Affine) -> Map:
        """The mean of what all snippets say of a frame, kind by kind."""
        said = dict[int, list[Map]]()
        for one, scale, shift in zip(self.snippets, found.scale, found.shift, strict=True):
            for slot in np.flatnonzero(one.frames == frame):
                said.setdefault(one.kind, []).append(scale / CODES * one.maps[slot].astype(np.float32) + shift)
        if not said:
            raise ConfigError(f"no snippet shows frame {frame}; use a plan that covers every frame")
        return np.asarray(sum(sum(maps) / len(maps) for maps in said.values()) / len(said), np.float32)
