"""A Ray cluster of several nodes on this machine, of which any may die.

It is started in a process of its own: Ray decides on tokens when it is imported, and the tests'
own process may be connected to another Ray. ``python ray_cluster.py NODES CPUS GPUS`` prints the
address, kills a node for each number that it reads, and stops where there is nothing more to read.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO


@dataclass
class RayCluster:
    """A running cluster."""

    address: str
    commands: IO[str]

    def kill(self, index: int) -> None:
        """Kill a node as a power cut does: all of its processes, without a word."""
        print(index, file=self.commands, flush=True)


@contextlib.contextmanager
def start_cluster(
    num_nodes: int = 3, cpus: int = 2, gpus: int = 2, environment: dict[str, str] | None = None
) -> Iterator[RayCluster]:
    """A head without cores, to which drivers connect, and nodes with logical CPUs and GPUs.

    Args:
        num_nodes: beside the head.
        cpus: of each node.
        gpus: of each node.
        environment: of all workers, beside that of the tests.
    """
    from job_runner import ENVIRONMENT

    command = [sys.executable, __file__, str(num_nodes), str(cpus), str(gpus)]
    with subprocess.Popen(
        command,
        env={**ENVIRONMENT, **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        address = next((line.split()[1] for line in process.stdout if line.startswith("address ")), "")
        assert address, "Ray does not start"
        yield RayCluster(address, process.stdin)
        process.stdin.close()


def _serve(num_nodes: int, cpus: int, gpus: int) -> None:
    from ray.cluster_utils import Cluster

    memory = 80_000_000
    head = {"num_cpus": 0, "num_gpus": 0, "object_store_memory": memory, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=cpus, num_gpus=gpus, object_store_memory=memory) for _ in range(num_nodes)]
    cluster.wait_for_nodes()
    print("address", cluster.address, flush=True)
    for line in sys.stdin:
        cluster.remove_node(nodes[int(line)], allow_graceful=False)
    cluster.shutdown()


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))
