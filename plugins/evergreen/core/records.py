"""The records that steps hand to each other and that the ledger keeps. All times are UTC and aware."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
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


class CandidateState(StrEnum):
    """trained → passed | rejected (by its gates) | not_judged; passed → released | declined (by a person);
    released → rolled_back. Rejected, declined, released and rolled back block the train key.

    A rejected one that a person wants all the same is judged anew and waits as to_override: an approval releases it,
    anything else makes it rejected again.
    """

    TRAINED = "trained"
    NOT_JUDGED = "not_judged"
    PASSED = "passed"
    TO_OVERRIDE = "to_override"
    REJECTED = "rejected"
    DECLINED = "declined"
    RELEASED = "released"
    ROLLED_BACK = "rolled_back"


# May not be released, unless reopened and judged anew.
REFUSED = frozenset({CandidateState.REJECTED, CandidateState.DECLINED, CandidateState.ROLLED_BACK})
ENDED = frozenset({*REFUSED, CandidateState.RELEASED})  # nothing comes after, unless it is reopened


class GateState(StrEnum):
    """What came of a gate. Without a champion, gates against it are left out: `no champion`."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_JUDGED = "not judged"
    NOT_COMPARABLE = "not comparable"
    NO_CHAMPION = "no champion"


class ApprovalState(StrEnum):
    """open → approved | rejected | expired | void | superseded; the first answer stands.

    Void: answered, but without a reason where one is needed, or after what was asked about had changed. Superseded: a
    newer candidate came before an answer. Only a rejection blocks the candidate.
    """

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    VOID = "void"
    SUPERSEDED = "superseded"


class ReleaseKind(StrEnum):
    """Why a version was made champion."""

    PROMOTION = "promotion"
    ROLLBACK = "rollback"


class RolloutState(StrEnum):
    """prepared → live | aborted; live → replaced (by the next release) | rolled_back. One release a model is live."""

    PREPARED = "prepared"
    LIVE = "live"
    REPLACED = "replaced"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"


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


@dataclass(frozen=True)
class Part:
    """One day of a snapshot, as an immutable Parquet file in the store."""

    day: date
    key: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Snapshot:
    """Immutable rows of one window: `start <= event_time <= as_of`. The id is the content hash.

    `suite` names the expectation suite that it passed and the sha256 of its file ('flight-delay@3f…'), empty where it
    was not validated yet.
    """

    id: str
    model: str
    start: datetime
    as_of: datetime
    rows: int
    unlabelled: int
    quarantined: int
    schema_hash: str
    parts: tuple[Part, ...]
    suite: str = ""


@dataclass(frozen=True)
class SliceResult:
    """A sliced gate on the rows of one value. `low` and `high` are as in GateResult."""

    value: str
    rows: int
    state: GateState
    candidate: float | None = None
    champion: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class GateResult:
    """One limit of a verdict: a gate of the spec with two limits gives two of these.

    `metric` carries its parameter ('accuracy@0.3'); `limit` is what ops read ('≥ 0.6'). `candidate` and `champion`
    are the metric of each on the same rows, none where it was not measured. `low` and `high` bound, at the gate's
    confidence, the candidate's value, or for a gate against the champion its improvement (positive is better,
    whatever the metric). `slice` is the column of a sliced gate, whose rows stand in `slices`.
    """

    metric: str
    limit: str
    state: GateState
    candidate: float | None = None
    champion: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int = 0
    slice: str = ""
    slices: tuple[SliceResult, ...] = ()
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the limit was judged and kept."""
        return self.state is GateState.PASSED

    @property
    def vetoes(self) -> bool:
        """Whether it stops the candidate: failed, or not judged where it is no slice."""
        return self.state is GateState.FAILED or (self.state is GateState.NOT_JUDGED and not self.slice)


@dataclass(frozen=True)
class Verdict:
    """What judge found. `judged` is false where there were too few fresh rows: that blocks no train key.

    `metrics` and `champion_metrics` are all metrics of the task on the same rows. `ask_why` says why a person must
    decide whatever the approval mode is (the champion could not be compared); else it is empty. `request_id` is the
    trigger request that it was reached for, empty in verdicts that are older than this field.
    """

    judged: bool
    passed: bool
    rows: int
    gates: tuple[GateResult, ...]
    reason: str
    champion_version: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    champion_metrics: Mapping[str, float] = field(default_factory=dict)
    ask_why: str = ""
    request_id: str = ""


@dataclass(frozen=True)
class Candidate:
    """A registered version and all that says what it was made from.

    `bundle` is the sha256 of the bundle's manifest, and its address in the store.
    `data_end` is the newest event time that the booster was fitted on. `made_with`: code_revision, image, lock_hash,
    folder_hash, spec_sha256 (core.train_key.Provenance), empty for versions that are older than this field.
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
    made_with: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Champion:
    """The release that answers for a model. Generation 0, release none: nothing released yet."""

    model: str
    release_id: str | None
    generation: int


