"""Who is asked, and what becomes of an answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from evergreen.core.approval import (
    decide,
    must_explain,
    outcome,
    overridden,
    what_changed,
    why_ask,
    why_not_asked,
)
from evergreen.core.overtaken import stale, superseded
from evergreen.core.records import FLEET, Approval, ApprovalState, CandidateState, Champion, GateState, Hold, Verdict
from evergreen.core.verdict_json import digest
from evergreen.fakes.ledger import in_memory_ledger
from records import NOW, make_candidate, make_request_args, make_spec, make_verdict

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
        (replace(PASSED, state=CandidateState.TO_OVERRIDE), FIRST, None, "is to override by now"),
    ],
)
def test_what_changed_since_the_question_was_put(candidate: Any, champion: Champion, hold: Any, told: str) -> None:
    found = what_changed(ASKED, candidate, champion, hold)
    assert told in found
    assert bool(found) == bool(told)


def told(state: ApprovalState, reason: str = "", *, by: str | None = "ann", overrides: str = "") -> str:
    return outcome(replace(ASKED, version=3, state=state, answered_by=by, reason=reason, overrides=overrides))


def test_every_outcome_is_a_sentence_that_says_what_may_be_done() -> None:
    assert told(ApprovalState.APPROVED) == "version 3: approved by ann"
    assert told(ApprovalState.APPROVED, "seen") == "version 3: approved by ann: seen"
    assert told(ApprovalState.REJECTED, "odd") == "version 3: rejected by ann: odd"
    assert told(ApprovalState.SUPERSEDED, "version 4 came before an answer", by=None) == (
        "version 3: superseded: version 4 came before an answer"
    )
    for state in (ApprovalState.EXPIRED, ApprovalState.VOID):
        assert "`evergreen retrain m` asks again" in told(state, "so", by=None)


def test_an_override_is_told_with_what_it_sets_aside_and_is_asked_for_by_its_own_command() -> None:
    failed = "auc ≥ 0.6 (0.5)"
    approved = told(ApprovalState.APPROVED, "the airport is shut", overrides=failed)
    assert approved == "version 3: approved by ann, overriding auc ≥ 0.6 (0.5): the airport is shut"
    for state in (ApprovalState.EXPIRED, ApprovalState.VOID):
        assert "`evergreen approve m --override --version 3` asks again" in told(state, "so", overrides=failed)


def test_a_void_that_another_run_makes_good_names_its_request() -> None:
    again = in_memory_ledger().requests.open(**make_request_args())
    said = outcome(replace(ASKED, state=ApprovalState.VOID, reason="the champion has changed"), again)
    assert said.endswith(f"Request {again.id} judges it again, against the champion of now")
    assert "retrain" not in said


def test_a_reason_is_needed_only_against_the_odds() -> None:
    assert must_explain(make_verdict(), None) == ""
    assert must_explain(APART, HELD).count(";") == 1


def test_gates_that_failed_ask_in_every_mode_and_need_a_reason() -> None:
    refused = make_verdict(passed=False)
    assert overridden(make_verdict()) == ""
    assert overridden(refused) == "auc ≥ 0.6 (0.5)"
    for mode in ("auto", "manual"):
        assert "it sets aside gates that failed: auc ≥ 0.6 (0.5)" in ask({"mode": mode}, refused)
    assert "gates that failed" in must_explain(refused, None)


def test_gates_that_were_not_judged_are_set_aside_by_an_override_too() -> None:
    [gate] = make_verdict(passed=False).gates
    unknown = replace(gate, metric="rehearsal", limit="loads", state=GateState.NOT_JUDGED, candidate=None)
    assert overridden(make_verdict(gates=(gate, unknown))) == "auc ≥ 0.6 (0.5), rehearsal loads (not judged)"


# ---------------------------------------------------------------- when people are told again


@pytest.mark.parametrize("name", ["remind_after", "escalate_after"])
def test_people_are_told_again_before_the_question_ends(name: str) -> None:
    assert getattr(make_spec(approval={name: "4h"}).approval, name) == timedelta(hours=4)
    assert getattr(make_spec().approval, name) is None
    for after in ("24h", "2d"):
        with pytest.raises(ValidationError) as refused:
            make_spec(approval={name: after})
        assert "shorter than timeout (1d)" in str(refused.value)
        assert refused.value.errors()[0]["loc"] == ("approval", name)


# ---------------------------------------------------------------- what overtakes a question


def asked(version: int, number: int, **changes: Any) -> Approval:
    """The question of this number about a version, each by a request of its own."""
    told = {"id": f"q{number}", "version": version, "request_id": f"r{number}", "run_id": f"run-{number}", **changes}
    return replace(ASKED, **told)


def overtaken(*questions: Approval, let_through: int = 0) -> dict[str, str]:
    found = {one.id: superseded(one, questions, let_through=let_through) for one in questions}
    return {name: why for name, why in found.items() if why}


def test_a_newer_version_supersedes_whichever_was_asked_about_first() -> None:
    assert overtaken(asked(7, 1)) == {}
    assert overtaken(asked(7, 1), asked(8, 2)) == {"q1": "version 8 came before an answer"}
    assert overtaken(asked(8, 1), asked(7, 2)) == {"q2": "version 8 came before an answer"}
    assert overtaken(asked(7, 1), asked(8, 2), asked(9, 3)) == dict.fromkeys(
        ("q1", "q2"), "version 9 came before an answer"
    )


def test_a_newer_version_that_was_answered_supersedes_only_what_was_asked_before_it() -> None:
    rejected = asked(8, 2, state=ApprovalState.REJECTED)
    assert overtaken(asked(7, 1), rejected) == {"q1": "version 8 came before an answer"}
    assert "q3" not in overtaken(rejected, asked(7, 3))


def test_a_newer_version_that_passes_without_a_person_supersedes_too() -> None:
    assert overtaken(asked(7, 1), let_through=8) == {"q1": "version 8 came before an answer"}
    assert overtaken(asked(7, 1), let_through=7) == {}


def test_of_one_version_the_newest_question_stays() -> None:
    assert overtaken(asked(7, 1), asked(7, 2)) == {"q1": "request r2 asks about it anew"}
    assert overtaken(asked(7, 1), asked(7, 2, request_id="r1")) == {}  # a run that was cleared and asks again
    assert overtaken(asked(7, 1), asked(7, 2, state=ApprovalState.VOID)) == {}


def test_an_override_supersedes_nothing_and_only_what_came_later_supersedes_it() -> None:
    override = {"overrides": "auc ≥ 0.6 (0.5)"}
    assert overtaken(asked(7, 1), asked(8, 2, **override)) == {}
    assert overtaken(asked(8, 1), asked(7, 2, **override)) == {}
    assert overtaken(asked(7, 1, **override), asked(8, 2)) == {"q1": "version 8 came before an answer"}
    assert overtaken(asked(7, 1, **override), asked(7, 2, **override)) == {}


@pytest.mark.parametrize(
    ("candidate", "champion", "told"),
    [
        (PASSED, FIRST, ""),
        (PASSED, Champion("m", "x", 1), "the champion has changed"),
        (replace(PASSED, verdict=AGAIN), FIRST, ""),  # whoever had it judged is about to ask anew
        (replace(PASSED, state=CandidateState.TO_OVERRIDE), FIRST, ""),
        (replace(PASSED, state=CandidateState.REJECTED), FIRST, "is rejected by now"),
        (replace(PASSED, state=CandidateState.RELEASED), Champion("m", "x", 1), "is released by now"),
    ],
)
def test_what_nobody_should_read_any_more(candidate: Any, champion: Champion, told: str) -> None:
    found = stale(ASKED, candidate, champion)
    assert told in found
    assert bool(found) == bool(told)
