"""Making the next in a thread while the last is worked on."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator

import pytest

from evergreen.core.ahead import ahead


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
    taken.close()  # type: ignore[attr-defined]
    assert closed == [0]
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(_make)")]
