"""The records that steps hand to each other and that the ledger keeps. All times are UTC and aware."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any


class Cause(StrEnum):
    """What asked for a retrain."""

    SCHEDULE = "schedule"
    NEW_DATA = "new_data"
    API = "api"
    PERSON = "person"


class RequestState(StrEnum):
    """open → claimed → served | failed; or open → skipped."""

    OPEN = "open"
    CLAIMED = "claimed"
    SERVED = "served"
    SKIPPED = "skipped"
    FAILED = "failed"


class CandidateState(StrEnum):
    """trained → passed | rejected | not_judged; passed → released."""

    TRAINED = "trained"
    NOT_JUDGED = "not_judged"
    PASSED = "passed"
    REJECTED = "rejected"
    RELEASED = "released"


@dataclass(frozen=True)
class TriggerRequest:
    """One reason to retrain one model, and what became of it.

    `watermark` is the source's newest event time when the request was made, `as_of` is that minus
    `label.arrives_after`: every later step and rerun reads the window's end from here, never from a clock.
    `step` is the step that runs or ran last; `reason` says why the request ended as it did.
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


@dataclass(frozen=True)
class Lease:
    """The right to pull, train and judge one model. A later holder has a higher fencing number."""

    model: str
    holder: str
    fence: int
    expires_at: datetime


@dataclass(frozen=True)
class Part:
    """One day of a snapshot, as an immutable Parquet file in the store."""

    day: date
    key: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Snapshot:
    """Immutable rows of one window: `start <= event_time <= as_of`. The id is the content hash."""

    id: str
    model: str
    start: datetime
    as_of: datetime
    rows: int
    unlabelled: int
    quarantined: int
    schema_hash: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class GateResult:
    """One gate of a verdict. `value` is none where it could not be judged."""

    metric: str
    limit: str
    value: float | None
    passed: bool
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """What judge found. `judged` is false where there were too few fresh rows: that blocks no train key."""

    judged: bool
    passed: bool
    rows: int
    gates: tuple[GateResult, ...]
    reason: str


@dataclass(frozen=True)
class Candidate:
    """A registered version and all that says what it was made from.

    `bundle` is the sha256 of the bundle's manifest, and its address in the store.
    `data_end` is the newest event time that the booster was fitted on.
    """

    model: str
    version: int
    request_id: str
    train_key: str
    snapshot_id: str
    data_end: datetime
    bundle: str
    mlflow_run: str
    metrics: dict[str, float]
    state: CandidateState
    verdict: Verdict | None
    generation_seen: int
    created_at: datetime


@dataclass(frozen=True)
class Champion:
    """The release that answers for a model. Generation 0, release none: nothing released yet."""

    model: str
    release_id: str | None
    generation: int


@dataclass(frozen=True)
class Release:
    """An immutable decision to serve one version."""

    id: str
    model: str
    version: int
    bundle: str
    pool: str
    generation: int
    request_id: str
    released_by: str
    reason: str
    watermark: datetime | None
    released_at: datetime


@dataclass(frozen=True)
class Replica:
    """A serving replica's last heartbeat."""

    pool: str
    replica: str
    url: str
    versions: dict[str, int] = field(default_factory=dict)
    heartbeat: datetime | None = None
