"""Days that were read of sources, in SQL."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import bindparam, delete, select

from evergreen.adapters.ledger.engine import Database, insert_or_replace
from evergreen.adapters.ledger.leases import check_lease
from evergreen.adapters.ledger.tables import pulled_day as t
from evergreen.core.records import Lease, PulledDay

_SAME = ("model", "reading", "day", "key", "request_id")  # what tells one keeping of a day from a later one


class SqlPulledDays:
    """Implements core.ports.PulledDays."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, model: str, reading: str | None = None) -> list[PulledDay]:
        """Those of a reading, or of all, by reading and day."""
        query = select(t).where(t.c.model == model).order_by(t.c.reading, t.c.day)
        if reading is not None:
            query = query.where(t.c.reading == reading)
        with self._database.read() as connection:
            return [PulledDay(**row._mapping) for row in connection.execute(query)]

    def keep(self, days: Iterable[PulledDay], *, lease: Lease | None = None) -> None:
        """Keep each in place of the one before, in one transaction. LeaseLost where the lease is another's by now."""
        rows = [dict(vars(day)) for day in days]
        with self._database.write() as connection:
            check_lease(connection, lease)
            if rows:
                insert_or_replace(connection, t, rows)

    def remove(self, days: Iterable[PulledDay]) -> None:
        """Forget those that are kept exactly like this; nothing happens to others."""
        rows = [{f"this_{name}": getattr(day, name) for name in _SAME} for day in days]
        if rows:
            these = (t.c[name] == bindparam(f"this_{name}") for name in _SAME)
            with self._database.write() as connection:
                connection.execute(delete(t).where(*these), rows)
