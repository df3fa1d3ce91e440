"""What the executor does when a plan, a prior, a state or the machine fails it."""

from itertools import islice

import pytest
import torch

from vrestore.errors import ConfigError, PlanError, PriorError, ResumeError
from vrestore.executor import Executor, State
from vrestore.noise import noise
from vrestore.plan import WindowsPlan
from vrestore.sampling import bridge_euler, bridge_ladder
from vrestore.store import RamStore

CHANNELS, HEIGHT, WIDTH = 2, 5, 7


def toy_prior(steps, latents):
    return [torch.tanh(0.9 * z + 0.1 * z.mean((0, 2, 3), keepdim=True)) for z in latents]


def executor(plan, **options):
    ladder = bridge_ladder(plan.levels)
    arguments = {
        "predict": toy_prior,
        "start": lambda frame: noise(0, frame, 0, (CHANNELS, HEIGHT, WIDTH)),
        "solver": lambda frame, z, x0, level, to: bridge_euler(ladder, z, x0, level, to),
    }
    return Executor(plan, **(arguments | options))


def result(run):
    return torch.stack([latent for _, latent in run.run()])


def test_a_bad_plan_is_refused_before_anything_is_asked():
    class Cut(WindowsPlan):
        def ticks(self):
            yield from islice(super().ticks(), 2)

    def never(*_):
        raise RuntimeError("asked")

    with pytest.raises(PlanError, match="plan ends, but the shares of frame 4"):
        Executor(Cut(9, window=4, overlap=2, levels=1), never, never, never)


def test_a_run_goes_on_after_a_call_that_failed():
    """Out of memory in the middle of a tick: the caller lowers the batch and continues, to the same bits."""
    plan = WindowsPlan(30, window=6, overlap=3, levels=3)
    expected = result(executor(plan))
    failed = []

    def predict(steps, latents):
        if len(steps) == 3 or (len(steps) == 2 and 20 in steps[-1].frames):
            failed.append(len(steps))
            raise MemoryError
        return toy_prior(steps, latents)

    run, done = executor(plan, predict=predict, batch=3), []
    for _ in range(3):
        try:
            done.extend(run.run())
        except MemoryError:
            run.batch = max(1, run.batch - 1)
    assert failed == [3, 2]
    assert [n for n, _ in done] == list(range(30))
    assert torch.equal(torch.stack([latent for _, latent in done]), expected)


def test_a_failed_guide_leaves_the_tick_undone():
    plan = WindowsPlan(10, window=4, overlap=2, levels=2)
    expected = result(executor(plan))
    calls = []

    def guide(frame, x0, level):
        calls.append(frame)
        if len(calls) == 7:
            raise MemoryError
        return x0

    run = executor(plan, guide=guide)
    done = []
    with pytest.raises(MemoryError):
        done.extend(pair for pairs in run.ticks() for pair in pairs)
    state = run.state()
    other = executor(plan)
    other.restore(state)
    done = [(n, z) for n, z in other.run()]
    assert torch.equal(torch.stack([z for _, z in done]), expected[done[0][0] :])


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        (lambda steps, latents: [], "gave 0 predictions for 1 calls"),
        (
            lambda steps, latents: [z[:, :1] for z in latents],
            r"shape \(4, 1, 5, 7\) for latents of shape \(4, 2, 5, 7\)",
        ),
        (lambda steps, latents: [z * float("nan") for z in latents], "frame 0 at level 2 is not finite"),
    ],
)
def test_a_prior_that_breaks_its_contract_is_named(predict, message):
    with pytest.raises(PriorError, match=message):
        result(executor(WindowsPlan(6, window=4, overlap=2, levels=2), predict=predict))


def test_a_batch_below_one_is_refused():
    with pytest.raises(ConfigError, match="batch of 0"):
        executor(WindowsPlan(6, 4, 2, 2), batch=0)


def test_states_of_other_runs_and_damaged_states_are_refused():
    run = executor(WindowsPlan(12, window=4, overlap=2, levels=2))
    next(run.ticks())
    state = run.state()
    with pytest.raises(ResumeError, match="'frames': 12"):
        executor(WindowsPlan(14, window=4, overlap=2, levels=2)).restore(state)
    with pytest.raises(ResumeError, match="missing"):
        run.restore(State(dict(list(state.tensors.items())[1:]), state.meta))
    with pytest.raises(ResumeError, match="damaged"):
        run.restore(State(state.tensors, {"plan": state.meta["plan"], "ledger": {}}))
    # Refused states change nothing.
    assert torch.equal(result(run), result(executor(run.plan)))


def test_an_executor_empties_the_store_that_it_is_given():
    store = RamStore()
    store.put(0, torch.ones(CHANNELS, HEIGHT, WIDTH))
    plan = WindowsPlan(6, window=4, overlap=2, levels=2)
    assert torch.equal(result(executor(plan, store=store)), result(executor(plan)))


def test_latents_handed_out_can_be_trained_through():
    ((_, latent),) = executor(WindowsPlan(1, 4, 2, 1)).run()
    (latent * torch.ones(1, requires_grad=True)).sum().backward()
