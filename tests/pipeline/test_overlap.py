"""Reading ahead and writing behind: in order, bounded, and never silent about an error."""

import gc
import itertools
import threading
import time
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nst_ops.pipeline.prefetch import Timings, WriteBehind, read_ahead

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    names = [thread.name for thread in threading.enumerate()]
    assert "read-ahead" not in names
    assert "write-behind" not in names


def in_time(call: object, seconds: float = 10) -> None:
    """Run ``call`` in a thread, so that a deadlock is a failure and not a hanging test."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "deadlock"


@settings(deadline=None)
@given(st.lists(st.integers()), st.integers(1, 5))
def test_order_is_kept_through_both(items, depth):
    written: list[int] = []
    with WriteBehind(written.append, depth, Timings()) as behind:
        for item in read_ahead(iter(items), depth, Timings()):
            behind.put(item)
    assert written == items


class Frame:
    """Something that can be counted while it lives."""


def test_as_many_items_live_as_the_queues_hold_however_long_the_film():
    alive: weakref.WeakSet[Frame] = weakref.WeakSet()
    most = 0

    def frames(count: int) -> Iterator[Frame]:
        for _ in range(count):
            frame = Frame()
            alive.add(frame)
            yield frame
            del frame

    def slow_sink(frame: Frame) -> None:
        nonlocal most
        time.sleep(0.001)
        most = max(most, len(alive))

    depth = 4
    with WriteBehind(slow_sink, depth, Timings()) as behind:
        for frame in read_ahead(frames(300), depth, Timings()):
            behind.put(frame)
    # Two full queues, and one item in each of the five pairs of hands between them.
    assert 2 * depth <= most <= 2 * depth + 5
    del frame
    gc.collect()
    assert len(alive) == 0


def test_reading_stops_when_the_queue_is_full():
    read: list[int] = []
    items = read_ahead((read.append(n) or n for n in itertools.count()), 3, Timings())
    assert next(items) == 0
    time.sleep(0.3)
    assert len(read) == 5  # one taken, three waiting, one in hand
    items.close()
    length = len(read)
    time.sleep(0.2)
    assert len(read) == length


def test_closing_early_stops_the_thread_even_if_nothing_was_taken():
    items = read_ahead(iter(range(100)), 2, Timings())
    items.close()
    items = read_ahead(iter(range(100)), 2, Timings())
    next(items)
    in_time(items.close)


def test_an_error_of_the_source_arrives_after_what_came_before_it():
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("broken film")

    items = read_ahead(source(), 5, Timings())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="broken film"):
        next(items)


def test_an_error_of_the_source_arrives_through_a_full_queue():
    def source() -> Iterator[int]:
        yield from range(3)
        raise ValueError("broken film")

    items = read_ahead(source(), 1, Timings())
    next(items)
    time.sleep(0.2)
    with pytest.raises(ValueError, match="broken film"):
        list(items)


def fail_at(number: int) -> object:
    def sink(item: int) -> None:
        if item == number:
            raise OSError("disk full")

    return sink


@pytest.mark.parametrize("number", [0, 5, 999])
def test_an_error_of_the_sink_arrives_and_nothing_is_written_after_it(number):
    written: list[int] = []
    fail = fail_at(number)

    def sink(item: int) -> None:
        fail(item)
        written.append(item)

    def write_all() -> None:
        with WriteBehind(sink, 2, Timings()) as behind:
            for item in range(1000):
                behind.put(item)

    with pytest.raises(OSError, match="disk full"):
        write_all()
    assert written == list(range(number))


def test_a_sink_that_fails_while_the_queue_is_full_blocks_nobody():
    entered, release = threading.Event(), threading.Event()
    caught: list[BaseException] = []

    def sink(item: int) -> None:
        entered.set()
        release.wait(5)
        raise OSError("disk full")

    def write_all() -> None:
        try:
            with WriteBehind(sink, 1, Timings()) as behind:
                for item in range(100):
                    behind.put(item)
        except OSError as error:
            caught.append(error)

    threading.Timer(0.3, release.set).start()
    in_time(write_all)
    assert entered.is_set()
    assert [str(error) for error in caught] == ["disk full"]


def test_an_error_of_the_caller_drops_what_waits_and_is_not_replaced():
    written: list[int] = []

    def slow(item: int) -> None:
        time.sleep(0.05)
        written.append(item)

    def write_some() -> None:
        with WriteBehind(slow, 10, Timings()) as behind:
            for item in range(10):
                behind.put(item)
            raise KeyError("the network")

    with pytest.raises(KeyError, match="the network"):
        write_some()
    assert len(written) < 5


def test_leaving_waits_until_all_is_written():
    written: list[int] = []

    def slow(item: int) -> None:
        time.sleep(0.02)
        written.append(item)

    with WriteBehind(slow, 10, Timings()) as behind:
        for item in range(8):
            behind.put(item)
    assert written == list(range(8))


def test_the_seconds_are_booked_where_they_were_spent():
    timings = Timings()

    def slow_source() -> Iterator[int]:
        for n in range(5):
            time.sleep(0.03)
            yield n

    def slower_sink(item: int) -> None:
        time.sleep(0.05)

    with WriteBehind(slower_sink, 1, timings) as behind:
        for item in read_ahead(slow_source(), 1, timings):
            behind.put(item)
    assert 0.15 <= timings.decode_s < 0.5
    assert 0.25 <= timings.encode_s < 0.7
    assert timings.wait_s > 0.05
    total = Timings(1, 2, 3, 4)
    total.add(Timings(10, 20, 30, 40))
    assert total == Timings(11, 22, 33, 44)
