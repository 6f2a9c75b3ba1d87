"""The last step: put the candidate on its trial, or make it champion at once; then what follows from a champion.

A release that is on trial, or has to wait for another one's, is left to the reconciler: whoever runs this step comes
again when `over` says so.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.aliases import project
from evergreen.core.answering import Answering, Wait, wait_until_answering
from evergreen.core.approval import AUTO, why_ask
from evergreen.core.errors import PromotionConflict, RunEnds
from evergreen.core.holds import how_to_lift
from evergreen.core.obstacles import Facts, judged_since, who_was_quicker
from evergreen.core.records import (
    ON_TRIAL,
    Approval,
    ApprovalState,
    Candidate,
    CandidateState,
    Release,
    RequestState,
    RolloutState,
    TriggerRequest,
)
from evergreen.core.rollout import Abort
from evergreen.steps.advance_rollouts import ENDS, advance_release, why_ended
from evergreen.steps.awaited import STEP, end_request
from evergreen.steps.releasable import releasable
from evergreen.steps.rollout_facts import facts_of

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Registry
    from evergreen.core.spec import ModelSpec

FOLLOWS = Wait(seconds=30)
UNDER_WAY = frozenset({RolloutState.PREPARED, *ON_TRIAL})


def roll_out(
    spec: ModelSpec,
    ledger: Ledger,
    registry: Registry,
    *,
    request_id: str,
    version: int,
    released_by: str,
    reason: str,
    now: datetime,
    wait: Wait = FOLLOWS,
) -> Release:
    """Release a version that passed; done before, the same release comes back and nothing changes.

    One that is on trial, or waits until another's is over, comes back as it is: not released yet. Once it is, the
    request's reason says whether serving answers with it within `wait`: a release stands even where it does not.
    Raises RunEnds where it must not go live: the champion changed since it was judged, a hold was placed, it was judged
    anew, a person aborted it, a guard rolled it back. Then the request has ended, and another one judges the version
    again unless a person or a guard ended it. Raises EvergreenError for a candidate that did not pass.
    """
    request = ledger.requests.get(request_id)
    candidate = releasable(ledger, spec.name, version, request)
    if candidate.state is CandidateState.RELEASED:
        release = _released(ledger, candidate)
    else:
        release = _release(spec, ledger, candidate, request, by=released_by, reason=reason, now=now)
    if not over(release):
        return release
    if request.state is not RequestState.SERVED:
        served = f"released version {release.version}{_follows(ledger, release, wait)}"
        ledger.requests.mark(request_id, now=now, state=RequestState.SERVED, step=STEP, reason=served)
    project(ledger, registry, spec.name)  # last: a registry that does not answer unmakes no release
    registry.end_run(candidate.mlflow_run)
    return release


def over(release: Release) -> bool:
    """Whether it has come to an end, or to all callers: until then its run waits."""
    return release.state not in UNDER_WAY


def _released(ledger: Ledger, candidate: Candidate) -> Release:
    history = reversed(ledger.releases.history(candidate.model))
    return next(release for release in history if release.version == candidate.version)


def _release(
    spec: ModelSpec,
    ledger: Ledger,
    candidate: Candidate,
    request: TriggerRequest,
    *,
    by: str,
    reason: str,
    now: datetime,
) -> Release:
    """Prepare it, then advance it at once. Raises RunEnds where it must not go live."""
    release = _under_way(ledger, candidate, now)
    if release is None:
        approval = _approval(ledger, candidate, request.id)
        facts = facts_of(ledger, candidate, approval)
        if why := _why_not_now(spec, facts, by):
            raise _ended(ledger, candidate, request, why, now)
        try:
            release = ledger.releases.prepare(
                candidate,
                pool=spec.serving.pool,
                released_by=by,
                reason=reason,
                watermark=request.watermark,
                now=now,
                approval_id=approval.id if approval else "",
                plan=spec.rollout.plan if spec.rollout else None,
            )
        except PromotionConflict:
            why = who_was_quicker(candidate.version, facts_of(ledger, candidate, approval))
            raise _ended(ledger, candidate, request, why, now) from None
    moved = advance_release(ledger, release, now=now, request=request)
    if moved.state in ENDS and not moved.generation:
        raise RunEnds(why_ended(ledger, moved), served=True)
    return moved


def _under_way(ledger: Ledger, candidate: Candidate, now: datetime) -> Release | None:
    """The release that an earlier try prepared. One of before the candidate was judged anew is dealt with first."""
    for release in [*ledger.releases.on_trial(), *ledger.releases.prepared()]:
        if (release.model, release.version) == (candidate.model, candidate.version):
            if release.seen == candidate.generation_seen:
                return release
            advance_release(ledger, release, now=now)
    return None


def _approval(ledger: Ledger, candidate: Candidate, request_id: str) -> Approval | None:
    """The newest approval of this version for this request; none where nobody was asked."""
    answers = (a for a in reversed(ledger.approvals.history(candidate.model)) if a.request_id == request_id)
    return next((a for a in answers if a.state is ApprovalState.APPROVED and a.version == candidate.version), None)


def _why_not_now(spec: ModelSpec, facts: Facts, by: str) -> str:
    """What has come since it was judged: another champion, a hold, or another request that had it judged anew."""
    candidate, hold = facts.candidate, facts.hold
    if facts.generation != candidate.generation_seen:
        return who_was_quicker(candidate.version, facts)
    if by != AUTO:
        return judged_since(facts.approval, candidate) if facts.approval else ""
    assert candidate.verdict, "it passed"
    why = why_ask(spec, candidate.verdict, hold, has_champion=facts.champion is not None)
    lift = f". To lift it: {how_to_lift(hold)}" if hold else ""
    return f"{why}. Version {candidate.version} passed and was not released{lift}" if why else ""


def _ended(ledger: Ledger, candidate: Candidate, request: TriggerRequest, why: str, now: datetime) -> RunEnds:
    return RunEnds(end_request(ledger, candidate, request, Abort(why, again=True), now), served=True)


def _follows(ledger: Ledger, release: Release, wait: Wait) -> str:
    """', which answers', or what is in the way; nothing where another release came after this one."""
    if ledger.releases.champion(release.model).release_id != release.id:
        return ""
    found = wait_until_answering(ledger, release, wait)
    return ", which answers" if found.answers else f"; {_late(found, wait)}"


def _late(found: Answering, wait: Wait) -> str:
    return f"after {wait.seconds:.0f} s {found}" if found.replicas else str(found)
