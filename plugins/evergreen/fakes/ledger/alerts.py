"""The state of rules, and alerts, in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime
from threading import RLock

from evergreen.core.records import Alert, RuleState
from evergreen.fakes.ledger.times import aware, utc


class InMemoryAlerts:
    """Twin of adapters.ledger.alerts."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._states: dict[tuple[str, str], RuleState] = {}
        self._alerts: dict[str, Alert] = {}  # in order of their making
        self._caused: dict[str, str] = {}  # alerts by the request

    def states(self, models: Collection[str] | None = None) -> dict[tuple[str, str], RuleState]:
        """By model and rule; None: of all models."""
        with self._lock:
            return {key: state for key, state in sorted(self._states.items()) if models is None or key[0] in models}

    def save(self, states: Iterable[RuleState]) -> None:
        """Keep each in place of the one before, in one transaction."""
        new = {(state.model, state.rule): _in_utc(state) for state in states}
        with self._lock:
            self._states |= new

    def open(self, alert: Alert, state: RuleState) -> Alert:
        """Open an alert and keep its rule's state, in one transaction; or return the one of its id, or the rule's."""
        new = replace(alert, opened_at=aware(alert.opened_at), closed_at=utc(alert.closed_at))
        with self._lock:
            of_rule = [one for one in self.open_ones(alert.model) if one.rule == alert.rule]
            kept = self._alerts.get(alert.id) or next(iter(of_rule), new)
            self._alerts.setdefault(kept.id, kept)
            if kept is new and new.request_id:
                self._caused.setdefault(new.request_id, new.id)
            open_now = next((one.id for one in [*of_rule, kept] if one.closed_at is None), "")
            self.save([replace(state, alert_id=open_now)])
            return kept

    def update(self, alert_id: str, *, worst: float | None = None, request_id: str | None = None) -> None:
        """Tell what became of an open one; a closed one stays as it is. KeyError if there is no such alert."""
        with self._lock:
            alert = self._get(alert_id)
            if alert.closed_at is not None:
                return
            if request_id:
                self._caused.setdefault(request_id, alert_id)
            worst = alert.worst if worst is None else worst
            self._alerts[alert_id] = replace(alert, worst=worst, request_id=request_id or alert.request_id)

    def close(self, alert_id: str, state: RuleState, *, why: str, value: float | None, now: datetime) -> Alert:
        """Close it and keep its rule's state, in one transaction. Closed already: it stays as it is."""
        at = aware(now)
        with self._lock:
            alert = self._get(alert_id)
            self.save([state])
            if alert.closed_at is None:
                alert = replace(alert, closed_at=at, closed_why=why, closed_value=value)
                self._alerts[alert_id] = alert
            return alert

    def open_ones(self, model: str | None = None) -> list[Alert]:
        """Those that are open, oldest first."""
        with self._lock:
            return sorted(
                (one for one in self._alerts.values() if one.closed_at is None and model in (None, one.model)),
                key=lambda one: one.opened_at,
            )

    def history(self, model: str | None = None, *, since: datetime | None = None, limit: int = 1000) -> list[Alert]:
        """The newest that were open after `since`, newest first."""
        after = utc(since)
        with self._lock:
            found = [
                one
                for one in self._alerts.values()
                if model in (None, one.model) and (after is None or one.closed_at is None or one.closed_at > after)
            ]
        return sorted(found, key=lambda one: one.opened_at)[::-1][:limit]

    def caused(self, request_id: str) -> Alert | None:
        """The alert that asked for this retrain, whether or not it asked again since."""
        with self._lock:
            alert_id = self._caused.get(request_id)
            return None if alert_id is None else self._alerts[alert_id]

    def _get(self, alert_id: str) -> Alert:
        if alert_id not in self._alerts:
            raise KeyError(f"no alert {alert_id}")
        return self._alerts[alert_id]


def _in_utc(state: RuleState) -> RuleState:
    return replace(
        state,
        asked_at=utc(state.asked_at),
        changes=tuple(aware(time) for time in state.changes),
        seen_at=utc(state.seen_at),
    )
