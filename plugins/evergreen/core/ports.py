"""The outside systems, as Evergreen sees them.

Each port has a real adapter in `adapters/` and an in-memory twin in `fakes/`; both pass the same contract
tests in `tests/contract/`. Frames that cross a port are Polars frames. Errors are those of `core.errors`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.records import (
        Candidate,
        CandidateState,
        Cause,
        Champion,
        Lease,
        Part,
        Release,
        Replica,
        RequestState,
        Snapshot,
        TriggerRequest,
        Verdict,
    )
    from evergreen.core.spec import ModelSpec


# ---------------------------------------------------------------- data


class Source(Protocol):
    """Where a model's rows come from. Raises SourceUnavailable when it does not answer, SourceError when a
    named column is missing or `event_time` is no time."""

    def watermark(self) -> datetime | None:
        """The newest event time, none for an empty source."""

    def count(self, after: datetime | None, until: datetime) -> int:
        """How many rows have `after < event_time <= until` (no lower bound for none)."""

    def read(self, columns: Sequence[str], start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        """Rows with `start <= event_time <= end`, in order of event time, in bounded chunks.

        `event_time` comes as Datetime("us", "UTC"); the types of one column agree over all chunks.
        """


class Store(Protocol):
    """Immutable files by key ('snapshots/…', 'bundles/…'). A write is seen whole or not at all."""

    def put(self, key: str, data: bytes) -> None:
        """Write a file; writing the same key again replaces it in one step."""

    def get(self, key: str) -> bytes:
        """Read a file; KeyError if there is none."""

    def exists(self, key: str) -> bool:
        """Whether the file is there."""

    def keys(self, prefix: str) -> list[str]:
        """All keys that start with the prefix, sorted."""


class Snapshots(Protocol):
    """Frames to and from per-day Parquet parts in the store; hashes as DESIGN semantics 7 says."""

    def write(self, model: str, frame: pl.DataFrame, event_time: str, key: str) -> tuple[Part, ...]:
        """Split by day of event time (UTC), sort by (event time, key), hash, store what is not there yet."""

    def read(self, parts: Sequence[Part], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The parts' rows, in order of day. SourceError if a stored part's hash is not the recorded one."""

    def quarantine(self, model: str, snapshot_id: str, rows: pl.DataFrame) -> str:
        """Keep the rows set aside (with a column `failed_expectation`); returns their key in the store."""


# ---------------------------------------------------------------- validation


@dataclass(frozen=True)
class ExpectationResult:
    """One expectation. `rows` are positions in the frame; none where the expectation judges no single row."""

    expectation: str
    column: str | None
    status: str  # passed | failed | errored
    rows: tuple[int, ...] | None = None
    detail: str = ""


@dataclass(frozen=True)
class ValidationReport:
    """All results of a suite on a frame, and the library's own full result for the record."""

    results: tuple[ExpectationResult, ...]
    full: Mapping[str, Any] = field(default_factory=dict)


class Validator(Protocol):
    """Runs an expectation suite (stock Great Expectations JSON, parsed)."""

    def validate(self, frame: pl.DataFrame, suite: Mapping[str, Any]) -> ValidationReport:
        """Every expectation of the suite has a result, in the suite's order."""


# ---------------------------------------------------------------- training


@dataclass(frozen=True)
class TrainedModel:
    """A fitted booster as a bundle's files (name → bytes), without the manifest, and what is worth logging."""

    files: Mapping[str, bytes]
    data_end: datetime
    rounds: int
    metrics: Mapping[str, float]
    params: Mapping[str, Any]
    importances: Mapping[str, float]
    history: Mapping[str, Sequence[float]]  # metric by boosting round, on the fitted rows and on the tail
    plots: Mapping[str, bytes] = field(default_factory=dict)  # PNG by artifact path


class Trainer(Protocol):
    """Fits a model, and scores rows with one that was fitted."""

    def fit(self, spec: ModelSpec, frame: pl.DataFrame) -> TrainedModel:
        """Fit on the frame, which is in order of event time; its newest rows are the early-stopping tail.

        Raises TrainingRefused for one class, an all-null label or a feature of a type that cannot be used.
        The same frame and spec give the same files.
        """

    def score(self, spec: ModelSpec, files: Mapping[str, bytes], frame: pl.DataFrame) -> dict[str, float]:
        """Every metric of the task on labelled rows (see core.metrics)."""


