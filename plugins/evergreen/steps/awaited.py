"""The trigger request that waits for a release: which one it is, and its end."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.records import RequestState, TriggerRequest
from evergreen.steps.again import judge_again

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Approval, Candidate, Release
    from evergreen.core.rollout import Abort

STEP = "roll_out"  # of the requests that are closed here
CLOSED = frozenset({RequestState.SERVED, RequestState.SKIPPED, RequestState.EXPIRED})


def end_request(ledger: Ledger, candidate: Candidate, request: TriggerRequest, move: Abort, now: datetime) -> str:
    """Close the request of a version that is not released; why, and which request judges it again if one does.

    One that has ended here keeps its reason, and nothing is opened a second time.
    """
    request = ledger.requests.get(request.id)
    if ended_here(request):
        return request.reason
    told = move.reason
    if move.again:
        opened = judge_again(ledger, candidate, request, move.reason, now)
        told = f"{move.reason}; version {candidate.version} is judged again by request {opened.id}"
    ledger.requests.mark(request.id, now=now, state=RequestState.SERVED, step=STEP, reason=told)
    return told


def ended_here(request: TriggerRequest) -> bool:
    """Whether the release that this request's run was to make, or to give up, is dealt with."""
    return request.state is RequestState.SERVED and request.step == STEP


def waiting_request(ledger: Ledger, release: Release) -> TriggerRequest | None:
    """The request whose run was to release it: that of its approval, else that of its verdict, else the version's.

    A verdict of later than the release is another request's.
    """
    approval, candidate = approval_of(ledger, release), ledger.models.candidate(release.model, release.version)
    its_own = candidate.verdict is not None and candidate.generation_seen == release.seen
    judged_for = candidate.verdict.request_id if candidate.verdict and its_own else ""
    try:
        return ledger.requests.get(approval.request_id if approval else judged_for or release.request_id)
    except KeyError:
        return None


def approval_of(ledger: Ledger, release: Release) -> Approval | None:
    """The approval that let it through, none where nobody was asked."""
    if not release.approval_id:
        return None
    return next((a for a in ledger.approvals.history(release.model) if a.id == release.approval_id), None)
