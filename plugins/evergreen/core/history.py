"""What happened to a model: releases, rollbacks, holds, approvals, and the candidates that judge refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.gate_texts import NOT_JUDGED
from evergreen.core.records import (
    FLEET,
    Approval,
    ApprovalState,
    CandidateState,
    HoldEvent,
    Release,
    ReleaseKind,
    RequestState,
    TriggerRequest,
)
from evergreen.core.triggers import readable_time

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger

REFUSED, UNJUDGED = "refused", "not judged"
ASKED = "approval asked"
RELEASED = "released"
ROLLED_BACK = "rolled back to"
HELD, LIFTED = "held", "hold lifted"
_ANSWERS = {
    ApprovalState.APPROVED: "approved",
    ApprovalState.REJECTED: "rejected",
    ApprovalState.EXPIRED: "approval expired",
    ApprovalState.VOID: "answer void",
}
_JUDGE = "judge"  # the step at which the request of a refused candidate ends
_REQUESTS = 1_000  # how far back refused candidates are looked for: the newest requests


@dataclass(frozen=True)
class HistoryEntry:
    """One event. `who` is empty after a timeout, `version` none where the event is about none."""

    time: datetime
    what: str
    version: int | None
    who: str
    why: str


def history_of(ledger: Ledger, model: str) -> list[HistoryEntry]:
    """The model's history with the fleet's holds, oldest first."""
    entries = [*_refused(ledger, model)]
    for approval in ledger.approvals.history(model):
        entries.extend(_approval(approval))
    entries.extend(_release(release) for release in ledger.releases.history(model))
    entries.extend(_hold(event) for name in (model, FLEET) for event in ledger.holds.history(name))
    return sorted(entries, key=lambda entry: entry.time)  # of one moment: as listed here


def _refused(ledger: Ledger, model: str) -> Iterator[HistoryEntry]:
    """From the requests that ended at judge, and from the verdicts of candidates whose request is not known."""
    candidates = ledger.models.candidates(model)
    made = {candidate.request_id: candidate.version for candidate in candidates}
    ended = [request for request in ledger.requests.latest(model, limit=_REQUESTS) if _ended_at_judge(request)]
    for request in ended:
        what = UNJUDGED if request.reason.startswith(NOT_JUDGED) else REFUSED
        yield HistoryEntry(_end(request), what, made.get(request.id), _who(request), request.reason)
    known = {request.id for request in ended}
    for candidate in candidates:
        if candidate.state is CandidateState.REJECTED and candidate.verdict and candidate.request_id not in known:
            yield HistoryEntry(candidate.created_at, REFUSED, candidate.version, "", candidate.verdict.reason)


def _ended_at_judge(request: TriggerRequest) -> bool:
    return request.state is RequestState.SERVED and request.step == _JUDGE


def _end(request: TriggerRequest) -> datetime:
    return request.closed_at or request.requested_at


def _who(request: TriggerRequest) -> str:
    return str(request.detail.get("requested_by") or request.cause)


def _approval(asked: Approval) -> Iterator[HistoryEntry]:
    yield HistoryEntry(asked.asked_at, ASKED, asked.version, "", f"until {readable_time(asked.expires_at)}")
    if asked.answered_at:
        what = _ANSWERS[asked.state]
        yield HistoryEntry(asked.answered_at, what, asked.version, asked.answered_by or "", asked.reason)


def _release(release: Release) -> HistoryEntry:
    what = ROLLED_BACK if release.kind is ReleaseKind.ROLLBACK else RELEASED
    return HistoryEntry(release.released_at, what, release.version, release.released_by, release.reason)


def _hold(event: HoldEvent) -> HistoryEntry:
    what = (HELD if event.held else LIFTED) + (" (all models)" if event.model == FLEET else "")
    return HistoryEntry(event.at, what, None, event.by, event.reason)
