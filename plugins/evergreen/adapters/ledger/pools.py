"""Rolls of serving pools in SQL: steps are only added."""

from __future__ import annotations

from sqlalchemy import insert, select

from evergreen.adapters.ledger.engine import Database
from evergreen.adapters.ledger.tables import pool_event as t
from evergreen.core.records import PoolChange, PoolEvent


class SqlPools:
    """Implements core.ports.Pools."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, event: PoolEvent) -> None:
        """Keep a step of a roll."""
        with self._database.write() as connection:
            connection.execute(insert(t).values({**vars(event), "change": event.change.value}))

    def history(self, pool: str) -> list[PoolEvent]:
        """All steps, oldest first; the last one names the active colour."""
        query = select(t).where(t.c.pool == pool).order_by(t.c.seq)
        with self._database.read() as connection:
            rows = connection.execute(query)
            return [PoolEvent(r.pool, r.active, PoolChange(r.change), r.by, r.reason, r.at) for r in rows]
