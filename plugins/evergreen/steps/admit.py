"""The first step: is there a reason to retrain now, and is it this run's turn?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from evergreen.core.errors import RunEnds, SourceError
from evergreen.core.holds import held
from evergreen.core.records import Cause, RequestState, TriggerRequest
from evergreen.core.run_params import RunParams
from evergreen.core.triggers import LEASE_TTL, Facts, Skip, covered_by, decide, dedupe_key, end_of_window

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

    `detail` holds the run parameters (core.run_params) of a run that a person or the API started. A run that comes
    again goes on from what its request says. Raises RunEnds (not served) where there is nothing to do, LeaseBusy
    while another run holds the lease, SourceError where the source cannot tell its newest row: then the request stays
    open for the retry; BadRunParameter for parameters that cannot be met.
    """
    request = ledger.requests.for_run(spec.name, run_id)
    if request is None:
        request = _open(spec, ledger, source, cause, run_id, detail, now)
    elif request.watermark is None and request.state is not RequestState.SKIPPED:
        request = _look_again(spec, ledger, source, request, now)
    if request.state is RequestState.SKIPPED:
        raise RunEnds(request.reason, served=False)
    if request.state is RequestState.SERVED:
        return request
    params = _params(request)
    request = _end_window(spec, ledger, request, params, now)
    if request.state is RequestState.OPEN or (request.state is RequestState.FAILED and request.step in ("", STEP)):
        _decide(spec, ledger, source, request, now, forced=params.force)
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
    def open_as(key: str, watermark: datetime | None = None) -> TriggerRequest:
        return ledger.requests.open(
            model=spec.name,
            source=spec.source.id,
            cause=cause,
            dedupe_key=key,
            run_id=run_id,
            watermark=watermark,
            as_of=watermark and watermark - spec.label.arrives_after,
            detail=detail,
            now=now,
        )

    try:
        watermark = source.watermark()
    except SourceError:
        open_as(f"run:{run_id}")  # the ledger must say that this run was asked for, and what stopped it
        raise
    request = open_as(dedupe_key(cause, run_id, watermark), watermark)
    if request.run_id != run_id:  # the same event twice: this run gets a row of its own that says so
        _skip(ledger, open_as(f"run:{run_id}", watermark), covered_by(request.run_id, watermark), now)
    return request


def _look_again(
    spec: ModelSpec, ledger: Ledger, source: Source, request: TriggerRequest, now: datetime
) -> TriggerRequest:
    """Note the watermark that an earlier try could not get."""
    watermark = source.watermark()
    as_of = watermark and watermark - spec.label.arrives_after
    return ledger.requests.mark(request.id, now=now, watermark=watermark, as_of=as_of)


def _params(request: TriggerRequest) -> RunParams:
    """What was asked for by whoever started the run; nobody did where cron or new data did."""
    by_hand = request.cause in (Cause.PERSON, Cause.API)
    return RunParams.of(request.detail) if by_hand else RunParams()


def _end_window(
    spec: ModelSpec, ledger: Ledger, request: TriggerRequest, params: RunParams, now: datetime
) -> TriggerRequest:
    """The request with the window's end that was asked for, if any was."""
    if params.window_end is None or request.watermark is None:
        return request
    as_of = end_of_window(request.watermark, spec.label.arrives_after, params.window_end)
    return ledger.requests.mark(request.id, now=now, as_of=as_of)


def _decide(
    spec: ModelSpec, ledger: Ledger, source: Source, request: TriggerRequest, now: datetime, *, forced: bool
) -> None:
    last_served = ledger.requests.last_served(spec.name)
    new_rows = None
    if request.cause is Cause.NEW_DATA and request.as_of is not None:
        new_rows = source.count(after=last_served.as_of if last_served else None, until=request.as_of)
    facts = Facts(
        requests=ledger.requests.latest(spec.name, limit=_LOOK_BACK),
        last_served=last_served,
        new_rows=new_rows,
        now=now,
        held=held(hold) if (hold := ledger.holds.applying(spec.name)) else "",
        forced=forced,
    )
    decision = decide(spec, request, facts)
    if isinstance(decision, Skip):
        _skip(ledger, request, decision.reason, now)


def _skip(ledger: Ledger, request: TriggerRequest, reason: str, now: datetime) -> NoReturn:
    ledger.leases.release(request.model, request.id)  # held where an earlier try died before its claim
    ledger.requests.mark(request.id, now=now, state=RequestState.SKIPPED, step=STEP, reason=reason)
    raise RunEnds(reason, served=False)
