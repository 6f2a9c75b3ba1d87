"""Ends the trigger request of a run that no step has ended: its task was killed, or a person marked it failed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from evergreen.core.records import ApprovalState, RequestState

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger

_UNFINISHED = (RequestState.OPEN, RequestState.CLAIMED)


def close_failed_run(ledger: Ledger, model: str, run_id: str) -> None:
    """Mark its request failed, give the lease back, close its question; nothing happens where a step has done so."""
    void_open_question(ledger, model, run_id, "the run was ended in Airflow")
    request = ledger.requests.for_run(model, run_id)
    if request is None or request.run_id != run_id or request.state not in _UNFINISHED:
        return  # or it was put off: another run serves it
    reason = f"the run was ended in Airflow while '{request.step or 'admit'}' was at work; clear it to go on"
    ledger.requests.mark(request.id, now=datetime.now(UTC), state=RequestState.FAILED, reason=reason)
    ledger.leases.release_all(request.id)


def void_open_question(ledger: Ledger, model: str, run_id: str, why: str) -> None:
    """Close what the run asked and nobody answered; nothing happens where no question is open."""
    for asked in ledger.approvals.history(model):
        if asked.run_id == run_id and asked.state is ApprovalState.OPEN:
            ledger.approvals.answer(asked.id, state=ApprovalState.VOID, by=None, reason=why, now=datetime.now(UTC))
