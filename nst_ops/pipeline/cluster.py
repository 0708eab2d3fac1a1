"""Ray Data: run units on the pool of workers."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence

from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.util.annotations import RayDeprecationWarning

from nst_ops.collection.units import WorkUnit
from nst_ops.config import StylizeConfig
from nst_ops.pipeline.board import Board
from nst_ops.pipeline.feed import feed
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.pool import Pool, plan_pool
from nst_ops.pipeline.spec import RunSpec
from nst_ops.pipeline.unit_actor import _UnitActor
from nst_ops.pipeline.worker import UnitResult
from nst_ops.ray_cluster import nodes


def pool_size(config: StylizeConfig) -> int:
    """Workers that a run begins with on the cluster at hand.

    Raises:
        ConfigError: it has no place for them.
    """
    return plan_pool(config, nodes()).initial_size


def run_units(units: Sequence[WorkUnit], spec: RunSpec, board: Board) -> Iterator[UnitResult]:
    """Run units on the pool and yield their results as they come, in any order.

    A unit that kills its worker, or raises, yields nothing: the caller sees which are missing.

    Args:
        units: of one execution of Ray Data, with workers of its own; the driver keeps some 15 kB of each.
        spec: of the run.
        board: of the run.

    Raises:
        ConfigError: the cluster has no place for the pool.
    """
    pool = plan_pool(spec.config, nodes())
    _configure_ray_data()
    with feed(units) as dataset:
        for row in _stylize(dataset, len(units), pool, spec, board).iter_rows():
            record = json.loads(row["result"])
            result = UnitResult(**{**record, "timings": Timings(**record["timings"])})
            board.end(result.unit_id)
            yield result


def _stylize(dataset: Dataset, most: int, pool: Pool, spec: RunSpec, board: Board) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)  # restarts have no other way in before 2.64
        return dataset.map_batches(
            _UnitActor,
            batch_size=1,
            # One unit at a time: a unit queued behind one that kills the worker would die with it.
            compute=ActorPoolStrategy(
                min_size=min(pool.min_size, most),
                initial_size=min(pool.initial_size, most),
                max_size=min(pool.max_size, most),
                max_tasks_in_flight_per_actor=1,
            ),
            fn_constructor_args=(spec, pool.threads, board.actor),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            # The worker comes back for the other units, but what killed it is tried again by the
            # caller, alone and a finite number of times; Ray itself would try for ever.
            max_restarts=-1,
            max_task_retries=0,
        )


def _configure_ray_data() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # a lost unit is the caller's to try again, not the run's end
    context.execution_no_progress_timeout_s = -1  # a unit of optimized pictures takes hours on a CPU
    context.target_max_block_size = 1  # a row is a block, for a unit to be a task
    # Busy with their one unit is as busy as workers get: by default a pool of them would never grow.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
