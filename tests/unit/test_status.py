"""The rows of `evergreen status`, from records and from a ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from evergreen.core.ports import Ledger
from evergreen.core.records import Cause, Lease, RequestState, TriggerRequest
from evergreen.core.status import Facts, ModelStatus, facts_of, outcome, readable_age, status_of
from evergreen.fakes.ledger import in_memory_ledger
from records import AS_OF, NOW, make_candidate, make_request_args, make_spec, make_verdict

SPEC = make_spec()
AT_THREE = "the schedule at 2025-03-02 03:00 UTC"


@pytest.fixture
def ledger() -> Ledger:
    return in_memory_ledger()


def request_of(ledger: Ledger, **changes: object) -> TriggerRequest:
    """The model's open request."""
    return ledger.requests.open(**make_request_args(**changes))


def row_of(ledger: Ledger, now: object = NOW, **spec: object) -> ModelStatus:
    """The model's row."""
    return status_of(make_spec(**spec), facts_of("m", ledger), NOW if now is NOW else now)


def test_a_model_that_nothing_happened_to(ledger: Ledger) -> None:
    row = row_of(ledger)
    assert (row.version, row.cause, row.outcome) == (None, None, "")
    assert row.waiting_for == "5 new rows"


def test_a_released_model(ledger: Ledger) -> None:
    request = request_of(ledger)
    ledger.models.add_candidate(make_candidate(request_id=request.id))
    candidate = ledger.models.judge("m", 1, verdict=make_verdict(), state="passed", generation_seen=0)
    ledger.releases.release(candidate, pool="default", released_by="auto", reason="", watermark=None, now=NOW)
    ledger.requests.mark(request.id, now=NOW, state=RequestState.SERVED, step="roll_out", reason="released version 1")
    row = row_of(ledger, NOW + timedelta(hours=3))
    assert (row.version, row.released_by, row.data_until) == (1, "auto", AS_OF)
    assert (row.cause, row.outcome, row.waiting_for) == ("new_data", "released version 1", "5 new rows")
    told = row.as_dict(NOW + timedelta(hours=3))
    assert (told["age_seconds"], told["released_at"]) == (3 * 3600, NOW.isoformat())


@pytest.mark.parametrize(
    ("state", "step", "reason", "told", "waiting"),
    [
        (RequestState.OPEN, "", "", "not admitted yet", "run run-1 to start"),
        (RequestState.CLAIMED, "train", "", "running train", "step train"),
        (
            RequestState.CLAIMED,
            "approve",
            "waiting for approval of version 7",
            "running approve",
            "approval of version 7",
        ),
        (RequestState.CLAIMED, "approve", "", "running approve", "step approve"),
        (RequestState.SERVED, "judge", "auc 0.51", "auc 0.51", "5 new rows"),
        (RequestState.SKIPPED, "admit", "3 new rows, 5 needed", "skipped: 3 new rows, 5 needed", "5 new rows"),
        (RequestState.FAILED, "validate", "5 % bad", "failed at validate: 5 % bad", "5 new rows"),
    ],
)
def test_each_state_has_its_outcome_and_what_is_waited_for(
    ledger: Ledger, state: RequestState, step: str, reason: str, told: str, waiting: str
) -> None:
    request = replace(request_of(ledger), state=state, step=step, reason=reason)
    assert outcome(request) == told
    assert status_of(SPEC, Facts(last=request), NOW).waiting_for == waiting


def test_an_open_request_waits_for_the_lease_that_another_run_holds(ledger: Ledger) -> None:
    request = request_of(ledger)
    ledger.leases.acquire("m", "other-request", timedelta(minutes=5), NOW)
    assert row_of(ledger).waiting_for == "the lease, which other-request holds"
    assert row_of(ledger, NOW + timedelta(minutes=6)).waiting_for == f"run {request.run_id} to start"


def test_a_step_whose_lease_ran_out_is_told_as_silent(ledger: Ledger) -> None:
    request = replace(request_of(ledger), state=RequestState.CLAIMED, step="train")
    facts = Facts(last=request, lease=Lease("m", request.id, 1, NOW))
    assert status_of(SPEC, facts, NOW).waiting_for == "step train, silent since its lease ended at 2025-03-01 12:00 UTC"


@pytest.mark.parametrize(
    ("triggers", "waiting"),
    [
        ([], "a person: evergreen retrain m"),
        ([{"new_data": {"min_rows": 5000}}], "5,000 new rows"),
        ([{"schedule": "0 3 * * *"}], AT_THREE),
        ([{"schedule": "0 3 * * *"}, {"schedule": "0 18 * * *"}], "the schedule at 2025-03-01 18:00 UTC"),
        (
            [{"schedule": "0 3 * * *"}, {"new_data": {"min_rows": 5}}],
            f"5 new rows or {AT_THREE}",
        ),
    ],
)
def test_a_model_at_rest_waits_for_its_triggers(ledger: Ledger, triggers: list[object], waiting: str) -> None:
    assert row_of(ledger, triggers=triggers).waiting_for == waiting


def test_a_cooldown_is_told_while_it_lasts(ledger: Ledger) -> None:
    request = request_of(ledger, cause=Cause.PERSON)
    ledger.requests.mark(request.id, now=NOW, state=RequestState.SERVED, step="judge", reason="x")
    told = row_of(ledger, NOW + timedelta(hours=5), cooldown="6h").waiting_for
    assert told == "cooldown until 2025-03-01 18:00 UTC, then 5 new rows"
    assert row_of(ledger, NOW + timedelta(hours=6), cooldown="6h").waiting_for == "5 new rows"


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=-3), "0 s"),
        (timedelta(seconds=119), "119 s"),
        (timedelta(seconds=120), "2 min"),
        (timedelta(hours=2), "2 h"),
        (timedelta(hours=48), "2 d"),
        (timedelta(days=400), "400 d"),
    ],
)
def test_ages_are_told_in_one_unit(age: timedelta, text: str) -> None:
    assert readable_age(age) == text
