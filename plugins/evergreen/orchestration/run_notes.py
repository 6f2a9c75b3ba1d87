"""Tells people, on the run itself, what caused it and why it ended; and asks Airflow who started it.

No task is told the latter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from evergreen import wiring
from evergreen.core.errors import EvergreenError
from evergreen.core.records import Cause
from evergreen.core.run_params import RunParams, given
from evergreen.core.triggers import cause_told
from evergreen.core.window_choice import of_candidate
from evergreen.core.window_choice import told as choice_told
from evergreen.orchestration.pages import addresses

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.adapters.airflow_api import AirflowApi
    from evergreen.core.records import Candidate, TriggerRequest

Answer = TypeVar("Answer")
log = logging.getLogger(__name__)


def tell(context: Context, reason: str) -> None:
    """Put the reason on the run: as the task's XCom `reason`, and as the run's note beside what people wrote."""
    log.info("Reason: %s", reason)
    context["ti"].xcom_push(key="reason", value=reason)
    _note(context, reason)


def tell_cause(context: Context, request: TriggerRequest) -> None:
    """Put on the run's note what caused it."""
    told = f"Caused by: {cause_told(request)}"
    log.info("%s", told)
    _note(context, told)


def tell_data_docs(context: Context, model: str, request_id: str) -> None:
    """Put on the run's note where the page on a validation that stopped the run is."""
    _note(context, f"[Data docs: what each expectation found]({addresses().data_docs(model, request_id)})")


def tell_window(context: Context, candidate: Candidate) -> None:
    """Put on the run's note which training window was chosen, where one was."""
    if choice := of_candidate(candidate):
        log.info("%s", choice_told(choice))
        _note(context, f"Version {candidate.version}: {choice_told(choice)}")


def _note(context: Context, text: str) -> None:
    """Put a text on the run's note, above what is there; once."""
    run = context["dag_run"]

    def write(api: AirflowApi) -> None:
        before = api.run(run.dag_id, run.run_id).get("note") or ""
        if text not in before:
            api.note(run.dag_id, run.run_id, f"{text}\n\n{before}".strip())

    _ask_airflow(write)


def cause_of(context: Context) -> tuple[Cause, dict[str, Any]]:
    """What asked for this run, and what is known about it (kept in the trigger request it opens, if it opens one).

    A run that a person or the API started: its parameters as they were given, unchecked (admit checks them). One of
    Airflow's own backfill uses no row later than its logical date.
    """
    run = context["dag_run"]
    kind = str(getattr(run.run_type, "value", run.run_type))
    if kind == "scheduled":
        return Cause.SCHEDULE, {"logical_date": str(run.logical_date)}
    if kind == "asset_triggered":
        return Cause.NEW_DATA, _newest_event(run.consumed_asset_events)
    conf = given(run.conf or {})
    detail = {**conf, "user": run.triggering_user_name}
    if kind == "backfill":
        return Cause.PERSON, {"window_end": run.logical_date.isoformat(), **detail}
    if conf.get("requested_by"):
        return Cause.PERSON, detail
    started = _ask_airflow(lambda api: api.run(run.dag_id, run.run_id)) or {}
    detail["triggered_by"] = started.get("triggered_by")
    return (Cause.PERSON if detail["triggered_by"] in ("ui", "cli") else Cause.API), detail


def _newest_event(events: list[Any]) -> dict[str, Any]:
    """The payload of the newest of the events that a run takes together."""
    newest = max(events, key=lambda event: event.timestamp, default=None)
    extra = dict(newest.extra or {}) if newest else {}
    payload = extra.get("payload")
    told = payload if isinstance(payload, dict) else extra
    told = {
        name: value for name, value in told.items() if name not in RunParams.model_fields
    }  # a run's, not an event's
    return {**told, "events": len(events)}


def _ask_airflow(ask: Callable[[AirflowApi], Answer]) -> Answer | None:
    """What it answers, none where it cannot be asked: a run is never lost over its note."""
    try:
        api = wiring.airflow_api()
        return ask(api) if api else None
    except EvergreenError as error:
        log.warning("Airflow's REST API could not be asked: %s", error)
        return None
