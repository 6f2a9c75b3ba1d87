"""The part of the ledger that remembers what tuning found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from evergreen.core.records import Lease, TuningResult


class Tunings(Protocol):
    """What each study came to."""

    def keep(self, result: TuningResult, *, lease: Lease | None = None) -> None:
        """Keep it, in place of what the same study came to before. LeaseLost where the lease is another's by now."""

    def last(self, model: str, declared: str | None = None) -> TuningResult | None:
        """The newest of a model, or of what was declared like this (core.tuning.declared)."""
