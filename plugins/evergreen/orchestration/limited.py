"""Runs a step in a child process that has a memory limit of its own.

With LocalExecutor a task shares the scheduler's memory: a fit that grows too large would take the scheduler with it.
The child is a plain fork, so it costs milliseconds and what it returns or raises need not be prepared for it. It must
open for itself whatever speaks to another process (the ledger, MLflow), and leave Airflow's supervisor to its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from evergreen.core.errors import FoundProblem
from evergreen.orchestration.held_memory import HeldMemory

WATCH = 0.2  # seconds between two looks at the child's memory
RENEW = 60.0  # seconds between two calls of `renew`
_PDEATHSIG, _GET_DUMPABLE, _SET_DUMPABLE = 1, 3, 4  # <linux/prctl.h>
_SMALLER = "shorten window.train or leave out columns in model.yaml, or allow more by EVERGREEN_TRAINING_MEMORY_MB"
_libc = ctypes.CDLL(None)
Result = TypeVar("Result")
log = logging.getLogger(__name__)


class MemoryExceeded(FoundProblem):
    """Raised when a step was stopped because it held more memory than it may."""


class StepKilled(FoundProblem):
    """Raised when a step's process ended without an answer: the kernel took it, or a fault in a library."""

    retryable = True


class InTheChild(Exception):
    """What the traceback of an error was in the child; the cause of that error in the parent."""


def in_child(
    step: str,
    limit_mb: float,
    act: Callable[[], Result],
    *,
    renew: Callable[[], None] = lambda: None,
    every: float = RENEW,
    smaller: str = _SMALLER,
) -> Result:
    """What `act` returns, called in a fork of this process; what it raises is raised here.

    `renew` is called here every so many seconds while the child works; what it raises stops the child. `smaller` says
    what to do so that it needs less memory, or has more.
    Raises MemoryExceeded where it, with what it has forked, comes to hold more than `limit_mb` (of 10^6 bytes; memory
    that no file backs), StepKilled where the child is killed. The child ends with this call and with this process,
    however those end.
    """
    reader, writer = Pipe(duplex=False)
    parent = os.getpid()
    sys.stdout.flush()  # else the child would write it once more
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        reader.close()
        _work(parent, writer, act)
    writer.close()
    child = _Child(step, pid, limit_mb, _Every(every, renew), smaller)
    with reader, contextlib.closing(child):
        answer = child.answer(reader)
    done, found, told = pickle.loads(answer)  # noqa: S301  (our own child wrote it)
    if done:
        result: Result = found
        return result
    raise found from InTheChild(told)


# ---------------------------------------------------------------- the parent


class _Every:
    """Calls `act` once so many seconds have gone by since it did so last."""

    def __init__(self, seconds: float, act: Callable[[], None]) -> None:
        self._seconds, self._act = seconds, act
        self._due = time.monotonic() + seconds

    def look(self) -> None:
        """Call it, if it is time."""
        if time.monotonic() >= self._due:
            self._act()
            self._due = time.monotonic() + self._seconds


class _Child:
    """The child as its parent sees it."""

    def __init__(self, step: str, pid: int, limit_mb: float, renewal: _Every, smaller: str) -> None:
        self._step, self._pid, self._limit, self._renewal = step, pid, limit_mb, renewal
        self._smaller = smaller
        self._memory = HeldMemory(pid)
        self._began, self._held, self._most = time.monotonic(), 0.0, 0.0
        self._status: int | None = None

    def answer(self, reader: Connection) -> bytes:
        """What the child writes before it ends."""
        while True:
            self._look()
            self._renewal.look()
            try:
                if reader.poll(WATCH):
                    answer = reader.recv_bytes()
                    break
            except EOFError:
                raise self._why_it_died() from None
        self._reap()
        took, held = time.monotonic() - self._began, f"{self._most:,.0f} of {self._limit:,.0f} MB"
        log.info("%s took %.2f s and held up to %s", self._step, took, held)
        return answer

    def close(self) -> None:
        """Leave nothing behind."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._reap()
        self._memory.kill_forked()

    def _reap(self) -> int:
        if self._status is None:
            _, self._status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(self._status)

    def _look(self) -> None:
        self._held = self._memory.look()
        self._most = max(self._most, self._held)
        if self._held > self._limit:
            raise MemoryExceeded(
                f"step {self._step}",
                found=f"{self._held:,.0f} MB of memory in use, and it was stopped",
                allowed=f"{self._limit:,.0f} MB",
                do=f"Either {self._smaller}, if the machine or container has it.",
            )

    def _why_it_died(self) -> StepKilled:
        code = self._reap()
        if code == -signal.SIGKILL:
            how = "was killed (SIGKILL), most likely by the kernel because the machine or container ran out of memory"
            do = f"It is tried again by itself. If that does not help: {self._smaller}, and the container's own limit."
        else:
            how = f"ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'} and without an answer"
            do = "It is tried again by itself. If it comes again, the lines above in this log say what went wrong."
        return StepKilled(
            f"step {self._step}",
            found=f"its process {how}; it held {self._held:,.0f} MB when last seen",
            allowed=f"a process that ends by itself, with up to {self._limit:,.0f} MB",
            do=do,
        )


# ---------------------------------------------------------------- the child


def _work(parent: int, writer: Connection, act: Callable[[], Any]) -> NoReturn:
    """Act, answer and end, without what Python does at the end of a program: all that belongs to the parent."""
    code = 1
    try:
        _end_with(parent)
        _be_the_first_that_the_kernel_kills()
        for number in (signal.SIGTERM, signal.SIGINT):  # Airflow's handlers are meant for the task's own process
            signal.signal(number, signal.SIG_DFL)
        outcome = _outcome(act)
        sys.stdout.flush()
        sys.stderr.flush()
        writer.send_bytes(outcome)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _outcome(act: Callable[[], Any]) -> bytes:
    try:
        return pickle.dumps((True, act(), ""))
    except BaseException as error:
        told = traceback.format_exc()
        try:
            packed = pickle.dumps((False, error, told))
            pickle.loads(packed)  # noqa: S301  (an error may be one that cannot be made again)
        except Exception:
            packed = pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}"), told))
        return packed


def _end_with(parent: int) -> None:
    _libc.prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before this took effect
        os._exit(1)


def _be_the_first_that_the_kernel_kills() -> None:
    """Airflow makes its processes undumpable, which keeps them from writing even their own entry in /proc."""
    before = _libc.prctl(_GET_DUMPABLE)
    _libc.prctl(_SET_DUMPABLE, 1)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    _libc.prctl(_SET_DUMPABLE, before)
