"""What happened to a model, in order of time."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from evergreen.core.history import HistoryEntry, history_of
from evergreen.core.ports import Ledger
from evergreen.core.records import FLEET, ApprovalState, CandidateState, Cause, RequestState
from evergreen.core.requested import again
from evergreen.fakes.ledger import in_memory_ledger
from ledgers import passed, prepare, release, roll_back
from records import NOW, make_candidate, make_request_args, make_verdict


@pytest.fixture
def ledger() -> Ledger:
    return in_memory_ledger()


def at(hours: int) -> datetime:
    return NOW + timedelta(hours=hours)


def refuse(ledger: Ledger, version: int, hours: int, **request: object) -> None:
    """A request that ended at judge, and the candidate that it made."""
    opened = ledger.requests.open(**make_request_args(dedupe_key=f"key-{version}", now=at(hours - 1), **request))
    ledger.models.add_candidate(make_candidate(version=version, request_id=opened.id))
    verdict = make_verdict(passed=False, reason="auc 0.5 is below 0.6")
    ledger.models.judge("m", version, verdict=verdict, state=CandidateState.REJECTED, generation_seen=1)
    ledger.requests.mark(
        opened.id, now=at(hours), state=RequestState.SERVED, step="judge", reason="auc 0.5 is below 0.6"
    )


def test_nothing_happened_yet(ledger: Ledger) -> None:
    ledger.requests.open(**make_request_args())
    ledger.models.add_candidate(make_candidate())
    assert history_of(ledger, "m") == []


def test_all_that_happened_comes_in_order_of_time(ledger: Ledger) -> None:
    first = passed(ledger, 1, seen=0)
    asked = ledger.approvals.ask(first, request_id="r", run_id="run-1", expires_at=at(24), now=at(0))
    ledger.approvals.answer(asked.id, state=ApprovalState.APPROVED, by="ada", reason="looks well", now=at(1))
    release(ledger, first, released_by="ada", reason="looks well", now=at(2))
    refuse(ledger, 2, 4, cause=Cause.SCHEDULE)
    release(ledger, passed(ledger, 3, seen=1), now=at(5))
    roll_back(ledger, first, now=at(6))
    ledger.holds.place(FLEET, by="ben", reason="holiday", now=at(3))
    ledger.holds.lift("m", by="ada", reason="solved", now=at(7))
    ledger.holds.lift(FLEET, by="ben", reason="back", now=at(8))
    assert history_of(ledger, "m") == [
        HistoryEntry(at(0), "approval asked", 1, "", "until 2025-03-02 12:00 UTC"),
        HistoryEntry(at(1), "approved", 1, "ada", "looks well"),
        HistoryEntry(at(2), "prepared", 1, "ada", "looks well"),
        HistoryEntry(at(2), "released", 1, "ada", "looks well"),
        HistoryEntry(at(3), "held (all models)", None, "ben", "holiday"),
        HistoryEntry(at(4), "refused", 2, "schedule", "auc 0.5 is below 0.6"),
        HistoryEntry(at(5), "prepared", 3, "auto", "gates"),
        HistoryEntry(at(5), "replaced", 1, "auto", "gates"),
        HistoryEntry(at(5), "released", 3, "auto", "gates"),
        HistoryEntry(at(6), "rolled back", 3, "ada", "wrong fares"),
        HistoryEntry(at(6), "rolled back to", 1, "ada", "wrong fares"),
        HistoryEntry(at(6), "held", None, "ada", "wrong fares"),
        HistoryEntry(at(7), "hold lifted", None, "ada", "solved"),
        HistoryEntry(at(8), "hold lifted (all models)", None, "ben", "back"),
    ]


def test_another_models_events_are_not_in_it(ledger: Ledger) -> None:
    release(ledger, passed(ledger, 1, seen=0, model="other"))
    ledger.holds.place("other", by="ada", reason="wrong fares", now=NOW)
    assert history_of(ledger, "m") == []


@pytest.mark.parametrize(
    ("state", "by", "what", "who"),
    [
        (ApprovalState.REJECTED, "ada", "rejected", "ada"),
        (ApprovalState.EXPIRED, None, "approval expired", ""),
        (ApprovalState.VOID, "ada", "answer void", "ada"),
        (ApprovalState.VOID, None, "answer void", ""),
        (ApprovalState.SUPERSEDED, None, "superseded", ""),
    ],
)
def test_an_answer_that_is_no_approval(
    ledger: Ledger, state: ApprovalState, by: str | None, what: str, who: str
) -> None:
    candidate = passed(ledger, 1, seen=0)
    asked = ledger.approvals.ask(candidate, request_id="r", run_id="run-1", expires_at=at(24), now=at(0))
    ledger.approvals.answer(asked.id, state=state, by=by, reason="why", now=at(1))
    assert history_of(ledger, "m")[1:] == [HistoryEntry(at(1), what, 1, who, "why")]


def test_a_refusal_names_the_person_who_asked_for_the_run(ledger: Ledger) -> None:
    refuse(ledger, 1, 1, cause=Cause.PERSON, detail={"requested_by": "ada"})
    assert history_of(ledger, "m") == [HistoryEntry(at(1), "refused", 1, "ada", "auc 0.5 is below 0.6")]


def test_a_candidate_refused_again_for_another_request_is_told_twice(ledger: Ledger) -> None:
    refuse(ledger, 1, 1)
    again = ledger.requests.open(**make_request_args(dedupe_key="again"))
    ledger.requests.mark(again.id, now=at(9), state=RequestState.SERVED, step="judge", reason="auc 0.4 is below 0.6")
    told = [(entry.time, entry.version, entry.why) for entry in history_of(ledger, "m")]
    assert told == [(at(1), 1, "auc 0.5 is below 0.6"), (at(9), None, "auc 0.4 is below 0.6")]


def test_a_refused_candidate_whose_request_is_not_known_stands_at_its_making(ledger: Ledger) -> None:
    verdict = make_verdict(passed=False, reason="auc 0.5 is below 0.6")
    ledger.models.add_candidate(make_candidate(state=CandidateState.REJECTED, verdict=verdict))
    ledger.models.add_candidate(make_candidate(version=2, state=CandidateState.PASSED, verdict=make_verdict()))
    assert history_of(ledger, "m") == [HistoryEntry(NOW, "refused", 1, "", "auc 0.5 is below 0.6")]


def test_a_candidate_that_was_not_judged_was_not_refused(ledger: Ledger) -> None:
    opened = ledger.requests.open(**make_request_args())
    ledger.models.add_candidate(make_candidate(request_id=opened.id))
    verdict = make_verdict(passed=False, judged=False, reason="not judged: 3 fresh rows")
    ledger.models.judge("m", 1, verdict=verdict, state=CandidateState.NOT_JUDGED, generation_seen=0)
    ledger.requests.mark(opened.id, now=at(1), state=RequestState.SERVED, step="judge", reason=verdict.reason)
    assert history_of(ledger, "m") == [HistoryEntry(at(1), "not judged", 1, "new_data", "not judged: 3 fresh rows")]


# ---------------------------------------------------------------- how requests and rollouts ended


def end(ledger: Ledger, state: RequestState, step: str, reason: str, **request: object) -> str:
    opened = ledger.requests.open(**make_request_args(**{"dedupe_key": f"key-{step}-{state}", **request}))
    ledger.requests.mark(opened.id, now=at(1), state=state, step=step, reason=reason)
    return opened.id


@pytest.mark.parametrize(
    ("state", "step", "reason", "what", "why"),
    [
        (RequestState.FAILED, "pull", "no such column", "run failed", "at pull: no such column"),
        (RequestState.SKIPPED, "admit", "3 new rows", "skipped", "3 new rows"),
        (RequestState.EXPIRED, "", "waited for 7d", "request expired", "waited for 7d"),
        (RequestState.SERVED, "train", "nothing to train", "nothing to do", "nothing to train"),
        (RequestState.SERVED, "judge", "dry run: version 7 would go on", "dry run", "dry run: version 7 would go on"),
        (RequestState.SERVED, "roll_out", "it is held since", "not released", "it is held since"),
    ],
)
def test_how_a_request_ended_is_told(
    ledger: Ledger, state: RequestState, step: str, reason: str, what: str, why: str
) -> None:
    end(ledger, state, step, reason, cause=Cause.PERSON, detail={"requested_by": "ada"})
    assert history_of(ledger, "m") == [HistoryEntry(at(1), what, None, "ada", why)]


def test_what_a_release_or_an_answer_tells_is_not_told_twice(ledger: Ledger) -> None:
    request = ledger.requests.get(end(ledger, RequestState.SERVED, "roll_out", "released version 1"))
    made = make_candidate(request_id=request.id, state=CandidateState.PASSED, verdict=make_verdict())
    release(ledger, ledger.models.add_candidate(made))
    second = ledger.requests.open(**again(request, 1, generation=1, because="the champion changed"), now=NOW)
    ledger.requests.mark(second.id, now=at(1), state=RequestState.SERVED, step="roll_out", reason="released version 1")
    declined = end(ledger, RequestState.SERVED, "approve", "rejected by ada", dedupe_key="declined")
    asked = ledger.approvals.ask(
        passed(ledger, 2, seen=1), request_id=declined, run_id="run-2", expires_at=at(24), now=at(0)
    )
    ledger.approvals.answer(asked.id, state=ApprovalState.REJECTED, by="ada", reason="worse", now=at(1))
    told = [(entry.what, entry.version) for entry in history_of(ledger, "m")]
    assert told == [("approval asked", 2), ("prepared", 1), ("released", 1), ("rejected", 2)]


def test_a_rollout_that_was_aborted_is_told(ledger: Ledger) -> None:
    prepared = prepare(ledger, passed(ledger, 1, seen=0))
    ledger.releases.abort(prepared.id, by="ben", reason="the wrong month", now=at(1))
    assert history_of(ledger, "m") == [
        HistoryEntry(at(0), "prepared", 1, "auto", "gates"),
        HistoryEntry(at(1), "aborted", 1, "ben", "the wrong month"),
    ]


def test_what_people_must_be_able_to_read_is_in_it(ledger: Ledger) -> None:
    ledger.events.add("m", "alias moved", "champion was set to 3 by hand", by="somebody", key="a", now=at(1))
    ledger.events.add(FLEET, "restored", "from the backup of May", by="ben", key="b", now=at(2))
    ledger.events.add("other", "alias moved", "not mine", by="somebody", key="c", now=at(2))
    assert history_of(ledger, "m") == [
        HistoryEntry(at(1), "alias moved", None, "somebody", "champion was set to 3 by hand"),
        HistoryEntry(at(2), "restored (all models)", None, "ben", "from the backup of May"),
    ]


def test_an_override_is_told_where_it_is_asked_for(ledger: Ledger) -> None:
    candidate = passed(ledger, 1, seen=0)
    ledger.approvals.ask(candidate, request_id="r", run_id="r", expires_at=at(24), now=at(0), overrides="auc")
    assert history_of(ledger, "m")[0].why == "until 2025-03-02 12:00 UTC; overrides auc"
