"""The fence of the model's lease, for acts outside the ledger: what it writes itself, it checks itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Lease


def check(ledger: Ledger, lease: Lease | None) -> None:
    """Just before what cannot be undone: raise LeaseLost where another has the lease. None is a request that ended."""
    if lease is not None:
        ledger.leases.check(lease)
