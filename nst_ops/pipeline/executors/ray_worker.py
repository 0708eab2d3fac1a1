"""The Ray side of a worker: an actor that takes one unit after another from the exchange."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge

from nst_ops.collection.constants import RUN_FILE
from nst_ops.collection.units import WorkUnit
from nst_ops.media.video.segments import Segment
from nst_ops.pipeline.prefetch import Timings
from nst_ops.pipeline.run_spec import RunSpec
from nst_ops.pipeline.telemetry import Reading, Telemetry
from nst_ops.pipeline.watchdog import Watchdog, has_struck, limit_of
from nst_ops.pipeline.worker import UnitResult, Worker
from nst_ops.storage import Folder, configure_storage
from nst_ops.storage.scratch import remove_dead_scratch

_REMEDY = "use s3:// or a disk that all nodes mount at the same path, with credentials on every node"


class NotSharedError(OSError):
    """This node does not see the input or the output of the run; the message has the remedy."""


class WorkerActor:
    """A worker as Ray Data calls it, or the reason why there is none on this node.

    Ray Data hands it a lease, a row that says nothing: while it holds one it takes unit after unit from the
    exchange. So a run is one execution of Ray Data whatever its units, and Ray keeps nothing of a unit.
    """

    def __init__(self, spec: RunSpec, num_threads: int, exchange: Any) -> None:
        self.exchange = exchange
        context = ray.get_runtime_context()
        self.address = context.get_actor_id(), context.get_node_id()
        # In the place of a process that died: the exchange sees which unit is lost with that one.
        self.stacks = Path(tempfile.gettempdir(), f"nst-ops-{self.address[0]}.stacks")
        remove_dead_scratch()
        timed_out = has_struck(self.stacks)
        self.watchdog = Watchdog(self.stacks)
        self.generation: int = ray.get(exchange.register.remote(*self.address, timed_out))
        self.metrics = WorkerMetrics(f"{platform.node()}:{os.getpid()}")
        self.telemetry = Telemetry(self._report, self.metrics.show, self.watchdog.hear)
        self.worker: Worker | None = None
        try:
            check_shared(spec)
            self.worker = Worker(spec, num_threads, self.telemetry)
            self.worker.warm_up()
        except Exception as error:  # raised here it would reach the driver as "actor died"
            self.worker = None
            problem = f"node {platform.node()} cannot work on this run: {error or type(error).__name__}"
            ray.get(exchange.fail.remote(self.address[0], problem))

    def __call__(self, lease: dict[str, Any]) -> dict[str, list[int]]:
        """Work until the run has no more units; return how many there were.

        A process that cannot work, or no longer, ends, and Ray starts another in its place.
        """
        if not self.worker:
            if ray.get(self.exchange.may_retry.remote(*self.address)):
                os._exit(1)
            return {"units": [0]}
        num_units, result = 0, ""
        while True:
            record = ray.get(self.exchange.next_unit.remote(*self.address, self.generation, result))
            if not record:
                break
            unit = parse_unit(record)
            with self.watchdog.watch(limit_of(unit, self.worker)):
                outcome = self.worker(unit)
            self.telemetry.flush()
            self.metrics.count(outcome.statuses)
            result = json.dumps(asdict(outcome))
            num_units += 1
            if outcome.device_is_lost:
                ray.get(self.exchange.settle.remote(self.address[0], result))
                os._exit(1)
        self.stacks.unlink(missing_ok=True)
        return {"units": [num_units]}

    def _report(self, reading: Reading) -> None:
        if any(reading.totals):
            self.exchange.add.remote(reading.totals)


class WorkerMetrics:
    """Metrics of the worker with this name for Ray's dashboard and Prometheus; a process makes them once."""

    def __init__(self, worker: str) -> None:
        self._frames = Counter("nst_ops_frames_total", "Video frames stylized.")
        self._rows = Counter("nst_ops_items_total", "Rows settled, by status.", ("status",))
        about = "Seconds busy, by stage; stages run side by side."
        self._seconds = Counter("nst_ops_stage_seconds_total", about, ("stage",))
        gauges = {
            "busy_share": "Share of the time that the network of a worker was busy, 0 to 1.",
            "decode_queue_fill": "Fill of the queue before the network, 0 to 1; 0: the decoder is the slowest.",
            "encode_queue_fill": "Fill of the queue before the encoder, 0 to 1; 1: the encoder is the slowest.",
        }
        self._gauges = {name: Gauge(f"nst_ops_{name}", about, ("worker",)) for name, about in gauges.items()}
        for gauge in self._gauges.values():
            gauge.set_default_tags({"worker": worker})

    def show(self, reading: Reading) -> None:
        """Show a reading."""
        if reading.num_frames:
            self._frames.inc(reading.num_frames)
        for name, seconds in asdict(reading.seconds).items():
            if seconds > 0:
                self._seconds.inc(seconds, {"stage": name.removesuffix("_s")})
        self._gauges["busy_share"].set(min(1.0, reading.seconds.stylize_s / reading.elapsed_s))
        self._gauges["decode_queue_fill"].set(reading.decode_fill)
        self._gauges["encode_queue_fill"].set(reading.encode_fill)

    def count(self, statuses: Mapping[str, int]) -> None:
        """Count the rows of a unit that has ended."""
        for status, number in statuses.items():
            self._rows.inc(number, {"status": status})


def check_shared(spec: RunSpec) -> None:
    """Look for the input and the driver's ``run.json``; NotSharedError: on this node's own disk rows would vanish."""
    configure_storage(spec.config.storage)
    output = Folder(spec.config.output)
    try:
        run_id = json.loads(output.read_bytes(RUN_FILE))["run_id"]
    except (OSError, ValueError, KeyError) as error:
        raise NotSharedError(f"it does not see '{output.uri(RUN_FILE)}' ({error}): {_REMEDY}") from error
    if run_id != spec.run_id:
        raise NotSharedError(f"its '{output.uri(RUN_FILE)}' is of another run, {run_id}: {_REMEDY}")
    source = Folder(spec.source_root)
    # A mount point on which nothing is mounted is there, and empty.
    if source.is_local and (not source.exists() or source.is_empty()):
        raise NotSharedError(f"it does not see the input '{source.uri()}': {_REMEDY}")


def parse_unit(text: str) -> WorkUnit:
    """Read a unit from its JSON."""
    record = json.loads(text)
    segment = Segment(**record["segment"]) if record["segment"] else None
    return WorkUnit(**{**record, "items": tuple(record["items"]), "segment": segment})


def parse_result(text: str) -> UnitResult:
    """Read a result from its JSON."""
    record = json.loads(text)
    segments = tuple(Segment(**segment) for segment in record["segments"])
    return UnitResult(**{**record, "timings": Timings(**record["timings"]), "segments": segments})
