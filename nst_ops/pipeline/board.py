"""The board: what the workers report to the driver while they work, and who died of what."""

from __future__ import annotations

from collections import Counter
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nst_ops.collection.progress import Totals
from nst_ops.ray_cluster import nodes

_ANSWER_S = 10.0
"""Seconds that the board has for an answer: a lost cluster must not keep the driver from saying so."""
_NODES_FORGIVEN = 3
"""Nodes that may die below a unit before it is taken for the reason."""


class _BoardActor:
    """What the workers write on."""

    def __init__(self) -> None:
        self.done = Totals()
        self.started: dict[str, str] = {}

    def start(self, unit_id: str, node_id: str) -> None:
        """A worker begins this unit; if it never ends, it has killed the worker, or its node has died."""
        self.started[unit_id] = node_id

    def take_started(self) -> dict[str, str]:
        """Units begun since the last call, and on which nodes."""
        started, self.started = self.started, {}
        return started

    def add(self, num_rows: int, num_frames: int, busy_s: float, wait_s: float) -> None:
        """Count work done since the last call, and what the network was busy and waited meanwhile."""
        done = self.done
        self.done = Totals(
            num_rows=done.num_rows + num_rows,
            num_frames=done.num_frames + num_frames,
            busy_s=done.busy_s + busy_s,
            wait_s=done.wait_s + wait_s,
        )

    def totals(self) -> Totals:
        """All that was added so far."""
        return self.done


class Board:
    """The driver's side of the board of one run."""

    def __init__(self) -> None:
        # Beside the driver: on any other node it could die while the run goes on.
        self.actor: Any = ray.remote(num_cpus=0, scheduling_strategy=beside_driver())(_BoardActor).remote()
        self._ended: set[str] = set()
        self._forgiven: Counter[str] = Counter()

    def totals(self) -> Totals:
        """What the workers have reported so far."""
        totals: Totals = ray.get(self.actor.totals.remote(), timeout=_ANSWER_S)
        return totals

    def end(self, unit_id: str) -> None:
        """The result of this unit has come."""
        self._ended.add(unit_id)

    def take_started(self) -> tuple[set[str], set[str]]:
        """Units begun since the last call, and apart from them those whose node has died, not they.

        A unit below which one node after the other dies is among the former in the end.
        """
        started: dict[str, str] = ray.get(self.actor.take_started.remote())
        open_nodes = {node_id for unit_id, node_id in started.items() if unit_id not in self._ended}
        gone = _gone(open_nodes)
        orphans = {
            unit_id
            for unit_id, node_id in started.items()
            if unit_id not in self._ended and node_id in gone and self._forgiven[unit_id] < _NODES_FORGIVEN
        }
        self._forgiven.update(orphans)
        self._ended.clear()
        return started.keys() - orphans, orphans


def beside_driver() -> Any:
    """Places an actor or a task on the node of the driver, with which it may die."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _gone(node_ids: set[str]) -> set[str]:
    """Which of the nodes have died, be it so lately that Ray has not noticed."""
    alive = node_ids & {node.node_id for node in nodes()}
    pings = {node_id: _ping(node_id) for node_id in alive}
    if pings:
        ray.wait(list(pings.values()), num_returns=len(pings), timeout=_ANSWER_S)
    return {node_id for node_id in node_ids if node_id not in alive or not _answered(pings[node_id])}


def _ping(node_id: str) -> Any:
    place: Any = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=place)(_nothing).remote()


def _nothing() -> None:
    """Runs only on a node that lives."""


def _answered(ping: Any) -> bool:
    try:
        ray.get(ping, timeout=0)
    except ray.exceptions.RayError:  # it died, or has no answer yet
        return False
    return True
