"""Opens a cluster of Dask for one try of some work, and closes it however that ends.

The embedded one is worker processes of this one: Dask's nannies end them when it is over, and they end by themselves
when this process dies (a pipe that the kernel closes). All of it listens on the loopback only, under TLS with a
certificate that exists in memory: Dask runs pickles from whoever connects. No dashboard, no HTTP routes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import ModuleType
from typing import Any

import dask
from distributed import Client, LocalCluster, Security, Semaphore

from evergreen.core.errors import ClusterFailed

log = logging.getLogger(__name__)
Open = Callable[[], AbstractContextManager[Client]]
LOOPBACK = "127.0.0.1"
_STARTS, _COMES_BACK = 60, 30  # seconds: for a cluster to answer, and for a lost worker to be there again
_ONE_AT_A_TIME, _TURN = "evergreen-training", 2  # its name; seconds after which it is said that one waits
_MB = 1_000_000
_EMBEDDED: dict[str, Any] = {
    "distributed.scheduler.allowed-failures": 0,  # else work is sent to the worker that takes the lost one's place
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.memory.target": False,  # nothing is kept in a worker that could be spilled
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}


@contextmanager
def embedded(workers: int, memory_mb: float) -> Iterator[Client]:
    """So many workers of one task each, which may hold `memory_mb` (of 10^6 bytes) each."""
    with (
        _quiet(),
        dask.config.set(_EMBEDDED),
        _without_main(),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=int(memory_mb * _MB),
            host=LOOPBACK,
            security=Security.temporary(),
            dashboard_address=f"{LOOPBACK}:0",  # a server without routes: Dask starts it anyway
            worker_dashboard_address=f"{LOOPBACK}:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, timeout=_STARTS, set_as_default=False) as client,
        client.as_current(),
    ):
        yield client


@contextmanager
def remote(address: str) -> Iterator[Client]:
    """The cluster of this scheduler ('tcp://host:8786'; 'tls://…' with Dask's own configuration of certificates).

    One piece of work at a time: two that wait for each other's workers would wait for ever. Dask takes the turn away
    from a process that died. Raises ClusterFailed where no scheduler answers.
    """
    with _quiet(), _connected(address) as client, client.as_current(), _turn(address):
        workers = len(client.nthreads())
        try:
            yield client
        except BaseException:
            _refresh(client, workers)
            raise


@contextmanager
def _turn(address: str) -> Iterator[None]:
    turn = Semaphore(max_leases=1, name=_ONE_AT_A_TIME)
    if not turn.acquire(timeout=_TURN):
        log.info("The Dask cluster %s is at work for somebody else: waiting for its end", address)
        turn.acquire()
    try:
        yield
    finally:
        with suppress(OSError):  # the scheduler is gone, and so is the turn
            turn.release()


def _connected(address: str) -> Client:
    try:
        return Client(address, timeout=_STARTS, set_as_default=False)
    except (OSError, ValueError) as error:  # TimeoutError among them
        raise ClusterFailed(
            f"Dask cluster {address}",
            found=f"no scheduler that answers ({str(error)[:200]})",
            allowed="a Dask scheduler of the version in requirements.txt",
            do="Start it, or correct EVERGREEN_DASK_SCHEDULER; unset it to train on this machine.",
        ) from error


def _refresh(client: Client, workers: int) -> None:
    """Fresh processes in place of those that may hang in a call which nothing can end, and of the lost."""
    with suppress(OSError, ValueError):  # a worker without a nanny ends the work by itself
        client.restart_workers(list(client.nthreads()), timeout=_COMES_BACK, raise_for_error=False)
        client.wait_for_workers(workers, timeout=_COMES_BACK)


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask tells of every connection, and of those that end with a lost worker as errors: we tell what matters."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _without_main() -> Iterator[None]:
    """A worker process would import this program's main module again: of a task, that is Airflow."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
