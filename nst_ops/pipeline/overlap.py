"""Reading, the model and writing at the same time, through bounded queues.

Two threads around the caller: ``read_ahead`` runs an iterator before it is asked,
``WriteBehind`` runs a sink after it is called. Memory is bounded by the queues' depth.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

T = TypeVar("T")

Watch = Callable[[float], None]
"""Told how full a queue is, 0 to 1, whenever its reader or writer on the network's side looks."""

POLL_S = 0.1
"""Between two looks whether the other side of a full queue is still there."""


@dataclass
class Timings:
    """Seconds that each part of an item or a unit was busy, and that the model waited."""

    decode_s: float = 0.0
    stylize_s: float = 0.0
    smooth_s: float = 0.0
    encode_s: float = 0.0
    wait_s: float = 0.0

    def add(self, other: Timings) -> None:
        """Add another's seconds to these."""
        for part in fields(self):
            setattr(self, part.name, getattr(self, part.name) + getattr(other, part.name))


class End:
    """What a thread sends when it is through: nothing, or the exception that ended it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def _unwatched(share: float) -> None:
    """Nobody wants to know."""


def read_ahead(
    items: Iterator[T], depth: int, timings: Timings, watch: Watch = _unwatched
) -> Generator[T, None, None]:
    """Iterate over ``items`` in a thread of its own, at most ``depth`` ahead.

    Close the returned generator (or exhaust it) to stop the thread. An exception of
    ``items`` is raised here.
    """
    ready: queue.Queue[T | End] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: T | End) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=POLL_S)
                return True
            except queue.Full:
                continue
        return False

    def pump() -> None:
        end = End()
        try:
            while True:
                started = time.perf_counter()
                try:
                    item = next(items)
                except StopIteration:
                    break
                finally:
                    timings.decode_s += time.perf_counter() - started
                if not put(item):
                    return
        except BaseException as error:  # whatever it was, it belongs to the caller
            end = End(error)
        put(end)

    thread = threading.Thread(target=pump, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            watch(ready.qsize() / depth)
            started = time.perf_counter()
            item = ready.get()
            timings.wait_s += time.perf_counter() - started
            if isinstance(item, End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stop.set()
        thread.join()


class WriteBehind(Generic[T]):
    """Calls ``sink(item)`` in a thread of its own, or in several, at most ``depth`` behind.

    With one thread the items keep their order.
    A context manager: leaving it waits until everything is written, or, on an exception,
    drops what waits. An exception of ``sink`` is raised at the next ``put`` or on leaving.
    """

    def __init__(
        self,
        sink: Callable[[T], None],
        depth: int,
        timings: Timings,
        watch: Watch = _unwatched,
        num_threads: int = 1,
    ) -> None:
        self._sink = sink
        self._timings = timings
        self._depth, self._watch = depth, watch
        self._waiting: queue.Queue[T | End] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._drain, name="write-behind", daemon=True) for _ in range(num_threads)
        ]

    def __enter__(self) -> WriteBehind[T]:
        for writer in self._threads:
            writer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._error is None:
            self._error = RuntimeError("abandoned")
        for _writer in self._threads:
            self._waiting.put(End())
        for writer in self._threads:
            writer.join()
        if kind is None and self._error is not None:
            raise self._error

    def put(self, item: T) -> None:
        """Hand ``item`` over, waiting while ``depth`` of them are in line."""
        if self._error is not None:
            raise self._error
        self._watch(self._waiting.qsize() / self._depth)
        started = time.perf_counter()
        self._waiting.put(item)
        self._timings.wait_s += time.perf_counter() - started

    def _drain(self) -> None:
        while True:
            item = self._waiting.get()
            if isinstance(item, End):
                return
            if self._error is not None:
                continue  # keep taking, so that the caller is never stuck in put
            started = time.perf_counter()
            try:
                self._sink(item)
            except BaseException as error:  # whatever it was, it belongs to the caller
                self._error = error
            self._timings.encode_s += time.perf_counter() - started
