"""What happened to container slots, in memory."""

from __future__ import annotations

from datetime import datetime
from threading import RLock

from evergreen.core.records import SlotEvent
from evergreen.fakes.ledger.times import aware


class InMemorySlotEvents:
    """Twin of adapters.ledger.slot_events."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._events: dict[tuple[str, str], SlotEvent] = {}

    def add(self, slot: str, what: str, detail: str, key: str, now: datetime) -> bool:
        """Keep an event; false where the slot has one of this key already."""
        with self._lock:
            if (slot, key) in self._events:
                return False
            self._events[slot, key] = SlotEvent(slot, what, detail, key, aware(now))
            return True

    def latest(self, limit: int) -> list[SlotEvent]:
        """The newest events of all slots, newest first."""
        with self._lock:
            return list(reversed(self._events.values()))[:limit]