@dataclass(frozen=True)
class Release:
    """A decision to serve one version. Only its state, and with it the generation, ever changes.

    `seen` is the champion's generation that it was decided against. `generation` is 0 until it goes live: then
    seen + 1; `released_at` is when it was prepared, then when it went live. `request_id` is the trigger request that
    made the version, `approval_id` the approval that let it through, empty where nobody was asked. `act` names the act
    that released it (for a rollback, the run or command), so that the same act done twice is one release.
    """

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
    kind: ReleaseKind = ReleaseKind.PROMOTION
    act: str = ""
    state: RolloutState = RolloutState.LIVE
    seen: int = 0
    approval_id: str = ""


@dataclass(frozen=True)
class ReleaseEvent:
    """A release changed its state; the history of these never shrinks."""

    release_id: str
    model: str
    version: int
    state: RolloutState
    by: str
    reason: str
    at: datetime


FLEET = "*"  # the model of a hold on all models


@dataclass(frozen=True)
class Hold:
    """No automatic promotion of a model (or of all: FLEET), until a person lifts it."""

    model: str
    by: str
    reason: str
    since: datetime


@dataclass(frozen=True)
class HoldEvent:
    """A hold placed or lifted; the history of holds never shrinks."""

    model: str
    held: bool
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Approval:
    """One question to people about one candidate, and its answer. `answered_by` is none after a timeout.

    `evidence` is the digest of the verdict that the question shows (core.verdict_json). `overrides` names the gates
    that failed and that an approval sets aside; empty where the candidate passed.
    """

    id: str
    model: str
    version: int
    request_id: str
    run_id: str
    bundle: str
    generation_seen: int
    asked_at: datetime
    expires_at: datetime
    state: ApprovalState
    answered_by: str | None = None
    reason: str = ""
    answered_at: datetime | None = None
    evidence: str = ""
    overrides: str = ""


@dataclass(frozen=True)
class CallerToken:
    """Who may ask serving. The token itself is kept nowhere: `sha256` is its digest (core.caller_tokens)."""

    id: str
    caller: str
    sha256: str
    created_at: datetime
    created_by: str
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class SlotEvent:
    """Something that happened to a container slot: `what` in a word or two, `detail` in a sentence.

    A slot has each key once.
    """

    slot: str
    what: str
    detail: str
    key: str
    at: datetime


@dataclass(frozen=True)
class Event:
    """Something about a model (or FLEET) that people must be able to read later: `what` in a word or two.

    A model has each key once.
    """

    model: str
    what: str
    detail: str
    by: str
    key: str
    at: datetime


@dataclass(frozen=True)
class Heartbeat:
    """When something that runs for ever was last heard of, and what it said."""

    name: str
    at: datetime
    detail: str


class NoticeKind(StrEnum):
    """What people are told of."""

    APPROVAL_NEEDED = "approval_needed"
    REMINDER = "reminder"
    ESCALATION = "escalation"
    REFUSED = "refused"
    RELEASED = "released"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    REPORTED = "reported"  # something that was repaired, or that nobody caused here: an alias moved by hand
    SILENT = "silent"  # nothing heard from the reconciler


@dataclass(frozen=True)
class Notice:
    """A message to people that is to be sent, or was. `link` leads to the page to act on; a model has each key once."""

    id: str
    model: str
    kind: NoticeKind
    key: str
    title: str
    text: str
    link: str
    created_at: datetime
    sent_at: datetime | None = None
    tries: int = 0
    error: str = ""


@dataclass(frozen=True)
class Replica:
    """A serving replica's last heartbeat. `reasons` say why it does not serve all that is released, if it does not."""

    pool: str
    replica: str
    url: str
    versions: dict[str, int] = field(default_factory=dict)
    heartbeat: datetime | None = None
    reasons: tuple[str, ...] = ()
