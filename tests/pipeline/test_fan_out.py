"""Several takers of one source: each gets its own in order, and what ends one holds up none."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nst_ops.pipeline.fan_out import fan_out

from nst_ops.pipeline.prefetch import Timings

TAKERS = 3


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("taker")]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, TAKERS - 1), st.integers())), st.integers(1, 4))
def test_each_taker_gets_its_own_in_order(items, depth):
    taken: list[list[int]] = [[] for _ in range(TAKERS)]
    fan_out(iter(items), [mine.extend for mine in taken], depth, Timings())
    assert taken == [[value for number, value in items if number == taker] for taker in range(TAKERS)]


def test_one_that_returns_early_holds_up_none_of_the_others():
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
def test_an_error_of_the_items_reaches_every_taker(error):
    ends: list[BaseException] = []

    def items() -> Iterator[tuple[int, int]]:
        yield 0, 0
        raise error

    def taker(mine: Iterator[int]) -> None:
        try:
            list(mine)
        except BaseException as end:
            ends.append(end)
            raise

    with pytest.raises(type(error)):
        fan_out(items(), [taker] * TAKERS, 2, Timings())
    assert ends == [error] * TAKERS


def test_an_error_of_a_taker_is_raised_when_the_others_are_through():
    rest: list[int] = []

    def broken(mine: Iterator[int]) -> None:
        next(mine)
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fan_out(((value % 2, value) for value in range(50)), [broken, rest.extend], 1, Timings())
    assert rest == list(range(1, 50, 2))
