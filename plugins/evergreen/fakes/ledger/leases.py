"""Leases in memory."""

from __future__ import annotations

from datetime import datetime, timedelta
from threading import RLock

from evergreen.core.errors import LeaseBusy, LeaseLost
from evergreen.core.records import Lease


class InMemoryLeases:
    """Twin of adapters.ledger.leases."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._rows: dict[str, Lease] = {}
        self._given_up: set[str] = set()

    def acquire(self, model: str, holder: str, ttl: timedelta, now: datetime) -> Lease:
        """Take or renew the lease. Raises LeaseBusy (naming the holder) while another's has not expired."""
        with self._lock:
            held, last = self.get(model), self._rows.get(model)
            if held and held.holder != holder and held.expires_at > now:
                raise LeaseBusy(f"{model}: request {held.holder} holds the lease until {held.expires_at:%H:%M:%S} UTC")
            renewed = held is not None and held.holder == holder
            fence = (last.fence if last else 0) + (0 if renewed else 1)
            self._given_up.discard(model)
            self._rows[model] = Lease(model=model, holder=holder, fence=fence, expires_at=now + ttl)
            return self._rows[model]

    def release(self, model: str, holder: str) -> None:
        """Give it up; nothing happens if it is not held by this holder."""
        with self._lock:
            if model in self._rows and self._rows[model].holder == holder:
                self._given_up.add(model)

    def release_all(self, holder: str) -> None:
        """Give up all that this holder has."""
        with self._lock:
            self._given_up |= {model for model, lease in self._rows.items() if lease.holder == holder}

    def get(self, model: str) -> Lease | None:
        """The lease, expired or not; none where it was given up."""
        return None if model in self._given_up else self._rows.get(model)

    def check(self, lease: Lease | None) -> None:
        """Raise LeaseLost where another has taken it since, or it was given up. That it has run out does not matter."""
        if lease is None:
            return
        with self._lock:
            held = self.get(lease.model)
            if held is None or (held.holder, held.fence) != (lease.holder, lease.fence):
                raise LeaseLost(f"{lease.model}: request {lease.holder} lost its lease. Nothing was written.")
