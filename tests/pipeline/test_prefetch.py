"""Threads and bounded queues: in order, bounded, and never silent about an error."""

import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nst_ops.pipeline.prefetch import QUEUE_BYTES, Timings, fan_out, map_threads, prefetch, timed

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")

CONSUMERS = 3


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    names = [thread.name.partition("_")[0] for thread in threading.enumerate()]
    assert not {"prefetch", "map", "fan-out"} & set(names)


def in_time(call: Callable[[], object], seconds: float = 10) -> None:
    """Run ``call`` in a thread, so that a deadlock is a failure and not a hanging test."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "deadlock"


# Reading ahead and writing behind.


@given(st.lists(st.integers()), st.integers(1, 5), st.integers(1, 3))
def test_order_is_kept_through_both(items, depth, num_threads):
    ahead = prefetch(iter(items), depth)
    written = map_threads(lambda item: item + 1, ahead, depth, Timings(), num_threads=num_threads)
    assert list(written) == [item + 1 for item in items]


class Frame:
    """Something that can be counted while it lives."""


def test_as_many_items_live_as_the_queues_hold():
    alive: weakref.WeakSet[Frame] = weakref.WeakSet()
    most = 0

    def frames(count: int) -> Iterator[Frame]:
        for _ in range(count):
            frame = Frame()
            alive.add(frame)
            yield frame
            del frame

    def slow_write(frame: Frame) -> None:
        nonlocal most
        time.sleep(0.001)
        most = max(most, len(alive))

    depth = 4
    for _ in map_threads(slow_write, prefetch(frames(300), depth), depth, Timings()):
        pass
    # Two full queues, and one item in each of the five pairs of hands between them.
    assert 2 * depth <= most <= 2 * depth + 5
    gc.collect()
    assert len(alive) == 0


def test_reading_stops_when_the_queue_is_full():
    read: list[int] = []
    items = prefetch((read.append(n) or n for n in itertools.count()), 3)
    assert next(items) == 0
    time.sleep(0.3)
    assert len(read) == 5  # one taken, three waiting, one in hand
    items.close()
    length = len(read)
    time.sleep(0.2)
    assert len(read) == length


def test_closing_early_stops_the_thread():
    items = prefetch(iter(range(100)), 2)
    items.close()  # before anything was taken
    items = prefetch(iter(range(100)), 2)
    next(items)
    in_time(items.close)


@pytest.mark.parametrize("depth", [5, 1])
def test_an_error_of_the_source_arrives_after_its_items(depth):
    def source() -> Iterator[int]:
        yield from range(3)
        raise ValueError("broken video")

    items = prefetch(source(), depth)
    taken = [next(items)]
    time.sleep(0.1)  # the queue of one is full by now
    taken += [next(items), next(items)]
    assert taken == [0, 1, 2]
    with pytest.raises(ValueError, match="broken video"):
        next(items)


@pytest.mark.parametrize("number", [0, 5, 999])
def test_an_error_of_a_call_ends_the_calls(number):
    written: list[int] = []

    def write(item: int) -> None:
        if item == number:
            raise OSError("disk full")
        written.append(item)

    with pytest.raises(OSError, match="disk full"):
        list(map_threads(write, iter(range(1000)), 2, Timings()))
    assert written[:number] == list(range(number))
    assert len(written) <= number + 3, "calls that waited were made"


def test_an_error_while_the_queue_is_full_blocks_nobody():
    release = threading.Event()
    caught: list[BaseException] = []

    def write(item: int) -> None:
        release.wait(5)
        raise OSError("disk full")

    def write_all() -> None:
        try:
            list(map_threads(write, iter(range(100)), 1, Timings()))
        except OSError as error:
            caught.append(error)

    threading.Timer(0.3, release.set).start()
    in_time(write_all)
    assert [str(error) for error in caught] == ["disk full"]


def test_an_error_of_the_items_drops_what_waits():
    written: list[int] = []

    def slow(item: int) -> None:
        time.sleep(0.05)
        written.append(item)

    def items() -> Iterator[int]:
        yield from range(10)
        raise KeyError("the network")

    with pytest.raises(KeyError, match="the network"):
        list(map_threads(slow, items(), 10, Timings()))
    assert len(written) < 5


def test_several_threads_call_at_once():
    together = threading.Barrier(4, timeout=10)
    results = map_threads(lambda item: (together.wait(), item)[1], range(8), 4, Timings(), num_threads=4)
    assert list(results) == list(range(8))


def test_the_seconds_are_booked_where_they_were_spent():
    timings = Timings()

    def slow_source() -> Iterator[int]:
        for n in range(5):
            time.sleep(0.03)
            yield n

    def slower_write(item: int) -> None:
        time.sleep(0.05)

    ahead = prefetch(timed(slow_source(), timings, "decode_s"), 1, timings)
    list(map_threads(slower_write, ahead, 1, timings))
    assert 0.15 <= timings.decode_s < 0.5
    assert timings.wait_s > 0.05
    total = Timings(1, 2, 3, 4)
    total.add(Timings(10, 20, 30, 40))
    assert total == Timings(11, 22, 33, 44)


# Several consumers of one source.


@given(st.lists(st.tuples(st.integers(0, CONSUMERS - 1), st.integers())), st.integers(1, 4))
def test_each_consumer_gets_its_own_items_in_order(items, depth):
    taken: list[list[int]] = [[] for _ in range(CONSUMERS)]
    fan_out(iter(items), [mine.extend for mine in taken], depth, Timings())
    assert taken == [[value for number, value in items if number == consumer] for consumer in range(CONSUMERS)]


def test_a_consumer_that_returns_early_holds_up_nobody():
    rest: list[int] = []
    items = ((value % 2, value) for value in range(200))
    fan_out(items, [next, rest.extend], 1, Timings())
    assert rest == list(range(1, 200, 2))


def test_items_are_left_alone_once_all_have_returned():
    given_out = []

    def items() -> Iterator[tuple[int, int]]:
        for value in range(10**9):
            given_out.append(value)
            yield value % 2, value

    fan_out(items(), [next, next], 1, Timings())
    assert len(given_out) < 10**9


@pytest.mark.parametrize("error", [ValueError("damaged"), KeyboardInterrupt()])
def test_an_error_of_the_items_reaches_every_consumer(error):
    ends: list[BaseException] = []

    def items() -> Iterator[tuple[int, int]]:
        yield 0, 0
        raise error

    def consume(mine: Iterator[int]) -> None:
        try:
            list(mine)
        except BaseException as end:
            ends.append(end)
            raise

    with pytest.raises(type(error)):
        fan_out(items(), [consume] * CONSUMERS, 2, Timings())
    assert ends == [error] * CONSUMERS


def test_an_error_of_a_consumer_waits_for_the_others():
    rest: list[int] = []

    def broken(mine: Iterator[int]) -> None:
        next(mine)
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fan_out(((value % 2, value) for value in range(50)), [broken, rest.extend], 1, Timings())
    assert rest == list(range(1, 50, 2))


def test_large_items_fill_a_queue_by_their_bytes():
    read: list[int] = []
    large = QUEUE_BYTES // 2 + 1
    items = prefetch((read.append(n) or n for n in range(100)), 10, num_bytes=lambda _: large)
    assert next(items) == 0
    time.sleep(0.3)
    assert len(read) <= 4  # one taken, two in the queue, one before it
    items.close()
    at_work = []

    def write(n: int) -> int:
        at_work.append(n)
        time.sleep(0.05)
        return n

    taken = (n for n in range(20) if n - len(at_work) <= 1 or pytest.fail("too far ahead"))
    assert list(map_threads(write, taken, 10, Timings(), num_bytes=lambda _: large)) == list(range(20))
