"""The control ledger in memory, for tests and rehearsals of a step: safe for threads, gone with the process."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import RLock
from typing import Any

from evergreen.core.errors import EvergreenError, LeaseBusy, PromotionConflict
from evergreen.core.ports import Ledger
from evergreen.core.records import (
    Candidate,
    CandidateState,
    Cause,
    Champion,
    Lease,
    Release,
    Replica,
    RequestState,
    Snapshot,
    TriggerRequest,
    Verdict,
)

_CLOSED = (RequestState.SERVED, RequestState.SKIPPED, RequestState.FAILED)


def in_memory_ledger() -> Ledger:
    """An empty ledger."""
    models = InMemoryModels()
    return Ledger(
        requests=InMemoryTriggerRequests(),
        leases=InMemoryLeases(),
        models=models,
        releases=InMemoryReleases(models),
        replicas=InMemoryReplicas(),
    )


def _utc(time: datetime | None) -> datetime | None:
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError(f"a time without a time zone: {time.isoformat()}")
    return time.astimezone(UTC)


class InMemoryTriggerRequests:
    """Twin of adapters.ledger.requests."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._rows: dict[str, TriggerRequest] = {}  # in order of their making

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
        new = TriggerRequest(
            id=uuid.uuid4().hex,
            model=model,
            source=source,
            cause=cause,
            dedupe_key=dedupe_key,
            run_id=run_id,
            watermark=_utc(watermark),
            as_of=_utc(as_of),
            state=RequestState.OPEN,
            step="",
            reason="",
            detail=json.loads(json.dumps(dict(detail), allow_nan=False)),
            requested_at=now,
            closed_at=None,
        )
        with self._lock:
            same = (r for r in self._rows.values() if (r.model, r.dedupe_key) == (model, dedupe_key))
            kept = next(same, new)
            return self._rows.setdefault(kept.id, kept)

    def get(self, request_id: str) -> TriggerRequest:
        """KeyError if there is none."""
        return self._rows[request_id]

    def for_run(self, model: str, run_id: str) -> TriggerRequest | None:
        """The request that this run serves."""
        return next((r for r in self._newest(model) if r.run_id == run_id), None)

    def mark(
        self,
        request_id: str,
        *,
        now: datetime,
        state: RequestState | None = None,
        step: str | None = None,
        reason: str | None = None,
    ) -> TriggerRequest:
        """Change what is given; a closed state that stands already keeps its `closed_at`."""
        changes: dict[str, Any] = {"state": state, "step": step, "reason": reason}
        changes = {name: value for name, value in changes.items() if value is not None}
        with self._lock:
            before = self._rows[request_id]
            if state is not None and state is not before.state:
                changes["closed_at"] = now if state in _CLOSED else None
            self._rows[request_id] = replace(before, **changes)
            return self._rows[request_id]

    def latest(self, model: str, *, limit: int = 1) -> list[TriggerRequest]:
        """The newest requests of a model, newest first."""
        return self._newest(model)[:limit]

    def last_served(self, model: str) -> TriggerRequest | None:
        """The newest served request of a model."""
        return next((r for r in self._newest(model) if r.state is RequestState.SERVED), None)

    def newest_watermark(
        self, *, model: str | None = None, source: str | None = None, cause: Cause | None = None
    ) -> datetime | None:
        """The newest watermark of any request of this model, source or cause, whatever its state."""
        with self._lock:
            rows = [r for r in self._rows.values() if model in (None, r.model) and source in (None, r.source)]
        rows = [r for r in rows if cause in (None, r.cause)]
        return max((r.watermark for r in rows if r.watermark), default=None)

    def _newest(self, model: str) -> list[TriggerRequest]:
        with self._lock:
            return [r for r in reversed(self._rows.values()) if r.model == model]


class InMemoryLeases:
    """Twin of adapters.ledger.leases."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._rows: dict[str, Lease] = {}
        self._given_up: set[str] = set()

    def acquire(self, model: str, holder: str, ttl: timedelta, now: datetime) -> Lease:
        """Take or renew the lease. Raises LeaseBusy (naming the holder) while another's has not expired."""
        with self._lock:
            held, last = self.get(model), self._rows.get(model)
            if held and held.holder != holder and held.expires_at > now:
                raise LeaseBusy(f"{model}: request {held.holder} holds the lease until {held.expires_at:%H:%M:%S} UTC")
            renewed = held is not None and held.holder == holder
            fence = (last.fence if last else 0) + (0 if renewed else 1)
            self._given_up.discard(model)
            self._rows[model] = Lease(model=model, holder=holder, fence=fence, expires_at=now + ttl)
            return self._rows[model]

    def release(self, model: str, holder: str) -> None:
        """Give it up; nothing happens if it is not held by this holder."""
        with self._lock:
            if model in self._rows and self._rows[model].holder == holder:
                self._given_up.add(model)

    def get(self, model: str) -> Lease | None:
        """The lease, expired or not; none where it was given up."""
        return None if model in self._given_up else self._rows.get(model)


