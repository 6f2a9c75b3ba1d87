"""The rows of `evergreen status`, from records and from a ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from evergreen.core.ports import Ledger
from evergreen.core.readable import readable_age
from evergreen.core.records import FLEET, Approval, ApprovalState, Cause, Lease, RequestState, TriggerRequest
from evergreen.core.status import Facts, ModelStatus, facts_of, outcome, status_of
from evergreen.fakes.ledger import in_memory_ledger
from ledgers import release, roll_back
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
    return status_of(make_spec(**spec), facts_of("m", ledger, NOW), NOW if now is NOW else now)


def test_a_model_that_nothing_happened_to(ledger: Ledger) -> None:
    row = row_of(ledger)
    assert (row.version, row.cause, row.outcome) == (None, None, "")
    assert row.waiting_for == "5 new rows"


def test_a_released_model(ledger: Ledger) -> None:
    request = request_of(ledger)
    ledger.models.add_candidate(make_candidate(request_id=request.id))
    candidate = ledger.models.judge("m", 1, verdict=make_verdict(), state="passed", generation_seen=0)
    release(ledger, candidate, reason="", watermark=None)
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


def ask(ledger: Ledger, request: TriggerRequest) -> Approval:
    """The open question about version 1, until the next day."""
    candidate = ledger.models.add_candidate(make_candidate(request_id=request.id))
    until = NOW + timedelta(days=1)
    return ledger.approvals.ask(candidate, request_id=request.id, run_id="run-1", expires_at=until, now=NOW)


def test_an_open_approval_is_told_with_since_when_and_until_when(ledger: Ledger) -> None:
    request = request_of(ledger)
    ledger.requests.mark(request.id, now=NOW, state=RequestState.CLAIMED, step="approve")
    asked = ask(ledger, request)
    told = "approval of version 1, since 2025-03-01 12:00 UTC, until 2025-03-02 12:00 UTC"
    assert row_of(ledger).waiting_for == told
    ledger.approvals.answer(asked.id, state=ApprovalState.APPROVED, by="ada", reason="", now=NOW)
    assert row_of(ledger).waiting_for == "step approve"


def test_the_open_approval_of_an_earlier_request_is_not_waited_for(ledger: Ledger) -> None:
    ask(ledger, request_of(ledger))
    later = request_of(ledger, dedupe_key="later", run_id="run-2")
    ledger.requests.mark(later.id, now=NOW, state=RequestState.CLAIMED, step="approve")
    assert row_of(ledger).waiting_for == "step approve"


def test_a_hold_is_told_with_who_and_why_and_how_to_lift_it(ledger: Ledger) -> None:
    ledger.holds.place(FLEET, by="ben", reason="holiday", now=NOW)
    row = row_of(ledger)
    assert (row.hold_of, row.waiting_for) == (FLEET, "the hold to be lifted, then 5 new rows")
    assert row.hold == (
        "all models are held since 2025-03-01 12:00 UTC by ben: holiday "
        "(to lift it: evergreen release-hold --all --reason …)"
    )
    ledger.holds.place("m", by="ada", reason="wrong fares", now=NOW)
    row = row_of(ledger)
    assert row.hold_of == "m"
    assert row.hold.startswith("held since 2025-03-01 12:00 UTC by ada: wrong fares (to lift it: evergreen")
    assert row.as_dict(NOW)["hold"] == row.hold
    for held in ("m", FLEET):
        ledger.holds.lift(held, by="ada", reason="solved", now=NOW)
    assert (row_of(ledger).hold, row_of(ledger).hold_of, row_of(ledger).waiting_for) == ("", None, "5 new rows")


def test_a_champion_by_a_rollback_says_so_and_keeps_the_data_of_its_version(ledger: Ledger) -> None:
    for version in (1, 2):
        as_of = AS_OF + timedelta(days=version)
        request = request_of(ledger, dedupe_key=f"key-{version}", as_of=as_of)
        made = make_candidate(version=version, request_id=request.id, generation_seen=version - 1)
        release(ledger, ledger.models.add_candidate(made))
    assert (row_of(ledger).version, row_of(ledger).rolled_back) == (2, False)
    roll_back(ledger, ledger.models.candidate("m", 1))
    row = row_of(ledger)
    assert (row.version, row.rolled_back, row.released_by) == (1, True, "ada")
    assert (row.data_until, row.hold_of) == (AS_OF + timedelta(days=1), "m")


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


# ---------------------------------------------------------------- put off


def test_a_request_that_was_put_off_says_until_when_and_why(ledger: Ledger) -> None:
    request = request_of(ledger, cause=Cause.SCHEDULE)
    ledger.requests.put_off(request.id, until=NOW + timedelta(hours=6), reason="cooldown: 6h since …", now=NOW)
    row = row_of(ledger)
    assert row.waiting_for == "put off until 2025-03-01 18:00 UTC: cooldown: 6h since …"
    assert row.outcome == "put off: cooldown: 6h since …"
    ledger.requests.put_off(request.id, until=None, reason="held by ada", now=NOW)
    assert row_of(ledger).waiting_for == "put off: held by ada"


def test_a_request_that_nobody_has_looked_at_waits_for_the_reconciler(ledger: Ledger) -> None:
    request = request_of(ledger, run_id=None, cause=Cause.METRIC)
    row = row_of(ledger)
    assert (row.waiting_for, row.outcome) == (f"the reconciler to start run {request.id}", "not admitted yet")
    ledger.requests.mark(request.id, now=NOW, step="admit")
    assert row_of(ledger).waiting_for == f"run {request.id} to start"


def test_a_model_that_is_made_from_others_waits_for_their_release(ledger: Ledger) -> None:
    waiting = row_of(ledger, triggers=[{"new_data": {"min_rows": 5}}, {"upstream": "fares"}]).waiting_for
    assert waiting == "5 new rows or a release of fares"


def test_a_model_whose_metrics_start_it_waits_for_them(ledger: Ledger) -> None:
    waiting = row_of(ledger, triggers=[{"metric": {"name": "drift.psi.max", "above": 0.2}}]).waiting_for
    assert waiting == "drift.psi.max above 0.2"
