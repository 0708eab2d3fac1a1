"""The executor of this machine: one worker process per GPU, or one on the CPU, without Ray.

loky's processes neither fork nor run the caller's script again. Each is a pool of its own: a death loses one unit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Self, TypeVar

import loky  # type: ignore[import-untyped]
import numpy as np

from nst_ops.collection.progress import Totals
from nst_ops.collection.units import WorkUnit
from nst_ops.config import ModelConfig, StylizeConfig
from nst_ops.config.errors import FatalError
from nst_ops.pipeline.executors.base import DIES_AT_START, LostUnit, Outcome, PendingUnits
from nst_ops.pipeline.executors.pool import plan_pool, wants_gpu
from nst_ops.pipeline.run_spec import RunSpec, load_model
from nst_ops.pipeline.telemetry import Reading, Telemetry
from nst_ops.pipeline.watchdog import Watchdog, has_struck, limit_of
from nst_ops.pipeline.worker import UnitResult, Worker
from nst_ops.ray_cluster import Node, cores_per_node
from nst_ops.storage.scratch import ScratchFolder, remove_dead_scratch
from nst_ops.stylizers.registry import ModelKind

R = TypeVar("R")

_log = logging.getLogger(__name__)

_FAILED_STARTS = 2  # processes that may die while they make their worker before the run is given up
_PARENT_EVERY_S = 1.0  # seconds between two looks of a worker whether its driver is still there


class LocalExecutor:
    """Runs units in worker processes of this machine; see ``Executor``."""

    def __init__(self, config: StylizeConfig) -> None:
        uses_gpus = wants_gpu(config) and not config.model.device.startswith("cuda:")
        self.num_gpus = _count_gpus() if uses_gpus else 0
        pool = plan_pool(config, [Node("here", cores_per_node(), self.num_gpus)])
        self.num_workers = pool.initial_size
        self._scratch = ScratchFolder()
        counters = str(Path(self._scratch.name, "counters"))
        self._counters = np.memmap(counters, np.float64, "w+", shape=(self.num_workers, len(Totals._fields)))
        gpus = [_visible_gpu(number, pool.gpus) for number in range(self.num_workers)]
        self._processes = [_WorkerProcess(counters, number, pool.threads, gpu) for number, gpu in enumerate(gpus)]

    def __enter__(self) -> Self:
        self._processes[0].submit(os.getpid)  # it loads what it needs while the driver plans
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        self._scratch.cleanup()

    def run(self, spec: RunSpec, pending: PendingUnits) -> Iterator[Outcome]:
        """Run units until ``pending`` is finished; yield their outcomes as they come."""
        idle = list(reversed(self._processes))
        at_work: dict[Future[UnitResult], tuple[_WorkerProcess, WorkUnit]] = {}
        failed_starts, num_able = 0, len(self._processes)
        returned: list[WorkUnit] = []  # by processes that cannot work
        while not pending.finished:
            while idle and (unit := returned.pop() if returned else pending.take()):
                process = idle.pop()
                at_work[process.run(spec, unit)] = process, unit
            for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                process, unit = at_work.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool as error:
                    if process.died_at_start():  # no unit's fault
                        failed_starts += 1
                        if failed_starts > _FAILED_STARTS:
                            raise FatalError(DIES_AT_START) from error
                        at_work[process.run(spec, unit)] = process, unit
                        continue
                    lost = LostUnit(unit.unit_id, timed_out=has_struck(process.stacks))
                    process.kill()
                    idle.append(process)
                    yield lost
                    continue
                if problem := process.problem():
                    num_able -= 1
                    if not num_able:
                        raise FatalError(problem)
                    _log.warning("%s; %s others go on", problem, num_able)
                    returned.append(unit)
                    continue
                if result.device_is_lost:
                    process.kill()
                idle.append(process)
                yield result

    def call(
        self, function: Callable[..., R], *args: object, gpu: bool = False, limit_s: float | None = None
    ) -> R | None:
        """Call a function in a worker process; return None if it killed the process, or took longer than this."""
        process = self._processes[0]
        try:
            future = process.submit(function, *args)
        except BrokenProcessPool:  # it has died idle, which is not this function's fault
            process.kill()
            future = process.submit(function, *args)
        try:
            return future.result(limit_s)
        except (BrokenProcessPool, TimeoutError) as error:
            if future.done() and isinstance(error, TimeoutError):  # the function's own
                raise
            process.kill()
            return None

    def load_model(self, kind: ModelKind, model: ModelConfig, alpha: float) -> ModelConfig:
        """Load a model once in a worker process, which has its libraries then; the driver needs none of them."""
        if not kind.uses_device:
            return load_model(kind, model, alpha)
        loaded = self.call(load_model, kind, model, alpha)
        if loaded is None:
            raise FatalError(DIES_AT_START)
        return loaded

    def totals(self) -> Totals:
        """Return what the workers have done so far, units at work included."""
        totals = Totals._make(self._counters.sum(axis=0).tolist())
        return totals._replace(num_rows=int(totals.num_rows), num_frames=int(totals.num_frames), num_failed=0)


class _WorkerProcess:
    """One worker process after another, on one device."""

    def __init__(self, counters: str, number: int, num_threads: int, gpu: str | None) -> None:
        self.stacks = Path(counters).with_name(f"stacks-{number}")  # see Watchdog
        self._arguments = num_threads, counters, number, self.stacks
        # Memory of a worker grows with its largest image so far; loky would take that for a leak.
        self._environment = {"LOKY_MAX_MEMORY_LEAK_SIZE": "1e15"}
        if gpu is not None:
            self._environment["CUDA_VISIBLE_DEVICES"] = gpu
        self._pool: Any = None
        self._started: Future[str] | None = None

    def submit(self, function: Callable[..., R], *args: object) -> Future[R]:
        if self._pool is None:
            begin = {"initializer": _begin_process, "initargs": (os.getpid(),)}
            self._pool = loky.ProcessPoolExecutor(1, **begin, env=self._environment)
        future: Future[R] = self._pool.submit(function, *args)
        return future

    def run(self, spec: RunSpec, unit: WorkUnit) -> Future[UnitResult]:
        """Run a unit, after the worker is made if there is none yet."""
        with contextlib.suppress(BrokenProcessPool):  # it may have died idle, which is no unit's fault
            if self._started is None:
                self._started = self.submit(_make_worker, spec, *self._arguments)
            return self.submit(_run_unit, unit)
        self.kill()
        return self.run(spec, unit)

    def died_at_start(self) -> bool:
        """Return whether the process has died while it made the worker; the next call starts another."""
        died = self._started is not None and self._started.done() and self._started.exception() is not None
        if died:
            self.kill()
        return died

    def problem(self) -> str:
        """Return why there is no worker in the process that has answered; nothing if there is one."""
        assert self._started
        return self._started.result()

    def kill(self) -> None:
        """End the process at once: what it has reported is committed. Its temporary files go, as of one that died."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)
            remove_dead_scratch()
        self._pool = self._started = None


