"""The wrapper around every step: what each kind of ending does to the request, the lease and the run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException, AirflowSkipException

from evergreen.core.errors import LeaseLost, RunEnds, SourceUnavailable, ValidationStopped
from evergreen.core.records import Cause, Lease, NoticeKind, RequestState, TriggerRequest
from evergreen.core.run_params import RunParams
from evergreen.core.triggers import LEASE_TTL
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.orchestration.closing import close_failed_run
from evergreen.orchestration.outage import Outage
from evergreen.orchestration.run_notes import cause_of, tell_cause, tell_data_docs
from evergreen.orchestration.task_run import RETRIES, RETRIES_OF_AN_ERROR, TaskRun, run_step
from records import make_request_args, make_spec


@dataclass
class Task:
    """What a step sees of Airflow's task instance."""

    try_number: int = 1
    max_tries: int = RETRIES["retries"]
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


@pytest.fixture
def run() -> TaskRun:
    """A run whose request is claimed and whose lease is held, as admit leaves them."""
    made = TaskRun(make_spec(), {"ti": Task(), "dag_run": SimpleNamespace(run_id="run-1", dag_id="m")})  # type: ignore[typeddict-item,arg-type]
    made.__dict__["ledger"] = in_memory_ledger()
    request = made.ledger.requests.open(**make_request_args())
    made.ledger.requests.mark(request.id, now=made.now, state=RequestState.CLAIMED, step="admit")
    made.ledger.leases.acquire("m", request.id, LEASE_TTL, made.now)
    return made


def request_of(run: TaskRun) -> TriggerRequest:
    assert run.request is not None
    return run.request


def holder(run: TaskRun) -> str | None:
    lease = run.ledger.leases.get("m")
    return lease.holder if lease else None


def test_the_request_says_which_step_runs_and_the_lease_is_renewed(run: TaskRun) -> None:
    before = run.ledger.leases.get("m")
    with run_step(run, "pull"):
        assert (request_of(run).state, request_of(run).step) == (RequestState.CLAIMED, "pull")
    after = run.ledger.leases.get("m")
    assert before is not None
    assert after is not None
    assert after.expires_at > before.expires_at


@pytest.mark.parametrize(("served", "state"), [(True, RequestState.SERVED), (False, RequestState.SKIPPED)])
def test_a_run_that_ends_is_skipped_with_its_reason(run: TaskRun, served: bool, state: RequestState) -> None:
    with pytest.raises(AirflowSkipException, match="nothing new"), run_step(run, "train"):
        raise RunEnds("nothing new", served=served)
    assert (request_of(run).state, request_of(run).reason, holder(run)) == (state, "nothing new", None)
    assert run.context["ti"].pushed == {"reason": "nothing new"}  # type: ignore[attr-defined]


def test_an_error_that_no_retry_helps_fails_at_once(run: TaskRun) -> None:
    with pytest.raises(AirflowFailException, match="5 % bad"), run_step(run, "validate"):
        raise ValidationStopped("5 % bad")
    assert (request_of(run).state, request_of(run).reason, holder(run)) == (RequestState.FAILED, "5 % bad", None)


@pytest.mark.parametrize(
    ("error", "raised"),
    [(SourceUnavailable("s", found="f", allowed="a", do="d"), SourceUnavailable), (ConnectionError("gone"), Outage)],
)
def test_a_service_that_is_away_is_waited_for_until_the_last_try(
    run: TaskRun, error: Exception, raised: type[Exception]
) -> None:
    for number in range(1, RETRIES["retries"] + 1):
        run.context["ti"].try_number = number
        with pytest.raises(raised, match=str(error)), run_step(run, "pull"):
            raise error
    assert request_of(run).state is RequestState.CLAIMED
    assert holder(run) == request_of(run).id
    assert "tried again" in request_of(run).reason
    run.context["ti"].try_number = RETRIES["retries"] + 1
    with pytest.raises(AirflowFailException, match=str(error)), run_step(run, "pull"):
        raise error
    assert (request_of(run).state, holder(run)) == (RequestState.FAILED, None)


