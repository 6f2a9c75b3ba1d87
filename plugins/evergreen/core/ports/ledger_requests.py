"""The parts of the ledger that decide what is retrained: trigger requests, leases, snapshots and candidates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from evergreen.core.records import (
        Candidate,
        CandidateState,
        Cause,
        Lease,
        RequestState,
        Snapshot,
        TriggerRequest,
        Verdict,
    )


class TriggerRequests(Protocol):
    """Trigger requests: one row for each reason to retrain."""

    def open(
        self,
        *,
        model: str,
        source: str,
        cause: Cause,
        dedupe_key: str,
        run_id: str | None,
        watermark: datetime | None,
        as_of: datetime | None,
        detail: Mapping[str, Any],
        now: datetime,
        due_at: datetime | None = None,
    ) -> TriggerRequest:
        """Make an open request, or return the one that has this (model, dedupe key).

        Without a `run_id` it waits for the reconciler (`queued`), until `due_at` if that is given.
        """

    def put_off(self, request_id: str, *, until: datetime | None, reason: str, now: datetime) -> TriggerRequest:
        """Let an open request wait for the reconciler (`queued`), under the next own run id; its step is empty again.

        One that is queued already keeps its run id, and takes the new `until` and `reason`; one that is not open stays
        as it is.
        """

    def unfinished(self, model: str | None = None) -> list[TriggerRequest]:
        """The open and claimed requests, oldest first."""

    def get(self, request_id: str) -> TriggerRequest:
        """KeyError if there is none."""

    def for_run(self, model: str, run_id: str) -> TriggerRequest | None:
        """The request that this run serves, else the one that it opened and that was put off since."""

    def mark(
        self,
        request_id: str,
        *,
        now: datetime,
        state: RequestState | None = None,
        step: str | None = None,
        reason: str | None = None,
        watermark: datetime | None = None,
        as_of: datetime | None = None,
    ) -> TriggerRequest:
        """Change what is given. `closed_at` is set by each closed state, and cleared by claimed."""

    def latest(self, model: str, *, limit: int = 1) -> list[TriggerRequest]:
        """The newest requests of a model, newest first."""

    def last_served(self, model: str) -> TriggerRequest | None:
        """The newest served request of a model."""

    def newest_watermark(
        self, *, model: str | None = None, source: str | None = None, cause: Cause | None = None
    ) -> datetime | None:
        """The newest watermark of any request of this model, source or cause, whatever its state."""

    def watermarks(self) -> dict[str, datetime]:
        """The newest watermark of each model that has one, in one read."""


class Leases(Protocol):
    """One holder a model at a time, from pull to judge."""

    def acquire(self, model: str, holder: str, ttl: timedelta, now: datetime) -> Lease:
        """Take or renew the lease. Raises LeaseBusy (naming the holder) while another's has not expired."""

    def release(self, model: str, holder: str) -> None:
        """Give it up; nothing happens if it is not held by this holder."""

    def release_all(self, holder: str) -> None:
        """Give up all that this holder has: its model's lease, and its places (core.spec_limits)."""

    def get(self, model: str) -> Lease | None:
        """The lease, expired or not."""

    def check(self, lease: Lease) -> None:
        """Raise LeaseLost where another has taken it since, or it was given up. That it has run out does not matter."""


class Models(Protocol):
    """Snapshots and candidates.

    Who writes under a lease hands it in: LeaseLost is raised, and nothing written, where it is no longer theirs
    (see Leases.check), in the same transaction.
    """

    def add_snapshot(self, snapshot: Snapshot, *, lease: Lease | None = None) -> None:
        """Keep a snapshot; the same id again changes nothing, but for a `suite` where there was none."""

    def snapshot(self, model: str, snapshot_id: str) -> Snapshot:
        """KeyError if there is none."""

    def add_candidate(self, candidate: Candidate, *, lease: Lease | None = None) -> Candidate:
        """Keep a candidate, or return the one that has its (model, train key)."""

    def candidate(self, model: str, version: int) -> Candidate:
        """KeyError if there is none."""

    def candidates(self, model: str) -> list[Candidate]:
        """All candidates of a model, newest version first."""

    def by_train_key(self, model: str, train_key: str) -> Candidate | None:
        """The candidate made from exactly this."""

    def judge(
        self,
        model: str,
        version: int,
        *,
        verdict: Verdict,
        state: CandidateState,
        generation_seen: int,
        lease: Lease | None = None,
    ) -> Candidate:
        """Keep the verdict and the champion generation that it was reached against.

        A candidate that has ended meanwhile (records.ENDED: two requests may judge one) comes back as it is.
        """

    def reopen(self, model: str, version: int) -> Candidate:
        """Let a rejected, declined or rolled-back candidate be judged anew: state TRAINED. Others stay as they are."""
