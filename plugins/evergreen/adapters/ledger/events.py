"""What people must be able to read later, and heartbeats, in SQL."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.tables import event as t
from evergreen.adapters.ledger.tables import heartbeat as h
from evergreen.core.records import Event, Heartbeat


class SqlEvents:
    """Implements core.ports.Events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, model: str, what: str, detail: str, *, by: str, key: str, now: datetime) -> bool:
        """Keep an event; false where the model has one of this key already."""
        row = {"model": model, "what": what, "detail": detail, "by": by, "key": key, "at": now}
        with self._database.write() as connection:
            return insert_if_absent(connection, t, row)

    def history(self, model: str | None = None) -> list[Event]:
        """All events, oldest first."""
        query = select(t).order_by(t.c.seq)
        with self._database.read() as connection:
            rows = connection.execute(query if model is None else query.where(t.c.model == model))
            return [Event(row.model, row.what, row.detail, row.by, row.key, row.at) for row in rows]


class SqlHeartbeats:
    """Implements core.ports.Heartbeats."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, name: str, detail: str, now: datetime) -> None:
        """It lives, and says this."""
        with self._database.write() as connection:
            if not insert_if_absent(connection, h, {"name": name, "at": now, "detail": detail}):
                connection.execute(update(h).where(h.c.name == name).values(at=now, detail=detail))

    def last(self, name: str) -> Heartbeat | None:
        """None where it was never heard of."""
        with self._database.read() as connection:
            row = connection.execute(select(h).where(h.c.name == name)).one_or_none()
        return None if row is None else Heartbeat(**row._mapping)
