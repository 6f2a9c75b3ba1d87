"""Whether a candidate may be released, and what to say of one that may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen.core.errors import EvergreenError, RunEnds
from evergreen.core.records import Candidate, CandidateState, RolloutState, TriggerRequest
from evergreen.core.rollout import RELEASABLE
from evergreen.steps.advance_rollouts import why_aborted
from evergreen.steps.awaited import ended_here

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger


def releasable(ledger: Ledger, model: str, version: int, request: TriggerRequest) -> Candidate:
    """The candidate, where it may be released or is.

    Raises RunEnds where this request's release was aborted before, EvergreenError for any other that may not.
    """
    try:
        candidate = ledger.models.candidate(model, version)
    except KeyError:
        raise EvergreenError(f"{model}: there is no candidate of version {version}. Nothing was released.") from None
    if candidate.state is CandidateState.RELEASED:
        return candidate
    if ended_here(request) and candidate.state is not CandidateState.ROLLED_BACK:
        raise RunEnds(request.reason, served=True)
    if candidate.state not in RELEASABLE:
        _refuse_aborted(ledger, candidate)
        raise EvergreenError(f"{model}: version {version} {_why_not(candidate)} Nothing was released.")
    return candidate


def _refuse_aborted(ledger: Ledger, candidate: Candidate) -> None:
    """Raise RunEnds for one whose release a person aborted, and declined it with that."""
    events = [event for event in ledger.releases.events(candidate.model) if event.version == candidate.version]
    if candidate.state is CandidateState.DECLINED and events and events[-1].state is RolloutState.ABORTED:
        aborted = ledger.releases.get(events[-1].release_id)
        raise RunEnds(why_aborted(ledger, aborted), served=True)


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
