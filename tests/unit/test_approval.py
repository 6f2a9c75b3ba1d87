"""Who is asked, and what becomes of an answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from evergreen.core.approval import decide, must_explain, outcome, what_changed, why_ask, why_not_asked
from evergreen.core.records import FLEET, Approval, ApprovalState, CandidateState, Champion, Hold, Verdict
from evergreen.core.verdict_json import digest
from records import NOW, make_candidate, make_spec, make_verdict

HELD = Hold("m", "ann", "wrong fares", NOW)
APART = make_verdict(ask_why="the champion could not be compared: column 'x' is gone")
WITHIN = {"mode": "auto_within", "within": {"auc": 0.01, "logloss": 0.05}}


def ask(approval: dict[str, Any], verdict: Verdict, hold: Hold | None = None, *, has_champion: bool = True) -> str:
    return why_ask(make_spec(approval=approval), verdict, hold, has_champion=has_champion)


def moved(auc: float, logloss: float = 0.4) -> Verdict:
    champion = {"auc": 0.7, "logloss": 0.4}
    return make_verdict(metrics={"auc": auc, "logloss": logloss}, champion_metrics=champion)


# ---------------------------------------------------------------- who is asked


def test_manual_always_asks_and_auto_never_does_by_itself() -> None:
    assert ask({"mode": "manual"}, make_verdict()) == "approval.mode is manual"
    assert ask({"mode": "auto"}, make_verdict()) == ""
    assert ask({"mode": "auto"}, make_verdict(), has_champion=False) == ""


@pytest.mark.parametrize("approval", [{"mode": "auto"}, {"mode": "manual"}, WITHIN])
def test_a_hold_and_a_champion_that_cannot_be_compared_ask_in_every_mode(approval: dict[str, Any]) -> None:
    assert "held since 2025-03-01 12:00 UTC by ann: wrong fares" in ask(approval, moved(0.7), HELD)
    assert "all models are held" in ask(approval, moved(0.7), replace(HELD, model=FLEET))
    assert "column 'x' is gone" in ask(approval, APART)


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        (moved(0.705), ""),
        (moved(0.709, 0.449), ""),
        (moved(0.72), "auc moved from 0.7 to 0.72, further than approval.within allows (0.01)"),
        (moved(0.68), "auc moved from 0.7 to 0.68"),  # worse counts like better
        (moved(0.7, 0.5), "logloss moved from 0.4 to 0.5"),
        (moved(float("nan")), "auc is not known of both"),
        (make_verdict(metrics={"auc": 0.7, "logloss": 0.4}), "auc is not known of both"),
    ],
)
def test_auto_within_asks_where_a_metric_moved_far_or_is_not_known(verdict: Verdict, told: str) -> None:
    found = ask(WITHIN, verdict)
    assert told in found
    assert bool(found) == bool(told)


def test_auto_within_asks_before_there_is_a_champion() -> None:
    assert "no champion yet" in ask(WITHIN, make_verdict(), has_champion=False)


def test_whoever_passes_without_a_person_says_why() -> None:
    assert why_not_asked(make_spec(approval={"mode": "auto"})) == "gates passed, approval.mode is auto"
    assert "auc 0.01, logloss 0.05" in why_not_asked(make_spec(approval=WITHIN))


# ---------------------------------------------------------------- the spec


@pytest.mark.parametrize(
    ("approval", "told"),
    [
        ({"mode": "auto_within"}, "the largest change of at least one metric"),
        ({"mode": "manual", "within": {"auc": 0.1}}, "within for auto_within only"),
        ({"mode": "auto_within", "within": {"auk": 0.1}}, "Did you mean 'auc'?"),
        ({"mode": "auto_within", "within": {"mae": 0.1}}, "found 'mae'"),
        ({"mode": "auto_within", "within": {"auc": 0.0}}, "greater than 0"),
        ({"mode": "auto_within", "within": {"auc": float("inf")}}, "finite"),
    ],
)
def test_within_that_means_nothing_is_refused(approval: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        make_spec(approval=approval)
    assert told in str(refused.value)
    assert refused.value.errors()[0]["loc"][0] == "approval"


# ---------------------------------------------------------------- the answer


def answer(
    *, approve: bool = True, by: str | None = "ann", reason: str = "", explain: str = "", changed: str = ""
) -> Any:
    return decide(approve=approve, by=by, reason=reason, explain=explain, changed=changed)


def test_an_approval_counts_without_a_reason_and_keeps_it_where_there_is_one() -> None:
    assert answer().state is ApprovalState.APPROVED
    assert answer(reason=" it is \n right ").why == "it is right"


@pytest.mark.parametrize("reason", ["", "  \n "])
def test_what_needs_a_reason_is_void_without_one(reason: str) -> None:
    rejected = answer(approve=False, reason=reason)
    approved = answer(reason=reason, explain="held since noon")
    assert (rejected.state, approved.state) == (ApprovalState.VOID, ApprovalState.VOID)
    assert "a rejection needs one" in rejected.why
    assert "held since noon" in approved.why
    assert answer(approve=False, reason="odd").state is ApprovalState.REJECTED
    assert answer(reason="seen", explain="held since noon").state is ApprovalState.APPROVED


def test_nobody_is_a_timeout_whatever_is_chosen() -> None:
    for approve in (True, False):
        assert answer(approve=approve, by=None, reason="r").state is ApprovalState.EXPIRED
    assert answer(by=None).by is None


def test_an_answer_to_something_else_is_void() -> None:
    for approve in (True, False):
        assert answer(approve=approve, reason="r", changed="the champion has changed").state is ApprovalState.VOID


ASKED = Approval(
    "a", "m", 1, "r", "run", make_candidate().bundle, 0, NOW, NOW + timedelta(days=1), ApprovalState.OPEN,
    evidence=digest(make_verdict()),
)  # fmt: skip
PASSED = make_candidate(state=CandidateState.PASSED, verdict=make_verdict())
AGAIN = make_verdict(reason="by gates that were loosened meanwhile")
FIRST = Champion("m", None, 0)


@pytest.mark.parametrize(
    ("candidate", "champion", "hold", "told"),
    [
        (PASSED, FIRST, None, ""),
        (PASSED, FIRST, replace(HELD, since=NOW - timedelta(hours=1)), ""),  # it was on the page
        (PASSED, FIRST, replace(HELD, since=NOW + timedelta(hours=1)), "held since"),
        (PASSED, Champion("m", "x", 1), None, "the champion has changed"),
        (replace(PASSED, generation_seen=1), Champion("m", "x", 1), None, "the champion has changed"),
        (replace(PASSED, bundle="f" * 64), FIRST, None, "no longer the bundle"),
        (replace(PASSED, verdict=AGAIN), FIRST, None, "it was judged again since the question was put"),
        (replace(PASSED, state=CandidateState.REJECTED), FIRST, None, "is rejected by now"),
        (replace(PASSED, state=CandidateState.RELEASED), FIRST, None, "is released by now"),
        (replace(PASSED, state=CandidateState.ROLLED_BACK), FIRST, None, "is rolled back by now"),
    ],
)
def test_what_changed_since_the_question_was_put(candidate: Any, champion: Champion, hold: Any, told: str) -> None:
    found = what_changed(ASKED, candidate, champion, hold)
    assert told in found
    assert bool(found) == bool(told)


def test_every_outcome_is_a_sentence_that_says_what_may_be_done() -> None:
    told = {
        "approved by ann": answer(),
        "rejected by ann: odd": answer(approve=False, reason="odd"),
        "expired": answer(by=None),
        "void": answer(approve=False),
    }
    for words, decision in told.items():
        assert words in outcome("m", 3, decision)
        assert outcome("m", 3, decision).startswith("version 3: ")
    assert "`evergreen retrain m`" in outcome("m", 3, answer(approve=False))


def test_a_reason_is_needed_only_against_the_odds() -> None:
    assert must_explain(make_verdict(), None) == ""
    assert must_explain(APART, HELD).count(";") == 1
