"""A candidate is to be judged again: the request whose run starts at judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen.core.triggers import again

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen.core.ports import Ledger
    from evergreen.core.records import Candidate, TriggerRequest


def judge_again(
    ledger: Ledger, candidate: Candidate, request: TriggerRequest, because: str, now: datetime
) -> TriggerRequest:
    """Open the request that judges the candidate against the champion of now; the reconciler starts its run.

    `request` is the one whose run ended without a release, `because` says why. Twice for one request and one champion
    is once.
    """
    generation = ledger.releases.champion(candidate.model).generation
    return ledger.requests.open(**again(request, candidate.version, generation=generation, because=because), now=now)
