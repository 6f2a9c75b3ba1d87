"""Who may answer an approval: what the spec may say, what Airflow is told, and what those who read the question are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from evergreen.core.approval import decide, dismissal
from evergreen.core.approvers import Approvers, approvers_of
from evergreen.core.records import ApprovalState, Cause, TriggerRequest
from evergreen.core.roles import assigned_ids, may_answer
from evergreen.core.spec_approval import Approval
from evergreen.fakes.ledger import in_memory_ledger
from records import NOW, make_candidate, make_request_args, make_spec

# ---------------------------------------------------------------- the spec


@pytest.mark.parametrize("who", [["role:Approver"], ["role:Admin"], ["role:Risk"], ["anna", "role:Approvers-EU"]])
def test_roles_of_ones_own_and_users_may_approve(who: list[str]) -> None:
    assert Approval(approvers=who).approvers == who


def test_without_a_word_the_role_approver_decides_and_two_eyes_do() -> None:
    assert (Approval().approvers, Approval().four_eyes) == (["role:Approver"], False)


@pytest.mark.parametrize(
    ("who", "told"),
    [
        ("role:Operator", "a role that cannot approve"),
        ("role:Viewer", "Write role:Approver"),
        ("role:aprover", "Did you mean 'role:Approver'?"),
        ("role:Approvers", "Did you mean 'role:Approver'?"),
        ("Approver", "Write role:Approver."),
        ("role:", "Write role:Approver."),
        ("", "the user's name"),
        (" anna", "the user's name"),
        ("not:anna", "the user's name"),
        ("user:anna", "the user's name"),
    ],
)
def test_an_approver_that_nobody_could_be_is_refused(who: str, told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Approval(approvers=[who])
    assert told in str(refused.value)


def test_nobody_at_all_is_refused() -> None:
    with pytest.raises(ValidationError):
        Approval(approvers=[])


# ---------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    ("name", "roles", "assigned", "may"),
    [
        ("anna", {"Approver"}, {"role:Approver"}, True),
        ("anna", {"Viewer", "Approver"}, {"role:Approver"}, True),
        ("anna", {"Viewer", "Operator"}, {"role:Approver"}, False),
        ("anna", set(), {"role:Approver"}, False),
        ("root", {"Admin"}, {"role:Approver"}, True),
        ("root", {"Admin"}, {"user:anna"}, False),
        ("anna", {"Approver"}, {"role:Approver", "not:anna"}, False),
        ("Anna", {"Approver"}, {"role:Approver", "not:anna"}, False),
        ("root", {"Admin"}, {"role:Approver", "not:ROOT"}, False),
        ("anna", {"Approver"}, {"role:Approver", "not:ann"}, True),
        ("anna", {"Approver"}, {"user:anna", "not:anna"}, False),
        ("anna", {"Approver"}, {"user:Anna"}, True),
        ("bert", {"Approver"}, {"user:anna"}, False),
        ("anna", set(), {"7"}, True),  # Airflow's own id
        ("7", set(), {"3"}, False),
        ("anna", {"Approver"}, {"not:bert"}, False),  # nobody was asked
    ],
)
def test_who_may_answer(name: str, roles: set[str], assigned: set[str], may: bool) -> None:
    assert may_answer(assigned, user_id="7", name=name, roles=roles) is may


def test_no_name_of_a_user_becomes_a_role_or_an_exclusion() -> None:
    assert assigned_ids(["role:Approver", "anna"], ["bert"]) == ["role:Approver", "user:anna", "not:bert"]
    assert not may_answer(assigned_ids(["role:Approver"], []), user_id="7", name="role:Approver", roles=[])


# ---------------------------------------------------------------- a run's


def request(cause: Cause = Cause.PERSON, **detail: Any) -> TriggerRequest:
    opened = in_memory_ledger().requests.open(**make_request_args(cause=cause))
    return replace(opened, detail=detail)


def asked(request: TriggerRequest | None, *, four_eyes: bool = True, enforced: bool = True) -> Approvers:
    spec = make_spec(approval={"approvers": ["role:Approver", "anna"], "four_eyes": four_eyes})
    return approvers_of(spec, request, enforced=enforced, service="evergreen")


def test_whoever_started_the_run_is_left_out() -> None:
    for started in (request(user="bert"), request(Cause.API, user="bert"), request(user="bert", requested_by="bert")):
        who = asked(started)
        assert who.ids == ["role:Approver", "user:anna", "user:evergreen", "not:bert"]
        assert who.told().endswith("Four-eyes: not bert, who started this run.")
    assert asked(request(user="bert", requested_by="carl")).excluded == ("bert", "carl")


def test_with_two_eyes_nobody_is_left_out() -> None:
    who = asked(request(user="bert"), four_eyes=False)
    assert who.ids == ["role:Approver", "user:anna", "user:evergreen"]
    assert who.told() == "Who may answer: whoever has the role Approver or Admin and anna."


@pytest.mark.parametrize("cause", [Cause.SCHEDULE, Cause.NEW_DATA])
def test_where_no_person_started_the_run_nobody_is_left_out(cause: Cause) -> None:
    for started in (request(cause, user="bert"), request(Cause.API, user="evergreen"), None):
        assert asked(started).excluded == ()
        assert "no person started this run" in asked(started).told()


def test_a_run_started_with_the_platforms_account_says_that_nobody_knows_who_it_was() -> None:
    who = asked(request(user="evergreen", requested_by="bert"))
    assert who.excluded == ("bert",)
    assert "Airflow does not know who that is" in who.told()
    assert "Airflow does not know who that is" in asked(request(user="evergreen", requested_by="evergreen")).told()


def test_where_nothing_is_enforced_nobody_in_particular_is_asked_and_the_page_says_so() -> None:
    who = asked(request(user="bert"), enforced=False)
    assert (who.ids, who.excluded, who.service) == ([], (), "")
    assert "roles and four-eyes are not enforced" in who.told()


# ---------------------------------------------------------------- the ledger's last word


@pytest.mark.parametrize("approve", [True, False])
def test_an_answer_of_somebody_left_out_is_void_though_airflow_let_it_through(approve: bool) -> None:
    answer: dict[str, Any] = {"approve": approve, "reason": "seen", "explain": "", "changed": "", "excluded": ("anna",)}
    found = decide(by="Anna", **answer)
    assert found.state is ApprovalState.VOID
    assert "who started the run" in found.why
    assert decide(by="bert", **answer).state is (ApprovalState.APPROVED if approve else ApprovalState.REJECTED)
    assert decide(by=None, **answer).state is ApprovalState.EXPIRED


@pytest.mark.parametrize("approve", [True, False])
def test_an_answer_of_the_platforms_own_account_decides_on_nothing(approve: bool) -> None:
    answer: dict[str, Any] = {"approve": approve, "explain": "", "changed": ""}
    found = decide(by="Evergreen", reason="odd", service="evergreen", **answer)
    assert (found.state, found.by) == (ApprovalState.VOID, None)
    assert "the platform's own account" in found.why
    expected = ApprovalState.APPROVED if approve else ApprovalState.REJECTED
    assert decide(by="admin", reason="odd", service="", **answer).state is expected  # embedded: admin is a person too


def test_an_answer_that_only_ends_a_wait_decides_on_nothing_whoever_gives_it() -> None:
    ledger = in_memory_ledger()
    ledger.models.add_candidate(make_candidate())
    asked = ledger.approvals.ask(make_candidate(), request_id="r", run_id="x", expires_at=NOW, now=NOW)
    ended = replace(asked, state=ApprovalState.SUPERSEDED, reason="version 2 came before an answer")
    found = decide(approve=False, by="admin", reason=dismissal(ended), explain="", changed="")
    assert found.state is ApprovalState.VOID
