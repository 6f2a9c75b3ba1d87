"""Holds in SQL: events are only added, and the newest one of a model says whether it is held."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.tables import hold_event as t
from evergreen.core.records import FLEET, Hold, HoldEvent


class SqlHolds:
    """Implements core.ports.Holds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def place(self, model: str, *, by: str, reason: str, now: datetime) -> Hold:
        """Hold the model. Held already: the first hold stays and comes back."""
        with self._database.write() as connection:
            return place_hold(connection, model, by=by, reason=reason, now=now)

    def lift(self, model: str, *, by: str, reason: str, now: datetime) -> bool:
        """End the model's hold; false if there was none."""
        with self._database.write() as connection:
            while (newest := _newest(connection, model)) is not None and newest.held:
                if _add(connection, newest, model=model, held=False, by=by, reason=reason, at=now):
                    return True
            return False

    def applying(self, model: str) -> Hold | None:
        """The model's own hold, else the fleet's."""
        with self._database.read() as connection:
            return _own(connection, model) or _own(connection, FLEET)

    def history(self, model: str | None = None) -> list[HoldEvent]:
        """All events, oldest first; those of the fleet under FLEET only."""
        query = select(t).order_by(t.c.seq)
        with self._database.read() as connection:
            rows = connection.execute(query if model is None else query.where(t.c.model == model))
            return [HoldEvent(row.model, row.held, row.by, row.reason, row.at) for row in rows]


def place_hold(connection: Connection, model: str, *, by: str, reason: str, now: datetime) -> Hold:
    """Hold the model, within a transaction. Held already: the first hold stays and comes back."""
    while (newest := _newest(connection, model)) is None or not newest.held:
        if _add(connection, newest, model=model, held=True, by=by, reason=reason, at=now):
            return Hold(model, by, reason, now)
    return _hold(newest)


def _add(connection: Connection, newest: Row[Any] | None, **event: Any) -> bool:
    """Add an event after the newest one; false where another came first, which counts now."""
    return insert_if_absent(connection, t, {"number": newest.number + 1 if newest is not None else 1, **event})


def _own(connection: Connection, model: str) -> Hold | None:
    newest = _newest(connection, model)
    return _hold(newest) if newest is not None and newest.held else None


def _newest(connection: Connection, model: str) -> Row[Any] | None:
    return connection.execute(select(t).where(t.c.model == model).order_by(t.c.number.desc()).limit(1)).one_or_none()


def _hold(event: Row[Any]) -> Hold:
    return Hold(event.model, event.by, event.reason, event.at)
