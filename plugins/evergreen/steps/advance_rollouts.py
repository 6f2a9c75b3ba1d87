"""Takes releases from prepared by their trial to live, or ends them: one for its run, all in the reconciler's pass.

An abort comes after all that follows from it (the request's end, the request that judges again): whoever is killed in
between leaves a release that the next pass or the run's retry finds, and nothing is opened twice.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core.errors import EvergreenError, PromotionConflict, TrialTripped
from evergreen.core.records import (
    ON_TRIAL,
    Release,
    ReleaseKind,
    RequestState,
    RolloutState,
    TriggerRequest,
    Trip,
)
from evergreen.core.rollout import Abort, Enter, GoLive, Move
from evergreen.steps.awaited import CLOSED, STEP, end_request, ended_here, waiting_request
from evergreen.steps.rollout_facts import Trials, next_move

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger

BY = "Evergreen"  # who aborts what no person does
ALL_REPLICAS = "all replicas"  # who trips where no replica alone has counted enough
OWN_TURN = timedelta(seconds=15)  # so long a release is left to the run that prepared it, which is about to advance it
SETTLES = timedelta(minutes=2)  # within it, a run that lives has seen serving follow, and closed its request itself
ENDS = frozenset({RolloutState.ABORTED, RolloutState.ROLLED_BACK})
log = logging.getLogger(__name__)


def advance_rollouts(ledger: Ledger, *, now: datetime) -> list[str]:
    """One pass over all releases on trial, and the prepared ones that their own runs have left; what became of each.

    Requests whose run died after their release went live are closed, too. One release that cannot be advanced keeps
    none of the others: the first such error is raised when all have had their turn.
    """
    told, errors = [], []
    prepared, trials = ledger.releases.prepared(), Trials.read(ledger)
    left = [release for release in prepared if abs(now - release.released_at) >= OWN_TURN]
    for release in [*trials.on.values(), *left]:
        try:
            moved = advance_release(ledger, release, now=now, trials=trials)
            if (moved.state, moved.weight) != (release.state, release.weight):
                told.append(_told(ledger, moved, now))
        except Exception as error:
            log.exception("%s: the release of version %d could not be advanced", release.model, release.version)
            errors.append(error)
    if errors:
        raise errors[0]
    return told + _close_released(ledger, now)


def advance_release(
    ledger: Ledger,
    release: Release,
    *,
    now: datetime,
    request: TriggerRequest | None = None,
    trials: Trials | None = None,
) -> Release:
    """Make the release's next move. `request`: the one that waits for it, where whoever calls knows it.

    Where it is ended, its request has ended and says why; where it is live, that is left to the caller.
    """
    trials = trials or Trials.read(ledger)
    move = next_move(ledger, release, trials, now)
    try:
        moved = _make(ledger, release, move, now, request)
    except (PromotionConflict, TrialTripped):  # another was quicker, since the facts were read
        return advance_release(ledger, release, now=now, request=request)
    trials.note(moved)
    return moved


def _make(ledger: Ledger, release: Release, move: Move, now: datetime, request: TriggerRequest | None) -> Release:
    match move:
        case GoLive():
            return ledger.releases.go_live(release.id, now)
        case Enter(stage, reason):
            return _enter(ledger, release, stage.state, stage.weight, reason, now)
        case Abort():
            waiting = request or waiting_request(ledger, release)
            return abort_release(ledger, release, move, by=BY, now=now, request=waiting)
    return release


def _enter(ledger: Ledger, release: Release, state: RolloutState, weight: int, reason: str, now: datetime) -> Release:
    try:
        return ledger.releases.enter(release, state, weight, reason=reason, now=now)
    except PromotionConflict:
        raise
    except EvergreenError as other:  # another of the model came on trial this moment: this one waits
        log.info("%s", other)
        return release


def abort_release(
    ledger: Ledger, release: Release, move: Abort, *, by: str, now: datetime, request: TriggerRequest | None
) -> Release:
    """End the request, have the version judged again where that is the move, then abort the release.

    One that broke a limit is tripped first, so that no person promotes it any more, whoever is killed here.
    """
    told = move.reason
    if move.tripped:
        ledger.trials.trip(Trip(release.id, ALL_REPLICAS, move.tripped, move.reason, now))
    if request and not ended_here(request):
        candidate = ledger.models.candidate(release.model, release.version)
        told = end_request(ledger, candidate, request, move, now)
    return ledger.releases.abort(release.id, by=by, reason=told, now=now, tripped=move.tripped is not None)


def why_ended(ledger: Ledger, release: Release) -> str:
    """Why it was aborted, or rolled back while it was on trial; and who did so where a person did."""
    ends = (e for e in reversed(ledger.releases.events(release.model)) if e.release_id == release.id)
    end = next(e for e in ends if e.state in ENDS)
    return end.reason if end.by == BY else aborted_by(release.version, end.by, end.reason)


def aborted_by(version: int, by: str, reason: str) -> str:
    """What a person's abort is told as."""
    return f"version {version}: aborted by {by}: {reason}"


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
    if release.state in ON_TRIAL:
        return f"{what} is on trial: {release.stage}"
    if release.state in ENDS:
        return f"{what} was not released: {why_ended(ledger, release)}"
    request = waiting_request(ledger, release)
    if request and request.state not in CLOSED:
        reason = f"released version {release.version}"
        ledger.requests.mark(request.id, now=now, state=RequestState.SERVED, step=STEP, reason=reason)
    return f"{what} was released, generation {release.generation}"
