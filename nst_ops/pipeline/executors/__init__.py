"""Executors: where the units of a run are worked on, on this machine or on a Ray cluster."""

from nst_ops.config import StylizeConfig
from nst_ops.pipeline.executors.base import Executor, LostUnit, Outcome, PendingUnits
from nst_ops.ray_cluster import cluster_at_hand

__all__ = ["Executor", "LostUnit", "Outcome", "PendingUnits", "new_executor"]


def new_executor(config: StylizeConfig) -> Executor:
    """Make the executor of the configuration; ``auto``: Ray where a cluster is at hand. ConfigError: no place."""
    if config.executor == "ray" or (config.executor == "auto" and cluster_at_hand(config.ray_address)):
        from nst_ops.pipeline.executors.ray import RayExecutor  # seconds to import

        return RayExecutor(config)
    from nst_ops.pipeline.executors.local import LocalExecutor

    return LocalExecutor(config)
