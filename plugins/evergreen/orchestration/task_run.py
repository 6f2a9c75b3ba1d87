"""One task of one run: what it works on, and the wrapper that all steps share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException, AirflowSkipException

from evergreen import wiring
from evergreen.core import notices
from evergreen.core.errors import EvergreenError, LeaseBusy, LeaseLost, RunEnds
from evergreen.core.records import Lease, RequestState, TriggerRequest
from evergreen.core.triggers import LEASE_TTL
from evergreen.orchestration.connections import airflow_connection_url
from evergreen.orchestration.limited import in_child
from evergreen.orchestration.outage import as_outage
from evergreen.orchestration.pages import page
from evergreen.orchestration.run_notes import tell

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.core.ports import Ledger, Source
    from evergreen.core.spec import ModelSpec

# Of every task. A service that is away for some minutes is waited for; of other errors only RETRIES_OF_AN_ERROR count.
RETRIES: dict[str, Any] = {
    "retries": 6,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(seconds=60),
}
RETRIES_OF_AN_ERROR = 2
LEASE_RETRY = timedelta(seconds=15)
UNDER_LEASE = frozenset({"pull", "validate", "train", "judge"})  # admit takes it
CLOSED = frozenset({RequestState.SERVED, RequestState.SKIPPED})

Result = TypeVar("Result")
log = logging.getLogger(__name__)


@dataclass
class TaskRun:
    """A task at work: its model, its ports, and what the tasks before it handed on.

    `lease` is the model's, from the begin of a step that needs it; none for a request that has ended already.
    """

    spec: ModelSpec
    context: Context
    lease: Lease | None = None

    @classmethod
    def of(cls, spec: ModelSpec) -> TaskRun:
        """The task that runs in this process."""
        return cls(spec, get_current_context())

    @cached_property
    def settings(self) -> wiring.Settings:
        """From the environment."""
        return wiring.Settings.load()

    @cached_property
    def ledger(self) -> Ledger:
        """The control ledger."""
        return wiring.ledger(self.settings)

    @cached_property
    def source(self) -> Source:
        """The model's source."""
        return wiring.source(self.spec.source, airflow_connection_url)

    @property
    def run_id(self) -> str:
        """Airflow's id of the run."""
        return self.context["dag_run"].run_id

    @property
    def now(self) -> datetime:
        """The clock."""
        return datetime.now(UTC)

    @property
    def last_try(self) -> bool:
        """Whether Airflow gives up after this one."""
        task = self.context["ti"]
        return task.try_number > task.max_tries

    @property
    def tries_before(self) -> int:
        """How often Airflow has tried by itself before this. Cleared by a person, it has all its tries before it."""
        task = self.context["ti"]
        return int(RETRIES["retries"] - (task.max_tries - task.try_number + 1))

    @property
    def retried(self) -> bool:
        """Whether Airflow runs the task again by itself."""
        return self.tries_before > 0

    @property
    def request(self) -> TriggerRequest | None:
        """The run's trigger request in the ledger now; none before admit has opened it, or once it was put off."""
        found = self.ledger.requests.for_run(self.spec.name, self.run_id)
        return found if found and found.run_id == self.run_id else None

    def handed_on(self, task_id: str) -> Any:
        """What an earlier task of this run returned."""
        value = self.context["ti"].xcom_pull(task_ids=task_id)
        if value is None:
            raise EvergreenError(
                f"Task '{task_id}' handed nothing on. Clear it, with all that follow it, and run again."
            )
        return value

    def known_connections(self) -> dict[str, str]:
        """The URL of the source's connection by its name: Airflow is asked, which only the task's own process may."""
        name = self.spec.source.connection
        return {} if name is None else {name: wiring.connection_url(name, airflow_connection_url)}

    def in_child(self, step: str, act: Callable[[TaskRun], Result]) -> Result:
        """What `act` returns, called in a child process that has a memory limit of its own (see orchestration.limited).

        `act` is given this task with ports of its own; what it needs of Airflow is asked before. The lease is renewed
        meanwhile. Raises LeaseLost, and stops the child, where another has it.
        """

        def work() -> Result:
            try:
                return act(TaskRun(self.spec, self.context, self.lease))
            except Exception as error:  # told here: what led to an error does not come out of the child
                if not isinstance(error, EvergreenError) and (outage := as_outage(error)):
                    raise outage from error
                raise

        return in_child(step, self.settings.training_memory_mb, work, renew=self.renew)

    def renew(self) -> None:
        """Keep the lease. Raises LeaseLost where another has taken it since; a ledger that is away is asked again."""
        if self.lease is None:
            return
        held = self.lease
        try:
            self.ledger.leases.check(held)
            self.lease = self.ledger.leases.acquire(held.model, held.holder, LEASE_TTL, self.now)
        except LeaseBusy as busy:
            raise LeaseLost(f"{held.model}: the lease was lost while the step was at work. {busy}") from busy
        except LeaseLost:
            raise
        except Exception as error:
            log.warning("The lease of %s could not be renewed, and is tried again: %s", held.model, error)

    def close(self, step: str, state: RequestState, reason: str) -> None:
        """End the request, give the lease back, and say why on the run. A request that has ended stays as it is."""
        request = self.request
        if request is not None:
            if request.state not in CLOSED:
                self.ledger.requests.mark(request.id, now=self.now, state=state, step=step, reason=reason)
            self.ledger.leases.release_all(request.id)
        tell(self.context, reason)

    def wait(self, step: str, reason: str) -> None:
        """Say in the ledger, where `evergreen status` reads it, what the request waits for."""
        log.info("%s", reason)
        if request := self.request:
            self.ledger.requests.mark(request.id, now=self.now, step=step, reason=reason)


