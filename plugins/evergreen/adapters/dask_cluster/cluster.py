"""Work on all workers of a cluster at once, begun anew on fresh ones where a worker is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from dask.system import CPU_COUNT

from evergreen.adapters.dask_cluster.attempt import Attempt, WorkerLost
from evergreen.adapters.dask_cluster.opened import Open, embedded, remote
from evergreen.core.errors import ClusterFailed
from evergreen.core.ports.cluster import Place

Terms = TypeVar("Terms")
Result = TypeVar("Result")
RESTARTS = 3
WORKERS = 2
PATIENCE = 300.0  # seconds without progress: reading a large part, or binning a large share, may take that long
log = logging.getLogger(__name__)


class DaskCluster:
    """`open_it` opens the cluster for one try. `threads` of each worker, none: as many as Dask gave it."""

    def __init__(self, where: str, open_it: Open, threads: int | None, patience: float = PATIENCE) -> None:
        self._where, self._open, self._threads, self._patience = where, open_it, threads, patience

    @classmethod
    def here(
        cls, *, memory_mb: float, workers: int = WORKERS, threads: int = 0, patience: float = PATIENCE
    ) -> DaskCluster:
        """Worker processes of this one, for the length of the work; they may hold `memory_mb` together. `threads` of
        each: without a number they share the cores."""
        where = f"Dask cluster of {workers} processes on this machine"
        threads = threads or max(1, CPU_COUNT // workers)
        return cls(where, partial(embedded, workers, memory_mb / workers), threads, patience)

    @classmethod
    def at(cls, address: str, patience: float = PATIENCE) -> DaskCluster:
        """All workers of the scheduler at this address."""
        return cls(f"Dask cluster {address}", partial(remote, address), None, patience)

    def together(
        self, begin: Callable[[str, int], Terms], work: Callable[[Terms, Place], Result], *, what: str
    ) -> list[Result]:
        """See Cluster."""
        for restarts in range(RESTARTS + 1):
            try:
                return self._try(begin, work)
            except WorkerLost as lost:
                last = str(lost)
                log.warning("%s on the %s broke off: %s. %s", what, self._where, last, _next(restarts))
        raise ClusterFailed(
            f"{what} on the {self._where}",
            found=f"it broke off {RESTARTS + 1} times, the last time because {last}",
            allowed="workers that stay until it is done",
            do="Look into the workers' logs and at their memory: a worker over its limit is killed. With less to hold, "
            "fewer columns or a shorter window.train, it may pass; `training.engine: auto` needs no cluster.",
        )

    def _try(self, begin: Callable[[str, int], Terms], work: Callable[[Terms, Place], Result]) -> list[Result]:
        with self._open() as client:
            attempt = Attempt(client, self._threads, self._patience)
            if not attempt.workers:
                raise WorkerLost("it has no worker")
            return attempt.answers(begin, work)


def _next(restarts: int) -> str:
    return f"It begins anew from the snapshot, {restarts + 1} of {RESTARTS}." if restarts < RESTARTS else "Given up."