class InMemoryModels:
    """Twin of adapters.ledger.models."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._snapshots: dict[tuple[str, str], Snapshot] = {}
        self._candidates: dict[tuple[str, int], Candidate] = {}

    def add_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; the same id again changes nothing."""
        self._snapshots.setdefault((snapshot.model, snapshot.id), snapshot)

    def snapshot(self, model: str, snapshot_id: str) -> Snapshot:
        """KeyError if there is none."""
        return self._snapshots[model, snapshot_id]

    def add_candidate(self, candidate: Candidate) -> Candidate:
        """Keep a candidate, or return the one that has its (model, train key).

        Raises EvergreenError where the version belongs to another train key.
        """
        with self._lock:
            if kept := self.by_train_key(candidate.model, candidate.train_key):
                return kept
            if (candidate.model, candidate.version) in self._candidates:
                raise EvergreenError(
                    f"{candidate.model}: version {candidate.version} was made from another train key. "
                    "The model registry and the ledger disagree: were they restored from different times?"
                )
            self._candidates[candidate.model, candidate.version] = candidate
            return candidate

    def candidate(self, model: str, version: int) -> Candidate:
        """KeyError if there is none."""
        return self._candidates[model, version]

    def by_train_key(self, model: str, train_key: str) -> Candidate | None:
        """The candidate made from exactly this."""
        with self._lock:
            rows = self._candidates.values()
            return next((c for c in rows if (c.model, c.train_key) == (model, train_key)), None)

    def judge(
        self, model: str, version: int, *, verdict: Verdict, state: CandidateState, generation_seen: int
    ) -> Candidate:
        """Keep the verdict and the champion generation that it was reached against. KeyError if there is none."""
        return self._change(model, version, verdict=verdict, state=state, generation_seen=generation_seen)

    def _change(self, model: str, version: int, **changes: Any) -> Candidate:
        with self._lock:
            self._candidates[model, version] = replace(self._candidates[model, version], **changes)
            return self._candidates[model, version]


class InMemoryReleases:
    """Twin of adapters.ledger.releases."""

    def __init__(self, models: InMemoryModels) -> None:
        self._lock = RLock()
        self._models = models
        self._rows: dict[str, Release] = {}  # in order of their making
        self._champions: dict[str, Champion] = {}

    def champion(self, model: str) -> Champion:
        """Generation 0 where nothing was released yet."""
        return self._champions.get(model, Champion(model, None, 0))

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

        A released candidate's own release comes back unchanged. Raises PromotionConflict if the champion has
        changed, KeyError for a candidate that was never kept.
        """
        model, version, seen = candidate.model, candidate.version, candidate.generation_seen
        with self._lock:
            self._models.candidate(model, version)
            if released := next((r for r in self.history(model) if r.version == version), None):
                return released
            if self.champion(model).generation != seen:
                raise PromotionConflict(model, seen=seen, found=self.champion(model).generation)
            new = Release(
                id=uuid.uuid4().hex,
                model=model,
                version=version,
                bundle=candidate.bundle,
                pool=pool,
                generation=seen + 1,
                request_id=candidate.request_id,
                released_by=released_by,
                reason=reason,
                watermark=_utc(watermark),
                released_at=now,
            )
            self._rows[new.id] = new
            self._champions[model] = Champion(model, new.id, new.generation)
            self._models._change(model, version, state=CandidateState.RELEASED)
            return new

    def get(self, release_id: str) -> Release:
        """KeyError if there is none."""
        return self._rows[release_id]

    def history(self, model: str | None = None) -> list[Release]:
        """All releases, oldest first."""
        with self._lock:
            return [r for r in self._rows.values() if model in (None, r.model)]

    def live(self, pool: str) -> list[Release]:
        """The release of each champion of a pool, by model name."""
        with self._lock:
            live = [self._rows[c.release_id] for c in self._champions.values() if c.release_id]
        return sorted((r for r in live if r.pool == pool), key=lambda r: r.model)


class InMemoryReplicas:
    """Twin of adapters.ledger.replicas."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Replica] = {}

    def beat(self, replica: Replica, now: datetime) -> None:
        """Record that the replica lives and which versions it answers with."""
        self._rows[replica.pool, replica.replica] = replace(replica, heartbeat=now)

    def alive(self, pool: str, since: datetime) -> list[Replica]:
        """Replicas that were heard of since then, by name."""
        rows = [r for r in list(self._rows.values()) if r.pool == pool and r.heartbeat and r.heartbeat >= since]
        return sorted(rows, key=lambda r: r.replica)