def test_half_a_minute_without_a_service_fails_nothing() -> None:
    delays = [min(10 * 2**tries, 60) for tries in range(RETRIES["retries"])]  # the shortest that Airflow makes of it
    assert RETRIES["retry_delay"].total_seconds() == 10
    assert RETRIES["max_retry_delay"].total_seconds() == 60
    assert sum(delays[: len(delays) - 1]) > 2 * 30


@pytest.mark.parametrize("cleared", [0, 10])
def test_an_error_of_another_kind_is_tried_a_few_times_only(run: TaskRun, cleared: int) -> None:
    task = run.context["ti"]
    task.max_tries += cleared  # by a person, after so many tries
    for number in range(1, RETRIES_OF_AN_ERROR + 1):
        task.try_number = cleared + number
        with pytest.raises(ZeroDivisionError), run_step(run, "train"):
            raise ZeroDivisionError("odd data")
        assert request_of(run).state is RequestState.CLAIMED
    task.try_number += 1
    with pytest.raises(AirflowFailException, match="ZeroDivisionError: odd data"), run_step(run, "train"):
        raise ZeroDivisionError("odd data")
    assert (request_of(run).state, request_of(run).reason) == (RequestState.FAILED, "ZeroDivisionError: odd data")


def test_a_ledger_that_is_away_hides_nothing(run: TaskRun) -> None:
    class Away:
        def __getattr__(self, name: str) -> Any:
            raise ConnectionRefusedError("ledger")

    run.__dict__["ledger"] = Away()
    with pytest.raises(Outage, match="ledger"), run_step(run, "pull"):
        pytest.fail("the step must not run")
    run.context["ti"].try_number = RETRIES["retries"] + 1
    with pytest.raises(AirflowFailException, match="ledger"), run_step(run, "pull"):
        pytest.fail("the step must not run")


def test_a_failed_task_that_is_run_again_claims_its_request_again(run: TaskRun) -> None:
    run.close("pull", RequestState.FAILED, "no answer")
    with run_step(run, "pull"):
        pass
    assert (request_of(run).state, request_of(run).reason) == (RequestState.CLAIMED, "")
    assert holder(run) == request_of(run).id


@pytest.mark.parametrize("state", [RequestState.SERVED, RequestState.SKIPPED])
def test_a_finished_task_that_is_run_again_changes_nothing_and_takes_no_lease(
    run: TaskRun, state: RequestState
) -> None:
    run.close("roll_out", state, "released version 1")
    before = request_of(run)
    with run_step(run, "pull"):
        pass
    with pytest.raises(AirflowSkipException), run_step(run, "train"):
        raise RunEnds("something else", served=False)
    assert (request_of(run), holder(run)) == (before, None)


def test_a_lease_in_other_hands_is_waited_for_without_a_slot(run: TaskRun) -> None:
    run.ledger.leases.release("m", request_of(run).id)
    run.ledger.leases.acquire("m", "another", timedelta(minutes=5), run.now)
    with pytest.raises(AirflowRescheduleException), run_step(run, "pull"):
        pytest.fail("the step must not run")
    assert "waiting" in request_of(run).reason
    assert holder(run) == "another"


# ---------------------------------------------------------------- a lease that is lost on the way


def another_takes_it(run: TaskRun) -> Lease:
    later = run.now + LEASE_TTL + timedelta(minutes=1)
    return run.ledger.leases.acquire("m", "another", LEASE_TTL, later)


def test_a_step_has_its_lease_and_an_ended_request_none(run: TaskRun) -> None:
    with run_step(run, "pull"):
        assert run.lease == run.ledger.leases.get("m")
    run.close("judge", RequestState.SERVED, "done")
    again = TaskRun(run.spec, run.context)
    again.__dict__["ledger"] = run.ledger
    with run_step(again, "pull"):
        assert again.lease is None
        again.renew()
    assert holder(run) is None


