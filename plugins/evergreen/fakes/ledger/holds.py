"""Holds in memory."""

from __future__ import annotations

from datetime import datetime
from threading import RLock

from evergreen.core.records import FLEET, Hold, HoldEvent
from evergreen.fakes.ledger.times import aware


class InMemoryHolds:
    """Twin of adapters.ledger.holds: the newest event of a model says whether it is held."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._events: list[HoldEvent] = []

    def place(self, model: str, *, by: str, reason: str, now: datetime) -> Hold:
        """Hold the model. Held already: the first hold stays and comes back."""
        with self._lock:
            if held := self._own(model):
                return held
            self._events.append(HoldEvent(model, True, by, reason, aware(now)))
            return Hold(model, by, reason, aware(now))

    def lift(self, model: str, *, by: str, reason: str, now: datetime) -> bool:
        """End the model's hold; false if there was none."""
        with self._lock:
            if not self._own(model):
                return False
            self._events.append(HoldEvent(model, False, by, reason, aware(now)))
            return True

    def applying(self, model: str) -> Hold | None:
        """The model's own hold, else the fleet's."""
        with self._lock:
            return self._own(model) or self._own(FLEET)

    def history(self, model: str | None = None) -> list[HoldEvent]:
        """All events, oldest first; those of the fleet under FLEET only."""
        with self._lock:
            return [event for event in self._events if model in (None, event.model)]

    def _own(self, model: str) -> Hold | None:
        newest = next((event for event in reversed(self._events) if event.model == model), None)
        return Hold(model, newest.by, newest.reason, newest.at) if newest and newest.held else None
