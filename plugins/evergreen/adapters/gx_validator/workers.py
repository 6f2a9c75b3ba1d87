"""Work shared between two processes that are forked from this one.

Polars' and others' threads do not survive a fork. So it is done only where Polars has not been used yet, as in the
child that a step runs in; elsewhere (a replay, a test) and for few rows this process does all of it.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from evergreen.core.errors import ValidationInterrupted

WORKERS = 2
Task = TypeVar("Task")
Answer = TypeVar("Answer")


@contextlib.contextmanager
def shared(
    tasks: Sequence[Task], act: Callable[[Task], Answer], *, fork: bool
) -> Iterator[Iterator[tuple[Task, Answer]]]:
    """The answer to each task, in any order. With `fork`, the work has begun when this returns, if it can be forked.

    Raises what `act` raises, and ValidationInterrupted where a process was killed.
    """
    if not fork or len(tasks) < WORKERS or uses_polars():
        yield ((task, act(task)) for task in tasks)
        return
    workers = [_Worker(tasks[start::WORKERS], act) for start in range(WORKERS)]
    try:
        with ThreadPoolExecutor(WORKERS) as readers:
            try:  # read as they come: a process stands still when nobody takes its answers
                read = [readers.submit(list, worker) for worker in workers]
                yield (answer for one in as_completed(read) for answer in one.result())
            finally:
                for worker in workers:
                    worker.kill()
    finally:
        for worker in workers:
            worker.close()


def apart(act: Callable[[], Answer], *, fork: bool) -> Answer:
    """What `act` returns, with `fork` in a process of its own, if one can be forked."""
    if not fork or uses_polars():
        return act()
    with contextlib.closing(_Worker([None], lambda _: act())) as worker:
        ((_, answer),) = worker
    return answer  # type: ignore[no-any-return]


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """The collector leaves what is here alone meanwhile: a look at the libraries' many objects takes 0.15 s, and its
    marks in them would be a copy of that memory in each forked process.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def uses_polars() -> bool:
    """Whether Polars' threads are at work in this process."""
    threads = Path("/proc/self/task")
    if not threads.is_dir():  # a system without /proc
        return True
    return any(re.match(r"polars-\d", _name(thread)) for thread in threads.iterdir())


def _name(thread: Path) -> str:
    """Nothing where it has ended since it was listed."""
    try:
        return (thread / "comm").read_text()
    except OSError:
        return ""


class _Worker:
    def __init__(self, tasks: Sequence[Any], act: Callable[[Any], Any]) -> None:
        self._tasks = tasks
        forking = multiprocessing.get_context("fork")
        self._answers, writer = forking.Pipe(duplex=False)
        self._process = forking.Process(target=_work, args=(os.getpid(), tasks, act, self._answers, writer))
        self._process.start()
        writer.close()

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for task in self._tasks:
            try:
                done, answer = self._answers.recv()
            except EOFError:
                self._process.join()
                raise _interrupted(self._process.exitcode) from None
            if not done:
                raise answer
            yield task, answer

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self.kill()
        self._process.join()
        self._answers.close()


def _work(parent: int, tasks: Sequence[Any], act: Callable[[Any], Any], reader: Connection, writer: Connection) -> None:
    """Send an answer for each task. If the parent is gone, the next answer finds no reader."""
    reader.close()
    for task in tasks:
        if os.getppid() != parent:
            return
        try:
            answer = (True, act(task))
        except Exception as error:
            answer = (False, error)
        writer.send(answer)
        if not answer[0]:
            return


def _interrupted(code: int | None) -> ValidationInterrupted:
    return ValidationInterrupted(
        "step validate",
        found=f"a process of it ended with {code} and without an answer, most likely for want of memory",
        allowed="processes that end by themselves",
        do="It is tried again by itself and goes on where it stopped. If that does not help, allow it more memory.",
    )
