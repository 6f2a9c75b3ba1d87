"""What tuning found, in memory."""

from __future__ import annotations

from dataclasses import replace
from threading import RLock

from evergreen.core.records import Lease, TuningResult
from evergreen.fakes.ledger.leases import InMemoryLeases
from evergreen.fakes.ledger.times import aware


class InMemoryTunings:
    """Twin of adapters.ledger.tunings."""

    def __init__(self, leases: InMemoryLeases) -> None:
        self._lock, self._leases = RLock(), leases
        self._rows: dict[str, TuningResult] = {}

    def keep(self, result: TuningResult, *, lease: Lease | None = None) -> None:
        """Keep it, in place of what the same study came to before. LeaseLost where the lease is another's by now."""
        with self._lock:
            if lease is not None:
                self._leases.check(lease)
            self._rows.pop(result.study, None)
            self._rows[result.study] = replace(result, at=aware(result.at))

    def last(self, model: str, declared: str | None = None) -> TuningResult | None:
        """The newest of a model, or of what was declared like this (core.tuning.declared)."""
        with self._lock:
            rows = [row for row in self._rows.values() if row.model == model and declared in (None, row.declared)]
        return max(reversed(rows), key=lambda row: row.at, default=None)
