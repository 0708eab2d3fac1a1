"""Ray Data: size the pool, run units on it."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.util.annotations import RayDeprecationWarning

from nst_ops.collection.plan import WorkUnit
from nst_ops.config import StylizeConfig
from nst_ops.media.video.segments import Segment
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.spec import RunSpec
from nst_ops.pipeline.worker import UnitResult, Worker
from nst_ops.ray_connection import cores_per_node, num_gpus, num_nodes


def pool_size(config: StylizeConfig) -> int:
    """Workers: as configured, or one per GPU, or one."""
    return config.workers.count or (num_gpus() if wants_gpu(config) else 0) or 1


def wants_gpu(config: StylizeConfig) -> bool:
    """Whether the network of this run would use a GPU."""
    return config.model.kind != "identity" and config.model.device != "cpu"


def _threads(config: StylizeConfig, workers: int) -> int:
    """CPU threads of each worker's network: the cores of a node shared out, which Ray would set to 1."""
    return config.workers.threads or max(1, cores_per_node() * num_nodes() // workers)


class _BoardActor:
    """What the workers report while they work: for the progress bar, and to know who died of what."""

    def __init__(self) -> None:
        self.items = 0
        self.frames = 0
        self.started: set[str] = set()

    def start(self, unit_id: str) -> None:
        """A worker begins this unit; if it never ends, it was this one that killed the worker."""
        self.started.add(unit_id)

    def take_started(self) -> set[str]:
        """Units begun since the last call."""
        started, self.started = self.started, set()
        return started

    def add(self, items: int, frames: int) -> None:
        """Count work done since the last call."""
        self.items += items
        self.frames += frames

    def totals(self) -> tuple[int, int]:
        """(items, frames) so far."""
        return self.items, self.frames


class Board:
    """The driver's side of the board of one run."""

    def __init__(self) -> None:
        self.actor: Any = ray.remote(num_cpus=0)(_BoardActor).remote()

    def totals(self) -> tuple[int, int]:
        """(items, frames) that the workers have reported so far."""
        totals: tuple[int, int] = ray.get(self.actor.totals.remote())
        return totals

    def take_started(self) -> set[str]:
        """Units begun since the last call."""
        started: set[str] = ray.get(self.actor.take_started.remote())
        return started


class _UnitActor:
    """A ``Worker`` as Ray Data calls it: one unit in, one result out, both as JSON."""

    def __init__(self, spec: RunSpec, num_threads: int, board: Any) -> None:
        self.board = board
        self.worker = Worker(spec, num_threads, report=lambda items, frames: board.add.remote(items, frames))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        record = json.loads(batch["unit"][0])
        segment = Segment(**record["segment"]) if record["segment"] else None
        unit = WorkUnit(**{**record, "items": tuple(record["items"]), "segment": segment})
        ray.get(self.board.start.remote(unit.unit_id))  # must be known before the unit can kill this process
        return {"result": [json.dumps(asdict(self.worker(unit)))]}


def run_units(units: list[WorkUnit], spec: RunSpec, board: Board) -> Iterator[UnitResult]:
    """Run units on the pool and yield their results as they come, in any order.

    A unit that kills its worker, or raises, yields nothing: the caller sees which are missing.
    """
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.max_errored_blocks = -1  # a lost unit is the caller's to try again, not the run's end
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    size = pool_size(spec.config)
    gpus = min(1.0, num_gpus() / size) if wants_gpu(spec.config) else 0.0
    records = [{"unit": json.dumps(asdict(unit))} for unit in units]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)  # restarts have no other way in before 2.64
        results = ray.data.from_items(records, override_num_blocks=len(records)).map_batches(
            _UnitActor,
            batch_size=1,
            # One unit at a time: a unit queued behind one that kills the worker would die with it.
            compute=ActorPoolStrategy(size=min(size, len(units)), max_tasks_in_flight_per_actor=1),
            fn_constructor_args=(spec, _threads(spec.config, size), board.actor),
            num_cpus=1,
            num_gpus=gpus,
            # The worker comes back for the other units, but what killed it is tried again by the
            # caller, alone and a finite number of times; Ray itself would try for ever.
            max_restarts=-1,
            max_task_retries=0,
        )
    for row in results.iter_rows():
        record = json.loads(row["result"])
        yield UnitResult(**{**record, "timings": Timings(**record["timings"])})
