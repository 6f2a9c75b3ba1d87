"""The first step: is there a reason to retrain now, and is it this run's turn?"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from evergreen.core.errors import LeaseBusy, RunEnds, SourceError
from evergreen.core.records import Cause, RequestState, TriggerRequest
from evergreen.core.requested import forced, request_id_in, run_params
from evergreen.core.run_params import BadRunParameter, RunParams
from evergreen.core.triggers import (
    ADMIT,
    LEASE_TTL,
    NO_ROWS,
    WAITING,
    Go,
    PutOff,
    Skip,
    covered_by,
    dedupe_key,
    end_of_window,
    goes_before,
    judged_again,
    takes_along,
)
from evergreen.steps.places import take_places
from evergreen.steps.weigh import weigh

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Source
    from evergreen.core.spec import ModelSpec

_NOT_TO_BE_SERVED = (RequestState.SKIPPED, RequestState.EXPIRED)


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
    """Open this run's trigger request or find the one that it was started for; decide, take the lease, claim it.

    `cause` and `detail` are those of a run that nothing in the ledger asked for; `detail` then holds the run
    parameters (core.run_params). A run that comes again goes on from what its request says. The open requests whose
    data this one has are skipped, and name its run. Raises RunEnds (not served) where there is nothing to do, or
    not yet, or too many others are at work (spec.limits): then the request waits for the reconciler; LeaseBusy while
    another run holds the lease, or one that goes first waits for it; SourceError where the source cannot tell its
    newest row: then the request stays open for the retry; BadRunParameter for parameters that cannot be met.
    """
    request = _found(ledger, spec.name, run_id) or _open(spec, ledger, source, cause, run_id, detail, now)
    if request.state in _NOT_TO_BE_SERVED:
        raise RunEnds(request.reason, served=False)
    if request.run_id != run_id:
        raise RunEnds(_elsewhere(request), served=False)
    if request.state is RequestState.SERVED:
        return request
    request = _begin(ledger, request, now)
    params = _params(request)
    request = _look(spec, ledger, source, request, params, now)
    if request.state is RequestState.OPEN or (request.state is RequestState.FAILED and request.step in ("", ADMIT)):
        _decide(spec, ledger, source, request, now)
    _take_lease(ledger, request, now)
    take_places(spec, ledger, request, now)
    claimed = ledger.requests.mark(request.id, now=now, state=RequestState.CLAIMED, step=ADMIT, reason="")
    _take_along(ledger, claimed, now)
    return claimed


# ---------------------------------------------------------------- the request of this run


def _found(ledger: Ledger, model: str, run_id: str) -> TriggerRequest | None:
    """The request that this run serves, or served before it was put off."""
    request = ledger.requests.for_run(model, run_id)
    if request is None and (request_id := request_id_in(run_id)):
        with suppress(KeyError):  # not a run of the reconciler after all
            return ledger.requests.get(request_id)
    return request


def _elsewhere(request: TriggerRequest) -> str:
    """Why this run has nothing to do with its request any more."""
    return request.reason if request.queued and request.reason else f"run {request.run_id} serves this run's request"


def _open(
    spec: ModelSpec,
    ledger: Ledger,
    source: Source,
    cause: Cause,
    run_id: str,
    detail: Mapping[str, Any],
    now: datetime,
) -> TriggerRequest:
    """A new request; of the same event twice the second run gets a row of its own that says so."""

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

    if detail.get("override"):
        return open_as(f"run:{run_id}")  # a version that is there: the source is not asked
    try:
        watermark = source.watermark()
    except SourceError:
        open_as(f"run:{run_id}")  # the ledger must say that this run was asked for, and what stopped it
        raise
    request = open_as(dedupe_key(cause, run_id, watermark), watermark)
    if request.run_id == run_id:
        return request
    own = open_as(f"run:{run_id}", watermark)
    _skip(ledger, own, covered_by(request) if watermark else NO_ROWS, now)


def _begin(ledger: Ledger, request: TriggerRequest, now: datetime) -> TriggerRequest:
    """From here on it has a run: put off, it gets the next one."""
    begun = request.state is not RequestState.OPEN or request.step == ADMIT
    return request if begun else ledger.requests.mark(request.id, now=now, step=ADMIT)


def _params(request: TriggerRequest) -> RunParams:
    params = run_params(request)
    if params.override is not None and request.cause is not Cause.PERSON:
        raise BadRunParameter(
            "run parameter 'override'",
            found="a run that the API started",
            allowed="a person's run: what gates refused is a person's to want",
            do="Start it in Airflow's pages or with `evergreen approve --override`.",
        )
    return params


def _look(
    spec: ModelSpec, ledger: Ledger, source: Source, request: TriggerRequest, params: RunParams, now: datetime
) -> TriggerRequest:
    """The request with its data: what an earlier try could not get, or what came while it waited, up to the end asked.

    Claimed once, its data stays: every later step counts on it. A version that is judged again keeps that of its own.
    """
    if params.override is not None:
        return _with_data_of(ledger, request, params.override, now)
    if judged_again(request) is not None:
        return request
    has_waited = request.state is RequestState.OPEN and request.attempt > 0
    if request.watermark is None or has_waited:
        watermark = source.watermark()
        if watermark and (request.watermark is None or watermark > request.watermark):
            as_of = watermark - spec.label.arrives_after
            request = ledger.requests.mark(request.id, now=now, watermark=watermark, as_of=as_of)
    if request.watermark is None:
        _skip(ledger, request, NO_ROWS, now)
    if params.window_end is None:
        return request
    as_of = end_of_window(request.watermark, spec.label.arrives_after, params.window_end)
    return ledger.requests.mark(request.id, now=now, as_of=as_of)


def _with_data_of(ledger: Ledger, request: TriggerRequest, version: int, now: datetime) -> TriggerRequest:
    """With the watermark and as_of that the version was made up to; without them where there is no such version."""
    with suppress(KeyError):
        made_for = ledger.requests.get(ledger.models.candidate(request.model, version).request_id)
        return ledger.requests.mark(request.id, now=now, watermark=made_for.watermark, as_of=made_for.as_of)
    return request


# ---------------------------------------------------------------- its turn


def _decide(spec: ModelSpec, ledger: Ledger, source: Source, request: TriggerRequest, now: datetime) -> None:
    match weigh(spec, ledger, request, lambda: source, now=now, forced=forced(request)):
        case Go():
            return
        case Skip(reason):
            _skip(ledger, request, reason, now)
        case PutOff(reason, until):
            ledger.leases.release_all(request.id)
            if request.state is RequestState.FAILED:  # cleared by a person: it is open again
                ledger.requests.mark(request.id, now=now, state=RequestState.OPEN, step=ADMIT)
            ledger.requests.put_off(request.id, until=until, reason=reason, now=now)
            raise RunEnds(reason, served=False)


def _skip(ledger: Ledger, request: TriggerRequest, reason: str, now: datetime) -> NoReturn:
    ledger.leases.release_all(request.id)  # held where an earlier try died before its claim
    ledger.requests.mark(request.id, now=now, state=RequestState.SKIPPED, step=ADMIT, reason=reason)
    raise RunEnds(reason, served=False)


def _take_lease(ledger: Ledger, request: TriggerRequest, now: datetime) -> None:
    """Take it, unless another goes first. Whoever waits for it says so, for those that come after."""
    try:
        if request.state is not RequestState.CLAIMED:
            _give_way(ledger, request)
        ledger.leases.acquire(request.model, request.id, LEASE_TTL, now)
    except LeaseBusy as busy:
        ledger.requests.mark(request.id, now=now, step=ADMIT, reason=f"{WAITING}{busy}")
        raise


def _give_way(ledger: Ledger, request: TriggerRequest) -> None:
    first = goes_before(request, ledger.requests.unfinished(request.model))
    if first is not None:
        raise LeaseBusy(f"{request.model}: request {first.id} ({first.cause}) waits for the lease, and goes first")


def _take_along(ledger: Ledger, request: TriggerRequest, now: datetime) -> None:
    """Skip the open requests whose data this one has. Under the lease: none of them can be claimed meanwhile."""
    for other in ledger.requests.unfinished(request.model):
        if takes_along(request, other):
            ledger.requests.mark(other.id, now=now, state=RequestState.SKIPPED, step=ADMIT, reason=covered_by(request))
