"""Weighs a trigger request against what ledger and source say now: admit does it, and the reconciler before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.holds import held
from evergreen.core.records import RequestState, TriggerRequest
from evergreen.core.requested import is_retrain
from evergreen.core.triggers import Decision, Facts, Go, decide, needs_rows

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Source
    from evergreen.core.spec import ModelSpec

_LOOK_BACK = 100  # how many earlier requests may cover this one


def weigh(
    spec: ModelSpec,
    ledger: Ledger,
    request: TriggerRequest,
    source: Callable[[], Source],
    *,
    now: datetime,
    forced: bool = False,
) -> Decision:
    """The decision on a request. The source is asked last, and only where its answer decides.

    Raises SourceError where it is asked and cannot answer.
    """
    latest = ledger.requests.latest(spec.name, limit=_LOOK_BACK)
    hold = ledger.holds.applying(spec.name)
    last = _last_retrain(ledger, spec.name, latest)
    facts = Facts(latest, last, None, now, held(hold) if hold else "", forced)
    decision = decide(spec, request, facts)
    if not isinstance(decision, Go) or request.as_of is None or not needs_rows(request, forced=forced):
        return decision
    new_rows = source().count(after=last.as_of if last else None, until=request.as_of)
    return decide(spec, request, replace(facts, new_rows=new_rows))


def _last_retrain(ledger: Ledger, model: str, latest: list[TriggerRequest]) -> TriggerRequest | None:
    """The newest served request that retrained: what only judged, or ran dry, has used no data up."""
    limit, older = _LOOK_BACK, ledger.requests.last_served(model)
    if older is None or is_retrain(older):
        return older
    while True:  # beyond recalls and dry runs, and beyond new data that was not enough yet
        found = next((one for one in latest if one.state is RequestState.SERVED and is_retrain(one)), None)
        if found or len(latest) < limit:
            return found
        limit *= 10
        latest = ledger.requests.latest(model, limit=limit)
