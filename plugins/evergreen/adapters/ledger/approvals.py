"""Approvals in SQL: the first answer stands."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.models import change_state, locked_state
from evergreen.adapters.ledger.tables import approval as t
from evergreen.core.records import Approval, ApprovalState, Candidate, CandidateState
from evergreen.core.verdict_json import digest

_OPEN = ApprovalState.OPEN.value


class SqlApprovals:
    """Implements core.ports.Approvals."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(
        self,
        candidate: Candidate,
        *,
        request_id: str,
        run_id: str,
        expires_at: datetime,
        now: datetime,
        overrides: str = "",
    ) -> Approval:
        """Open a question, or return the open one of this request and version.

        KeyError for a candidate that was never kept.
        """
        question = {"model": candidate.model, "version": candidate.version, "request_id": request_id, "state": _OPEN}
        new = {
            **question,
            "id": uuid.uuid4().hex,
            "run_id": run_id,
            "bundle": candidate.bundle,
            "generation_seen": candidate.generation_seen,
            "evidence": digest(candidate.verdict),
            "asked_at": now,
            "expires_at": expires_at,
            "reason": "",
            "overrides": overrides,
        }
        with self._database.write() as connection:
            locked_state(connection, candidate.model, candidate.version)  # one asks or answers at a time
            insert_if_absent(connection, t, new)
            return _record(connection.execute(select(t).filter_by(**question)).one())

    def answer(self, approval_id: str, *, state: ApprovalState, by: str | None, reason: str, now: datetime) -> Approval:
        """Keep the first answer; whoever comes later gets that one back. KeyError if there is no such question.

        REJECTED marks a candidate that is still PASSED as DECLINED; whatever is no approval marks one that is still
        TO_OVERRIDE as REJECTED. Raises ValueError for the state OPEN.
        """
        if state is ApprovalState.OPEN:
            raise ValueError("an answer is approved, rejected or expired, not open")
        values = {"state": state.value, "answered_by": by, "reason": reason, "answered_at": now}
        with self._database.write() as connection:
            asked = _get(connection, approval_id)
            locked_state(connection, asked.model, asked.version)  # before the question's row, as `ask` does
            unanswered = update(t).where(t.c.id == approval_id, t.c.state == _OPEN)
            first = connection.execute(unanswered.values(values)).rowcount == 1
            if first:
                _refuse_candidate(connection, asked, state)
            return _get(connection, approval_id)

    def open_ones(self) -> list[Approval]:
        """The open questions of all models, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(t).where(t.c.state == _OPEN).order_by(t.c.seq))
            return [_record(row) for row in rows]

    def latest(self, model: str, version: int) -> Approval | None:
        """The newest question about this version."""
        query = select(t).where(t.c.model == model, t.c.version == version).order_by(t.c.seq.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _record(row)

    def history(self, model: str | None = None) -> list[Approval]:
        """All questions, oldest first."""
        query = select(t).order_by(t.c.seq)
        with self._database.read() as connection:
            rows = connection.execute(query if model is None else query.where(t.c.model == model))
            return [_record(row) for row in rows]


def _refuse_candidate(connection: Connection, asked: Approval, answer: ApprovalState) -> None:
    if answer is ApprovalState.APPROVED:
        return
    this = (connection, asked.model, asked.version)
    change_state(*this, CandidateState.REJECTED, only_from=(CandidateState.TO_OVERRIDE,))
    if answer is ApprovalState.REJECTED:
        change_state(*this, CandidateState.DECLINED, only_from=(CandidateState.PASSED,))


def _get(connection: Connection, approval_id: str) -> Approval:
    row = connection.execute(select(t).where(t.c.id == approval_id)).one_or_none()
    if row is None:
        raise KeyError(f"no approval {approval_id}")
    return _record(row)


def _record(row: Row[Any]) -> Approval:
    values = {name: value for name, value in row._mapping.items() if name != "seq"}
    return Approval(**{**values, "state": ApprovalState(row.state)})
