"""Approvals on a real Airflow: whoever answers, whatever they answer and whenever, ends as designed.

Four models are retrained at once, and the story of each is played in a thread of its own: most of the time is
Airflow's. A test then waits for the end of one story.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from urllib.parse import quote

import httpx
import jwt
import pytest

from airflow_world import PATIENCE, World, within
from asking import command, ended_without_release, question_of, states
from evergreen.adapters.airflow_api import Question
from evergreen.core.errors import FoundProblem
from evergreen.core.records import ApprovalState, CandidateState

OPEN, APPROVED, REJECTED, VOID, EXPIRED = (
    ApprovalState.OPEN, ApprovalState.APPROVED, ApprovalState.REJECTED, ApprovalState.VOID, ApprovalState.EXPIRED
)  # fmt: skip
Stories: TypeAlias = dict[str, Future[None]]
pytestmark = pytest.mark.timeout(600)  # the first waits for a stack and for what the others do meanwhile


@pytest.fixture(scope="module")
def stories(world: World) -> Iterator[Stories]:
    """The stories, under way."""
    told = {"yes": approved, "no": rejected, "held": held, "late": not_answered}
    within(60, lambda: set(told) <= set(world.api.dags()) or None)
    with ThreadPoolExecutor(len(told)) as pool:
        runs = {model: world.api.trigger(model) for model in told}
        yield {model: pool.submit(story, world.again(), model, runs[model]) for model, story in told.items()}


def test_a_person_approves_and_the_version_answers(stories: Stories) -> None:
    stories["yes"].result()


def test_a_person_rejects_and_must_say_why(stories: Stories) -> None:
    stories["no"].result()


def test_a_hold_asks_a_person_voids_what_was_asked_before_and_needs_a_reason(stories: Stories) -> None:
    stories["held"].result()


def test_nobody_answers_in_time_and_then_somebody_at_the_last_moment(stories: Stories) -> None:
    stories["late"].result()


def test_oncall_may_answer_and_administers_nothing(world: World) -> None:
    who = {"username": world.stack.oncall, "password": world.stack.oncall_password}
    token = httpx.post(f"{world.stack.airflow_url}/auth/token", json=who, timeout=30).json()["access_token"]
    signed_in = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=world.stack.airflow_url, headers=signed_in, timeout=30) as browser:
        assert browser.get("/api/v2/connections").status_code == 403
        assert browser.get("/api/v2/variables").status_code == 403
        assert browser.get("/api/v2/dags").status_code == 200


# ---------------------------------------------------------------- the stories


def approved(world: World, model: str, run_id: str) -> None:
    """Asked; a notifier fails; cleared and asked again; an expired sign-in; approved by command; cleared once more."""
    world.asked(model, run_id)
    question = question_of(world, model, run_id)
    can_be_decided_from(world, question)
    world.api.clear(model, run_id, ["approve"])
    within(60, lambda: world.api.tasks(model, run_id)["approve"] != "awaiting_input" or None)
    world.asked(model, run_id)
    again = question_of(world, model, run_id)
    assert (again.subject, again.body) == (question.subject, question.body)
    assert states(world, model) == [OPEN]
    an_expired_sign_in_changes_nothing(world, model, run_id)
    assert "version 1 of yes, as oncall" in command(world, "approve", model, "--reason", "seen the slices").stdout
    assert world.finished(model, run_id)["state"] == "success"
    [release] = world.ledger.releases.history(model)
    assert (release.version, release.released_by) == (1, "oncall")
    assert release.reason == "version 1: approved by oncall: seen the slices"
    world.answers_with(model, 1)
    assert "nothing that waits" in command(world, "approve", model).stderr
    world.api.clear(model, run_id, ["approve"])
    assert world.finished(model, run_id)["state"] == "success"
    assert states(world, model) == [APPROVED]
    assert world.ledger.releases.history(model) == [release]
    page = f"/dags/{model}/runs/{quote(run_id, safe='')}/tasks/approve/required_actions"
    told = world.settings.root / "told.txt"
    within(PATIENCE, lambda: (told.exists() and page in told.read_text()) or None)  # and then it failed


def rejected(world: World, model: str, run_id: str) -> None:
    """Rejected without a reason: nothing comes of it; cleared; rejected with one, within the second of asking."""
    world.decide(model, run_id, "Reject")
    assert "void: rejected by oncall without a reason" in ended_without_release(world, model, run_id)
    assert states(world, model) == [VOID]
    assert world.ledger.models.candidate(model, 1).state is CandidateState.PASSED
    world.api.clear(model, run_id, ["approve"])
    within(60, lambda: question_of(world, model, run_id).responded_at is None or None)
    world.oncall.approve(model, run_id, "Reject", reason="worse at JFK")  # before the task waits, or just after
    within(60, lambda: states(world, model) == [VOID, REJECTED] or None)
    told = "version 1: rejected by oncall: worse at JFK"
    assert told in ended_without_release(world, model, run_id)
    assert states(world, model) == [VOID, REJECTED]
    assert world.ledger.models.candidate(model, 1).state is CandidateState.DECLINED
    assert world.request(model, run_id).reason == told


def held(world: World, model: str, run_id: str) -> None:
    """Held after the question was put: void, and the old text is not shown again; a run of its own asks anew.

    It needs a reason. Of two answers to it, one by a client whose sign-in ran out, the first stands.
    """
    world.asked(model, run_id)
    why = "the fares of June are wrong"
    world.ledger.holds.place(model, by="ann", reason=why, now=datetime.now(UTC))
    world.oncall.approve(model, run_id, "Approve", reason="fine")
    told = ended_without_release(world, model, run_id)
    assert "since the question was put" in told or "something has changed since" in told  # Airflow tried it anew
    assert world.ledger.models.candidate(model, 1).state is CandidateState.PASSED
    [again] = [one for one in world.ledger.requests.latest(model, limit=9) if "judge_again" in one.detail]
    assert f"Request {again.id} judges it again" in told
    within(PATIENCE, lambda: world.api.state(model, again.run_id))
    world.asked(model, again.run_id)
    world.api.clear(model, run_id, ["approve"])
    assert "Airflow would show the old text" in ended_without_release(world, model, run_id)

    run_id = again.run_id
    question = question_of(world, model, run_id)
    assert question.subject == "Release held version 1?"
    assert why in question.body
    assert "Add --reason" in command(world, "approve", model).stderr
    assert states(world, model) == [VOID, OPEN]
    world.oncall.approve(model, run_id, "Approve")
    assert "approved by oncall without a reason" in ended_without_release(world, model, run_id)
    world.ask_again(model, run_id)
    world.oncall._http.headers["Authorization"] = f"Bearer {expired_token(world)}"
    world.oncall.approve(model, run_id, "Approve", reason="looked at June")
    with pytest.raises(FoundProblem, match="the first stands"):
        world.api.approve(model, run_id, "Reject", reason="no")
    assert world.finished(model, run_id)["state"] == "success"
    assert states(world, model) == [VOID, VOID, APPROVED]
    [release] = world.ledger.releases.history(model)
    assert (release.released_by, release.reason) == ("oncall", "version 1: approved by oncall: looked at June")


def not_answered(world: World, model: str, run_id: str) -> None:
    """Nobody answers: expired, and nothing is blocked; cleared; answered at the moment of the timeout."""
    assert "expired" in ended_without_release(world, model, run_id)
    [question] = world.ledger.approvals.history(model)
    assert (question.state, question.answered_by) == (EXPIRED, None)
    assert world.ledger.models.candidate(model, 1).state is CandidateState.PASSED
    world.ask_again(model, run_id)
    deadline = world.ledger.approvals.history(model)[-1].expires_at
    time.sleep(max(0.0, (deadline - datetime.now(UTC)).total_seconds()))
    try:
        world.oncall.approve(model, run_id, "Approve")
        accepted = True
    except FoundProblem:
        accepted = False
    assert world.finished(model, run_id)["state"] == "success"  # whole, or not at all
    assert len(world.ledger.releases.history(model)) == (1 if accepted else 0)
    assert states(world, model) == [EXPIRED, APPROVED if accepted else EXPIRED]


# ---------------------------------------------------------------- their parts


def can_be_decided_from(world: World, question: Question) -> None:
    assert question.subject == "Release yes version 1?"
    for part in (
        "approval.mode is manual",
        "576 rows, 2013-02-02 to 2013-02-28",
        "no champion yet",
        "| auc | ≥ 0.6 |",
        "| rehearsal | loads, and answers its golden rows over HTTP |",
        "(/evergreen/models/yes/versions/1/by_period.svg)",
        "(/evergreen/models/yes/versions/1)",
        f"({world.stack.mlflow_url}/#/models/yes/versions/1)",
        "Without an answer within 5m",
        "not enforced",
    ):
        assert part in question.body
    assert not question.needs_reason


def an_expired_sign_in_changes_nothing(world: World, model: str, run_id: str) -> None:
    address = f"{world.stack.airflow_url}/api/v2/dags/{model}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
    answer = {"chosen_options": ["Approve"], "params_input": {}}
    for token, status in ((expired_token(world), 401), ("nonsense", 403)):
        refused = httpx.patch(address, json=answer, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        assert refused.status_code == status, refused.text
    assert world.api.tasks(model, run_id)["approve"] == "awaiting_input"
    assert states(world, model) == [OPEN]


def expired_token(world: World) -> str:
    """A token that was right, and whose time is over."""
    url, who = world.stack.airflow_url, {"username": world.stack.oncall, "password": world.stack.oncall_password}
    token = httpx.post(f"{url}/auth/token", json=who, timeout=30).json()["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    claims["exp"] = int((datetime.now(UTC) - timedelta(hours=1)).timestamp())
    key = json.loads((world.settings.home / "airflow" / "secrets.json").read_text())["token"]
    return jwt.encode(claims, key, algorithm=jwt.get_unverified_header(token)["alg"])