@contextmanager
def run_step(run: TaskRun, step: str) -> Iterator[None]:
    """Around every step: the request says which step runs, the lease is kept, and each end is told to people.

    RunEnds skips the run, LeaseBusy and LeaseLost wait without holding a slot, an error that no retry helps fails at
    once. What may pass, a service that is away above all, fails the request with the task's last try, any other error
    after RETRIES_OF_AN_ERROR.
    """
    try:
        _begin(run, step)
        yield
    except RunEnds as end:
        run.close(step, RequestState.SERVED if end.served else RequestState.SKIPPED, end.reason)
        raise AirflowSkipException(end.reason) from end
    except (LeaseBusy, LeaseLost) as busy:
        run.wait(step, f"waiting: {busy}")
        raise AirflowRescheduleException(run.now + LEASE_RETRY) from busy
    except EvergreenError as error:
        if error.retryable and not run.last_try:
            _tell_retry(run, step, error)
            raise
        raise _failed(run, step, str(error)) from error
    except Exception as error:
        outage = as_outage(error)
        if outage and not run.last_try:
            _tell_retry(run, step, outage)
            raise outage from error
        if not outage and run.tries_before < RETRIES_OF_AN_ERROR:
            raise
        raise _failed(run, step, str(outage or f"{type(error).__name__}: {error}")) from error


def _tell_retry(run: TaskRun, step: str, error: Exception) -> None:
    with suppress(Exception):  # it may be the ledger that is away
        run.wait(step, f"tried again soon: {error}")


def _failed(run: TaskRun, step: str, reason: str) -> AirflowFailException:
    """Close the request, and tell people; where the ledger is away, that is left to the run's end (see closing)."""
    try:
        run.close(step, RequestState.FAILED, reason)
        _tell_failed(run, reason)
    except Exception:
        log.exception("The request could not be closed")
    return AirflowFailException(reason)


def _tell_failed(run: TaskRun, reason: str) -> None:
    request = run.request
    if request is not None and request.state is RequestState.FAILED:
        notices.failed(run.ledger, request, reason, page(run.spec.name, run.run_id), run.now)


def _begin(run: TaskRun, step: str) -> None:
    """Claim again what failed before; leave alone what has ended: a task that is run again changes nothing."""
    request = run.request
    if request is None or request.state in CLOSED or step == "admit":
        return
    if step in UNDER_LEASE:
        run.lease = run.ledger.leases.acquire(run.spec.name, request.id, LEASE_TTL, run.now)
    run.ledger.requests.mark(request.id, now=run.now, state=RequestState.CLAIMED, step=step, reason="")
