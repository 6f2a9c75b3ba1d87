"""Leases in SQL. A released lease keeps its row, so that the fencing number only grows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.tables import lease as t
from evergreen.core.errors import LeaseBusy, LeaseLost
from evergreen.core.records import Lease


class SqlLeases:
    """Implements core.ports.Leases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, model: str, holder: str, ttl: timedelta, now: datetime) -> Lease:
        """Take or renew the lease. Raises LeaseBusy (naming the holder) while another's has not expired."""
        with self._database.write() as connection:
            insert_if_absent(connection, t, {"model": model, "holder": None, "fence": 0, "expires_at": now})
            row = connection.execute(select(t).where(t.c.model == model).with_for_update()).one()
            if row.holder not in (None, holder) and row.expires_at > now:
                raise LeaseBusy(f"{model}: request {row.holder} holds the lease until {row.expires_at:%H:%M:%S} UTC")
            fence = row.fence if row.holder == holder else row.fence + 1
            values = {"holder": holder, "fence": fence, "expires_at": now + ttl}
            connection.execute(update(t).where(t.c.model == model).values(values))
        return Lease(model=model, **values)

    def release(self, model: str, holder: str) -> None:
        """Give it up; nothing happens if it is not held by this holder."""
        with self._database.write() as connection:
            connection.execute(update(t).where(t.c.model == model, t.c.holder == holder).values(holder=None))

    def release_all(self, holder: str) -> None:
        """Give up all that this holder has."""
        with self._database.write() as connection:
            connection.execute(update(t).where(t.c.holder == holder).values(holder=None))

    def get(self, model: str) -> Lease | None:
        """The lease, expired or not; none where it was given up."""
        with self._database.read() as connection:
            row = connection.execute(select(t).where(t.c.model == model)).one_or_none()
        return None if row is None or row.holder is None else _record(row)

    def check(self, lease: Lease) -> None:
        """Raise LeaseLost where another has taken it since, or it was given up. That it has run out does not matter."""
        with self._database.read() as connection:
            check_lease(connection, lease)


def check_lease(connection: Connection, lease: Lease | None) -> None:
    """Within a write, the same: nobody can take it until the transaction ends. None is no lease that could be lost."""
    if lease is None:
        return
    row = connection.execute(select(t).where(t.c.model == lease.model).with_for_update()).one_or_none()
    if row is None or (row.holder, row.fence) != (lease.holder, lease.fence):
        now = f"{row.holder or 'nobody'} with number {row.fence}" if row else "nobody"
        raise LeaseLost(
            f"{lease.model}: request {lease.holder} lost its lease (number {lease.fence}); it is held by {now}. "
            "Nothing was written; it is tried again once the lease is free."
        )


def _record(row: Row[Any]) -> Lease:
    return Lease(**row._mapping)
