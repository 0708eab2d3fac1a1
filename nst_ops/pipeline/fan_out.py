"""One source of items, several takers of them side by side, through bounded queues."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from nst_ops.pipeline.overlap import POLL_S, End, Timings

T = TypeVar("T")

Taker = Callable[[Iterator[T]], None]


def fan_out(items: Iterator[tuple[int, T]], takers: Sequence[Taker[T]], depth: int, timings: Timings) -> None:
    """Run takers in a thread each, on the items that are meant for them.

    Args:
        items: number of a taker and what it gets; left alone once all takers have returned.
        takers: one that returns early gets no more, and holds up none of the others.
        depth: items that wait for a taker at most.
        timings: where ``wait_s`` counts the waiting for room before a taker.

    Raises:
        BaseException: of ``items``, which is raised in all takers as well; else the first of a taker's.
    """
    with ThreadPoolExecutor(len(takers), "taker") as pool:
        lanes = [_Lane(pool, taker, depth) for taker in takers]
        end = End()
        try:
            for number, item in items:
                started = time.perf_counter()
                lanes[number].put(item)
                timings.wait_s += time.perf_counter() - started
                if all(lane.ended.done() for lane in lanes):
                    break
        except BaseException as error:  # whatever it was: no taker may think that it has had everything
            end = End(error)
            raise
        finally:
            for lane in lanes:
                lane.put(end)
    for lane in lanes:
        lane.ended.result()


class _Lane(Generic[T]):
    """The queue before a taker, and the taker at work."""

    def __init__(self, pool: ThreadPoolExecutor, taker: Taker[T], depth: int) -> None:
        self._waiting: queue.Queue[T | End] = queue.Queue(depth)
        self.ended = pool.submit(taker, self._items())

    def put(self, item: T | End) -> None:
        while not self.ended.done():
            try:
                self._waiting.put(item, timeout=POLL_S)
                return
            except queue.Full:
                continue

    def _items(self) -> Iterator[T]:
        while not isinstance(item := self._waiting.get(), End):
            yield item
        if item.error is not None:
            raise item.error
