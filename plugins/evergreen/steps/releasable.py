"""Whether a candidate may be released, and what to say of one that may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen.core.errors import EvergreenError, RunEnds
from evergreen.core.obstacles import RELEASABLE
from evergreen.core.records import Candidate, CandidateState, TriggerRequest
from evergreen.steps.advance_rollouts import ENDS, why_ended
from evergreen.steps.awaited import ended_here

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Release


def releasable(ledger: Ledger, model: str, version: int, request: TriggerRequest) -> Candidate:
    """The candidate, where it may be released or is.

    Raises RunEnds where its release was ended before it went live, EvergreenError for any other that may not.
    """
    try:
        candidate = ledger.models.candidate(model, version)
    except KeyError:
        raise EvergreenError(f"{model}: there is no candidate of version {version}. Nothing was released.") from None
    if candidate.state is CandidateState.RELEASED:
        return candidate
    ended = _ended(ledger, candidate)
    if ended_here(request) and (ended or candidate.state is not CandidateState.ROLLED_BACK):
        raise RunEnds(request.reason, served=True)
    if candidate.state not in RELEASABLE:
        if ended:
            raise RunEnds(why_ended(ledger, ended), served=True)
        raise EvergreenError(f"{model}: version {version} {_why_not(candidate)} Nothing was released.")
    return candidate


def _ended(ledger: Ledger, candidate: Candidate) -> Release | None:
    """Its newest release, where a person aborted it and declined the version, or a guard took it off its trial."""
    events = [event for event in ledger.releases.events(candidate.model) if event.version == candidate.version]
    if candidate.state not in (CandidateState.DECLINED, CandidateState.ROLLED_BACK) or not events:
        return None
    newest = ledger.releases.get(events[-1].release_id)
    return newest if newest.state in ENDS and not newest.generation else None


def _why_not(candidate: Candidate) -> str:
    """What became of a candidate that cannot be released, and what may be done."""
    again = f"`evergreen retrain {candidate.model}` makes another from newer data."
    match candidate.state:
        case CandidateState.ROLLED_BACK:
            back = f"`evergreen rollback {candidate.model} --to {candidate.version}` makes it champion again."
            return f"was rolled back, and that blocks it. {back}"
        case CandidateState.REFITTED:
            return "was fitted again on all rows, and that version is released in its place."
        case CandidateState.DECLINED:
            return f"was rejected by a person. {again}"
        case CandidateState.REJECTED:
            return (
                f"was refused by its gates ({candidate.verdict.reason if candidate.verdict else 'no verdict'}). {again}"
            )
        case _:
            return f"is {candidate.state}, and only one that passed its gates can be released. {again}"
