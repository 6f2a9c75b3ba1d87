"""Making the next while the last ones are worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

Made = TypeVar("Made")
Done = TypeVar("Done")
_LOOK = 0.1  # seconds between two looks at whether anybody still waits


def ahead(items: Generator[Made, None, None]) -> Generator[Made, None, None]:
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


def side_by_side(items: Iterable[Made], work: Callable[[Made], Done], many: int) -> Iterator[Done]:
    """What `work` makes of each item, in order, so many at a time in threads.

    What the items or the work raise is raised in its turn, when all that came before is given.
    """
    doing: deque[Future[Done]] = deque()
    with ThreadPoolExecutor(many) as pool:
        for one in _begun(items, lambda item: pool.submit(work, item)):
            doing.append(one)
            if len(doing) >= many:
                yield doing.popleft().result()
        while doing:
            yield doing.popleft().result()


def _begun(items: Iterable[Made], begin: Callable[[Made], Future[Done]]) -> Iterator[Future[Done]]:
    try:
        for item in items:
            yield begin(item)
    except Exception as error:
        failed: Future[Done] = Future()
        failed.set_exception(error)
        yield failed


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
