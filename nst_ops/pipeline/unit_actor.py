"""A worker as Ray Data calls it: one unit in, one result out, both as JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from typing import Any

import ray

from nst_ops.pipeline.feed import parse_unit
from nst_ops.pipeline.meter import Meter, Reading
from nst_ops.pipeline.metrics import WorkerMetrics
from nst_ops.pipeline.shared import check_shared
from nst_ops.pipeline.spec import RunSpec
from nst_ops.pipeline.worker import UnitResult, Worker


class _UnitActor:
    """Has a ``Worker``, or the reason why there is none on this node."""

    def __init__(self, spec: RunSpec, num_threads: int, board: Any) -> None:
        self.board = board
        self.node_id = ray.get_runtime_context().get_node_id()
        self.metrics = WorkerMetrics(f"{platform.node()}:{os.getpid()}")
        self.meter = Meter(self._tell_board, self.metrics.show)
        self.worker: Worker | None = None
        self.problem = ""
        try:
            check_shared(spec)
            self.worker = Worker(spec, num_threads, self.meter)
            self.worker.warm_up()
        except Exception as error:  # raised here it would reach the driver as "actor died"
            self.problem = f"node {platform.node()} cannot work on this run: {error or type(error).__name__}"

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        unit = parse_unit(batch["unit"][0])
        if not self.worker:
            return {"result": [json.dumps(asdict(UnitResult(unit.unit_id, fatal=self.problem)))]}
        # Must be known before the unit can kill this process.
        ray.get(self.board.start.remote(unit.unit_id, self.node_id))
        result = self.worker(unit)
        self.meter.flush()
        self.metrics.count(result.statuses)
        return {"result": [json.dumps(asdict(result))]}

    def _tell_board(self, reading: Reading) -> None:
        busy_s, wait_s = reading.seconds.stylize_s, reading.seconds.wait_s
        if reading.num_rows or reading.num_frames or busy_s or wait_s:
            self.board.add.remote(reading.num_rows, reading.num_frames, busy_s, wait_s)
