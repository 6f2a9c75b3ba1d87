"""What people must be able to read later, heartbeats and messages, in memory."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from threading import RLock

from evergreen.core.records import Event, Heartbeat, Notice, NoticeKind
from evergreen.fakes.ledger.times import aware


class InMemoryEvents:
    """Twin of adapters.ledger.events.SqlEvents."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._rows: dict[tuple[str, str], Event] = {}

    def add(self, model: str, what: str, detail: str, *, by: str, key: str, now: datetime) -> bool:
        """Keep an event; false where the model has one of this key already."""
        with self._lock:
            new = Event(model, what, detail, by, key, aware(now))
            return self._rows.setdefault((model, key), new) is new

    def history(self, model: str | None = None) -> list[Event]:
        """All events, oldest first."""
        with self._lock:
            return [event for event in self._rows.values() if model in (None, event.model)]


class InMemoryHeartbeats:
    """Twin of adapters.ledger.events.SqlHeartbeats."""

    def __init__(self) -> None:
        self._rows: dict[str, Heartbeat] = {}

    def beat(self, name: str, detail: str, now: datetime) -> None:
        """It lives, and says this."""
        self._rows[name] = Heartbeat(name, aware(now), detail)

    def last(self, name: str) -> Heartbeat | None:
        """None where it was never heard of."""
        return self._rows.get(name)


class InMemoryNotices:
    """Twin of adapters.ledger.notices."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._rows: dict[tuple[str, str], Notice] = {}

    def add(self, model: str, kind: NoticeKind, *, key: str, title: str, text: str, link: str, now: datetime) -> bool:
        """Keep a message to be sent; false where the model has one of this key already."""
        with self._lock:
            new = Notice(uuid.uuid4().hex, model, NoticeKind(kind), key, title, text, link, aware(now))
            return self._rows.setdefault((model, key), new) is new

    def unsent(self, *, tries: int) -> list[Notice]:
        """Those that were not sent and have failed fewer times than this, oldest first."""
        with self._lock:
            return [one for one in self._rows.values() if one.sent_at is None and one.tries < tries]

    def sent(self, notice_id: str, now: datetime) -> None:
        """It went out."""
        self._change(notice_id, lambda one: replace(one, sent_at=aware(now)))

    def failed(self, notice_id: str, error: str) -> None:
        """Count a try that failed, and why."""
        self._change(notice_id, lambda one: replace(one, tries=one.tries + 1, error=error))

    def latest(self, limit: int) -> list[Notice]:
        """The newest, sent or not, newest first."""
        with self._lock:
            return list(reversed(self._rows.values()))[:limit]

    def _change(self, notice_id: str, change: Callable[[Notice], Notice]) -> None:
        with self._lock:
            self._rows |= {key: change(one) for key, one in self._rows.items() if one.id == notice_id}
