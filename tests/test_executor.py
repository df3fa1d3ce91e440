"""The invariants of the core on the real executor, with a prior that is not linear and whose windows differ."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from vrestore.executor import Executor, State, weighted_mean
from vrestore.noise import noise
from vrestore.plan import CrossedPlan, Step, WindowsPlan, split
from vrestore.sampling import bridge_euler, bridge_ladder
from vrestore.store import MmapStore, RamStore

CHANNELS, HEIGHT, WIDTH = 2, 5, 7
few = settings(max_examples=30, deadline=None)


@st.composite
def geometries(draw):
    """Arguments of a plan; plans are built outside the strategy, as the shape checker draws random numbers."""
    window = draw(st.integers(1, 8))
    tile = draw(st.integers(2, 5))
    return {
        "frames": draw(st.one_of(st.integers(1, 30), st.just(window), st.just(2 * window + 1))),
        "window": window,
        "overlap": draw(st.integers(0, window - 1)),
        "levels": draw(st.integers(1, 4)),
        "tiling": draw(st.sampled_from([None, (HEIGHT, WIDTH, tile, tile // 2)])),
    }


def plan_of(geometry, order="wavefront"):
    rest = {name: value for name, value in geometry.items() if name != "tiling"}
    return WindowsPlan(**rest, tiles=geometry["tiling"] and split(*geometry["tiling"]), order=order)


def toy_prior(steps, latents):
    """Not linear; every frame sees the whole window, its place in the window and its own level."""
    out = []
    for step, z in zip(steps, latents, strict=True):
        place = torch.arange(len(z)).view(-1, 1, 1, 1)
        level = torch.from_numpy(step.level).view(-1, 1, 1, 1)
        out.append(torch.tanh(0.9 * z + 0.1 * z.mean((0, 2, 3), keepdim=True) + 0.05 * torch.sin(place) * level))
    return out


def first_latent(frame):
    return noise(0, frame, 100, (CHANNELS, HEIGHT, WIDTH))


def executor(plan, **options):
    """A stochastic run: the noise of a frame at a level is its own, whatever window or tile or batch asks."""
    ladder = bridge_ladder(plan.levels, spread=0.5)

    def solver(frame, z, x0, level, to):
        fresh = noise(1, frame, to, tuple(z.shape))
        return bridge_euler(ladder, z, x0, level, to, fresh, strength=1.0)

    arguments = {"predict": toy_prior, "start": first_latent, "solver": solver} | options
    return Executor(plan, **arguments)


def result(run):
    frames, latents = zip(*run.run(), strict=True)
    assert list(frames) == list(range(run.plan.frames))
    return torch.stack(latents)


# ---- invariants


@few
@given(geometries(), st.integers(1, 7))
def test_order_batch_and_store_change_nothing(tmp_path_factory, geometry, batch):
    expected = result(executor(plan_of(geometry, "sweep")))
    with MmapStore(tmp_path_factory.mktemp("latents"), slots=3) as disk:
        for store in (RamStore(), disk):
            run = executor(plan_of(geometry), batch=batch, store=store)
            assert torch.equal(result(run), expected)
            assert store.live == 0
            assert store.peak <= run.plan.live_bound


@few
@given(geometries(), st.data())
def test_a_run_resumed_at_any_tick_gives_the_same_bits(geometry, data):
    plan = plan_of(geometry)
    expected = result(executor(plan))
    stop = data.draw(st.integers(0, plan.critical_path))
    first = executor(plan, batch=2)
    done = [pair for finished in islice(first.ticks(), stop) for pair in finished]
    state = first.state()
    saved, meta = save(state.tensors), json.dumps(state.meta)

    asked = []
    second = executor(plan, start=lambda frame: asked.append(frame) or first_latent(frame))
    second.restore(State(load(saved), json.loads(meta)))
    assert second.tick == stop
    done += second.run()
    assert [frame for frame, _ in done] == list(range(plan.frames))
    assert torch.equal(torch.stack([latent for _, latent in done]), expected)
    # Frames are not asked for again; the state holds what is live and nothing else.
    assert not {int(name.split(".")[1]) for name in state.tensors} & set(asked)
    assert len([name for name in state.tensors if name.startswith("latent.")]) <= plan.live_bound


@few
@given(geometries())
def test_frames_are_asked_for_once_and_handed_out_in_time(geometry):
    plan = plan_of(geometry)
    asked, finished = [], 0
    run = executor(plan, start=lambda frame: asked.append(frame) or first_latent(frame))
    for pairs in run.ticks():
        finished += len(pairs)
        assert len(asked) - finished == run.store.live <= plan.live_bound
    assert asked == sorted(set(asked)) == list(range(plan.frames))


def test_memory_is_constant_and_output_streams():
    """Windows of 16, 4 steps: 64 latents inside a tick and 56 between ticks, however long the video is."""
    for frames in (160, 1200):
        run = executor(WindowsPlan(frames, 16, 8, 4), start=lambda n: torch.full((1, 1, 1), n / 1200))
        between, first = 0, None
        for tick, pairs in enumerate(run.ticks()):
            between = max(between, run.store.live)
            if pairs and first is None:
                first = tick
        assert (run.store.peak, between, first) == (64, 56, 6)


def crossed(geometry, order="wavefront", inverse=False):
    tiles = geometry["tiling"] and split(*geometry["tiling"])
    rest = {name: value for name, value in geometry.items() if name != "tiling"}
    return CrossedPlan(WindowsPlan(**rest, tiles=tiles, order=order, inverse=inverse))


@settings(max_examples=15, deadline=None)
@given(geometries(), st.integers(1, 7), st.data())
def test_an_anchor_has_one_trajectory_in_every_order_and_run(tmp_path_factory, geometry, batch, data):
    """The toy prior reads all frames of a call, context too, so any latent at a wrong level would show."""
    expected = result(executor(crossed(geometry, "sweep")))
    plan = crossed(geometry)
    with MmapStore(tmp_path_factory.mktemp("latents"), slots=3) as disk:
        for store in (RamStore(), disk):
            run = executor(plan, batch=batch, store=store)
            assert torch.equal(result(run), expected)
            assert store.live == 0
            assert store.peak <= plan.live_bound
    stop = data.draw(st.integers(0, plan.windows.critical_path))
    first = executor(plan)
    done = [pair for finished in islice(first.ticks(), stop) for pair in finished]
    state = first.state()
    saved, meta = save(state.tensors), json.dumps(state.meta)
    second = executor(plan)
    second.restore(State(load(saved), json.loads(meta)))
    done += second.run()
    assert torch.equal(torch.stack([latent for _, latent in done]), expected)


def test_steps_with_different_directives_are_no_batch():
    plan = WindowsPlan(24, window=4, overlap=0, levels=1, order="sweep")
    told = ["a", "a", "b", None, None, "a"]

    class Told(WindowsPlan):
        def ticks(self):
            for steps in super().ticks():
                yield tuple(replace(step, attend=attend) for step, attend in zip(steps, told, strict=True))

    calls = []
    run = executor(
        Told(24, window=4, overlap=0, levels=1, order="sweep"),
        predict=lambda steps, latents: calls.append([step.attend for step in steps]) or toy_prior(steps, latents),
        batch=8,
    )
    assert torch.equal(result(run), result(executor(plan)))
    assert calls == [["a", "a"], ["b"], [None, None], ["a"]]


# ---- the arithmetic, against a plain one


@few
@given(geometries())
def test_it_is_the_level_by_level_sweep(geometry):
    """`proofs` in float64, written out: fuse the predictions of all windows and tiles, then take one step."""
    plan = plan_of(geometry)
    z = torch.stack([first_latent(n) for n in range(plan.frames)]).double()
    ladder = bridge_ladder(plan.levels)
    length = min(plan.window, plan.frames)
    triangle = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1))
    for level in range(plan.levels, 0, -1):
        total, shares = torch.zeros_like(z), torch.zeros_like(z)
        for start in plan.starts:
            for tile in plan.tiles or split(HEIGHT, WIDTH, WIDTH, 0):
                span = np.s_[start : start + length, :, tile.y : tile.y + len(tile.weight_y)]
                span = (*span, np.s_[tile.x : tile.x + len(tile.weight_x)])
                step = Step(*[np.full(length, level)] * 4)
                weight = torch.einsum("t,y,x->tyx", *map(torch.tensor, (triangle + 0.0, tile.weight_y, tile.weight_x)))
                weight = weight[:, None].double()
                total[span] += weight * toy_prior([step], [z[span]])[0]
                shares[span] += weight
        z = bridge_euler(ladder, z, total / shares, level, level - 1)
    run = executor(plan, solver=lambda n, z, x0, level, to: bridge_euler(ladder, z, x0, level, to))
    torch.testing.assert_close(result(run).double(), z, rtol=0, atol=1e-5)


def test_one_window_passes_predictions_through_to_the_bit():
    plan = WindowsPlan(5, window=8, overlap=2, levels=1)
    expected = toy_prior([next(plan.ticks())[0]], [torch.stack([first_latent(n) for n in range(5)])])[0]
    assert torch.equal(result(executor(plan, solver=lambda n, z, x0, level, to: x0)), expected)


def test_predictions_are_fused_not_updated_latents():
    """Averaging two stochastic latents shrinks their deviation from 0.6 to 0.42; one noise per frame does not."""
    ladder = bridge_ladder(2, spread=1.2)
    middle = []

    def solver(frame, z, x0, level, to):
        fresh = noise(3, frame, to, (4, 40, 50))
        z = bridge_euler(ladder, z, x0, level, to, fresh, strength=1.0)
        if to == 1:
            middle.append(z)
        return z

    run = Executor(
        WindowsPlan(12, window=4, overlap=2, levels=2),
        lambda steps, latents: [torch.zeros_like(z) for z in latents],
        lambda frame: torch.zeros(4, 40, 50),
        solver,
    )
    result(run)
    assert float(torch.stack(middle).std()) == pytest.approx(0.6, abs=0.005)


def test_windows_on_exact_data_have_no_seams():
    """A Gaussian process over frames: the exact denoiser of any window is known, only the plan is put to the test."""
    frames, window, steps, samples = 64, 16, 24, 600
    distance = np.abs(np.subtract.outer(np.arange(frames), np.arange(frames)))
    kernel = 0.6 * np.exp(-0.5 * (distance / 30) ** 2) + 0.4 * np.exp(-0.5 * (distance / 4) ** 2)
    alpha = np.cos(np.linspace(0, 1, steps + 1) * np.pi / 2 * 0.98)

    def denoise(calls, latents):
        out = []
        for step, z in zip(calls, latents, strict=True):
            k = kernel[np.ix_(step.frames, step.frames)]
            a = alpha[step.level]
            gain = (k * a) @ np.linalg.inv(a[:, None] * k * a + np.diag(1 - a**2 + 1e-6))
            out.append(torch.einsum("ts,sc->tc", torch.from_numpy(gain), z[:, :, 0, 0].double())[:, :, None, None])
        return out

    def solver(frame, z, x0, level, to):
        a, b = float(alpha[level]), float(alpha[to])
        return b * x0 + (1 - b**2) ** 0.5 * (z - a * x0) / (1 - a**2) ** 0.5

    def worst_jump(overlap):
        run = Executor(
            WindowsPlan(frames, window, overlap, steps), denoise, lambda n: noise(0, n, 0, (samples, 1, 1)), solver
        )
        x = torch.stack([latent for _, latent in run.run()])[:, :, 0, 0]
        jumps = (x[1:] - x[:-1]).std(1) / x.var(1).mean().sqrt()
        return float(jumps.max()) / (2 * (1 - kernel[0, 1])) ** 0.5

    assert worst_jump(overlap=0) > 5
    assert worst_jump(overlap=8) < 1.5


# ---- batches


def test_batches_are_full_and_of_one_shape():
    sizes, shapes = [], []

    def predict(steps, latents):
        assert isinstance(steps[0], Step)
        sizes.append(len(steps))
        shapes.append({tuple(z.shape) for z in latents})
        return toy_prior(steps, latents)

    plan = WindowsPlan(48, window=8, overlap=4, levels=4, tiles=split(HEIGHT, WIDTH, 4, 1))
    result(executor(plan, predict=predict, batch=5))
    assert sum(sizes) == plan.calls
    assert max(sizes) == 5
    assert all(len(same) == 1 for same in shapes)


@dataclass(frozen=True)
class Chain:
    """Windows of unequal length in one tick, context that is final, and two groups for a reducer."""

    frames: int = 7
    levels: int = 1
    start_level: int = 1
    end_level: int = 0
    keep: int = 1
    window: int = 4
    picture: None = None
    calls: int = 5
    live_bound: int = 7

    def given(self, frame: int) -> bool:
        return False

    def ticks(self) -> Iterator[tuple[Step, ...]]:
        def step(frames, moves, weight=1.0, group="main"):
            frames, moves = np.array(frames), np.array(moves)
            level = np.where(moves, 1, 0)
            return Step(frames, level, np.zeros_like(level), weight * moves, group=group)

        yield (
            step([0, 1, 2], [1, 1, 1]),
            step([5, 6], [1, 1]),
            step([4, 3], [1, 1], 0.25),
            step([3, 4], [1, 1], 0.75, "other"),
        )
        yield (step([2, 3], [0, 0]),)


def test_unequal_windows_are_not_batched_together_and_context_is_not_written():
    calls = []

    def predict(steps, latents):
        calls.append([tuple(step.frames) for step in steps])
        return toy_prior(steps, latents)

    run = executor(Chain(), predict=predict, batch=4)
    finished = [[n for n, _ in pairs] for pairs in run.ticks()]
    assert calls == [[(0, 1, 2)], [(5, 6), (4, 3), (3, 4)], [(2, 3)]]
    assert finished == [[0, 1, 2, 3, 4, 5, 6], []]
    assert run.store.live == 0


def test_a_reducer_sees_the_groups_of_a_tick():
    seen = []

    def reduce(sums):
        seen.append({n: sorted(groups) for n, groups in sums.items()})
        return weighted_mean(sums)

    by_hand = result(executor(Chain(), reduce=reduce))
    assert seen == [
        {0: ["main"], 1: ["main"], 2: ["main"], 5: ["main"], 6: ["main"], 3: ["main", "other"], 4: ["main", "other"]}
    ]
    assert torch.equal(by_hand, result(executor(Chain())))


def test_guidance_acts_on_the_fused_prediction():
    plan = WindowsPlan(6, window=4, overlap=2, levels=2)
    seen = []

    def guide(frame, x0, level):
        seen.append((frame, level))
        return torch.full_like(x0, float(frame))

    out = result(executor(plan, guide=guide, solver=lambda n, z, x0, level, to: x0))
    assert sorted(seen) == [(n, level) for n in range(6) for level in (1, 2)]
    assert torch.equal(out[:, 0, 0, 0], torch.arange(6.0))
