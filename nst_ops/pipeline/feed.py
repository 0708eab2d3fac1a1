"""Units for Ray Data one by one, as they are taken: a million of them must not lie in memory at once."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pyarrow as pa
import ray
from ray.data import Dataset, Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.util.annotations import RayDeprecationWarning
from ray.util.queue import Queue

from nst_ops.collection.units import WorkUnit
from nst_ops.media.video.segments import Segment
from nst_ops.pipeline.board import beside_driver

_AHEAD = 64
"""Units that wait between the plan and Ray Data."""


class _UnitSource(Datasource):
    """Reads units from a queue, one row in a block of its own."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def estimate_inmemory_data_size(self) -> None:
        """Unknown."""

    def get_read_tasks(self, *_: object, **__: object) -> list[ReadTask]:
        """One task, for the order of the plan to stay."""
        queue = self._queue

        def read() -> Iterator[pa.Table]:
            while record := queue.get():
                yield pa.table({"unit": [record]})

        return [ReadTask(read, BlockMetadata(None, None, None, None))]


@contextlib.contextmanager
def feed(units: Iterable[WorkUnit]) -> Iterator[Dataset]:
    """A dataset with a row and a block for each unit, taken from ``units`` while it is run.

    ``DataContext.target_max_block_size`` must be 1, or Ray Data would put many rows into a block.
    """
    queue = Queue(_AHEAD, actor_options={"num_cpus": 0, "scheduling_strategy": beside_driver()})
    # Once only: a second reading would find the queue empty.
    place = {"max_retries": 0, "scheduling_strategy": beside_driver()}
    with ThreadPoolExecutor(1, "feed") as thread:
        try:
            filled = thread.submit(_fill, queue, units)
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", RayDeprecationWarning
                )  # a place has no other way in before 2.64
                dataset = ray.data.read_datasource(
                    _UnitSource(queue), override_num_blocks=1, num_cpus=0, ray_remote_args=place
                )
            yield dataset
            filled.result()
        finally:
            queue.shutdown(force=True)  # the thread may still wait for room in it


def _fill(queue: Queue, units: Iterable[WorkUnit]) -> None:
    try:
        for unit in units:
            queue.put(json.dumps(asdict(unit)))
    finally:
        queue.put(None)  # the end


def parse_unit(text: str) -> WorkUnit:
    """A unit from its row."""
    record = json.loads(text)
    segment = Segment(**record["segment"]) if record["segment"] else None
    return WorkUnit(**{**record, "items": tuple(record["items"]), "segment": segment})