def test_who_lost_the_lease_waits_and_no_try_is_counted_against_it(run: TaskRun) -> None:
    run.context["ti"].try_number = RETRIES["retries"] + 1

    def write() -> None:
        another_takes_it(run)
        assert run.lease is not None
        run.ledger.leases.check(run.lease)

    with pytest.raises(AirflowRescheduleException), run_step(run, "train"):
        write()
    assert request_of(run).state is RequestState.CLAIMED
    assert "lost its lease" in request_of(run).reason
    assert holder(run) == "another"
    with pytest.raises(AirflowRescheduleException), run_step(run, "train"):
        pytest.fail("the step must not run")
    run.ledger.leases.release("m", "another")
    with run_step(run, "train"):
        assert run.lease is not None
        run.ledger.leases.check(run.lease)


def test_the_lease_is_renewed_as_long_as_it_is_held(run: TaskRun) -> None:
    with run_step(run, "train"):
        before = run.lease
        run.renew()
        assert before is not None
        assert run.lease is not None
        assert (run.lease.fence, run.lease.expires_at > before.expires_at) == (before.fence, True)
        another_takes_it(run)
        with pytest.raises(LeaseLost):
            run.renew()
        run.ledger.leases.release("m", "another")
        with pytest.raises(LeaseLost):  # it was another's meanwhile: what this step has begun may rest on old facts
            run.renew()
    assert holder(run) is None


def test_a_ledger_that_is_away_takes_no_lease(run: TaskRun, caplog: pytest.LogCaptureFixture) -> None:
    class Away:
        def check(self, lease: Lease) -> None:
            raise ConnectionRefusedError("ledger")

    with run_step(run, "train"):
        before = run.lease
        ledger = run.ledger
        run.__dict__["ledger"] = replace(ledger, leases=Away())
        run.renew()
        run.__dict__["ledger"] = ledger
        assert run.lease == before
    assert "could not be renewed, and is tried again: ledger" in caplog.text


def test_the_child_works_under_the_lease_of_its_task(run: TaskRun) -> None:
    with run_step(run, "train"):
        assert run.in_child("train", lambda own: own.lease) == run.lease is not None


# ---------------------------------------------------------------- told to people


