"""What runs in a worker process: the work, which tells that it gets on and ends when nobody waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from distributed import get_worker

from evergreen.core.ports.cluster import BrokenOff, Place

Terms = TypeVar("Terms")
Result = TypeVar("Result")
TELL = 0.2  # seconds between two that are passed on
_EXECUTING = "executing"


def at_place(
    work: Callable[[Terms, Place], Result], terms: Terms, number: int, count: int, threads: int, topic: str
) -> Result:
    """The work's answer."""
    tell = _Teller(topic, number)
    tell("the start")
    return work(terms, Place(number, count, threads, tell))


class _Teller:
    """`Place.tell` of one piece of work."""

    def __init__(self, topic: str, number: int) -> None:
        self._topic, self._number = topic, number
        self._worker = get_worker()
        self._key = self._worker.get_current_task()
        self._due = 0.0

    def __call__(self, what: str) -> None:
        if (task := self._worker.state.tasks.get(self._key)) is None or task.state != _EXECUTING:
            raise BrokenOff("nobody waits for this work any more")
        if (now := time.monotonic()) >= self._due:
            self._due = now + TELL
            self._worker.log_event(self._topic, {"worker": self._number, "what": what})
