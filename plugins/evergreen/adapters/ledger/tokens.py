"""Callers' tokens in SQL: digests only, never a token; rows are revoked, not removed."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.tables import caller_token as t
from evergreen.core.records import CallerToken


class SqlTokens:
    """Implements core.ports.Tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, caller: str, digest: str, *, by: str, now: datetime, reason: str = "") -> CallerToken:
        """Keep a token's digest, or return the token that has it, revoked or not."""
        new = {"id": uuid.uuid4().hex[:12], "caller": caller, "sha256": digest, "reason": reason}
        with self._database.write() as connection:
            insert_if_absent(connection, t, {**new, "created_by": by, "created_at": now})
            return _record(connection.execute(select(t).where(t.c.sha256 == digest)).one())

    def revoke(self, token_id: str, *, by: str, now: datetime) -> CallerToken:
        """End a token's life. Revoked already: the first one stays. KeyError if there is no such token."""
        with self._database.write() as connection:
            living = update(t).where(t.c.id == token_id, t.c.revoked_at.is_(None))
            connection.execute(living.values(revoked_at=now, revoked_by=by))
            return _get(connection, token_id)

    def active(self) -> list[CallerToken]:
        """The tokens that are not revoked, oldest first."""
        return self._list(t.c.revoked_at.is_(None))

    def all(self) -> list[CallerToken]:
        """All tokens, oldest first."""
        return self._list()

    def _list(self, *where: ColumnElement[bool]) -> list[CallerToken]:
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(select(t).where(*where).order_by(t.c.seq))]


def _get(connection: Connection, token_id: str) -> CallerToken:
    row = connection.execute(select(t).where(t.c.id == token_id)).one_or_none()
    if row is None:
        raise KeyError(f"no token {token_id}")
    return _record(row)


def _record(row: Row[Any]) -> CallerToken:
    return CallerToken(**{name: value for name, value in row._mapping.items() if name != "seq"})
