"""Trigger requests and leases. See the package."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Cause(StrEnum):
    """What asked for a retrain."""

    SCHEDULE = "schedule"
    NEW_DATA = "new_data"
    METRIC = "metric"
    API = "api"
    PERSON = "person"
    UPSTREAM = "upstream"  # a release of a model that this one is made from


class RequestState(StrEnum):
    """open → claimed → served | failed; or open → skipped | expired.

    An open request that was put off waits in the ledger until the reconciler starts a run for it.
    """

    OPEN = "open"
    CLAIMED = "claimed"
    SERVED = "served"
    SKIPPED = "skipped"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True)
class TriggerRequest:
    """One reason to retrain one model, and what became of it.

    `watermark` is the source's newest event time when the request was made, `as_of` is that minus
    `label.arrives_after`: every later step and rerun reads the window's end from here, never from a clock.
    `step` is the step that runs or ran last; `reason` says why the request ended as it did, or was put off.

    `run_id` is the Airflow run that serves it, `first_run` the run that opened it: another one once it was put off,
    empty where no run did. A request that waits for the reconciler has its own id as run id (`own_run_id`), so that
    starting its run twice starts it once. `due_at`: it is not started before.
    """

    id: str
    model: str
    source: str
    cause: Cause
    dedupe_key: str
    run_id: str
    watermark: datetime | None
    as_of: datetime | None
    state: RequestState
    step: str
    reason: str
    detail: dict[str, Any]
    requested_at: datetime
    closed_at: datetime | None
    first_run: str = ""
    attempt: int = 0
    due_at: datetime | None = None

    @property
    def queued(self) -> bool:
        """Whether it waits for the reconciler, which starts its run. From then on it has a step (admit marks it)."""
        return self.state is RequestState.OPEN and self.attempt > 0 and not self.step


def own_run_id(request_id: str, attempt: int) -> str:
    """The id of the run that the reconciler starts: the request's, with a number from the second one on."""
    return request_id if attempt == 1 else f"{request_id}-{attempt}"


@dataclass(frozen=True)
class Lease:
    """The right to pull, train and judge one model. A later holder has a higher fencing number."""

    model: str
    holder: str
    fence: int
    expires_at: datetime
