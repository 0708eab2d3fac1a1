"""Threads and queues: what comes before the network, and after it, runs beside it. The queues' depth bounds memory."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

FillObserver = Callable[[float], None]  # is told how full a queue is, 0 to 1, whenever the network's side looks

QUEUE_BYTES = 512 * 2**20
"""Bytes of images or frames after which a queue is full; 16 frames of 4K have less."""

_POLL_S = 0.1  # seconds between two looks whether the other side of a full queue is still there


_counting = threading.Lock()  # seconds are added from several threads, and each addition is read and write


@dataclass
class Timings:
    """Seconds that each stage of an item or a unit was busy, and that the network waited."""

    decode_s: float = 0.0
    stylize_s: float = 0.0
    smooth_s: float = 0.0
    encode_s: float = 0.0
    wait_s: float = 0.0

    def add(self, other: Timings) -> None:
        """Add another's seconds to these."""
        with _counting:
            for stage in fields(self):
                setattr(self, stage.name, getattr(self, stage.name) + getattr(other, stage.name))

    @contextlib.contextmanager
    def busy(self, stage: str, at_once: int = 1) -> Iterator[None]:
        """Add the seconds spent in here to the field ``stage``: the share of one among ``at_once`` side by side."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent_s = (time.perf_counter() - started) / at_once
            with _counting:
                setattr(self, stage, getattr(self, stage) + spent_s)


@dataclass
class _End:
    """The last item of a queue, with the exception that ended its producer, if one did."""

    error: BaseException | None = None


class _Queue(queue.Queue[Any]):
    """A queue that is full after so many items, or ``QUEUE_BYTES`` of them."""

    def __init__(self, depth: int, num_bytes: Callable[[Any], int]) -> None:
        super().__init__(depth)
        self._num_bytes_of, self._num_bytes = num_bytes, 0

    def _qsize(self) -> int:
        return max(len(self.queue), self.maxsize) if self._num_bytes >= QUEUE_BYTES else len(self.queue)

    def _put(self, item: Any) -> None:
        self._num_bytes += 0 if isinstance(item, _End) else self._num_bytes_of(item)
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self._num_bytes -= 0 if isinstance(item, _End) else self._num_bytes_of(item)
        return item


def _put(waiting: queue.Queue[T], item: T, is_over: Callable[[], bool]) -> bool:
    """Put an item as soon as there is room; return False where nobody takes any more."""
    while not is_over():
        with contextlib.suppress(queue.Full):
            waiting.put(item, timeout=_POLL_S)
            return True
    return False


def timed(items: Iterator[T], timings: Timings, stage: str) -> Iterator[T]:
    """Add the seconds that each ``next(items)`` takes to the field ``stage`` of ``timings``."""
    end = _End()
    while True:
        with timings.busy(stage):
            item = next(items, end)
        if isinstance(item, _End):
            return
        yield item


def prefetch(
    items: Iterator[T],
    depth: int,
    timings: Timings | None = None,
    observe_fill: FillObserver | None = None,
    num_bytes: Callable[[T], int] = lambda item: 0,
) -> Generator[T, None, None]:
    """Iterate over ``items`` in a thread of its own, ``depth`` ahead, or ``QUEUE_BYTES`` by their ``num_bytes``.

    Close the returned generator (or exhaust it) to stop the thread. An exception of ``items`` is raised here.
    ``timings.wait_s`` counts the waiting for the next item; ``observe_fill`` is told how full the queue was.
    """
    ready = _Queue(depth, num_bytes)
    stop = threading.Event()

    def produce() -> None:
        end = _End()
        try:
            for item in items:
                if not _put(ready, item, stop.is_set):
                    return
        except BaseException as error:  # whatever it was, it belongs to the consumer
            end = _End(error)
        _put(ready, end, stop.is_set)

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            if observe_fill:
                observe_fill(ready.qsize() / depth)
            with (timings or Timings()).busy("wait_s"):
                item = ready.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stop.set()
        thread.join()


def map_threads(
    function: Callable[[T], R],
    items: Iterable[T],
    depth: int,
    timings: Timings,
    observe_fill: FillObserver | None = None,
    num_threads: int = 1,
    num_bytes: Callable[[T], int] = lambda item: 0,
) -> Iterator[R]:
    """Call ``function`` on every item in threads of its own; yield the results in the order of the items.

    An exception of ``function`` is raised here, and ends the calls; one of ``items`` drops what waits.
    Items are taken in the caller's thread; up to ``depth`` of them wait beside those at work, and fewer where they and
    those at work have ``QUEUE_BYTES``.
    ``timings.wait_s`` counts the waiting for room; ``observe_fill`` is told how full the queue was.
    """
    waiting: deque[tuple[Future[R], int]] = deque()
    with ThreadPoolExecutor(num_threads, "map") as pool:
        try:
            for item in items:
                size = num_bytes(item)
                while waiting and (
                    len(waiting) >= depth + num_threads
                    or sum(each for _, each in waiting) + size > QUEUE_BYTES
                    or waiting[0][0].done()
                ):
                    with timings.busy("wait_s"):
                        result = waiting.popleft()[0].result()
                    yield result
                if observe_fill:
                    observe_fill(max(0, len(waiting) - num_threads) / depth)
                waiting.append((pool.submit(function, item), size))
                del item  # the thread's alone from here on
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            for future, _ in waiting:
                future.cancel()


def fan_out(
    items: Iterator[tuple[int, T]], consumers: Sequence[Callable[[Iterator[T]], None]], depth: int, timings: Timings
) -> None:
    """Run consumers in a thread each, on the items that are meant for them.

    ``items`` are pairs of a consumer's number and an item; they are left alone once all consumers have returned.
    A consumer that returns early gets no more, and holds up none of the others. An exception of ``items`` is raised
    in all consumers and here; else the first one of a consumer. ``timings.wait_s`` counts the waiting for room.
    """
    with ThreadPoolExecutor(len(consumers), "fan-out") as pool:
        lanes = [_Lane(pool, consumer, depth) for consumer in consumers]
        end = _End()
        try:
            for number, item in items:
                with timings.busy("wait_s"):
                    lanes[number].put(item)
                if all(lane.ended.done() for lane in lanes):
                    break
        except BaseException as error:  # no consumer may think that it has had everything
            end = _End(error)
            raise
        finally:
            for lane in lanes:
                lane.put(end)
    for lane in lanes:
        lane.ended.result()


class _Lane(Generic[T]):
    """The queue before a consumer, and the consumer at work."""

    def __init__(self, pool: ThreadPoolExecutor, consumer: Callable[[Iterator[T]], None], depth: int) -> None:
        self._waiting: queue.Queue[T | _End] = queue.Queue(depth)
        self.ended = pool.submit(consumer, self._items())

    def put(self, item: T | _End) -> None:
        _put(self._waiting, item, self.ended.done)

    def _items(self) -> Iterator[T]:
        while not isinstance(item := self._waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
