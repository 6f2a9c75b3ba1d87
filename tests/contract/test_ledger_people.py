"""What every ledger does: holds and approvals, which people place and answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from threading import Barrier

import pytest

from evergreen.core.ports import Ledger
from evergreen.core.records import FLEET, Approval, ApprovalState, CandidateState, Hold, HoldEvent
from evergreen.core.verdict_json import digest
from ledgers import LATER, Opener, passed
from records import NOW, make_candidate, make_verdict

UNTIL = NOW + timedelta(hours=24)


# ---------------------------------------------------------------- holds


def test_the_first_hold_stays_until_it_is_lifted(ledger: Ledger) -> None:
    placed = ledger.holds.place("m", by="ada", reason="wrong fares", now=NOW)
    assert placed == ledger.holds.applying("m") == Hold("m", "ada", "wrong fares", NOW)
    assert ledger.holds.place("m", by="ben", reason="me too", now=LATER) == placed
    assert ledger.holds.lift("m", by="ben", reason="solved", now=LATER)
    assert ledger.holds.applying("m") is None
    assert not ledger.holds.lift("m", by="ben", reason="again", now=LATER)
    assert ledger.holds.place("m", by="cy", reason="once more", now=LATER).by == "cy"
    assert ledger.holds.history("m") == [
        HoldEvent("m", True, "ada", "wrong fares", NOW),
        HoldEvent("m", False, "ben", "solved", LATER),
        HoldEvent("m", True, "cy", "once more", LATER),
    ]


def test_a_models_own_hold_counts_before_the_fleets(ledger: Ledger) -> None:
    assert not ledger.holds.lift("m", by="ada", reason="", now=NOW)
    fleet = ledger.holds.place(FLEET, by="ada", reason="holiday", now=NOW)
    assert ledger.holds.applying("m") == ledger.holds.applying(FLEET) == fleet
    own = ledger.holds.place("m", by="ben", reason="wrong fares", now=LATER)
    assert ledger.holds.applying("m") == own
    assert ledger.holds.applying("other") == fleet
    ledger.holds.lift("m", by="ben", reason="solved", now=LATER)
    assert ledger.holds.applying("m") == fleet
    ledger.holds.lift(FLEET, by="ada", reason="back", now=LATER)
    assert ledger.holds.applying("m") is None
    assert [(e.model, e.held) for e in ledger.holds.history()] == [
        (FLEET, True),
        ("m", True),
        ("m", False),
        (FLEET, False),
    ]
    assert [e.by for e in ledger.holds.history("m")] == ["ben", "ben"]
    assert ledger.holds.history("other") == []


def test_the_time_of_a_hold_is_in_utc(ledger: Ledger) -> None:
    berlin = NOW.astimezone(timezone(timedelta(hours=1)))
    ledger.holds.place("m", by="ada", reason="", now=berlin)
    assert ledger.holds.applying("m").since == NOW
    assert ledger.holds.applying("m").since.utcoffset() == timedelta(0)
    with pytest.raises(Exception, match="without a time zone"):
        ledger.holds.place("n", by="ada", reason="", now=datetime(2025, 3, 1))


def test_of_many_holds_at_once_one_is_placed_and_of_many_lifts_one_lifts(opener: Opener) -> None:
    ready = Barrier(6)

    def place_and_lift(number: int) -> tuple[Hold, bool]:
        holds = opener().holds
        ready.wait(10)
        placed = holds.place("m", by=f"person-{number}", reason="", now=NOW)
        ready.wait(10)
        return placed, holds.lift("m", by=f"person-{number}", reason="", now=LATER)

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(place_and_lift, range(6)))
    assert len({placed for placed, _ in results}) == 1
    assert sorted(lifted for _, lifted in results) == [*[False] * 5, True]
    assert [event.held for event in opener().holds.history("m")] == [True, False]


# ---------------------------------------------------------------- approvals


def ask(ledger: Ledger, version: int = 1, **changes: object) -> Approval:
    """Ask about a candidate that passed; a new one where there is none."""
    found = [c for c in ledger.models.candidates("m") if c.version == version]
    candidate = found[0] if found else passed(ledger, version, seen=4)
    arguments = {"request_id": "request-1", "run_id": "run-1", "expires_at": UNTIL, "now": NOW}
    return ledger.approvals.ask(candidate, **{**arguments, **changes})


def answer(ledger: Ledger, asked: Approval, state: ApprovalState, by: str | None = "ada") -> Approval:
    """Answer an hour later."""
    return ledger.approvals.answer(asked.id, state=state, by=by, reason=f"{by} says so", now=LATER)


def test_a_question_comes_back_whole(ledger: Ledger) -> None:
    asked = ask(ledger)
    assert asked == ledger.approvals.latest("m", 1) == ledger.approvals.history()[0]
    assert (asked.model, asked.version, asked.request_id, asked.run_id) == ("m", 1, "request-1", "run-1")
    assert (asked.bundle, asked.generation_seen) == (f"{1:064x}", 4)
    assert asked.evidence == digest(make_verdict())
    assert (asked.asked_at, asked.expires_at, asked.asked_at.tzinfo) == (NOW, UNTIL, UTC)
    assert (asked.state, asked.answered_by, asked.reason, asked.answered_at) == (ApprovalState.OPEN, None, "", None)


def test_a_question_is_about_the_verdict_of_its_time(ledger: Ledger) -> None:
    asked = ask(ledger)
    other = make_verdict(reason="the same gates, judged again")
    again = ledger.models.judge("m", 1, verdict=other, state=CandidateState.PASSED, generation_seen=4)
    assert ledger.approvals.latest("m", 1) == asked
    assert ask(ledger, request_id="request-2").evidence == digest(again.verdict) != asked.evidence


def test_an_open_question_is_not_asked_twice(ledger: Ledger) -> None:
    asked = ask(ledger)
    assert ask(ledger, now=LATER, run_id="run-2") == asked
    other_request = ask(ledger, request_id="request-2")
    other_version = ask(ledger, version=2)
    assert len({asked.id, other_request.id, other_version.id}) == 3
    assert ledger.approvals.history("m") == [asked, other_request, other_version]
    assert ledger.approvals.history("other") == []
    assert ledger.approvals.latest("m", 1) == other_request
    assert ledger.approvals.latest("m", 3) is None


def test_a_candidate_that_was_never_kept_is_not_asked_about(ledger: Ledger) -> None:
    with pytest.raises(KeyError):
        ledger.approvals.ask(make_candidate(), request_id="r", run_id="run-1", expires_at=UNTIL, now=NOW)
    assert ledger.approvals.history() == []


@pytest.mark.parametrize(
    ("state", "by", "candidate"),
    [
        (ApprovalState.APPROVED, "ada", CandidateState.PASSED),
        (ApprovalState.REJECTED, "ada", CandidateState.DECLINED),
        (ApprovalState.EXPIRED, None, CandidateState.PASSED),
        (ApprovalState.SUPERSEDED, None, CandidateState.PASSED),
        (ApprovalState.VOID, "ada", CandidateState.PASSED),
    ],
)
def test_the_first_answer_stands(
    ledger: Ledger, state: ApprovalState, by: str | None, candidate: CandidateState
) -> None:
    asked = ask(ledger)
    answered = answer(ledger, asked, state, by)
    assert (answered.state, answered.answered_by, answered.reason) == (state, by, f"{by} says so")
    assert (answered.answered_at, answered.asked_at, answered.id) == (LATER, NOW, asked.id)
    for other in set(ApprovalState) - {ApprovalState.OPEN}:
        assert answer(ledger, asked, other, "ben") == answered
    assert ledger.approvals.latest("m", 1) == answered
    assert ledger.models.candidate("m", 1).state is candidate


def test_an_answered_question_is_asked_anew(ledger: Ledger) -> None:
    expired = answer(ledger, ask(ledger), ApprovalState.EXPIRED, None)
    again = ask(ledger, now=LATER)
    assert again.state is ApprovalState.OPEN
    assert ledger.approvals.history("m") == [expired, again]
    assert ledger.approvals.latest("m", 1) == again


def test_a_question_says_which_gates_it_sets_aside(ledger: Ledger) -> None:
    asked = ask(ledger, overrides="auc ≥ 0.6, rehearsal")
    assert asked == ledger.approvals.latest("m", 1)
    assert asked.overrides == "auc ≥ 0.6, rehearsal"
    assert answer(ledger, asked, ApprovalState.APPROVED).overrides == "auc ≥ 0.6, rehearsal"
    assert ask(ledger, version=2).overrides == ""


def test_the_open_questions_of_all_models_come_oldest_first(ledger: Ledger) -> None:
    assert ledger.approvals.open_ones() == []
    first, second = ask(ledger), ask(ledger, version=2)
    other = ledger.approvals.ask(
        passed(ledger, 1, seen=0, model="other"), request_id="r", run_id="run-1", expires_at=UNTIL, now=NOW
    )
    assert ledger.approvals.open_ones() == [first, second, other]
    answer(ledger, second, ApprovalState.VOID)
    again = ask(ledger, version=2)
    assert ledger.approvals.open_ones() == [first, other, again]


IN_DOUBT = (CandidateState.PASSED, CandidateState.TO_OVERRIDE)


@pytest.mark.parametrize("state", [s for s in CandidateState if s not in IN_DOUBT])
def test_a_rejection_declines_only_a_candidate_that_still_passes(ledger: Ledger, state: CandidateState) -> None:
    kept = ledger.models.add_candidate(make_candidate(state=state))
    answer(ledger, ask(ledger), ApprovalState.REJECTED)
    assert ledger.models.candidate("m", 1) == kept


@pytest.mark.parametrize("state", [s for s in ApprovalState if s is not ApprovalState.OPEN])
def test_whatever_is_no_approval_refuses_a_candidate_that_waits_to_be_overridden(
    ledger: Ledger, state: ApprovalState
) -> None:
    ledger.models.add_candidate(make_candidate(state=CandidateState.TO_OVERRIDE))
    answer(ledger, ask(ledger), state)
    waits = state is ApprovalState.APPROVED
    then = CandidateState.TO_OVERRIDE if waits else CandidateState.REJECTED
    assert ledger.models.candidate("m", 1).state is then


def test_a_later_answer_refuses_nothing(ledger: Ledger) -> None:
    ledger.models.add_candidate(make_candidate(state=CandidateState.TO_OVERRIDE))
    asked = ask(ledger)
    approved = answer(ledger, asked, ApprovalState.APPROVED)
    assert answer(ledger, asked, ApprovalState.EXPIRED, None) == approved
    assert ledger.models.candidate("m", 1).state is CandidateState.TO_OVERRIDE


def test_a_question_that_is_not_there_or_an_answer_that_is_none(ledger: Ledger) -> None:
    asked = ask(ledger)
    with pytest.raises(KeyError):
        ledger.approvals.answer("nobody", state=ApprovalState.APPROVED, by="ada", reason="", now=NOW)
    with pytest.raises(ValueError, match="approved, rejected or expired"):
        answer(ledger, asked, ApprovalState.OPEN)
    assert ledger.approvals.latest("m", 1) == asked


def test_of_many_answers_at_once_one_stands(opener: Opener) -> None:
    asked = ask(opener())
    ready = Barrier(6)

    def answer_now(number: int) -> Approval:
        ledger = opener()
        ready.wait(10)
        state = ApprovalState.REJECTED if number % 2 else ApprovalState.APPROVED
        return answer(ledger, asked, state, f"person-{number}")

    with ThreadPoolExecutor(6) as pool:
        answers = set(pool.map(answer_now, range(6)))
    assert len(answers) == 1
    kept = answers.pop()
    assert opener().approvals.history() == [kept]
    declined = opener().models.candidate("m", 1).state is CandidateState.DECLINED
    assert declined == (kept.state is ApprovalState.REJECTED)


def test_many_askers_at_once_open_one_question(opener: Opener) -> None:
    passed(opener(), 1, seen=4)
    ready = Barrier(6)

    def ask_now(_number: int) -> str:
        ledger = opener()
        ready.wait(10)
        return ask(ledger).id

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(ask_now, range(6)))
    assert len(ids) == 1
