"""The rehearsal slot as a container: told by a file which version to serve, restarted, asked, stopped."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from evergreen.adapters.container_slots.engine import DockerSlots
from evergreen.adapters.container_slots.lease import SlotLease, Terms
from evergreen.adapters.container_slots.metrics import peak_mb
from evergreen.core.errors import RehearsalFailed, SlotUnavailable
from evergreen.core.ports import Leases, SlotContainers
from evergreen.core.slot_health import REHEARSAL, STOPPED_CODES, SlotFacts

__all__ = ["ContainerSlots", "DockerSlots", "Terms"]

TIMEOUT = 60.0  # seconds until it must be ready
ARGUMENTS = "args"  # the file that the container's command names: one argument a line
_log = logging.getLogger(__name__)


class WaitUntilReady(Protocol):
    """What adapters.slot_readiness.wait_until_ready does."""

    def __call__(
        self, url: Callable[[], str | None], model: str, version: int, *, timeout: float, check: Callable[[], None]
    ) -> str:
        """The URL, once the process is ready there. Raises RehearsalFailed."""


class ContainerSlots:
    """Starts versions in the one container `slot`, one after the other: whoever holds its lease in the ledger.

    `folder` is shared with the container, which reads there what to serve; `url` is where it answers, while it does;
    `timeout` is in seconds. The container ends with the context. Of a process that was killed it goes on, until the
    lease has run out and the next start restarts it, or watch_slots stops it.
    """

    beside = False

    def __init__(
        self,
        containers: SlotContainers,
        leases: Leases,
        folder: Path,
        wait_until_ready: WaitUntilReady,
        *,
        slot: str = REHEARSAL,
        url: Callable[[], str | None] = lambda: f"http://{REHEARSAL}:8000",
        timeout: float = TIMEOUT,
        terms: Terms = Terms(),  # noqa: B008 -- frozen
    ) -> None:
        self._containers, self._leases, self._folder = containers, leases, folder
        self._wait_until_ready, self._slot, self._url, self._timeout, self._terms = (
            wait_until_ready,
            slot,
            url,
            timeout,
            terms,
        )

    @contextmanager
    def start(self, model: str, version: int, bundle: str) -> Iterator[ContainerSlot]:
        """Serve this version of this model, and nothing else; stopped with the context.

        Raises RehearsalFailed, LeaseBusy or SlotUnavailable as core.ports.RehearsalSlots says.
        """
        what = f"{model} version {version}"
        with SlotLease(self._leases, f"slot:{self._slot}", what, self._terms).held() as lease:
            run = _Run(what, lease, self._containers, self._slot)
            try:
                run.may_begin()
                self._tell(f"--only={model}:{version}:{bundle}\n")
                with run.until_the_end():
                    url = self._wait_until_ready(self._url, model, version, timeout=self._timeout, check=run.check)
                    yield ContainerSlot(what, url)
            except Exception:
                lease.check()  # if another had the slot meanwhile, that is the reason
                raise

    def _tell(self, arguments: str) -> None:
        """Write what the container is to read at its start, as a whole. Raises SlotUnavailable."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._folder, delete=False) as new:
                new.write(arguments)
            path = Path(new.name)
            path.chmod(0o644)
            path.replace(self._folder / ARGUMENTS)
        except OSError as error:
            raise SlotUnavailable(f"{self._slot}: cannot be told what to serve: {error}") from error


class _Run:
    """One life of the container, from our restart to our stop."""

    def __init__(self, what: str, lease: SlotLease, containers: SlotContainers, slot: str) -> None:
        self._what, self._lease, self._containers, self._slot = what, lease, containers, slot
        self._began: datetime | None = None

    def may_begin(self) -> None:
        """Raise SlotUnavailable if another has the slot by now: it is told by one file which version to serve."""
        if not self._lease.still_ours():
            self._lease.check()

    @contextmanager
    def until_the_end(self) -> Iterator[None]:
        """Restart it, and stop it with the context: Docker tells only then if any of its processes was killed for
        memory. Another's slot, where the lease was lost, is left alone."""
        self.may_begin()
        self._containers.restart(self._slot)
        self._began = self._containers.look(self._slot).started_at
        failed: BaseException | None = None
        try:
            yield
        except Exception as error:
            failed = error
            self._same_life(self._containers.look(self._slot))
            raise
        finally:
            facts = self._stop() if self._lease.still_ours() else None
            if facts and facts.out_of_memory:
                raise RehearsalFailed(_out_of_memory(self._what, facts)) from failed
        self._lease.check()

    def check(self) -> None:
        """Raise RehearsalFailed if it ended, SlotUnavailable if somebody ended it or has it now."""
        self._lease.check()
        facts = self._containers.look(self._slot)
        self._same_life(facts)
        if facts.out_of_memory:
            raise RehearsalFailed(_out_of_memory(self._what, facts))
        if facts.state != "running":
            raise RehearsalFailed(
                f"{self._what}: its serving container is {facts.state}, exit code {facts.exit_code}. "
                f"`docker logs --tail 20 {self._slot}` shows what it said."
            )

    def _same_life(self, facts: SlotFacts) -> None:
        """A slot that others stop or restart meanwhile says nothing of the candidate: that is tried again."""
        stopped = facts.state != "running" and facts.exit_code in STOPPED_CODES and not facts.out_of_memory
        if stopped or facts.started_at != self._began:
            raise SlotUnavailable(f"{self._what}: somebody stopped or restarted {self._slot} during its rehearsal")

    def _stop(self) -> SlotFacts | None:
        """Its facts, stopped; none where that cannot be known. A slot that goes on is stopped by watch_slots."""
        try:
            self._containers.stop(self._slot)
            return self._containers.look(self._slot)
        except SlotUnavailable as error:
            _log.warning("%s may still run: %s", self._slot, error)
            return None


class ContainerSlot:
    """A slot that is up."""

    def __init__(self, what: str, url: str) -> None:
        self.url, self._what = url, what

    def memory_mb(self) -> float:
        """The highest resident memory of the worker so far, in MB. Raises RehearsalFailed if it is gone."""
        return peak_mb(self._what, self.url)


def _out_of_memory(what: str, facts: SlotFacts) -> str:
    limit = f" of {facts.memory_limit_mb:,.0f} MB" if facts.memory_limit_mb else ""
    return (
        f"{what} needed more than the memory limit{limit} of its container, and was killed; a larger "
        f"EVERGREEN_REHEARSAL_MEMORY_MB in .env (the limit of {facts.slot}), then `make up`, allows more"
    )
