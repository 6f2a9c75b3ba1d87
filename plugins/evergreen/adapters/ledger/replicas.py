"""Heartbeats of serving replicas in SQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.tables import replica as t
from evergreen.core.records import Replica


class SqlReplicas:
    """Implements core.ports.Replicas."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, replica: Replica, now: datetime) -> None:
        """Record that the replica lives and which versions it answers with."""
        key = {"pool": replica.pool, "replica": replica.replica}
        values = {"url": replica.url, "versions": replica.versions, "reasons": list(replica.reasons), "heartbeat": now}
        with self._database.write() as connection:
            if not insert_if_absent(connection, t, {**key, **values}):
                this = (t.c.pool == replica.pool, t.c.replica == replica.replica)
                connection.execute(update(t).where(*this).values(values))

    def alive(self, pool: str, since: datetime) -> list[Replica]:
        """Replicas that were heard of since then, by name."""
        query = select(t).where(t.c.pool == pool, t.c.heartbeat >= since).order_by(t.c.replica)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]


def _record(row: Row[Any]) -> Replica:
    return Replica(**{**row._mapping, "reasons": tuple(row.reasons)})
