"""Notices: each is written once, says what happened and what to do, leads to the page, and is tried again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from evergreen.core import notices
from evergreen.core.addresses import Addresses
from evergreen.core.outbox import TRIES, due, error_text, failed_ways, without_secrets
from evergreen.core.ports import Ledger
from evergreen.core.records import (
    CHALLENGER,
    FLEET,
    LATENCY_BOUNDS,
    PREDICTION_BINS,
    Approval,
    ApprovalState,
    ArmCount,
    CandidateState,
    Notice,
    NoticeKind,
    Release,
    RequestState,
    RolloutPlan,
    RolloutState,
    TriggerRequest,
    Trip,
    TripKind,
)
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.steps.tell_people import LOOK_BACK, tell_people
from ledgers import passed, prepare, release, roll_back
from records import NOW, make_candidate, make_request_args, make_verdict

PAGES = Addresses.under("https://airflow.example.com/af/")
LINK = "https://airflow.example.com/page"
QUESTION = Approval("a-1", "m", 7, "r", "run", "b" * 64, 3, NOW, NOW + timedelta(hours=24), ApprovalState.OPEN)


@pytest.fixture
def ledger() -> Ledger:
    return in_memory_ledger()


def newest(ledger: Ledger) -> Notice:
    return ledger.notices.latest(1)[0]


def test_a_question_is_told_once_and_so_are_its_reminder_and_its_escalation(ledger: Ledger) -> None:
    for tell, kind in (
        (notices.approval_needed, NoticeKind.APPROVAL_NEEDED),
        (notices.reminder, NoticeKind.REMINDER),
        (notices.escalation, NoticeKind.ESCALATION),
    ):
        assert tell(ledger, QUESTION, LINK, NOW)
        assert not tell(ledger, QUESTION, LINK, NOW + timedelta(hours=1))
        assert (newest(ledger).kind, newest(ledger).link) == (kind, LINK)
        assert "m version 7" in newest(ledger).title
        assert "at 2025-03-02 12:00 UTC, and then the champion stays" in newest(ledger).text
    assert notices.approval_needed(ledger, replace(QUESTION, id="a-2", overrides="auc"), LINK, NOW)
    assert "set aside gates that failed: auc." in newest(ledger).text


def test_a_silence_is_told_once_and_the_next_one_again(ledger: Ledger) -> None:
    assert notices.silent(ledger, None, LINK, NOW)
    assert "never heard of" in newest(ledger).text
    assert notices.silent(ledger, NOW, LINK, NOW)
    assert not notices.silent(ledger, NOW, LINK, NOW + timedelta(minutes=1))
    assert notices.silent(ledger, NOW + timedelta(hours=2), LINK, NOW + timedelta(hours=3))
    assert (newest(ledger).model, newest(ledger).kind) == (FLEET, NoticeKind.SILENT)
    assert "last heard of at 2025-03-01 14:00 UTC" in newest(ledger).text


def test_what_is_reported_is_told_once_by_its_key(ledger: Ledger) -> None:
    assert notices.reported(ledger, "m", "the alias was moved by hand", "alias:1", LINK, NOW)
    assert not notices.reported(ledger, "m", "the alias was moved by hand", "alias:1", LINK, NOW)
    assert notices.reported(ledger, FLEET, "the alias was moved by hand", "alias:1", LINK, NOW)
    assert (newest(ledger).title, newest(ledger).text) == (
        "All models: something to look at",
        "the alias was moved by hand.",
    )


# ---------------------------------------------------------------- what follows from the ledger


def told(ledger: Ledger, now: object = NOW) -> list[Notice]:
    """What a look at the ledger adds, in the order in which it was written."""
    before = len(ledger.notices.latest(1000))
    tell_people(ledger, ["m"], PAGES, now=now)  # type: ignore[arg-type]
    return list(reversed(ledger.notices.latest(1000)[: len(ledger.notices.latest(1000)) - before]))


def test_releases_rollbacks_and_aborts_are_told_once_with_the_versions_page(ledger: Ledger) -> None:
    first = passed(ledger, 1, seen=0)
    assert told(ledger) == []
    release(ledger, first)
    [one] = told(ledger)
    assert (one.kind, one.title) == (NoticeKind.RELEASED, "m version 1 was released")
    assert one.link == "https://airflow.example.com/af/evergreen/models/m/versions/1"
    assert "by auto: gates." in one.text
    release(ledger, passed(ledger, 2, seen=1))
    assert [one.title for one in told(ledger)] == ["m version 2 was released"]
    roll_back(ledger, first, seen=2, by="alice", reason="too many false alarms")
    [back] = told(ledger, NOW + timedelta(hours=1))
    assert (back.kind, back.title) == (NoticeKind.ROLLED_BACK, "m was rolled back to version 1")
    assert "by alice: too many false alarms. The model is held" in back.text
    aborted = prepare(ledger, passed(ledger, 3, seen=3))
    ledger.releases.abort(aborted.id, by="bob", reason="wrong day", now=NOW)
    [end] = told(ledger)
    assert (end.kind, end.title) == (NoticeKind.REPORTED, "m version 3 was not released after all")
    assert (end.text, end.link) == ("Aborted by bob: wrong day.", f"{PAGES.pages}/models/m/versions/3")
    assert told(ledger, NOW + timedelta(hours=2)) == []


def on_trial(ledger: Ledger, state: RolloutState = RolloutState.SHADOW, weight: int = 0) -> Release:
    """Version 2 beside version 1, in a stage of an hour that began now and needs 100 requests."""
    release(ledger, passed(ledger, 1, seen=0))
    plan = RolloutPlan(timedelta(minutes=1), (50,), timedelta(hours=1), timedelta(hours=1), min_requests=100)
    entered = prepare(ledger, passed(ledger, 2, seen=1), plan=plan)
    entered = ledger.releases.enter(entered, state, weight, reason="for a test", now=NOW)
    told(ledger)  # the release of version 1
    return entered


def count(ledger: Ledger, trial: Release, requests: int) -> None:
    latency, bins = (requests, *[0] * len(LATENCY_BOUNDS)), (0,) * PREDICTION_BINS
    counted = ArmCount(trial.id, trial.stage, CHALLENGER, "blue", "boot-1", requests, 0, latency, bins)
    ledger.trials.count([counted])


def test_a_stage_that_lacks_requests_for_long_is_told_once_and_so_is_the_next(ledger: Ledger) -> None:
    trial = on_trial(ledger)
    count(ledger, trial, 99)
    assert told(ledger, NOW + timedelta(minutes=10, seconds=59)) == [], "10 minutes over its length at least"
    [one] = told(ledger, NOW + timedelta(minutes=11))
    assert (one.kind, one.link) == (NoticeKind.REPORTED, f"{PAGES.pages}/models/m")
    assert "m version 2 stays" in one.text
    assert "shadow: 99 of 100 requests in 11 min. It goes on" in one.text
    assert "`evergreen promote m`" in one.text
    assert told(ledger, NOW + timedelta(hours=5)) == []
    ledger.releases.enter(trial, RolloutState.CANARY, 50, reason="for a test", now=NOW)
    assert told(ledger, NOW + timedelta(minutes=119)) == [], "as long again as the stage should last"
    [one] = told(ledger, NOW + timedelta(hours=2))
    assert "canary-50: 0 of 100 requests" in one.text


def test_a_stage_that_has_its_requests_lacks_none(ledger: Ledger) -> None:
    count(ledger, on_trial(ledger, RolloutState.CANARY, 50), 100)
    assert told(ledger, NOW + timedelta(hours=3)) == []


def test_what_a_guard_took_off_waits_for_no_requests(ledger: Ledger) -> None:
    trial = on_trial(ledger, RolloutState.CANARY, 50)
    count(ledger, trial, 7)
    ledger.trials.trip(Trip(trial.id, "blue", TripKind.FAULTS, "5 faults", NOW))
    assert told(ledger, NOW + timedelta(hours=3)) == []


def test_what_is_old_is_no_news(ledger: Ledger) -> None:
    release(ledger, passed(ledger, 1, seen=0))
    assert told(ledger, NOW + LOOK_BACK + timedelta(seconds=1)) == []
    assert len(told(ledger, NOW + LOOK_BACK)) == 1


def test_an_open_question_is_told_with_the_page_to_answer_on(ledger: Ledger) -> None:
    candidate = passed(ledger, 1, seen=0)
    about = {"request_id": "r", "run_id": "manual__1+00:00", "now": NOW}
    ledger.approvals.ask(candidate, expires_at=NOW + timedelta(days=1), **about)  # type: ignore[arg-type]
    [one] = told(ledger)
    assert one.kind is NoticeKind.APPROVAL_NEEDED
    assert one.link == f"{PAGES.airflow}/dags/m/runs/manual__1%2B00%3A00/tasks/approve/required_actions"


def request(ledger: Ledger, detail: dict[str, object] | None = None, **ended: object) -> TriggerRequest:
    opened = ledger.requests.open(**make_request_args(detail=detail or {}))
    return ledger.requests.mark(opened.id, now=NOW, **ended)  # type: ignore[arg-type]


def test_a_failure_is_told_and_once_more_where_the_cleared_run_fails_again(ledger: Ledger) -> None:
    failed = request(ledger, state=RequestState.FAILED, step="pull", reason="warehouse: found nobody")
    [one] = told(ledger)
    assert (one.kind, one.title) == (NoticeKind.FAILED, "m: a retrain failed at pull")
    assert (one.text, one.link) == (
        "warehouse: found nobody. The champion stays.",
        f"{PAGES.airflow}/dags/m/runs/run-1",
    )
    assert told(ledger) == []
    ledger.requests.mark(failed.id, now=NOW, state=RequestState.CLAIMED)
    later = NOW + timedelta(minutes=5)
    ledger.requests.mark(failed.id, now=later, state=RequestState.FAILED, step="pull", reason="still nobody")
    assert [one.text for one in told(ledger, later)] == ["still nobody. The champion stays."]


def test_a_refusal_is_told_with_its_reason_and_evidence(ledger: Ledger) -> None:
    served = request(ledger, state=RequestState.SERVED, step="judge", reason="auc 0.5 is below 0.6")
    ledger.models.add_candidate(make_candidate(version=4, request_id=served.id))
    assert told(ledger) == [], "it has not been judged"
    verdict = make_verdict(passed=False, reason="auc 0.5 is below 0.6")
    ledger.models.judge("m", 4, verdict=verdict, state=CandidateState.REJECTED, generation_seen=0)
    [one] = told(ledger)
    assert (one.kind, one.title) == (NoticeKind.REFUSED, "m version 4 was refused by its gates")
    assert (one.text, one.link) == (
        "auc 0.5 is below 0.6. The champion stays.",
        f"{PAGES.pages}/models/m/versions/4",
    )
    assert told(ledger) == []


def test_a_dry_run_that_would_have_been_refused_is_no_news(ledger: Ledger) -> None:
    ended = {"state": RequestState.SERVED, "step": "judge", "reason": "dry run: auc 0.5 is below 0.6"}
    served = request(ledger, {"dry_run": True}, **ended)
    ledger.models.add_candidate(make_candidate(version=4, request_id=served.id))
    verdict = make_verdict(passed=False)
    ledger.models.judge("m", 4, verdict=verdict, state=CandidateState.REJECTED, generation_seen=0)
    assert told(ledger) == []


# ---------------------------------------------------------------- on their way


def test_a_notice_that_fails_is_tried_again_ever_more_slowly() -> None:
    notice = Notice("n", "m", NoticeKind.FAILED, "key", "title", "text", "", NOW)
    waits = []
    for tries in range(TRIES):
        tried = replace(notice, tries=tries)
        waits.append(next(m for m in range(200) if due(tried, NOW + timedelta(minutes=m))))
    assert waits == [0, 1, 5, 30, 120]


def test_an_error_names_the_ways_that_failed_and_keeps_no_secret() -> None:
    refused = ConnectionError(
        "HTTPConnectionPool(host='h', port=1): url: /services/T0/SECRET (Caused by\nNewConnection)"
    )
    text = error_text({"slack a": without_secrets(refused), "smtp b to c@d": "OSError: away: now"})
    assert failed_ways(Notice("n", "m", NoticeKind.FAILED, "k", "t", "t", "", NOW, error=text)) == {
        "slack a",
        "smtp b to c@d",
    }
    assert "SECRET" not in text
    assert "HTTPConnectionPool(host='h', port=1): url: /…" in text
    assert "SECRET" not in without_secrets(ValueError("https://hooks.example.com/SECRET?x=SECRET"))
    assert len(without_secrets(ValueError("x" * 1000))) == 300
