"""Ends the trigger request of a run that no step has ended: its task was killed, or a person marked it failed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from evergreen.core.records import RequestState

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger

_UNFINISHED = (RequestState.OPEN, RequestState.CLAIMED)


def close_failed_run(ledger: Ledger, model: str, run_id: str) -> None:
    """Mark its request failed and give the lease back; nothing happens where a step has done so."""
    request = ledger.requests.for_run(model, run_id)
    if request is None or request.state not in _UNFINISHED:
        return
    reason = f"the run was ended in Airflow while '{request.step or 'admit'}' was at work; clear it to go on"
    ledger.requests.mark(request.id, now=datetime.now(UTC), state=RequestState.FAILED, reason=reason)
    ledger.leases.release(model, request.id)
