"""Trigger requests in memory."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from threading import RLock
from typing import Any

from evergreen.core.records import Cause, RequestState, TriggerRequest, own_run_id
from evergreen.fakes.ledger.times import utc

_CLOSED = (RequestState.SERVED, RequestState.SKIPPED, RequestState.FAILED, RequestState.EXPIRED)
_UNFINISHED = (RequestState.OPEN, RequestState.CLAIMED)


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
        request_id = uuid.uuid4().hex
        new = TriggerRequest(
            id=request_id,
            model=model,
            source=source,
            cause=cause,
            dedupe_key=dedupe_key,
            run_id=run_id or own_run_id(request_id, 1),
            watermark=utc(watermark),
            as_of=utc(as_of),
            state=RequestState.OPEN,
            step="",
            reason="",
            detail=json.loads(json.dumps(dict(detail), allow_nan=False)),
            requested_at=now,
            closed_at=None,
            first_run=run_id or "",
            attempt=0 if run_id else 1,
            due_at=utc(due_at),
        )
        with self._lock:
            same = (r for r in self._rows.values() if (r.model, r.dedupe_key) == (model, dedupe_key))
            kept = next(same, new)
            return self._rows.setdefault(kept.id, kept)

    def get(self, request_id: str) -> TriggerRequest:
        """KeyError if there is none."""
        return self._rows[request_id]

    def for_run(self, model: str, run_id: str) -> TriggerRequest | None:
        """The request that this run serves, else the one that it opened and that was put off since."""
        rows = self._newest(model)
        opened = (r for r in rows if r.first_run == run_id)
        return next((r for r in rows if r.run_id == run_id), None) or next(opened, None)

    def put_off(self, request_id: str, *, until: datetime | None, reason: str, now: datetime) -> TriggerRequest:
        """Let an open request wait for the reconciler (`queued`), under the next own run id; its step is empty again.

        One that is queued already keeps its run id, and takes the new `until` and `reason`; one that is not open stays
        as it is.
        """
        with self._lock:
            before = self._rows[request_id]
            if before.state is not RequestState.OPEN:
                return before
            attempt = before.attempt + (not before.queued)
            waits: dict[str, Any] = {"run_id": own_run_id(request_id, attempt), "attempt": attempt, "step": ""}
            self._rows[request_id] = replace(before, **waits, due_at=utc(until), reason=reason)
            return self._rows[request_id]

    def unfinished(self, model: str | None = None) -> list[TriggerRequest]:
        """The open and claimed requests, oldest first."""
        with self._lock:
            return [r for r in self._rows.values() if r.state in _UNFINISHED and model in (None, r.model)]

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
        """Change what is given; a closed state that stands already keeps its `closed_at`."""
        changes: dict[str, Any] = {"state": state, "step": step, "reason": reason}
        changes |= {"watermark": utc(watermark), "as_of": utc(as_of)}
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

    def watermarks(self) -> dict[str, datetime]:
        """The newest watermark of each model that has one, in one read."""
        with self._lock:
            models = {r.model for r in self._rows.values()}
        newest = {model: self.newest_watermark(model=model) for model in models}
        return {model: watermark for model, watermark in newest.items() if watermark}

    def _newest(self, model: str) -> list[TriggerRequest]:
        with self._lock:
            return [r for r in reversed(self._rows.values()) if r.model == model]