def _visible_gpu(number: int, gpus: float) -> str | None:
    """Return the GPUs of a worker as CUDA_VISIBLE_DEVICES names them; None leaves the choice to torch."""
    if not gpus:
        return None
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(index) for index in range(_count_gpus())]
    first = int(number * gpus + 1e-6)
    return ",".join(names[first : first + max(1, int(gpus))])


def _count_gpus() -> int:
    if sys.platform == "linux" and not any(map(os.path.exists, ("/dev/nvidia0", "/dev/dxg", "/dev/kfd"))):
        return 0  # importing torch takes seconds
    import torch

    count = int(torch.cuda.device_count())
    if not count and "CUDA_VISIBLE_DEVICES" not in os.environ:  # where it names a GPU, the worker says what is wrong
        _log.warning("this machine has a GPU, but torch %s cannot use it: the run takes the CPU", torch.__version__)
    return count


# What runs in the worker process.

_worker: Worker | None = None
_watchdog: Watchdog | None = None


def _begin_process(parent: int) -> None:
    """Leave Ctrl-C to the driver, and end when it has died."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _make_worker(spec: RunSpec, num_threads: int, counters_path: str, number: int, stacks: Path) -> str:
    """Make the worker of this process, or return why there is none."""
    global _worker, _watchdog
    counters = np.memmap(counters_path, np.float64, "r+").reshape(-1, len(Totals._fields))[number]

    def count(reading: Reading) -> None:
        counters[:] += reading.totals  # one process writes here, and a killed one leaves no lock behind

    try:
        _watchdog = Watchdog(stacks)
        worker = Worker(spec, num_threads, Telemetry(count, _watchdog.hear))
        worker.warm_up()
    except Exception as error:  # raised here it would pass for a death of the process
        return f"the worker cannot start: {error or type(error).__name__}"
    _worker = worker
    return ""


def _run_unit(unit: WorkUnit) -> UnitResult:
    if _worker is None or _watchdog is None:
        return UnitResult(unit.unit_id)  # it goes to another process
    with _watchdog.watch(limit_of(unit, _worker)):
        result = _worker(unit)
    _worker.telemetry.flush()
    return result
