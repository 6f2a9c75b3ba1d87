"""Days that were read of sources, in memory."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from threading import RLock

from evergreen.core.records import Lease, PulledDay
from evergreen.fakes.ledger.leases import InMemoryLeases


class InMemoryPulledDays:
    """Twin of adapters.ledger.pulled_days."""

    def __init__(self, leases: InMemoryLeases) -> None:
        self._lock, self._leases = RLock(), leases
        self._days: dict[tuple[str, str, date], PulledDay] = {}

    def of(self, model: str, reading: str | None = None) -> list[PulledDay]:
        """Those of a reading, or of all, by reading and day."""
        with self._lock:
            days = sorted(self._days.items(), key=lambda kept: kept[0])
        return [day for _, day in days if day.model == model and reading in (None, day.reading)]

    def keep(self, days: Iterable[PulledDay], *, lease: Lease | None = None) -> None:
        """Keep each in place of the one before, in one transaction. LeaseLost where the lease is another's by now."""
        with self._lock:
            if lease is not None:
                self._leases.check(lease)
            self._days |= {(day.model, day.reading, day.day): day for day in days}

    def remove(self, days: Iterable[PulledDay]) -> None:
        """Forget those that are kept exactly like this; nothing happens to others."""
        with self._lock:
            for day in days:
                at = (day.model, day.reading, day.day)
                kept = self._days.get(at)
                if kept and (kept.key, kept.request_id) == (day.key, day.request_id):
                    del self._days[at]
