"""The executor of a Ray cluster: one execution of Ray Data, whose actors take units from an exchange.

The driver puts units into the exchange, an actor beside it, and takes outcomes out of it. Ray Data holds the pool of
workers: it starts them, spreads them over the nodes, lets the pool grow, and starts them again when they die.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import operator
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Self, TypeVar

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.util.annotations import RayDeprecationWarning
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nst_ops.collection.progress import Totals
from nst_ops.config import ModelConfig, StylizeConfig
from nst_ops.config.errors import FatalError
from nst_ops.pipeline.executors.base import DIES_AT_START, LostUnit, Outcome, PendingUnits
from nst_ops.pipeline.executors.pool import Pool, plan_pool
from nst_ops.pipeline.executors.ray_worker import WorkerActor, parse_result
from nst_ops.pipeline.run_spec import RunSpec, load_model
from nst_ops.ray_cluster import connected, nodes, num_gpus
from nst_ops.stylizers.registry import ModelKind

R = TypeVar("R")

_log = logging.getLogger(__name__)

_AHEAD = 64  # units that wait in the exchange at least, and two for each worker
_EVENTS_S = 0.5  # seconds that the driver waits for news before it looks after the nodes
_ANSWER_S = 10.0  # seconds that a node has to answer a ping, and the exchange a question of the progress display
_SILENCE_S = 300.0  # seconds after which an exchange that does not answer is lost, and with it the run
_END_S = 30.0  # seconds that Ray Data has to end after the last unit
_STOP_S = 5.0  # seconds that it has after a run that was stopped
_FAILED_STARTS = 2  # processes of a worker that may die in a row while they make it before it counts as unable to work
_RETRY_S = 30.0  # seconds until a worker that could not start tries again
_MISSING_S = 120.0  # seconds that the run waits for other workers where all that have come cannot work
_CALLS_AT_ONCE = 10_000  # workers that may wait for the exchange at the same time


class RayExecutor:
    """Runs units on a Ray cluster, joined or started here; see ``Executor``. ConfigError: there is no such cluster."""

    def __init__(self, config: StylizeConfig) -> None:
        self._config = config
        self._connection = contextlib.ExitStack()
        self._exchange: Any = None
        self._execution: _Execution | None = None

    def __enter__(self) -> Self:
        self._connection.enter_context(connected(self._config.ray_address))
        return self

    def __exit__(self, *_: object) -> None:
        if self._exchange is not None and ray.is_initialized():
            ray.kill(self._exchange)  # workers that still ask it for units end, and so does Ray Data
            if self._execution is not None:
                self._execution.join(_STOP_S)  # before Ray is left: a thread that asks Ray then starts one of its own
            # Ray Data lets go of its workers, but cycles of its callbacks still refer to those that have lost a unit.
            # Until they are collected, such a worker keeps its CPUs and GPUs, and the next run of this process waits.
            gc.collect()
        self._connection.close()

    @property
    def num_workers(self) -> int:
        """Workers that a run begins with on the cluster at hand."""
        return plan_pool(self._config, nodes()).initial_size

    @property
    def num_gpus(self) -> int:
        """GPUs of the cluster."""
        return num_gpus()

    def run(self, spec: RunSpec, pending: PendingUnits) -> Iterator[Outcome]:
        """Run units until ``pending`` is finished; yield their outcomes as they come."""
        try:
            yield from self._run(spec, pending)
        except ray.exceptions.RayError as error:
            reason = str(error).splitlines()[0]
            raise FatalError(f"Ray was lost ({reason}): run the same command again to go on") from error

    def _run(self, spec: RunSpec, pending: PendingUnits) -> Iterator[Outcome]:
        pool = plan_pool(spec.config, nodes()).at_most(pending.at_most)
        ahead = max(_AHEAD, 2 * pool.max_size)
        # Beside the driver: on any other node it could die while the run goes on.
        place = {"num_cpus": 0, "max_concurrency": _CALLS_AT_ONCE, "scheduling_strategy": beside_driver()}
        exchange: Any = ray.remote(**place)(_Exchange).remote(pool.max_size)
        self._exchange = exchange
        ray.get(exchange.totals.remote())  # it must not start behind hundreds of workers on a busy machine
        execution = self._execution = _Execution(spec, pool, exchange)
        execution.start()
        num_waiting, unable = 0, _Unable(pool.initial_size)
        while not pending.finished:
            units: list[str] = []
            while num_waiting + len(units) < ahead and (unit := pending.take()):
                units.append(json.dumps(asdict(unit)))
            news: dict[str, Any] = ray.get(exchange.exchange.remote(units, _EVENTS_S), timeout=_SILENCE_S)
            num_waiting = news["num_waiting"]
            unable.update(news["problems"], news["num_able"])
            for result in news["results"]:
                yield parse_result(result)
            dead = dead_nodes({node_id for _, node_id, _ in news["lost"]}, ping=True)
            for unit_id, node_id, timed_out in news["lost"]:
                yield LostUnit(unit_id, node_died=node_id in dead, timed_out=timed_out)
            if dead := dead_nodes(set(news["nodes"]), ping=False):
                exchange.drop_nodes.remote(list(dead))
            if not execution.is_alive() and not pending.finished:
                lost = f"no worker could start, or all were lost ({execution.reason})"
                raise FatalError(f"{lost}: see the logs of Ray, by default in /tmp/ray/session_latest")
        ray.get(exchange.close.remote())
        execution.join(_END_S)

    def call(
        self, function: Callable[..., R], *args: object, gpu: bool = False, limit_s: float | None = None
    ) -> R | None:
        """Call a function in a task of its own; return None if it killed its process, or took longer than this."""
        task: Any = ray.remote(num_gpus=1 if gpu and self.num_gpus else 0, max_retries=0)(function)
        answer = task.remote(*args)
        try:
            result: R = ray.get(answer, timeout=limit_s)
            return result
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError:
            ray.cancel(answer, force=True)
            return None

    def load_model(self, kind: ModelKind, model: ModelConfig, alpha: float) -> ModelConfig:
        """Load a model once on this machine, to see whether it does."""
        return load_model(kind, model, alpha)

    def totals(self) -> Totals:
        """Return what the workers have done so far, units at work included."""
        if self._exchange is None:
            return Totals()
        return Totals._make(ray.get(self._exchange.totals.remote(), timeout=_ANSWER_S))


class _Unable:
    """Workers that cannot start: the run goes on while others work, of ``num_workers`` that it waits for."""

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._since_s: float | None = None
        self._reported: set[str] = set()

    def update(self, problems: list[str], num_able: int) -> None:
        """Say why workers cannot start; FatalError if there is no other, and none to be expected."""
        for problem in problems:
            if num_able and problem not in self._reported:
                self._reported.add(problem)
                _log.warning("%s; the others go on", problem)
        if not problems or num_able:
            self._since_s = None
            return
        self._since_s = self._since_s or time.monotonic()
        if len(problems) >= self._num_workers or time.monotonic() - self._since_s > _MISSING_S:
            raise FatalError(problems[0])


class _Execution(threading.Thread):
    """The one execution of Ray Data: leases in, one for each worker, and a new one for each that is lost."""

    def __init__(self, spec: RunSpec, pool: Pool, exchange: Any) -> None:
        super().__init__(name="ray-data", daemon=True)
        self.reason = "Ray Data ended"
        _configure_ray_data()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RayDeprecationWarning)  # there is no other way in before 2.64
            # Once only: a lease that was taken is gone.
            place = {"max_retries": 0, "scheduling_strategy": beside_driver()}
            once = {"override_num_blocks": 1, "num_cpus": 0, "ray_remote_args": place}
            leases = ray.data.read_datasource(_LeaseSource(exchange), **once)
            self._dataset: Dataset | None = leases.map_batches(
                WorkerActor,
                batch_size=1,
                compute=ActorPoolStrategy(
                    min_size=pool.min_size,
                    initial_size=pool.initial_size,
                    max_size=pool.max_size,
                    max_tasks_in_flight_per_actor=1,
                ),
                fn_constructor_args=(spec, pool.threads, exchange),
                num_cpus=pool.cpus,
                num_gpus=pool.gpus,
                # The worker comes back for other units; the unit that killed it is the run's to try again.
                max_restarts=-1,
                max_task_retries=0,
            )

    def run(self) -> None:
        dataset, self._dataset = self._dataset, None  # what it refers to, workers too, goes with this thread
        assert dataset
        try:
            for _ in dataset.iter_rows():
                pass
        except Exception as error:  # the cluster is gone, or the run was stopped
            self.reason = (str(error) or type(error).__name__).splitlines()[0]


class _LeaseSource(Datasource):
    """Reads leases from the exchange, one row in a block of its own."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange

    def estimate_inmemory_data_size(self) -> None: ...

    def get_read_tasks(self, *_: object, **__: object) -> list[ReadTask]:
        exchange = self._exchange

        def read() -> Iterator[pa.Table]:
            while ray.get(exchange.next_lease.remote()):
                yield pa.table({"lease": [1]})

        return [ReadTask(read, BlockMetadata(None, None, None, None))]  # it reads as long as the run goes on


