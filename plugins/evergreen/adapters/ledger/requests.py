"""Trigger requests in SQL."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.tables import trigger_request as t
from evergreen.core.records import Cause, RequestState, TriggerRequest, own_run_id

_CLOSED = (RequestState.SERVED, RequestState.SKIPPED, RequestState.FAILED, RequestState.EXPIRED)
_UNFINISHED = (RequestState.OPEN.value, RequestState.CLAIMED.value)


class SqlTriggerRequests:
    """Implements core.ports.TriggerRequests."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        row = {
            "id": request_id,
            "model": model,
            "source": source,
            "cause": cause.value,
            "dedupe_key": dedupe_key,
            "run_id": run_id or own_run_id(request_id, 1),
            "first_run": run_id or "",
            "attempt": 0 if run_id else 1,
            "due_at": due_at,
            "watermark": watermark,
            "as_of": as_of,
            "state": RequestState.OPEN.value,
            "step": "",
            "reason": "",
            "detail": dict(detail),
            "requested_at": now,
        }
        with self._database.write() as connection:
            insert_if_absent(connection, t, row)
            return _one(connection, select(t).where(t.c.model == model, t.c.dedupe_key == dedupe_key))

    def get(self, request_id: str) -> TriggerRequest:
        """KeyError if there is none."""
        with self._database.read() as connection:
            return _get(connection, request_id)

    def put_off(self, request_id: str, *, until: datetime | None, reason: str, now: datetime) -> TriggerRequest:
        """Let an open request wait for the reconciler (`queued`), under the next own run id; its step is empty again.

        One that is queued already keeps its run id, and takes the new `until` and `reason`; one that is not open stays
        as it is.
        """
        with self._database.write() as connection:
            before = _get(connection, request_id, lock=True)
            if before.state is not RequestState.OPEN:
                return before
            attempt = before.attempt + (not before.queued)
            waits = {"run_id": own_run_id(request_id, attempt), "attempt": attempt, "step": ""}
            change = update(t).where(t.c.id == request_id).values(**waits, due_at=until, reason=reason)
            connection.execute(change)
            return _get(connection, request_id)

    def unfinished(self, model: str | None = None) -> list[TriggerRequest]:
        """The open and claimed requests, oldest first."""
        query = select(t).where(t.c.state.in_(_UNFINISHED)).order_by(t.c.seq)
        with self._database.read() as connection:
            rows = connection.execute(query if model is None else query.where(t.c.model == model))
            return [_record(row) for row in rows]

    def for_run(self, model: str, run_id: str) -> TriggerRequest | None:
        """The request that this run serves, else the one that it opened and that was put off since."""
        for column in (t.c.run_id, t.c.first_run):
            if found := self._newest(1, t.c.model == model, column == run_id):
                return found[0]
        return None

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
        changes: dict[str, Any] = {"state": state and state.value, "step": step, "reason": reason}
        changes |= {"watermark": watermark, "as_of": as_of}
        changes = {name: value for name, value in changes.items() if value is not None}
        with self._database.write() as connection:
            before = _get(connection, request_id, lock=True)
            if state is not None and state is not before.state:
                changes["closed_at"] = now if state in _CLOSED else None
            if changes:
                connection.execute(update(t).where(t.c.id == request_id).values(changes))
            return _get(connection, request_id)

    def latest(self, model: str, *, limit: int = 1) -> list[TriggerRequest]:
        """The newest requests of a model, newest first."""
        return self._newest(limit, t.c.model == model)

    def last_served(self, model: str) -> TriggerRequest | None:
        """The newest served request of a model."""
        found = self._newest(1, t.c.model == model, t.c.state == RequestState.SERVED.value)
        return found[0] if found else None

    def newest_watermark(
        self, *, model: str | None = None, source: str | None = None, cause: Cause | None = None
    ) -> datetime | None:
        """The newest watermark of any request of this model, source or cause, whatever its state."""
        query = select(func.max(t.c.watermark))
        for column, wanted in ((t.c.model, model), (t.c.source, source), (t.c.cause, cause)):
            if wanted is not None:
                query = query.where(column == wanted)
        with self._database.read() as connection:
            newest: datetime | None = connection.scalar(query)
        return newest

    def watermarks(self) -> dict[str, datetime]:
        """The newest watermark of each model that has one, in one read."""
        query = select(t.c.model, func.max(t.c.watermark)).where(t.c.watermark.is_not(None)).group_by(t.c.model)
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def _newest(self, limit: int, *where: ColumnElement[bool]) -> list[TriggerRequest]:
        query = select(t).where(*where).order_by(t.c.seq.desc()).limit(limit)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]


def _get(connection: Connection, request_id: str, *, lock: bool = False) -> TriggerRequest:
    query = select(t).where(t.c.id == request_id)
    return _one(connection, query.with_for_update() if lock else query, request_id)


def _one(connection: Connection, query: Select[Any], request_id: str = "") -> TriggerRequest:
    row = connection.execute(query).one_or_none()
    if row is None:
        raise KeyError(f"no trigger request {request_id}")
    return _record(row)


def _record(row: Row[Any]) -> TriggerRequest:
    values = {name: value for name, value in row._mapping.items() if name != "seq"}
    values["cause"], values["state"] = Cause(row.cause), RequestState(row.state)
    return TriggerRequest(**values)
