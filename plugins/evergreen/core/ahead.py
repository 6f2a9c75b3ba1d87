"""Making the next while the last is worked on."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

Made = TypeVar("Made")
_LOOK = 0.1  # seconds between two looks at whether anybody still waits


def ahead(items: Generator[Made, None, None]) -> Iterator[Made]:
    """The same, made in a thread, one ahead of what is taken; whatever it raises is raised here.

    Who stops taking ends the thread, and closes the generator there: what it holds may belong to its thread.
    """
    made: Queue[tuple[Made | None, BaseException | None]] = Queue(1)
    stopped = Event()
    thread = Thread(target=_make, args=(items, made, stopped), daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()


def _make(
    items: Generator[Made, None, None], made: Queue[tuple[Made | None, BaseException | None]], stopped: Event
) -> None:
    try:
        with closing(items):
            for item in items:
                if not _put(made, (item, None), stopped):
                    return
        _put(made, (None, StopIteration()), stopped)
    except BaseException as error:
        _put(made, (None, error), stopped)


def _put(
    made: Queue[tuple[Made | None, BaseException | None]], one: tuple[Made | None, BaseException | None], stopped: Event
) -> bool:
    """Whether there is still somebody to take it."""
    while not stopped.is_set():
        with suppress(Full):
            made.put(one, timeout=_LOOK)
            return True
    return False
