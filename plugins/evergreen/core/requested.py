"""What a trigger request asks for, and how it is told to people.

A request's detail holds the run parameters (core.run_params), beside what only the ledger writes there: who Airflow
says it was, what a monitor or a release said, and which version is to be judged again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from evergreen.core.records import Cause, RequestState, TriggerRequest
from evergreen.core.run_params import RunParams

JUDGE_AGAIN = "judge_again"  # in a request's detail: the version that its run only judges
TUNE = "tune"  # in a request's detail: better parameters are looked for before the fit, where the spec has tuning
RECALL = "recall"  # in a request's detail: its run fits nothing, and may have an earlier version answer again
_AGAIN = frozenset({JUDGE_AGAIN, "because", "of"})
_OWN_WAY = ("window_end", "window_train", "dry_run", "override", JUDGE_AGAIN, RECALL)  # not what another would do
_NO_RETRAIN = ("dry_run", "override", JUDGE_AGAIN, RECALL)
_WITH_PARAMETERS = (Cause.PERSON, Cause.API)
_OWN_RUN = re.compile(r"([0-9a-f]{32})(-[0-9]+)?")  # see records.own_run_id


def again(request: TriggerRequest, version: int, *, generation: int, because: str) -> dict[str, Any]:
    """What `requests.open` needs, but for `now`: the version is judged anew, against the champion of this generation.

    It keeps the cause, the data and what was asked for: who asked once still counts as who asked.
    """
    return {
        "model": request.model,
        "source": request.source,
        "cause": request.cause,
        "dedupe_key": f"again:{request.id}:{generation}",
        "run_id": None,
        "watermark": request.watermark,
        "as_of": request.as_of,
        "detail": {**request.detail, JUDGE_AGAIN: version, "because": because, "of": request.id},
    }


def judged_again(request: TriggerRequest) -> int | None:
    """The version that this request's run only judges, if it does. What a run was started with never says so."""
    version = request.detail.get(JUDGE_AGAIN)
    return version if isinstance(version, int) and not request.first_run else None


def overridden(request: TriggerRequest) -> int | None:
    """The refused version that a person wants all the same, if this is what the request asks for."""
    version = request.detail.get("override")
    return version if isinstance(version, int) else None


def is_recall(request: TriggerRequest) -> bool:
    """Whether its run compares the kept versions. What a run was started with never says so (see judged_again)."""
    return bool(request.detail.get(RECALL)) and not request.first_run and judged_again(request) is None


def run_params(request: TriggerRequest) -> RunParams:
    """What whoever started the run asked for; nobody did where cron or new data did. Raises BadRunParameter."""
    if request.cause not in _WITH_PARAMETERS:
        return RunParams()
    own = frozenset() if request.first_run else _AGAIN  # in a run's conf these are parameters that do not exist
    return RunParams.of({name: value for name, value in request.detail.items() if name not in own})


def forced(request: TriggerRequest) -> bool:
    """Whether whoever started it asked for it whatever else is true."""
    return request.cause in _WITH_PARAMETERS and request.detail.get("force") is True


def goes_its_own_way(request: TriggerRequest) -> bool:
    """Whether its run does something else than a retrain on the newest data, which another could do for it."""
    return any(request.detail.get(name) for name in _OWN_WAY)


def is_retrain(request: TriggerRequest) -> bool:
    """Whether it makes a version that may be released, from data: cooldown and new rows count from such."""
    return not any(request.detail.get(name) for name in _NO_RETRAIN)


def may_be_coalesced(request: TriggerRequest) -> bool:
    """Whether another run may do it too. What a person, or anybody with parameters, asks for has its own run."""
    asked = any(request.detail.get(name) for name in RunParams.model_fields)
    return request.cause is not Cause.PERSON and not asked and not goes_its_own_way(request)


def request_id_in(run_id: str) -> str:
    """The id of the request that the reconciler started this run for; an empty text for a run of another kind."""
    match = _OWN_RUN.fullmatch(run_id)
    return match[1] if match else ""


# ---------------------------------------------------------------- told to people


def readable_time(time: datetime) -> str:
    """'2013-03-01 05:00 UTC'."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def covered_by(other: TriggerRequest) -> str:
    """The reason of a request whose data another one has."""
    waits = other.state is RequestState.OPEN and other.queued
    up_to = f" for the data up to {readable_time(other.watermark)}" if other.watermark else " after it was asked for"
    return f"run {other.run_id} {'is to be' if waits else 'was'} started{up_to}"


def cause_told(request: TriggerRequest) -> str:
    """What caused it, without a full stop: 'metric drift.psi.max is 0.31, above 0.2, over 7d and 12,000 rows'."""
    told = _TOLD[request.cause](request)
    if overridden(request):
        told = f"version {overridden(request)}, whose gates failed, is judged again: {told}"
    elif request.detail.get("dry_run"):
        told = f"dry run: {told}"
    if (version := judged_again(request)) is None:
        return told
    return f"version {version} is judged again: {request.detail.get('because') or 'no reason'} (first: {told})"


def _schedule(request: TriggerRequest) -> str:
    if every := request.detail.get(RECALL):
        return f"a recall, due every {every}: the kept versions are compared on the newest rows"
    due = request.detail.get("logical_date")
    return f"the schedule, of {due}" if due else "the schedule"


def _new_data(request: TriggerRequest) -> str:
    return f"new data, up to {readable_time(request.watermark)}" if request.watermark else "new data"


def _metric(request: TriggerRequest) -> str:
    """Numbers as they were given; window and rows only where they were."""
    facts: Mapping[str, Any] = request.detail
    over = [str(facts["window"])] if facts.get("window") else []
    over += [f"{facts['rows']:,} rows"] if facts.get("rows") is not None else []
    limit = f", {facts.get('direction')} {_number(facts.get('threshold'))}"
    return f"metric {facts.get('metric')} is {_number(facts.get('value'))}{limit}" + (
        f", over {' and '.join(over)}" if over else ""
    )


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)


def _upstream(request: TriggerRequest) -> str:
    facts = request.detail
    return (
        f"version {facts.get('version')} of {facts.get('upstream')} was released (generation {facts.get('generation')})"
    )


def _asked(request: TriggerRequest) -> str:
    facts = request.detail
    who = str(facts.get("requested_by") or facts.get("user") or "somebody")
    what = f"{who} asked for it" if request.cause is Cause.PERSON else f"the API was asked, as {who}"
    return f"{what}: {facts['reason']}" if facts.get("reason") else what


_TOLD: dict[Cause, Callable[[TriggerRequest], str]] = {
    Cause.SCHEDULE: _schedule,
    Cause.NEW_DATA: _new_data,
    Cause.METRIC: _metric,
    Cause.UPSTREAM: _upstream,
    Cause.PERSON: _asked,
    Cause.API: _asked,
}
