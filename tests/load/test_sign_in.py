"""Sign-in and roles on a real API server with Evergreen's auth manager: who may do what, and who may approve."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

import commands
from evergreen import wiring
from evergreen.adapters.airflow_api import NotAllowed
from evergreen.cli import acting
from evergreen.core.approvers import Approvers
from evergreen.core.errors import FoundProblem
from evergreen.core.ports import Ledger
from evergreen.core.records import CandidateState
from fab_airflow import FabAirflow, fab_airflow
from records import NOW, make_candidate, make_request_args, make_verdict

ANYBODY_OF_ROLE = Approvers(True, ("role:Approver",))
RUN = {"logical_date": None, "conf": {}}
USERS = ("admin", "evergreen", "viewer", "operator", "approver", "stranger", None)
ROUTES: list[tuple[str, str, Any, tuple[int, ...]]] = [
    # admin, service, viewer, operator, approver, no role, nobody
    ("GET", "/evergreen/", None, (200, 403, 200, 200, 200, 403, 401)),
    ("GET", "/evergreen/models/delay", None, (200, 403, 200, 200, 200, 403, 401)),
    ("GET", "/evergreen/models/delay/versions/1", None, (404, 403, 404, 404, 404, 403, 401)),
    ("GET", "/evergreen/models/delay/versions/1/roc.svg", None, (404, 403, 404, 404, 404, 403, 401)),
    ("GET", "/evergreen/files/pages.css", None, (200, 403, 200, 200, 200, 403, 401)),
    ("POST", "/evergreen/", {}, (405, 405, 405, 405, 405, 405, 405)),
    ("GET", "/api/v2/dags", None, (200, 200, 200, 200, 200, 403, 401)),
    ("GET", "/api/v2/plugins", None, (200, 403, 200, 200, 200, 403, 401)),
    ("GET", "/api/v2/dags/~/dagRuns/~/hitlDetails", None, (200, 200, 200, 200, 200, 403, 401)),
    ("POST", "/api/v2/dags/delay/dagRuns", RUN, (200, 200, 403, 200, 403, 403, 401)),
    ("POST", "/api/v2/dags/hold/dagRuns", {**RUN, "conf": {"model": "delay", "reason": "odd"}},
     (200, 200, 403, 200, 403, 403, 401)),
    ("POST", "/api/v2/dags/rollback/dagRuns", {**RUN, "conf": {"model": "delay", "reason": "odd"}},
     (200, 200, 403, 200, 403, 403, 401)),
    ("POST", "/api/v2/dags/promote/dagRuns", {**RUN, "conf": {"model": "delay", "reason": "odd"}},
     (200, 200, 403, 403, 200, 403, 401)),
    ("PATCH", "/api/v2/dags/delay", {"is_paused": False}, (200, 200, 403, 200, 403, 403, 401)),
    ("DELETE", "/api/v2/dags/gone", None, (404, 403, 403, 403, 403, 403, 401)),
    ("GET", "/api/v2/connections", None, (200, 403, 403, 403, 403, 403, 401)),
    ("POST", "/api/v2/connections", {"connection_id": "x", "conn_type": "http"},
     (201, 403, 403, 403, 403, 403, 401)),
    ("GET", "/api/v2/variables", None, (200, 403, 403, 403, 403, 403, 401)),
    ("POST", "/api/v2/pools", {"name": "x", "slots": 1}, (201, 403, 403, 403, 403, 403, 401)),
    ("GET", "/api/v2/eventLogs", None, (200, 403, 403, 403, 403, 403, 401)),
    ("GET", "/auth/fab/v1/users", None, (200, 403, 403, 403, 403, 403, 401)),
    ("POST", "/auth/fab/v1/roles", {"name": "Mine", "permissions": []}, (200, 403, 403, 403, 403, 403, 401)),
]  # fmt: skip


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FabAirflow]:
    with fab_airflow(tmp_path_factory.mktemp("fab")) as server:
        yield server


@pytest.fixture
def ledger(airflow: FabAirflow, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    for name in ("EVERGREEN_PROJECT", "EVERGREEN_HOME"):
        monkeypatch.setenv(name, airflow.env[name])
    return wiring.ledger(wiring.Settings.load())


# ---------------------------------------------------------------- every door


@pytest.mark.parametrize(("method", "path", "body", "statuses"), ROUTES, ids=[f"{r[0]} {r[1]}" for r in ROUTES])
def test_each_role_may_what_it_is_for_and_no_more(
    airflow: FabAirflow, method: str, path: str, body: Any, statuses: tuple[int, ...]
) -> None:
    found = tuple(airflow.ask(user, method, path, body).status_code for user in USERS)
    assert found == statuses, dict(zip(USERS, found, strict=True))


def test_the_platforms_account_writes_notes_and_reads_tasks(airflow: FabAirflow) -> None:
    api = airflow.api("evergreen")
    run_id = api.trigger("delay")
    api.note("delay", run_id, "seen")
    assert api.run("delay", run_id)["note"] == "seen"
    assert "approve" in api.tasks("delay", run_id)
    assert api.question("delay", run_id) is None
    assert "delay" in api.dags()
    assert api.import_errors() == {}


# ---------------------------------------------------------------- approvals


@pytest.fixture(scope="module")
def asked(airflow: FabAirflow) -> str:
    """A run that oncall started and that waits, with four-eyes."""
    run_id = airflow.api("oncall").trigger("delay")
    assert airflow.api("admin").run("delay", run_id)["triggering_user_name"] == "oncall"
    airflow.put(run_id, Approvers(True, ("role:Approver",), ("oncall",)))
    return run_id


@pytest.mark.parametrize("user", ["viewer", "operator", "evergreen", "stranger", "oncall"])
def test_an_answer_is_refused_of_too_small_a_role_and_of_whoever_started_the_run(
    airflow: FabAirflow, asked: str, user: str
) -> None:
    with pytest.raises(NotAllowed, match=rf"user '{user}', who may not .*Act as yourself"):
        airflow.api(user).approve("delay", asked, "Approve")
    question = airflow.api("admin").question("delay", asked)
    assert question
    assert question.responded_at is None


def test_an_approver_answers(airflow: FabAirflow, asked: str) -> None:
    airflow.api("approver").approve("delay", asked, "Approve", reason="seen")
    question = airflow.api("viewer").question("delay", asked)
    assert question
    assert (question.chosen, (question.responded_by or {}).get("name")) == (("Approve",), "approver")
    with pytest.raises(FoundProblem, match="an answer already"):
        airflow.api("admin").approve("delay", asked, "Reject", reason="too late")


@pytest.mark.parametrize(
    ("approvers", "may"),
    [
        (ANYBODY_OF_ROLE, ["admin", "oncall", "approver"]),
        (Approvers(True, ("oncall",)), ["oncall"]),
        (Approvers(True, ("role:Admin",)), ["admin"]),
        (Approvers(True, ("role:Approver",), ("admin",)), ["oncall", "approver"]),
        (Approvers(False), ["admin", "oncall", "approver"]),
    ],
)
def test_the_spec_says_who_of_those_who_may_answer(airflow: FabAirflow, approvers: Approvers, may: list[str]) -> None:
    run_id = airflow.api("evergreen").trigger("delay")
    airflow.put(run_id, approvers)
    path = f"/api/v2/dags/delay/dagRuns/{run_id.replace('+', '%2B')}/taskInstances/approve/-1/hitlDetails"
    odd = {"chosen_options": ["Perhaps"], "params_input": {}}  # looked at only after the right to answer
    found = {user: airflow.ask(user, "PATCH", path, odd).status_code for user in ("admin", "oncall", "approver")}
    assert [user for user, status in found.items() if status == 400] == may
    assert {status for user, status in found.items() if user not in may} <= {403}


def test_the_platforms_own_account_ends_a_wait_that_the_ledger_has_answered(airflow: FabAirflow) -> None:
    run_id = airflow.api("operator").trigger("delay")
    airflow.put(run_id, Approvers(True, ("role:Approver",), service="evergreen"))
    for _ in range(2):  # the second time it waits no more
        airflow.api("evergreen").dismiss("delay", run_id, "answered in the ledger: version 2 came before an answer")
    question = airflow.api("viewer").question("delay", run_id)
    assert question
    assert (question.chosen, (question.responded_by or {}).get("name")) == (("Reject",), "evergreen")


# ---------------------------------------------------------------- commands


@pytest.fixture
def run(
    airflow: FabAirflow, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Runs a command as a user."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
    monkeypatch.setattr(acting, "POLL", 0.1)

    def run_as(user: str, *words: str) -> commands.Told:
        for name, value in airflow.as_user(user).items():
            monkeypatch.setenv(name, value)
        return commands.runner(capsys)(*words)

    return run_as


def test_retrain_acts_as_whoever_it_is_told(airflow: FabAirflow, run: Any) -> None:
    told = run("operator", "retrain", "delay", "--reason", "repaired")
    assert told.out.startswith("Retraining delay: https://airflow.example/dags/delay/runs/manual__")
    run_id = run("operator", "retrain", "delay", "--json").json["run_id"]
    started = airflow.api("viewer").run("delay", run_id)
    assert (started["triggering_user_name"], started["conf"]["requested_by"]) == ("operator", "operator")
    refused = run("viewer", "retrain", "delay")
    assert (refused.status, refused.out) == (1, "")
    assert "user 'viewer', who may not" in refused.err


def test_approve_acts_as_whoever_it_is_told(airflow: FabAirflow, ledger: Ledger, run: Any) -> None:
    run_id = airflow.api("operator").trigger("delay")
    airflow.put(run_id, ANYBODY_OF_ROLE)
    request = ledger.requests.open(**make_request_args(model="delay", run_id=run_id))
    ledger.models.add_candidate(make_candidate(model="delay", request_id=request.id))
    candidate = ledger.models.judge("delay", 1, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=0)
    ledger.approvals.ask(candidate, request_id=request.id, run_id=run_id, expires_at=NOW + timedelta(hours=1), now=NOW)
    assert "who may not" in run("operator", "approve", "delay").err
    assert "EVERGREEN_AIRFLOW_USER=admin" in run("approver", "approve", "delay", "--as", "admin").err
    assert "Approve: version 1 of delay, as approver." in run("approver", "approve", "delay").out


@pytest.mark.parametrize("command", ["hold", "release-hold", "rollback"])
def test_what_acts_at_once_asks_for_the_role_and_tells_what_the_run_says(
    airflow: FabAirflow, run: Any, command: str
) -> None:
    assert "user 'approver', who may not" in run("approver", command, "delay", "--reason", "odd fares").err
    for state, status in (("success", 0), ("failed", 1)):
        scheduler = _plays_scheduler(airflow, "rollback" if command == "rollback" else "hold", state)
        told = run("operator", command, "delay", "--reason", "odd fares")
        scheduler.join()
        assert (told.status, f"it has {state}" in (told.err if status else told.out)) == (status, True), told


def _plays_scheduler(airflow: FabAirflow, dag: str, state: str) -> threading.Thread:
    """Ends the operator's next run of this DAG, with a note."""
    admin = airflow.api("admin")
    newest = f"/api/v2/dags/{dag}/dagRuns?order_by=-id&limit=1"

    def newest_run() -> Any:
        return next(iter(airflow.ask("admin", "GET", newest).json()["dag_runs"]), {}).get("dag_run_id")

    before = newest_run()

    def end() -> None:
        while (run_id := newest_run()) == before:
            time.sleep(0.1)
        admin.note(dag, run_id, f"it has {state}")
        path = f"/api/v2/dags/{dag}/dagRuns/{run_id.replace('+', '%2B')}"
        assert airflow.ask("admin", "PATCH", path, {"state": state}).is_success

    thread = threading.Thread(target=end)
    thread.start()
    return thread


