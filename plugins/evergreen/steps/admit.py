"""The first step: is there a reason to retrain now, and is it this run's turn?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from evergreen.core.errors import RunEnds
from evergreen.core.records import Cause, RequestState, TriggerRequest
from evergreen.core.triggers import LEASE_TTL, Facts, Skip, covered_by, decide, dedupe_key

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Source
    from evergreen.core.spec import ModelSpec

STEP = "admit"
_LOOK_BACK = 100  # how many earlier requests may cover this one


def admit(
    spec: ModelSpec,
    ledger: Ledger,
    source: Source,
    *,
    cause: Cause,
    run_id: str,
    detail: Mapping[str, Any],
    now: datetime,
) -> TriggerRequest:
    """Open this run's trigger request, decide, take the model's lease and claim the request.

    A run that comes again goes on from what its request says. Raises RunEnds (not served) where there is
    nothing to do, LeaseBusy while another run holds the lease: then the request stays open for the retry.
    """
    request = ledger.requests.for_run(spec.name, run_id)
    if request is None:
        request = _open(spec, ledger, source, cause, run_id, detail, now)
    if request.state is RequestState.SKIPPED:
        raise RunEnds(request.reason, served=False)
    if request.state is RequestState.SERVED:
        return request
    if request.state is RequestState.OPEN:
        _decide(spec, ledger, source, request, now)
    ledger.leases.acquire(spec.name, request.id, LEASE_TTL, now)
    return ledger.requests.mark(request.id, now=now, state=RequestState.CLAIMED, step=STEP, reason="")


def _open(
    spec: ModelSpec,
    ledger: Ledger,
    source: Source,
    cause: Cause,
    run_id: str,
    detail: Mapping[str, Any],
    now: datetime,
) -> TriggerRequest:
    watermark = source.watermark()
    as_of = watermark - spec.label.arrives_after if watermark else None

    def open_as(key: str) -> TriggerRequest:
        return ledger.requests.open(
            model=spec.name,
            source=spec.source.id,
            cause=cause,
            dedupe_key=key,
            run_id=run_id,
            watermark=watermark,
            as_of=as_of,
            detail=detail,
            now=now,
        )

    request = open_as(dedupe_key(cause, run_id, watermark))
    if request.run_id != run_id:  # the same event twice: this run gets a row of its own that says so
        _skip(ledger, open_as(f"run:{run_id}"), covered_by(request.run_id, watermark), now)
    return request


def _decide(spec: ModelSpec, ledger: Ledger, source: Source, request: TriggerRequest, now: datetime) -> None:
    last_served = ledger.requests.last_served(spec.name)
    new_rows = None
    if request.cause is Cause.NEW_DATA and request.as_of is not None:
        new_rows = source.count(after=last_served.as_of if last_served else None, until=request.as_of)
    facts = Facts(
        requests=ledger.requests.latest(spec.name, limit=_LOOK_BACK),
        last_served=last_served,
        new_rows=new_rows,
        now=now,
    )
    decision = decide(spec, request, facts)
    if isinstance(decision, Skip):
        _skip(ledger, request, decision.reason, now)


def _skip(ledger: Ledger, request: TriggerRequest, reason: str, now: datetime) -> NoReturn:
    ledger.leases.release(request.model, request.id)  # held where an earlier try died before its claim
    ledger.requests.mark(request.id, now=now, state=RequestState.SKIPPED, step=STEP, reason=reason)
    raise RunEnds(reason, served=False)
