"""The pool for clusters of all kinds, without any."""

import pytest

from nst_ops.config import ConfigError, StylizeConfig
from nst_ops.pipeline.executors.pool import Pool, plan_pool
from nst_ops.ray_cluster import Node


def cluster(*nodes: tuple[float, float]) -> list[Node]:
    """Nodes by (CPUs, GPUs)."""
    return [Node(f"node {index}", cpus, gpus) for index, (cpus, gpus) in enumerate(nodes)]


def pool(nodes: list[Node], kind: str = "johnson", **workers: float) -> Pool:
    """The pool of a run on these nodes."""
    return plan_pool(StylizeConfig(input="in", output="out", model={"kind": kind}, workers=workers), nodes)


def test_one_worker_per_gpu_shares_the_cores_of_its_node() -> None:
    nodes = cluster((4, 0), (8, 2), (8, 2))
    assert pool(nodes) == Pool(4, 4, 4, cpus=4, gpus=1, threads=4)
    assert pool(nodes, gpus=0.5) == Pool(8, 8, 8, cpus=2, gpus=0.5, threads=2)
    assert pool(nodes, gpus=2) == Pool(2, 2, 2, cpus=8, gpus=2, threads=8)
    assert pool(nodes, count=1) == Pool(1, 1, 1, cpus=8, gpus=1, threads=8)
    assert pool(nodes, cpus=1, threads=3) == Pool(4, 4, 4, cpus=1, gpus=1, threads=3)


def test_the_head_without_cores_holds_no_worker() -> None:
    assert pool(cluster((0, 0), (2, 2), (2, 2)), gpus=1) == Pool(4, 4, 4, cpus=1, gpus=1, threads=1)
    assert pool(cluster((0, 0), (2, 0)), kind="identity").max_size == 1


def test_a_share_of_a_gpu_comes_from_one_gpu() -> None:
    assert pool(cluster((16, 3)), gpus=0.5).max_size == 6
    assert pool(cluster((16, 3)), gpus=0.4).max_size == 6  # 0.2 of each is left over
    assert pool(cluster((16, 3)), gpus=2).max_size == 1


def test_more_workers_than_gpus_share_them() -> None:
    assert pool(cluster((8, 2)), count=8) == Pool(8, 8, 8, cpus=1, gpus=0.25, threads=1)
    assert pool(cluster((8, 1), (8, 1)), count=3).gpus == 0.5  # four places for three
    assert pool(cluster((8, 1)), count=3).gpus == 0.33


def test_without_gpus_one_worker_per_node_takes_all_its_cores() -> None:
    assert pool(cluster((8, 0), (8, 0))) == Pool(2, 2, 2, cpus=8, gpus=0, threads=8)
    assert pool(cluster((8, 2)), kind="identity") == Pool(1, 1, 1, cpus=8, gpus=0, threads=8)
    assert pool(cluster((2, 0)), count=4) == Pool(4, 4, 4, cpus=0.5, gpus=0, threads=1)


def test_larger_nodes_hold_several_of_the_smallest_nodes_workers() -> None:
    assert pool(cluster((4, 0), (16, 0))) == Pool(5, 5, 5, cpus=4, gpus=0, threads=4)


def test_a_pool_without_a_place_is_refused() -> None:
    with pytest.raises(ConfigError, match="place for 2 of 8 workers with 4 CPUs and 1 GPUs each"):
        pool(cluster((8, 2)), count=8, gpus=1, cpus=4)
    with pytest.raises(ConfigError, match="no node for a worker with 1 CPUs and 2 GPUs"):
        pool(cluster((8, 1), (8, 1)), gpus=2)
    with pytest.raises(ConfigError, match="no node for a worker"):
        pool(cluster((0, 0)))


def test_a_cluster_that_grows_begins_with_what_is_there() -> None:
    assert pool(cluster((4, 1), (4, 1)), max_count=50) == Pool(1, 2, 50, cpus=4, gpus=1, threads=4)
    assert pool(cluster((4, 8)), min_count=2, max_count=4) == Pool(2, 4, 4, cpus=0.5, gpus=1, threads=1)
    empty = pool(cluster((0, 0)), min_count=2, max_count=8, gpus=1, cpus=4)
    assert empty == Pool(2, 2, 8, cpus=4, gpus=1, threads=4)


@pytest.mark.parametrize(
    "workers", [{"count": 2, "max_count": 4}, {"min_count": 2}, {"min_count": 3, "max_count": 2}, {"gpus": 1.5}]
)
def test_sizes_that_contradict_each_other_are_refused(workers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"count|whole number"):
        StylizeConfig(input="in", output="out", workers=workers)
