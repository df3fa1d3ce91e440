"""The same units on Ray: two nodes on one machine, a worker killed in the middle."""

import os
import signal
import subprocess
import sys

import pytest

CLUSTER = """
import sys
from ray.cluster_utils import Cluster

node = {"num_cpus": 1, "object_store_memory": 80 << 20}
cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
cluster.add_node(**node)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def cluster():
    """Address of two nodes. A process of its own holds them: this one may not open connections."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    address = process.stdout.readline().strip()
    yield address
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_two_nodes_with_a_worker_killed(program, footage, tmp_path, cluster, worker_in_the_middle, same_clips):
    target = tmp_path / "out"
    process = program.start(footage, target, "--recursive", "--ray", cluster, "--ray-cpus", 1, "--json", "--quiet")
    os.kill(worker_in_the_middle(target, process), signal.SIGKILL)
    report = program.report(process)
    assert report["counts"] == {"done": 40}
    tries = {clip["source"]: clip["attempts"] for clip in report["clips"]}
    assert tries.pop("below/long.mkv") == 2
    assert set(tries.values()) == {1}
    same_clips(target, footage)


def test_an_address_where_nothing_answers(program, footage, tmp_path):
    process = program.start(footage, tmp_path / "out", "--ray", "127.0.0.1:1")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "Error: no Ray cluster answers at '127.0.0.1:1'" in err.splitlines()[-1]
