"""One try of some work on an open cluster, which ends with its answers, with an error, or with WorkerLost.

Dask and XGBoost wait for a lost worker for ever (dmlc/xgboost#9419, #9420, #11405), so three things are watched: what
the work says of itself, which workers are there, and when it last told that it gets on.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from distributed import CancelledError, Client, Future, KilledWorker, wait
from distributed.comm import CommClosedError, get_address_host

from evergreen.adapters.dask_cluster.in_worker import at_place
from evergreen.core.ports.cluster import BrokenOff, Place

Terms = TypeVar("Terms")
Result = TypeVar("Result")
LOOK = 0.5  # seconds between two looks at which workers are there
GRACE = 1.0  # seconds in which a work that broke off is laid to a worker that turns out to be lost
STEPS = 10  # of the longest step so far: so long may the next one take
BEGINS = 60.0  # seconds to the first word in any case: a fresh worker imports its libraries first
FETCHES = 60.0  # seconds for a worker's answer, or its error, to come over
_FAILED = ("error", "lost", "cancelled")
_LOST = (BrokenOff, KilledWorker, CommClosedError, CancelledError)


class WorkerLost(Exception):
    """The work cannot go on with these workers."""


class Attempt:
    """`patience`: seconds that a step may take in any case."""

    def __init__(self, client: Client, threads: int | None, patience: float) -> None:
        found = client.nthreads()
        self._client, self.workers = client, sorted(found)
        self._threads = {worker: threads or found[worker] for worker in self.workers}
        self._progress = _Progress(patience)

    def answers(self, begin: Callable[[str, int], Terms], work: Callable[[Terms, Place], Result]) -> list[Result]:
        """See Cluster.together. Raises WorkerLost."""
        topic = f"evergreen-{uuid.uuid4().hex}"
        self._client.subscribe_topic(topic, self._progress.heard)
        futures: list[Future] = []
        try:
            terms = self._begun(begin)
            futures = [self._submitted(work, terms, number, topic) for number in range(len(self.workers))]
            self._wait(futures)
            with _connected():
                return [future.result(timeout=FETCHES) for future in futures]
        except (CancelledError, KilledWorker) as error:
            raise WorkerLost("the scheduler was lost, or a worker with its answer") from error
        finally:
            with suppress(OSError):
                self._client.unsubscribe_topic(topic)
                self._client.cancel(futures, force=True)

    def _begun(self, begin: Callable[[str, int], Terms]) -> Terms:
        first = self.workers[0]
        host, count = get_address_host(first), len(self.workers)
        with _connected():
            found: dict[str, Terms] = self._client.run(begin, host, count, workers=[first])
        return found[first]

    def _submitted(self, work: Callable[[Terms, Place], Any], terms: Terms, number: int, topic: str) -> Future:
        worker = self.workers[number]
        return self._client.submit(
            at_place, work, terms, number, len(self.workers), self._threads[worker], topic,
            key=f"{topic}-{number}", workers=[worker], allow_other_workers=False, pure=False, retries=0,
        )  # fmt: skip

    def _wait(self, futures: Sequence[Future]) -> None:
        """Until all have answered. Raises what the work raised, or WorkerLost."""
        waiting = set(futures)
        while waiting:
            with suppress(TimeoutError):
                waiting = wait(waiting, timeout=LOOK, return_when="FIRST_COMPLETED").not_done
            if any(future.status in _FAILED for future in futures):
                self._raise(futures)
            if waiting:
                self._refuse_lost()
                self._progress.refuse_stalled()

    def _raise(self, futures: Sequence[Future]) -> None:
        """An error breaks off what the other workers are in the middle of, and theirs may be there before it."""
        with suppress(TimeoutError):
            wait(futures, timeout=GRACE)
        with _connected():
            errors = [future.exception(timeout=FETCHES) for future in futures if future.status in _FAILED]
        for error in errors:
            if error is not None and not isinstance(error, _LOST):
                raise error
        self._refuse_lost(GRACE)
        raise WorkerLost(next((str(error) for error in errors if str(error)), "a worker said nothing more"))

    def _refuse_lost(self, within: float = 0.0) -> None:
        until = time.monotonic() + within
        while True:
            with _connected():
                lost = sorted(set(self.workers) - set(self._client.nthreads()))
            if lost:
                raise WorkerLost(f"lost {', '.join(lost)} of {len(self.workers)} workers{self._progress.last}")
            if time.monotonic() >= until:
                return
            time.sleep(LOOK)


@contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # CommClosedError and TimeoutError among them
        raise WorkerLost(f"a connection was lost: {error}") from error


class _Progress:
    """When the work last told that it gets on."""

    def __init__(self, patience: float) -> None:
        self._patience, self._longest = patience, 0.0
        self._heard_at, self._what = time.monotonic(), ""

    def heard(self, event: tuple[float, dict[str, Any]]) -> None:
        """Called by Dask, in its own thread."""
        now = time.monotonic()
        if self._what:  # the first comes after the imports
            self._longest = max(self._longest, now - self._heard_at)
        self._heard_at, self._what = now, event[1]["what"]

    @property
    def last(self) -> str:
        """What was heard last, as the end of a sentence."""
        return f", after {self._what}" if self._what else ""

    def refuse_stalled(self) -> None:
        """Raises WorkerLost where nothing was heard for too long."""
        allowed = max(self._patience, STEPS * self._longest if self._what else BEGINS)
        silent = time.monotonic() - self._heard_at
        if silent > allowed:
            raise WorkerLost(f"nothing got on for {silent:.0f} s{self.last} (allowed {allowed:.0f})")
