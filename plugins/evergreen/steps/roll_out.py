"""The last step: make the candidate champion, let the model registry show it, and see whether serving follows."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.aliases import project
from evergreen.core.answering import Answering, Wait, wait_until_answering
from evergreen.core.approval import AUTO, why_ask
from evergreen.core.errors import EvergreenError, RunEnds
from evergreen.core.holds import how_to_lift
from evergreen.core.records import ApprovalState, Candidate, CandidateState, Release, RequestState
from evergreen.core.verdict_json import digest

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Registry
    from evergreen.core.spec import ModelSpec

STEP = "roll_out"
FOLLOWS = Wait(seconds=30)


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

    The request's reason says whether serving answers with it within `wait`: a release stands even where it does not.
    Raises RunEnds, and the candidate stays as it is, where nobody was asked and a person must decide by now (a hold),
    or where it was judged anew after it was approved; EvergreenError for a candidate that did not pass,
    PromotionConflict where the champion changed since it was judged.
    """
    candidate = _passed(ledger, spec.name, version)
    if candidate.state is CandidateState.PASSED:
        if released_by == AUTO:
            _refuse_unasked(spec, ledger, candidate)
        else:
            _refuse_changed(ledger, candidate, request_id)
    request = ledger.requests.get(request_id)
    release = ledger.releases.release(
        candidate,
        pool=spec.serving.pool,
        released_by=released_by,
        reason=reason,
        watermark=request.watermark,
        now=now,
    )
    if request.state is not RequestState.SERVED:
        served = f"released version {release.version}{_follows(ledger, release, wait)}"
        ledger.requests.mark(request_id, now=now, state=RequestState.SERVED, step=STEP, reason=served)
    project(ledger, registry, spec.name)  # last: a registry that does not answer unmakes no release
    registry.end_run(candidate.mlflow_run)
    return release


def _follows(ledger: Ledger, release: Release, wait: Wait) -> str:
    """', which answers', or what is in the way; nothing where another release came after this one."""
    if ledger.releases.champion(release.model).release_id != release.id:
        return ""
    found = wait_until_answering(ledger, release, wait)
    return ", which answers" if found.answers else f"; {_late(found, wait)}"


def _late(found: Answering, wait: Wait) -> str:
    return f"after {wait.seconds:.0f} s {found}" if found.replicas else str(found)


def _refuse_unasked(spec: ModelSpec, ledger: Ledger, candidate: Candidate) -> None:
    """Between approve and this step a hold may have come, or another request may have judged it to something else."""
    hold, champion = ledger.holds.applying(spec.name), ledger.releases.champion(spec.name)
    assert candidate.verdict, "it passed"
    why = why_ask(spec, candidate.verdict, hold, has_champion=champion.release_id is not None)
    if why:
        then = f"To lift it: {how_to_lift(hold)}" if hold else f"`evergreen retrain {spec.name}` asks a person"
        raise RunEnds(f"{why}. Version {candidate.version} passed and was not released. {then}", served=True)


def _refuse_changed(ledger: Ledger, candidate: Candidate, request_id: str) -> None:
    """What a person approved is one verdict, against one champion; another request may have judged it anew since."""
    answers = (a for a in reversed(ledger.approvals.history(candidate.model)) if a.request_id == request_id)
    approved = next((a for a in answers if a.state is ApprovalState.APPROVED and a.version == candidate.version), None)
    now = (candidate.generation_seen, digest(candidate.verdict))
    if approved and (approved.generation_seen, approved.evidence) != now:
        raise RunEnds(
            f"version {candidate.version} was judged again after {approved.answered_by} approved it. Nothing was "
            f"released and nothing is blocked. `evergreen retrain {candidate.model}` asks again",
            served=True,
        )


def _passed(ledger: Ledger, model: str, version: int) -> Candidate:
    try:
        candidate = ledger.models.candidate(model, version)
    except KeyError:
        raise EvergreenError(f"{model}: there is no candidate of version {version}. Nothing was released.") from None
    if candidate.state not in (CandidateState.PASSED, CandidateState.RELEASED):
        raise EvergreenError(f"{model}: version {version} {_why_not(candidate)} Nothing was released.")
    return candidate


def _why_not(candidate: Candidate) -> str:
    """What became of a candidate that cannot be released, and what may be done."""
    again = f"`evergreen retrain {candidate.model}` makes another from newer data."
    match candidate.state:
        case CandidateState.ROLLED_BACK:
            back = f"`evergreen rollback {candidate.model} --to {candidate.version}` makes it champion again."
            return f"was rolled back, and that blocks it. {back}"
        case CandidateState.DECLINED:
            return f"was rejected by a person. {again}"
        case CandidateState.REJECTED:
            return (
                f"was refused by its gates ({candidate.verdict.reason if candidate.verdict else 'no verdict'}). {again}"
            )
        case _:
            return f"is {candidate.state}, and only one that passed its gates can be released. {again}"
