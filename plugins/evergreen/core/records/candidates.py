"""Snapshots, candidates, and what judge finds of them. See the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum


class CandidateState(StrEnum):
    """trained → passed | rejected (by its gates) | not_judged; passed → released | declined (by a person);
    released → rolled_back. Rejected, declined, released and rolled back block the train key.

    One whose gates passed and that was fitted again on all rows (core.refitting) ends as refitted: from then on that
    other version is judged, asked about and released.

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
    REFITTED = "refitted"


REFUSED = frozenset({CandidateState.REJECTED, CandidateState.DECLINED, CandidateState.ROLLED_BACK})
# Nothing comes after, unless it is reopened.
ENDED = frozenset({*REFUSED, CandidateState.RELEASED, CandidateState.REFITTED})
NEVER_RELEASED = frozenset({*REFUSED, CandidateState.REFITTED})


class GateState(StrEnum):
    """What came of a gate. Without a champion, gates against it are left out: `no champion`."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_JUDGED = "not judged"
    NOT_COMPARABLE = "not comparable"
    NO_CHAMPION = "no champion"


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
    folder_hash, spec_sha256 (core.train_key.Provenance), empty for versions that are older than this field. One that
    was recalled (core.recalling) has those of the version whose bundle it has, and names it there; so has one that was
    fitted again (core.refitting).
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
