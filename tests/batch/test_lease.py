"""Leases: one owner of many who try, heartbeats, taking over from the dead and the sleeping."""

import json
import os
import subprocess
import sys
import threading

import pytest

from vrestore.batch import lease as module
from vrestore.batch.lease import Lease, Watch, look, machine


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def leave(folder, generation=0, **owner):
    (folder / f"unit.{generation}").write_text(json.dumps({"machine": machine(), "pid": os.getpid(), **owner}))


def test_one_of_many_gets_it(tmp_path):
    barrier, got = threading.Barrier(16), []

    def claim():
        barrier.wait()
        lease = Lease.claim(tmp_path, "unit")
        if lease:
            got.append(lease)

    threads = [threading.Thread(target=claim) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (lease,) = got
    seen = look(tmp_path, "unit")
    assert (seen.generation, seen.owner["pid"], seen.owner["owner"]) == (0, os.getpid(), lease.token)
    assert Lease.claim(tmp_path, "other") is not None
    lease.release()
    assert look(tmp_path, "unit") is None
    assert Lease.claim(tmp_path, "unit") is not None


def test_many_take_over_from_the_dead_and_one_succeeds(tmp_path, dead):
    leave(tmp_path, pid=dead)
    leases = [Lease.claim(tmp_path, "unit") for _ in range(5)]
    (lease,) = filter(None, leases)
    assert (lease.generation, lease.from_sleeper) == (1, False)
    lease.release()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_nobody_has_asked_about_is_dead_too(tmp_path):
    process = subprocess.Popen([sys.executable, "-S", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    leave(tmp_path, pid=process.pid)
    assert Lease.claim(tmp_path, "unit") is None
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Lease.claim(tmp_path, "unit") is not None
    process.wait()


def test_the_same_number_on_another_machine_is_another_process(tmp_path, dead):
    leave(tmp_path, pid=dead, machine="elsewhere")
    assert Lease.claim(tmp_path, "unit") is None


def test_silence_is_measured_by_our_own_clock(tmp_path):
    """The heartbeat's time may be that of a machine whose clock is wrong: only its change counts."""
    now = 0.0
    watch = Watch(tmp_path, 10.0, clock=lambda: now)
    leave(tmp_path, machine="elsewhere")
    os.utime(tmp_path / "unit.0", (1, 1))
    assert watch.gone("unit") is None
    now = 9.9
    assert watch.gone("unit") is None
    os.utime(tmp_path / "unit.0", (5, 5))
    now = 10.0
    assert watch.gone("unit") is None
    now = 20.0
    assert watch.gone("unit") == 0
    assert Lease.claim(tmp_path, "unit", gone=1) is None, "another generation was found silent"
    taken = Lease.claim(tmp_path, "unit", gone=0)
    assert (taken.generation, taken.from_sleeper) == (1, True)
    assert watch.gone("unit") is None
    taken.release()
    assert watch.gone("unit") is None


def test_a_sleeper_finds_that_it_has_lost(tmp_path):
    sleeper = Lease.claim(tmp_path, "unit")
    assert sleeper.beat()
    taker = Lease.claim(tmp_path, "unit", gone=0)
    assert not sleeper.lost(1000.0), "it has not looked"
    assert sleeper.lost(0.0)
    assert not sleeper.beat()
    sleeper.release()
    assert taker.held(), "what the sleeper gives back is no more its own"


def test_the_heartbeat_goes_on_while_the_block_runs(tmp_path, monkeypatch):
    lease = Lease.claim(tmp_path, "unit")
    beats, enough = [], threading.Event()

    def beat():
        beats.append(None)
        if len(beats) == 3:
            enough.set()
        return True

    monkeypatch.setattr(lease, "beat", beat)
    with lease.beating(0.01):
        assert enough.wait(20)
    count = len(beats)
    assert not [t for t in threading.enumerate() if "beats" in t.name]
    assert len(beats) == count


def test_a_claim_that_meets_a_higher_generation_leaves_nothing(tmp_path, monkeypatch):
    """The lower files of a lease that is just being given back do not make the unit free."""
    leave(tmp_path, generation=3)
    monkeypatch.setattr(module, "look", lambda folder, unit: None)
    assert Lease.claim(tmp_path, "unit") is None
    assert [path.name for path in tmp_path.iterdir()] == ["unit.3"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}'])
def test_a_lease_whose_owner_was_stopped_while_it_wrote(tmp_path, text):
    (tmp_path / "unit.0").write_text(text)
    assert not look(tmp_path, "unit").ended()
    assert Lease.claim(tmp_path, "unit") is None
    assert Lease.claim(tmp_path, "unit", gone=0).generation == 1
