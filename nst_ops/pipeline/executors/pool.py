"""The pool of workers: how many there are, from what this machine or the nodes of the cluster have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nst_ops.config import ConfigError, StylizeConfig
from nst_ops.ray_cluster import Node
from nst_ops.stylizers.registry import KINDS

_FINEST = 100  # parts into which a core or a GPU is divided at the finest
_SHOWN_NODES = 4


@dataclass(frozen=True)
class Pool:
    """How many workers there are, and what each takes of its node."""

    min_size: int
    initial_size: int
    max_size: int
    cpus: float
    gpus: float
    threads: int  # CPU threads of the network in each worker, which Ray would set to 1

    def at_most(self, count: int | None) -> Pool:
        """Return the pool without workers that would have nothing to do; None for no bound."""
        most = self.max_size if count is None else max(1, count)
        sizes = {name: min(getattr(self, name), most) for name in ("min_size", "initial_size", "max_size")}
        return replace(self, **sizes)


def plan_pool(config: StylizeConfig, nodes: Sequence[Node]) -> Pool:
    """Size the pool: one worker per GPU, or per node where no GPU is wanted or there, or as configured.

    Raises ConfigError if the nodes cannot hold it, and there is no ``workers.max_count`` to wait for more.
    """
    workers = config.workers
    gpus = _gpus(config, nodes)
    cpus = workers.cpus or _cpus(workers.count, gpus, nodes)
    places = sum(_places(node, cpus, gpus) for node in nodes)
    threads = workers.threads or max(1, int(cpus))
    if workers.max_count:
        lowest = workers.min_count or 1
        initial = min(max(places, lowest), workers.max_count)
        return Pool(lowest, initial, workers.max_count, cpus, gpus, threads)
    count = workers.count or places
    if not places or count > places:
        raise ConfigError(_no_place(count, places, cpus, gpus, nodes))
    return Pool(count, count, count, cpus, gpus, threads)


def wants_gpu(config: StylizeConfig) -> bool:
    """Return whether the network of this run would use a GPU."""
    kind = KINDS.get(config.model.kind)
    return (kind is None or kind.uses_device) and config.model.device != "cpu"


def _gpus(config: StylizeConfig, nodes: Sequence[Node]) -> float:
    """Return the GPUs of each worker: as configured, or one, or an equal share for more workers."""
    if config.workers.gpus:
        return config.workers.gpus
    cards = sum(int(node.gpus) for node in nodes) if wants_gpu(config) else 0
    return _share([1.0] * cards, config.workers.count or cards) if cards else 0.0


def _cpus(count: int | None, gpus: float, nodes: Sequence[Node]) -> float:
    """Return the cores of each worker: those of a node, with their decoders and encoders, share all."""
    if not gpus:
        cores = [node.cpus for node in nodes if node.cpus]
        return _share(cores, count or len(cores)) if cores else 1.0
    on_nodes = [(node.cpus, _gpu_places(node, gpus)) for node in nodes]
    shares = [cpus / min(on_node, count or on_node) for cpus, on_node in on_nodes if cpus and on_node]
    return _rounded(min(shares)) if shares else 1.0


def _share(amounts: Sequence[float], count: int) -> float:
    """Return the largest equal part of the smallest amount that the amounts hold ``count`` times."""
    for parts in range(1, _FINEST):
        share = _rounded(min(amounts) / parts)
        if sum(_times(amount, share) for amount in amounts) >= count:
            break
    return share


def _rounded(amount: float) -> float:
    """Round down to what Ray can be asked for: whole above 1, and hundredths below."""
    return math.floor(amount) if amount >= 1 else max(1, math.floor(amount * _FINEST)) / _FINEST


def _times(amount: float, share: float) -> int:
    """Count how often ``share`` fits into ``amount``."""
    return int(amount / share + 1e-6)


def _places(node: Node, cpus: float, gpus: float) -> int:
    by_cpus = _times(node.cpus, cpus)
    return min(by_cpus, _gpu_places(node, gpus)) if gpus else by_cpus


def _gpu_places(node: Node, gpus: float) -> int:
    """Count the workers that the GPUs of a node hold; a fraction comes from one of them, never from two."""
    return int(node.gpus) * _times(1, gpus) if gpus < 1 else _times(node.gpus, gpus)


def _no_place(count: int, places: int, cpus: float, gpus: float, nodes: Sequence[Node]) -> str:
    each = f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
    have = [f"{node.cpus:g} CPUs and {node.gpus:g} GPUs" for node in nodes[:_SHOWN_NODES]]
    have += ["..."] * (len(nodes) > _SHOWN_NODES)
    lack = f"has place for {places} of {count} workers" if places else "has no node for a worker"
    remedy = "lower workers.count, workers.gpus or workers.cpus, or set workers.max_count if nodes are still to come"
    return f"the cluster {lack} with {each} each (its nodes: {', '.join(have)}): {remedy}"