class Registry(Protocol):
    """The model registry and experiment record (a projection: the ledger decides)."""

    def start_run(self, model: str, name: str, tags: Mapping[str, str]) -> str:
        """The id of the run with this name in the model's experiment; made if there is none."""

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add to a run. Metrics and tags logged before under the same name are replaced.

        A param keeps its first value (MLflow never changes one); another value goes to the tag `changed.<name>`.
        Numbers that are not finite are left out.
        """

    def log_file(self, run_id: str, path: str, data: bytes) -> None:
        """Store an artifact of the run ('validation/result.json')."""

    def register(self, model: str, run_id: str, files: Mapping[str, bytes], tags: Mapping[str, str]) -> int:
        """The version that this run registered with these tags; registers one if there is none yet."""

    def describe(self, run_id: str, markdown: str) -> None:
        """Describe the run, and the versions that it registered, to whoever opens them."""

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point the alias at the version."""

    def end_run(self, run_id: str, *, failed: bool = False) -> None:
        """Close the run."""


# ---------------------------------------------------------------- the control ledger


class TriggerRequests(Protocol):
    """Trigger requests: one row for each reason to retrain."""

    def open(
        self,
        *,
        model: str,
        source: str,
        cause: Cause,
        dedupe_key: str,
        run_id: str,
        watermark: datetime | None,
        as_of: datetime | None,
        detail: Mapping[str, Any],
        now: datetime,
    ) -> TriggerRequest:
        """Make an open request, or return the one that has this (model, dedupe key)."""

    def get(self, request_id: str) -> TriggerRequest:
        """KeyError if there is none."""

    def for_run(self, model: str, run_id: str) -> TriggerRequest | None:
        """The request that this run serves."""

    def mark(
        self,
        request_id: str,
        *,
        now: datetime,
        state: RequestState | None = None,
        step: str | None = None,
        reason: str | None = None,
    ) -> TriggerRequest:
        """Change what is given. `closed_at` is set by served, skipped and failed, and cleared by claimed."""

    def latest(self, model: str, *, limit: int = 1) -> list[TriggerRequest]:
        """The newest requests of a model, newest first."""

    def last_served(self, model: str) -> TriggerRequest | None:
        """The newest served request of a model."""

    def newest_watermark(
        self, *, model: str | None = None, source: str | None = None, cause: Cause | None = None
    ) -> datetime | None:
        """The newest watermark of any request of this model, source or cause, whatever its state."""


class Leases(Protocol):
    """One holder a model at a time, from pull to judge."""

    def acquire(self, model: str, holder: str, ttl: timedelta, now: datetime) -> Lease:
        """Take or renew the lease. Raises LeaseBusy (naming the holder) while another's has not expired."""

    def release(self, model: str, holder: str) -> None:
        """Give it up; nothing happens if it is not held by this holder."""

    def get(self, model: str) -> Lease | None:
        """The lease, expired or not."""


class Models(Protocol):
    """Snapshots and candidates."""

    def add_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; the same id again changes nothing."""

    def snapshot(self, model: str, snapshot_id: str) -> Snapshot:
        """KeyError if there is none."""

    def add_candidate(self, candidate: Candidate) -> Candidate:
        """Keep a candidate, or return the one that has its (model, train key)."""

    def candidate(self, model: str, version: int) -> Candidate:
        """KeyError if there is none."""

    def by_train_key(self, model: str, train_key: str) -> Candidate | None:
        """The candidate made from exactly this."""

    def judge(
        self, model: str, version: int, *, verdict: Verdict, state: CandidateState, generation_seen: int
    ) -> Candidate:
        """Keep the verdict and the champion generation that it was reached against."""


class Releases(Protocol):
    """Releases and who is champion. History never shrinks."""

    def champion(self, model: str) -> Champion:
        """Generation 0 where nothing was released yet."""

    def release(
        self,
        candidate: Candidate,
        *,
        pool: str,
        released_by: str,
        reason: str,
        watermark: datetime | None,
        now: datetime,
    ) -> Release:
        """Make the candidate champion, if the generation is still `candidate.generation_seen`.

        One transaction: the release, its event, the champion row and the candidate's state. Asked again for a
        released candidate, returns its release. Raises PromotionConflict if the champion has changed.
        """

    def get(self, release_id: str) -> Release:
        """KeyError if there is none."""

    def history(self, model: str | None = None) -> list[Release]:
        """All releases, oldest first."""

    def live(self, pool: str) -> list[Release]:
        """The release of each champion of a pool, by model name."""


class Replicas(Protocol):
    """Who serves."""

    def beat(self, replica: Replica, now: datetime) -> None:
        """Record that the replica lives and which versions it answers with."""

    def alive(self, pool: str, since: datetime) -> list[Replica]:
        """Replicas that were heard of since then."""


@dataclass(frozen=True)
class Ledger:
    """The control ledger: the one place that decides."""

    requests: TriggerRequests
    leases: Leases
    models: Models
    releases: Releases
    replicas: Replicas
