"""Takes prepared releases to live or aborted: one for the run that prepared it, all of them in the reconciler's pass.

An abort comes after all that follows from it (the request's end, the request that judges again): whoever is killed in
between leaves a prepared release, which the next pass or the run's retry finds, and nothing is opened twice.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core.errors import PromotionConflict
from evergreen.core.records import FLEET, Candidate, Release, ReleaseKind, RequestState, RolloutState, TriggerRequest
from evergreen.core.rollout import Abort, Facts, GoLive, advance
from evergreen.steps.awaited import CLOSED, STEP, approval_of, end_request, ended_here, waiting_request

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Approval, Hold

BY = "Evergreen"  # who aborts what no person does
OWN_TURN = timedelta(seconds=15)  # so long a release is left to the run that prepared it, which is about to advance it
SETTLES = timedelta(minutes=2)  # within it, a run that lives has seen serving follow, and closed its request itself


log = logging.getLogger(__name__)


def advance_rollouts(ledger: Ledger, *, now: datetime) -> list[str]:
    """One pass over the prepared releases that their own runs have left; what became of each, in a sentence.

    Requests whose run died after their release went live are closed, too. One release that cannot be advanced keeps
    none of the others: the first such error is raised when all have had their turn.
    """
    told, errors = [], []
    left = [release for release in ledger.releases.prepared() if abs(now - release.released_at) >= OWN_TURN]
    for release in left:
        try:
            told.append(_told(ledger, advance_release(ledger, release, now=now), now))
        except Exception as error:
            log.exception("%s: the release of version %d could not be advanced", release.model, release.version)
            errors.append(error)
    if errors:
        raise errors[0]
    return told + _close_released(ledger, now)


def advance_release(
    ledger: Ledger, release: Release, *, now: datetime, request: TriggerRequest | None = None
) -> Release:
    """Make the release's next move. `request`: the one that waits for it, where whoever calls knows it.

    Where it is aborted, its request has ended and says why; where it is live, that is left to the caller.
    """
    candidate = ledger.models.candidate(release.model, release.version)
    move = advance(release, facts_of(ledger, candidate, approval_of(ledger, release)))
    if isinstance(move, GoLive):
        try:
            return ledger.releases.go_live(release.id, now)
        except PromotionConflict:  # another was quicker, since the facts were read
            return advance_release(ledger, release, now=now, request=request)
    if isinstance(move, Abort):
        waiting = request or waiting_request(ledger, release)
        return abort_release(ledger, release, move, by=BY, now=now, request=waiting)
    return release


def abort_release(
    ledger: Ledger, release: Release, move: Abort, *, by: str, now: datetime, request: TriggerRequest | None
) -> Release:
    """End the request, have the version judged again where that is the move, then abort the release."""
    told = move.reason
    if request and not ended_here(request):
        candidate = ledger.models.candidate(release.model, release.version)
        told = end_request(ledger, candidate, request, move, now)
    return ledger.releases.abort(release.id, by=by, reason=told, now=now)


def facts_of(ledger: Ledger, candidate: Candidate, approval: Approval | None) -> Facts:
    """All that the next move of the candidate's release rests on, as it is now."""
    champion = ledger.releases.champion(candidate.model)
    live = ledger.releases.get(champion.release_id) if champion.release_id else None
    return Facts(
        generation=champion.generation,
        champion=live,
        candidate=candidate,
        approval=approval,
        hold=_newest_hold(ledger, candidate.model),
        champion_run=_run_of(ledger, live) if live else "",
    )


def why_aborted(ledger: Ledger, release: Release) -> str:
    """The reason of its end, and who ended it where a person did."""
    ends = (e for e in reversed(ledger.releases.events(release.model)) if e.release_id == release.id)
    end = next(e for e in ends if e.state is RolloutState.ABORTED)
    return end.reason if end.by == BY else aborted_by(release.version, end.by, end.reason)


def aborted_by(version: int, by: str, reason: str) -> str:
    """What a person's abort is told as."""
    return f"version {version}: aborted by {by}: {reason}"


def _newest_hold(ledger: Ledger, model: str) -> Hold | None:
    """Of the model's own and the fleet's."""
    holds = [hold for what in (model, FLEET) if (hold := ledger.holds.applying(what))]
    return max(holds, key=lambda hold: hold.since, default=None)


def _run_of(ledger: Ledger, release: Release) -> str:
    if approval := approval_of(ledger, release):
        return approval.run_id
    request = waiting_request(ledger, release)
    return request.run_id if request else ""


def _close_released(ledger: Ledger, now: datetime) -> list[str]:
    """Serve the requests that a release went live for, and whose run has not said so long after."""
    told = []
    for request in ledger.requests.unfinished():
        if request.step != STEP or request.state is not RequestState.CLAIMED:
            continue
        promoted = (r for r in ledger.releases.history(request.model) if r.kind is ReleaseKind.PROMOTION)
        since = (r for r in promoted if r.released_at >= request.requested_at)
        own = [r for r in since if (waits := waiting_request(ledger, r)) and waits.id == request.id]
        if own and now - own[-1].released_at > SETTLES:
            told.append(_told(ledger, own[-1], now))
    return told


def _told(ledger: Ledger, release: Release, now: datetime) -> str:
    """What became of it. The request of one that went live is closed, where its run has not come to that."""
    what = f"{release.model}: version {release.version}"
    if release.state is RolloutState.ABORTED:
        return f"{what} was not released: {why_aborted(ledger, release)}"
    request = waiting_request(ledger, release)
    if request and request.state not in CLOSED:
        reason = f"released version {release.version}"
        ledger.requests.mark(request.id, now=now, state=RequestState.SERVED, step=STEP, reason=reason)
    return f"{what} was released, generation {release.generation}"
