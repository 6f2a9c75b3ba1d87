"""The state of rules, and alerts, in SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, or_, select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent, insert_or_replace
from evergreen.adapters.ledger.tables import alert as t
from evergreen.adapters.ledger.tables import alert_request as r
from evergreen.adapters.ledger.tables import rule_state as s
from evergreen.core.monitoring.points import in_utc
from evergreen.core.records import Alert, RuleState, Severity


class SqlAlerts:
    """Implements core.ports.Alerts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def states(self, models: Collection[str] | None = None) -> dict[tuple[str, str], RuleState]:
        """By model and rule; None: of all models."""
        query = select(s) if models is None else select(s).where(s.c.model.in_(models))
        with self._database.read() as connection:
            return {(row.model, row.rule): _state(row) for row in connection.execute(query)}

    def save(self, states: Iterable[RuleState]) -> None:
        """Keep each in place of the one before, in one transaction."""
        kept = list(states)
        if kept:
            with self._database.write() as connection:
                _save(connection, kept)

    def open(self, alert: Alert, state: RuleState) -> Alert:
        """Open an alert and keep its rule's state, in one transaction; or return the one of its id, or the rule's."""
        of_rule = and_(t.c.model == alert.model, t.c.rule == alert.rule, t.c.closed_at.is_(None))
        with self._database.write() as connection:
            _save(connection, [state])  # nobody else opens or closes an alert of this rule now
            new = insert_if_absent(connection, t, {**vars(alert), "severity": Severity(alert.severity).value})
            if new and alert.request_id:
                _asked(connection, alert.id, alert.request_id)
            kept = [_record(row) for row in connection.execute(select(t).where(or_(t.c.id == alert.id, of_rule)))]
            open_now = next((one.id for one in kept if one.closed_at is None), "")
            _save(connection, [replace(state, alert_id=open_now)])
            return next((one for one in kept if one.id == alert.id), kept[0])

    def update(self, alert_id: str, *, worst: float | None = None, request_id: str | None = None) -> None:
        """Tell what became of an open one; a closed one stays as it is. KeyError if there is no such alert."""
        told = {"worst": worst, "request_id": request_id or None}
        values = {name: value for name, value in told.items() if value is not None}
        with self._database.write() as connection:
            if _get(connection, alert_id, lock=True).closed_at is None and values:
                connection.execute(update(t).where(t.c.id == alert_id).values(values))
                if request_id:
                    _asked(connection, alert_id, request_id)

    def close(self, alert_id: str, state: RuleState, *, why: str, value: float | None, now: datetime) -> Alert:
        """Close it and keep its rule's state, in one transaction. Closed already: it stays as it is."""
        values = {"closed_at": now, "closed_why": why, "closed_value": value}
        with self._database.write() as connection:
            _save(connection, [state])
            connection.execute(update(t).where(t.c.id == alert_id, t.c.closed_at.is_(None)).values(values))
            return _get(connection, alert_id)

    def open_ones(self, model: str | None = None) -> list[Alert]:
        """Those that are open, oldest first."""
        query = select(t).where(t.c.closed_at.is_(None)).order_by(t.c.opened_at, t.c.seq)
        return self._all(query if model is None else query.where(t.c.model == model))

    def history(self, model: str | None = None, *, since: datetime | None = None, limit: int = 1000) -> list[Alert]:
        """The newest that were open after `since`, newest first."""
        query = select(t).order_by(t.c.opened_at.desc(), t.c.seq.desc()).limit(limit)
        if model is not None:
            query = query.where(t.c.model == model)
        if since is not None:
            query = query.where(or_(t.c.closed_at.is_(None), t.c.closed_at > since))
        return self._all(query)

    def caused(self, request_id: str) -> Alert | None:
        """The alert that asked for this retrain, whether or not it asked again since."""
        with self._database.read() as connection:
            return _one(connection, select(t).join(r, r.c.alert_id == t.c.id).where(r.c.request_id == request_id))

    def _all(self, query: Select[Any]) -> list[Alert]:
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]


def _save(connection: Connection, states: Iterable[RuleState]) -> None:
    """The last of each model and rule, always in the same order: else two passes could wait for each other."""
    last = {(state.model, state.rule): state for state in states}
    insert_or_replace(connection, s, [{**vars(last[key]), "changes": _texts(last[key])} for key in sorted(last)])


def _texts(state: RuleState) -> list[str]:
    return [in_utc(time).isoformat() for time in state.changes]


def _asked(connection: Connection, alert_id: str, request_id: str) -> None:
    insert_if_absent(connection, r, {"request_id": request_id, "alert_id": alert_id})


def _get(connection: Connection, alert_id: str, *, lock: bool = False) -> Alert:
    query = select(t).where(t.c.id == alert_id)
    found = _one(connection, query.with_for_update() if lock else query)
    if found is None:
        raise KeyError(f"no alert {alert_id}")
    return found


def _one(connection: Connection, query: Select[Any]) -> Alert | None:
    row = connection.execute(query).one_or_none()
    return None if row is None else _record(row)


def _state(row: Row[Any]) -> RuleState:
    return RuleState(**{**row._mapping, "changes": tuple(map(datetime.fromisoformat, row.changes))})


def _record(row: Row[Any]) -> Alert:
    values = {name: value for name, value in row._mapping.items() if name != "seq"}
    return Alert(**{**values, "severity": Severity(row.severity)})
