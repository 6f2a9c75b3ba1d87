"""The part of the ledger that remembers what was read of a source."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from evergreen.core.records import Lease, PulledDay


class PulledDays(Protocol):
    """Days of sources that were read before, one a model, reading and day."""

    def of(self, model: str, reading: str | None = None) -> list[PulledDay]:
        """Those of a reading, or of all, by reading and day."""

    def keep(self, days: Iterable[PulledDay], *, lease: Lease | None = None) -> None:
        """Keep each in place of the one before, in one transaction. LeaseLost where the lease is another's by now."""

    def remove(self, days: Iterable[PulledDay]) -> None:
        """Forget those that are kept exactly like this; nothing happens to others."""
