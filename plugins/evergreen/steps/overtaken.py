"""Ends questions that something has overtaken, in the ledger, which decides; `tend_approvals` tells Airflow."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.overtaken import superseded
from evergreen.core.records import ENDED, Approval, ApprovalState, RequestState, TriggerRequest
from evergreen.core.triggers import judged_again
from evergreen.steps.again import judge_again

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger

_UNFINISHED = (RequestState.OPEN, RequestState.CLAIMED)


def supersede(ledger: Ledger, model: str, now: datetime, *, let_through: int = 0) -> list[Approval]:
    """End the model's open questions about versions that a newer one has overtaken; those that were ended so.

    `let_through`: a version that passes now without a question. A person who answers at the same moment may be first:
    then their answer stands.
    """
    questions = ledger.approvals.history(model)
    ended = []
    for asked in questions:
        newest = max(let_through, _released_since(ledger, asked))
        if asked.state is ApprovalState.OPEN and (why := superseded(asked, questions, let_through=newest)):
            kept = ledger.approvals.answer(asked.id, state=ApprovalState.SUPERSEDED, by=None, reason=why, now=now)
            ended += [kept] if kept.state is ApprovalState.SUPERSEDED else []
    return ended


def _released_since(ledger: Ledger, asked: Approval) -> int:
    """The champion's version, if it became champion after the question was put; else 0."""
    champion = ledger.releases.champion(asked.model)
    if champion.release_id is None or champion.generation == asked.generation_seen:
        return 0
    return ledger.releases.get(champion.release_id).version


def judge_anew(
    ledger: Ledger, model: str, version: int, *, request_id: str, because: str, now: datetime
) -> TriggerRequest | None:
    """The request that judges the version again, in place of this one; none where it has ended, or none is needed.

    One that waits or runs already is enough.
    """
    candidate = ledger.models.candidate(model, version)
    if candidate.state in ENDED:
        return None
    others = (one for one in ledger.requests.unfinished(model) if one.id != request_id)
    found = next((one for one in others if judged_again(one) == version), None)
    found = found or judge_again(ledger, candidate, ledger.requests.get(request_id), because, now)
    return found if found.state in _UNFINISHED else None