def test_in_an_emergency_a_hold_needs_no_airflow(ledger: Ledger, run: Any) -> None:
    told = run("viewer", "hold", "delay", "--reason", "odd fares", "--without-airflow")
    assert told.out.startswith("delay: held since ")
    assert ledger.holds.applying("delay")
    run("viewer", "release-hold", "delay", "--reason", "repaired", "--without-airflow")


# ---------------------------------------------------------------- signing in


def test_the_form_signs_in_and_its_cookies_are_kept_from_scripts_and_other_sites(airflow: FabAirflow) -> None:
    with httpx.Client(base_url=airflow.url, timeout=30, headers={"accept": "text/html"}) as browser:
        shown = browser.get("/evergreen/")
        assert (shown.status_code, "/api/v2/auth/login?next=/evergreen/" in shown.text) == (401, True)
        form = browser.get("/api/v2/auth/login?next=/evergreen/", follow_redirects=True)
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', form.text)
        assert token
        filled = {"username": "viewer", "password": airflow.password("viewer"), "csrf_token": token[1]}
        assert browser.post(form.url, data={**filled, "csrf_token": ""}).status_code == 400
        done = browser.post(form.url, data=filled)
        cookies = [line.lower() for line in done.headers.get_list("set-cookie")]
        assert {line.split("=")[0] for line in cookies} >= {"session", "_token"}
        assert all("httponly" in line and "samesite=lax" in line for line in cookies), cookies
        assert browser.get("/evergreen/").status_code == 200


