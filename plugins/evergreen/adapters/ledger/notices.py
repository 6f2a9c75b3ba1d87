"""Messages to people in SQL."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.tables import notice as t
from evergreen.core.records import Notice, NoticeKind


class SqlNotices:
    """Implements core.ports.Notices."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, model: str, kind: NoticeKind, *, key: str, title: str, text: str, link: str, now: datetime) -> bool:
        """Keep a message to be sent; false where the model has one of this key already.

        Most are asked for again and again, by each pass over the ledger: those are only read.
        """
        with self._database.read() as connection:
            if connection.execute(select(t.c.seq).where(t.c.model == model, t.c.key == key)).first():
                return False
        row = {"id": uuid.uuid4().hex, "model": model, "kind": NoticeKind(kind).value, "key": key}
        row |= {"title": title, "text": text, "link": link}
        with self._database.write() as connection:
            return insert_if_absent(connection, t, {**row, "created_at": now, "tries": 0, "error": ""})

    def unsent(self, *, tries: int) -> list[Notice]:
        """Those that were not sent and have failed fewer times than this, oldest first."""
        query = select(t).where(t.c.sent_at.is_(None), t.c.tries < tries).order_by(t.c.seq)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def sent(self, notice_id: str, now: datetime) -> None:
        """It went out."""
        with self._database.write() as connection:
            connection.execute(update(t).where(t.c.id == notice_id).values(sent_at=now))

    def failed(self, notice_id: str, error: str) -> None:
        """Count a try that failed, and why."""
        with self._database.write() as connection:
            connection.execute(update(t).where(t.c.id == notice_id).values(tries=t.c.tries + 1, error=error))

    def latest(self, limit: int) -> list[Notice]:
        """The newest, sent or not, newest first."""
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(select(t).order_by(t.c.seq.desc()).limit(limit))]


def _record(row: Row[Any]) -> Notice:
    values = {name: value for name, value in row._mapping.items() if name != "seq"}
    return Notice(**{**values, "kind": NoticeKind(row.kind)})
