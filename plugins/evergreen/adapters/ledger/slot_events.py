"""What happened to container slots, in SQL: events are only added, each once."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.tables import slot_event as t
from evergreen.core.records import SlotEvent


class SqlSlotEvents:
    """Implements core.ports.SlotEvents."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, slot: str, what: str, detail: str, key: str, now: datetime) -> bool:
        """Keep an event; false where the slot has one of this key already."""
        event = {"slot": slot, "key": key, "what": what, "detail": detail, "at": now}
        with self._database.write() as connection:
            return insert_if_absent(connection, t, event)

    def latest(self, limit: int) -> list[SlotEvent]:
        """The newest events of all slots, newest first."""
        query = select(t).order_by(t.c.seq.desc()).limit(limit)
        with self._database.read() as connection:
            return [SlotEvent(row.slot, row.what, row.detail, row.key, row.at) for row in connection.execute(query)]