def test_nobody_signs_up(airflow: FabAirflow) -> None:
    assert httpx.get(f"{airflow.url}/auth/register/form", timeout=30).status_code == 404


def test_wrong_passwords_are_slowed_by_address(airflow: FabAirflow) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.9"), timeout=30) as guesser:
        wrong = {"username": "admin", "password": "guessed"}
        found = [guesser.post(f"{airflow.url}/auth/token", json=wrong).status_code for _ in range(7)]
        assert found == [401] * 5 + [429] * 2
        right = {"username": "admin", "password": airflow.password("admin")}
        assert guesser.post(f"{airflow.url}/auth/token/cli", json=right).status_code == 429
    assert httpx.post(f"{airflow.url}/auth/token", json=right, timeout=30).status_code == 201


def test_made_again_only_the_platforms_password_follows(airflow: FabAirflow) -> None:
    def roles() -> Any:
        found = airflow.ask("admin", "GET", "/auth/fab/v1/roles?limit=100").json()["roles"]
        return {role["name"]: sorted(str(action) for action in role["actions"]) for role in found}

    before = roles()
    assert {"Viewer", "Operator", "Approver", "Admin", "Service", "Public"} <= set(before)
    assert not {"User", "Op"} & set(before)
    assert before["Public"] == []
    other = {"EVERGREEN_ADMIN_PASSWORD": "another-Admin-12", "EVERGREEN_SERVICE_PASSWORD": "another-1"}
    line = [sys.executable, "-m", "evergreen.orchestration.roles"]
    done = subprocess.run(line, env={**airflow.env, **other}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert roles() == before
    signed_in = [
        httpx.post(f"{airflow.url}/auth/token", json={"username": name, "password": password}, timeout=30).status_code
        for name, password in (("admin", airflow.password("admin")), ("evergreen", "another-1"))
    ]
    assert signed_in == [201, 201]
