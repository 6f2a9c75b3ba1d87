"""Making the next in a thread while the last ones are worked on."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator

import pytest

from evergreen.core.ahead import ahead, side_by_side


def test_all_come_in_order_and_are_made_elsewhere() -> None:
    made_in: set[int] = set()

    def numbers() -> Generator[int, None, None]:
        for number in range(50):
            made_in.add(threading.get_ident())
            yield number

    assert list(ahead(numbers())) == list(range(50))
    assert made_in
    assert threading.get_ident() not in made_in


def test_the_next_is_made_before_it_is_asked_for() -> None:
    second = threading.Event()

    def numbers() -> Generator[int, None, None]:
        yield 1
        second.set()
        yield 2

    taken = ahead(numbers())
    assert next(taken) == 1
    assert second.wait(10)


def test_an_error_comes_after_what_was_made_before_it() -> None:
    def numbers() -> Generator[int, None, None]:
        yield 1
        raise KeyError("two")

    taken = ahead(numbers())
    assert next(taken) == 1
    with pytest.raises(KeyError, match="two"):
        next(taken)


def test_who_stops_closes_what_makes_them_in_its_own_thread() -> None:
    closed: list[int] = []

    def numbers() -> Generator[int, None, None]:
        began = threading.get_ident()
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.get_ident() - began)

    def one(taken: Iterator[int]) -> int:
        return next(taken)

    taken = ahead(numbers())
    assert one(taken) == 1
    taken.close()
    assert closed == [0]
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(_make)")]


def test_so_many_are_worked_on_at_a_time_and_come_in_order() -> None:
    together = threading.Barrier(2, timeout=10)  # who were alone would wait for ever
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        together.wait()
        return -number

    def numbers() -> Iterator[int]:
        for number in range(6):
            assert len(begun) >= number - 1  # no more are taken than are worked on
            yield number

    assert list(side_by_side(numbers(), work, 2)) == [0, -1, -2, -3, -4, -5]


def test_what_was_begun_before_an_error_is_given_first() -> None:
    def numbers() -> Iterator[int]:
        yield from (1, 2, 3)
        raise KeyError("four")

    done: list[int] = []
    with pytest.raises(KeyError, match="four"):
        done.extend(side_by_side(numbers(), abs, 4))
    assert done == [1, 2, 3]


def test_an_error_of_the_work_comes_in_its_turn() -> None:
    done = side_by_side([4, 2, 0, 1], lambda number: 8 // number, 3)
    assert [next(done), next(done)] == [2, 4]
    with pytest.raises(ZeroDivisionError):
        next(done)