def test_people_are_told_of_a_retrain_that_failed_once_it_has(run: TaskRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://ops.example.com")
    error = SourceUnavailable("warehouse", found="no answer", allowed="an answer", do="Wait.")
    with pytest.raises(SourceUnavailable), run_step(run, "pull"):
        raise error
    assert run.ledger.notices.latest(9) == []
    run.context["ti"].try_number = RETRIES["retries"] + 1
    with pytest.raises(AirflowFailException), run_step(run, "pull"):
        raise error
    (told,) = run.ledger.notices.latest(9)
    assert (told.kind, told.model) == (NoticeKind.FAILED, "m")
    assert "warehouse: found no answer" in told.text
    assert told.link.startswith("https://ops.example.com/dags/m/runs/run-1")


def test_nobody_is_told_of_a_finished_run_that_fails_when_it_is_cleared(run: TaskRun) -> None:
    run.close("roll_out", RequestState.SERVED, "released version 1")
    with pytest.raises(AirflowFailException), run_step(run, "validate"):
        raise ValidationStopped("5 % bad")
    assert run.ledger.notices.latest(9) == []


def test_a_run_that_was_ended_from_outside_closes_its_request(run: TaskRun) -> None:
    close_failed_run(run.ledger, "m", "run-1")
    assert (request_of(run).state, holder(run)) == (RequestState.FAILED, None)
    assert "'admit' was at work" in request_of(run).reason
    before = request_of(run)
    close_failed_run(run.ledger, "m", "run-1")
    close_failed_run(run.ledger, "m", "no-such-run")
    assert request_of(run) == before


def test_a_run_whose_request_was_put_off_leaves_it_alone(run: TaskRun) -> None:
    request = run.ledger.requests.open(**make_request_args(run_id="run-2", dedupe_key="k"))
    waits = run.ledger.requests.put_off(request.id, until=None, reason="held by ada", now=run.now)
    run.context["dag_run"].run_id = "run-2"
    assert run.request is None
    with pytest.raises(AirflowSkipException, match="held by ada"), run_step(run, "admit"):
        raise RunEnds("held by ada", served=False)
    with run_step(run, "pull"):  # cleared by a person
        pass
    close_failed_run(run.ledger, "m", "run-2")
    assert run.ledger.requests.get(request.id) == waits


def test_the_run_is_told_what_caused_it_once(run: TaskRun, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = {"run-1": "by hand"}
    api = SimpleNamespace(
        run=lambda _, run_id: {"note": notes[run_id]},
        note=lambda _, run_id, text: notes.update({run_id: text}),
    )
    monkeypatch.setattr("evergreen.wiring.airflow_api", lambda: api)
    for _ in range(2):
        tell_cause(run.context, request_of(run))
    assert notes == {"run-1": "Caused by: new data, up to 2013-03-01 23:00 UTC\n\nby hand"}
    assert run.context["ti"].pushed == {}  # type: ignore[attr-defined]


def test_a_run_that_validation_stopped_leads_to_its_data_docs(run: TaskRun, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = {"run-1": ""}
    api = SimpleNamespace(
        run=lambda _, run_id: {"note": notes[run_id]},
        note=lambda _, run_id, text: notes.update({run_id: text}),
    )
    monkeypatch.setattr("evergreen.wiring.airflow_api", lambda: api)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://ops.example.com/")
    request = request_of(run)
    tell_data_docs(run.context, "m", request.id)
    run.close("validate", RequestState.FAILED, "5 % bad")
    found = (
        f"[Data docs: what each expectation found](https://ops.example.com/evergreen/models/m/data-docs/{request.id})"
    )
    assert notes == {"run-1": f"5 % bad\n\n{found}"}


def started(kind: str, conf: dict[str, Any] | None = None, events: list[Any] | None = None) -> Any:
    run = SimpleNamespace(
        run_id="r", dag_id="m", run_type=kind, conf=conf, logical_date=None,
        triggering_user_name="admin", consumed_asset_events=events or [],
    )  # fmt: skip
    return {"dag_run": run}


def event(minute: int, watermark: str) -> Any:
    at = datetime(2025, 1, 1, 0, minute, tzinfo=UTC)
    return SimpleNamespace(timestamp=at, extra={"from_trigger": True, "payload": {"watermark": watermark}})


def test_a_run_of_airflow_s_backfill_is_a_person_s_and_ends_its_window_at_its_logical_date() -> None:
    context = started("backfill", {"dry_run": True})
    context["dag_run"].logical_date = datetime(2013, 6, 1, 3, tzinfo=UTC)
    cause, detail = cause_of(context)
    assert cause is Cause.PERSON
    assert detail == {"window_end": "2013-06-01T03:00:00+00:00", "dry_run": True, "user": "admin"}
    assert RunParams.of(detail).window_end == datetime(2013, 6, 1, 3, tzinfo=UTC)
    context["dag_run"].conf = {"window_end": "2013-05-01T00:00:00Z"}
    assert cause_of(context)[1]["window_end"] == "2013-05-01T00:00:00Z"  # whoever wrote it meant it


def test_what_started_the_run_is_its_cause() -> None:
    assert cause_of(started("scheduled"))[0] is Cause.SCHEDULE
    assert cause_of(started("manual", {"requested_by": "ann"})) == (
        Cause.PERSON,
        {"user": "admin", "requested_by": "ann"},
    )
    assert cause_of(started("manual", {}))[0] is Cause.API  # where Airflow cannot be asked: the cooldown holds
    assert cause_of(started("asset_triggered", events=[event(2, "new"), event(1, "old")])) == (
        Cause.NEW_DATA,
        {"watermark": "new", "events": 2},
    )
