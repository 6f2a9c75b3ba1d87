"""The places of runs at work: a limit of N is N leases, of which admit takes one for the run.

So a limit holds whoever admits at the same time, and what a run held is given back with its lease. A place has no
renewal: one whose run was killed is given back by the reconciler, which asks Airflow for such runs, and at the latest
after PLACE_TTL.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core.errors import LeaseBusy, RunEnds
from evergreen.core.records import RequestState, TriggerRequest
from evergreen.core.spec_limits import SOURCE, limits_of
from evergreen.core.triggers import ADMIT
from evergreen.core.turns import needs_no_place

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.spec import ModelSpec
    from evergreen.core.spec_limits import Limit

PLACE_TTL = timedelta(hours=24)


def take_places(spec: ModelSpec, ledger: Ledger, request: TriggerRequest, now: datetime) -> None:
    """Take a place of each of the model's limits; a run that has one keeps it.

    Raises RunEnds (not served) where one is full: then nothing is held, and the request waits for the reconciler.
    """
    if needs_no_place(request):
        return
    for limit in limits_of(spec):
        if not _has_place(ledger, limit, request.id, now):
            ledger.leases.release_all(request.id)
            if request.state is not RequestState.OPEN:  # a person has cleared a run that gave its place back
                ledger.requests.mark(request.id, now=now, state=RequestState.OPEN, step=ADMIT)
            ledger.requests.put_off(request.id, until=None, reason=limit.words, now=now)
            raise RunEnds(limit.words, served=False)


def free_source(spec: ModelSpec, ledger: Ledger, holder: str) -> None:
    """The rows are read: the next one may pull."""
    for limit in limits_of(spec):
        if limit.kind == SOURCE:
            for place in limit.places:
                ledger.leases.release(place, holder)


def _has_place(ledger: Ledger, limit: Limit, holder: str, now: datetime) -> bool:
    held = {place: ledger.leases.get(place) for place in limit.places}
    if any(lease and lease.holder == holder for lease in held.values()):
        return True
    free = (place for place, lease in held.items() if lease is None or lease.expires_at <= now)
    return any(_taken(ledger, place, holder, now) for place in free)


def _taken(ledger: Ledger, place: str, holder: str, now: datetime) -> bool:
    try:
        ledger.leases.acquire(place, holder, PLACE_TTL, now)
    except LeaseBusy:
        return False
    return True