class _Exchange:
    """An actor between driver and at most ``num_leases`` workers: units one way, results the other."""

    def __init__(self, num_leases: int) -> None:
        self._units: deque[str] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._num_leases = num_leases
        self._lease_wanted = asyncio.Event()
        self._lease_wanted.set()
        self._news = asyncio.Event()
        self._closed = False
        self._end = asyncio.Event()
        self._nodes: dict[str, str] = {}  # of each worker
        self._holders: dict[str, str] = {}  # node of each worker that holds a lease
        self._at_work: dict[str, str] = {}  # unit of each worker
        self._generations: Counter[str] = Counter()
        self._results: list[str] = []
        self._lost: list[tuple[str, str, bool]] = []
        self._starts: Counter[str] = Counter()  # of each worker since it was last at work
        self._problems: dict[str, str] = {}  # of each worker that cannot start
        self._totals = Totals()

    async def exchange(self, units: list[str], timeout_s: float) -> dict[str, Any]:
        """Take units from the driver, and give it the news: at once if there are some, or after a while."""
        self._units.extend(units)
        self._wake()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout_s)
        self._news.clear()
        results, lost, self._results, self._lost = self._results, self._lost, [], []
        return {
            "results": results,
            "lost": lost,
            "problems": list(self._problems.values()),
            "num_able": len(self._nodes) - len(self._problems),
            "nodes": sorted(set(self._nodes.values())),
            "num_waiting": len(self._units),
        }

    async def next_unit(self, worker_id: str, node_id: str, generation: int, result: str) -> str:
        """Take the result of a worker's last unit, and give it the next; nothing at the end of the run."""
        self._holders[worker_id] = node_id
        self._problems.pop(worker_id, None)
        self._starts.pop(worker_id, None)
        if result:
            await self.settle(worker_id, result)
        while not self._units and not self._closed:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        if self._generations[worker_id] != generation:
            self._wake()  # it has died while it waited, and must not take a unit along
            return ""
        if not self._units:
            self._holders.pop(worker_id, None)
            return ""
        unit = self._units.popleft()
        # Known before the unit can kill the worker.
        self._at_work[worker_id] = json.loads(unit)["unit_id"]
        return unit

    async def settle(self, worker_id: str, result: str) -> None:
        """Take the result of a worker's last unit."""
        self._at_work.pop(worker_id, None)
        self._results.append(result)
        self._news.set()

    async def register(self, worker_id: str, node_id: str, timed_out: bool = False) -> int:
        """Note that a process begins to make a worker; what the worker was at work on before is lost.

        ``timed_out``: for want of progress.
        """
        self._lose(worker_id, timed_out)
        self._nodes[worker_id] = node_id
        self._generations[worker_id] += 1
        self._starts[worker_id] += 1
        if self._starts[worker_id] > _FAILED_STARTS:
            await self.fail(worker_id, DIES_AT_START)
            await self._pause()
        return self._generations[worker_id]

    async def drop_nodes(self, node_ids: list[str]) -> None:
        """Note that nodes have died, and with them what their workers were at work on."""
        for worker_id in [worker_id for worker_id, node_id in self._nodes.items() if node_id in node_ids]:
            self._lose(worker_id)
            del self._nodes[worker_id]
            self._problems.pop(worker_id, None)
            self._generations[worker_id] += 1

    async def next_lease(self) -> bool:
        """Wait until another worker may start; false at the end of the run."""
        while not self._num_leases and not self._closed:
            self._lease_wanted.clear()
            await self._lease_wanted.wait()
        self._num_leases -= 1
        return not self._closed

    async def fail(self, worker_id: str, problem: str) -> None:
        """Note why a worker cannot start."""
        self._problems[worker_id] = problem
        self._news.set()

    async def may_retry(self, worker_id: str, node_id: str) -> bool:
        """Return after a while whether a worker that could not start may try again; false at the end of the run."""
        self._holders[worker_id] = node_id
        self._starts.pop(worker_id, None)
        await self._pause()
        return not self._closed

    async def add(self, work: Totals) -> None:
        """Count the work since a worker's last report."""
        self._totals = Totals._make(map(operator.add, self._totals, work))

    async def totals(self) -> Totals:
        return self._totals

    async def close(self) -> None:
        """End the run: whoever waits gets nothing more."""
        self._closed = True
        self._end.set()
        self._lease_wanted.set()
        self._wake()

    async def _pause(self) -> None:
        """Wait until a worker may try again, or for the end of the run."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._end.wait(), _RETRY_S)

    def _lose(self, worker_id: str, timed_out: bool = False) -> None:
        """Note that a worker has died, with its lease and its unit."""
        node_id = self._holders.pop(worker_id, None)
        if node_id is None:
            return
        self._num_leases += 1
        self._lease_wanted.set()
        if unit_id := self._at_work.pop(worker_id, None):
            self._lost.append((unit_id, node_id, timed_out))
            self._news.set()

    def _wake(self) -> None:
        """Let as many workers go on as there are units, or all at the end."""
        number = len(self._waiting) if self._closed else min(len(self._waiting), len(self._units))
        for _ in range(number):
            self._waiting.popleft().set_result(None)


def beside_driver() -> Any:
    """Return the place of an actor or a task on the node of the driver, with which it may die."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def dead_nodes(node_ids: set[str], ping: bool) -> set[str]:
    """Return which of the nodes have died; ``ping`` asks those of which Ray may not have noticed yet."""
    alive = node_ids & {node.node_id for node in nodes()} if node_ids else set()
    if ping and alive:
        ping_on: Any = ray.remote(num_cpus=0, max_retries=0)(_nothing)
        places = {node_id: NodeAffinitySchedulingStrategy(node_id, soft=False) for node_id in alive}
        pings = {node_id: ping_on.options(scheduling_strategy=place).remote() for node_id, place in places.items()}
        ray.wait(list(pings.values()), num_returns=len(pings), timeout=_ANSWER_S)
        alive = set()
        for node_id, ping_task in pings.items():
            with contextlib.suppress(ray.exceptions.RayError):  # it died, or has no answer yet
                ray.get(ping_task, timeout=0)
                alive.add(node_id)
    return node_ids - alive


def _nothing() -> None:
    """Do nothing, which only a node that lives can do."""


def _configure_ray_data() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # a lost lease is given out again
    context.execution_no_progress_timeout_s = -1  # a lease lasts as long as the run
    context.target_max_block_size = 1  # a lease is a block, for each to be a task
    # Busy with their one lease is as busy as workers get: by default a pool of them would never grow.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
