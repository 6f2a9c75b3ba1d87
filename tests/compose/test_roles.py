"""Roles in the running stack: every door with too small a role, and a retrain that four-eyes keep from who asked."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml

from compose_stack import ComposeStack
from evergreen import wiring
from evergreen.adapters.airflow_api import AirflowApi, NotAllowed
from fab_airflow import person
from training_data import SPEC

ROOT = Path(__file__).parents[2]
MODEL, PASSWORD = "four-eyes", "Only-for-this-1-test"
ROLES = {
    "t-viewer": ["Viewer"],
    "t-operator": ["Operator"],
    "t-approver": ["Approver"],
    "t-both": ["Operator", "Approver"],
}
USERS = ("t-viewer", "t-operator", "t-approver", None)
SUITE = {
    "name": MODEL,
    "expectations": [
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}, "meta": {}},
    ],
    "meta": {},
}
ROWS = """
import os
from sqlalchemy import create_engine, text
with create_engine(os.environ["EVERGREEN_CONN_WAREHOUSE"]).begin() as base:
    base.execute(text("DROP TABLE IF EXISTS four_eyes"))
    base.execute(text('''
        CREATE TABLE four_eyes AS
        SELECT 'r' || i AS id, timestamptz '2013-01-01' + i * interval '1 hour' AS at, sin(i * 12.9898) AS x,
               CASE i % 3 WHEN 0 THEN 'AA' WHEN 1 THEN 'B6' ELSE 'UA' END AS carrier, i % 9 AS "count",
               CASE WHEN sin(i * 12.9898) + 0.3 * sin(i * 78.233) > 0.1 THEN 1 ELSE 0 END AS y
        FROM generate_series(1, 800) AS i'''))
"""
Found = TypeVar("Found")


@dataclass
class People:
    """Airflow of the running stack, and who signs in."""

    url: str
    admin_password: str
    _tokens: dict[str, str] = field(default_factory=dict)

    def api(self, user: str) -> AirflowApi:
        """Signed in as this user."""
        return wiring.airflow(self.url, user, self._password(user))

    def ask(self, user: str | None, method: str, path: str, body: Any = None) -> httpx.Response:
        """A request as this user; none: without signing in."""
        with httpx.Client(base_url=self.url, timeout=30) as http:
            if user and user not in self._tokens:
                sent = {"username": user, "password": self._password(user)}
                self._tokens[user] = http.post("/auth/token", json=sent).json()["access_token"]
            headers = {"Authorization": f"Bearer {self._tokens[user]}"} if user else {}
            return http.request(method, path, json=body, headers=headers)

    def _password(self, user: str) -> str:
        return self.admin_password if user == "admin" else PASSWORD


def within(seconds: float, look: Callable[[], Found | None]) -> Found:
    """What `look` finds, asked again until then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds:.0f} s")


def in_scheduler(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in the container `scheduler`, with these variables."""
    given = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
    line = ["docker", "compose", "exec", "-T", *given, "scheduler", *words]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def people(stack: ComposeStack) -> People:
    found = People(stack.airflow_url, stack.env["EVERGREEN_ADMIN_PASSWORD"])
    for name, roles in ROLES.items():
        user = person(name, roles, PASSWORD)
        made = found.ask("admin", "POST", "/auth/fab/v1/users", user)
        if made.status_code == httpx.codes.CONFLICT:
            made = found.ask("admin", "PATCH", f"/auth/fab/v1/users/{name}", user)
        assert made.is_success, made.text
    return found


@pytest.fixture(scope="module")
def model(people: People) -> Iterator[str]:
    """A model of its own, on a table of its own, with four-eyes."""
    done = in_scheduler("python", "-c", ROWS)
    assert done.returncode == 0, done.stderr
    folder, suite = ROOT / "models" / MODEL, ROOT / "expectations" / f"{MODEL}.json"
    spec = {
        **SPEC,
        "name": MODEL,
        "source": {**SPEC["source"], "table": "four_eyes"},
        "validation": {"suite": MODEL},
        "approval": {"mode": "manual", "four_eyes": True},
    }
    folder.mkdir(exist_ok=True)
    try:
        suite.write_text(json.dumps(SUITE))
        (folder / "model.yaml").write_text(yaml.safe_dump(spec))
        admin = people.api("admin")
        within(120, lambda: MODEL in admin.dags() or None)
        yield MODEL
    finally:
        shutil.rmtree(folder)
        suite.unlink(missing_ok=True)


# ---------------------------------------------------------------- doors

PLUGIN = ["/evergreen/", "/evergreen/models/flight-delay", "/evergreen/answers", "/evergreen/files/pages.css"]
STARTED = ("flight-delay", "abort", "rollback", "hold", "housekeeping", "platform", "reconciler", "roll_pool")
STARTS = [f"/api/v2/dags/{dag}/dagRuns" for dag in STARTED]
ADMINS = [
    ("GET", "/api/v2/connections"),
    ("GET", "/api/v2/variables"),
    ("GET", "/api/v2/eventLogs"),
    ("GET", "/auth/fab/v1/users"),
    ("POST", "/auth/fab/v1/users"),
    ("GET", "/auth/fab/v1/roles"),
    ("DELETE", "/api/v2/dags/flight-delay"),
    ("POST", "/api/v2/pools"),
    ("POST", "/api/v2/backfills"),
]


@pytest.mark.parametrize("path", PLUGIN)
def test_the_pages_are_for_those_with_a_role(people: People, path: str) -> None:
    assert [people.ask(user, "GET", path).status_code for user in USERS] == [200, 200, 200, 401]


@pytest.mark.parametrize("path", STARTS)
def test_only_an_operator_starts_runs(people: People, path: str) -> None:
    """Nothing starts here: what the operator sends is refused for what it says."""
    found = [people.ask(user, "POST", path, {"dag_run_id": ["odd"]}).status_code for user in USERS]
    assert found == [403, 422, 403, 401]


def test_only_an_approver_promotes(people: People) -> None:
    path = "/api/v2/dags/promote/dagRuns"
    found = [people.ask(user, "POST", path, {"dag_run_id": ["odd"]}).status_code for user in USERS]
    assert found == [403, 403, 422, 401]


@pytest.mark.parametrize(("method", "path"), ADMINS)
def test_what_administers_is_for_admins(people: People, method: str, path: str) -> None:
    found = [people.ask(user, method, path, {} if method == "POST" else None).status_code for user in USERS]
    assert found[-1] == 401
    allowed = 422 if path.endswith("backfills") else 403  # an operator may start runs, of the past too
    assert found[:-1] == [403, allowed, 403]


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/auth/docs", "/evergreen/docs", "/evergreen/openapi.json"])
def test_descriptions_of_interfaces_give_nothing_away(people: People, path: str) -> None:
    answer = people.ask(None, "GET", path)
    assert "flight" not in answer.text


# ---------------------------------------------------------------- four eyes


def test_a_retrain_is_approved_by_another_who_may(people: People, model: str) -> None:
    for user in ("t-viewer", "t-approver"):
        with pytest.raises(NotAllowed):
            people.api(user).trigger(model)
    acting = {"EVERGREEN_AIRFLOW_USER": "t-both", "EVERGREEN_AIRFLOW_PASSWORD": PASSWORD}
    started = in_scheduler("evergreen", "retrain", model, "--reason", "four eyes", "--json", **acting)
    assert started.returncode == 0, started.stderr
    run_id = json.loads(started.stdout)["run_id"]
    both, approver = people.api("t-both"), people.api("t-approver")

    def waits() -> bool | None:
        run = both.run(model, run_id)
        assert run["state"] not in ("success", "failed"), run["note"]
        return both.tasks(model, run_id)["approve"] == "awaiting_input" or None

    within(240, waits)
    time.sleep(3)  # an answer within the second makes Airflow ask again
    question = approver.question(model, run_id)
    assert question
    assert "not t-both, who started this run" in question.body.replace("\\", "")
    for user in ("t-viewer", "t-operator", "t-both"):
        with pytest.raises(NotAllowed):
            people.api(user).approve(model, run_id, "Approve", reason="mine")
    refused = in_scheduler("evergreen", "approve", model, **acting)
    assert refused.returncode == 1
    assert "user 't-both', who may not" in refused.stderr
    approver.approve(model, run_id, "Approve", reason="seen by another")
    ended = within(180, lambda: _ended(both, model, run_id))
    assert (ended["state"], "approved by t-approver: seen by another" in ended["note"]) == ("success", True), ended


def _ended(api: AirflowApi, model: str, run_id: str) -> dict[str, Any] | None:
    run = api.run(model, run_id)
    return run if run["state"] in ("success", "failed") else None


def test_an_operator_holds_from_the_command_line_and_a_viewer_does_not(model: str) -> None:
    def hold(user: str, command: str) -> subprocess.CompletedProcess[str]:
        acting = {"EVERGREEN_AIRFLOW_USER": user, "EVERGREEN_AIRFLOW_PASSWORD": PASSWORD}
        return in_scheduler("evergreen", command, model, "--reason", "a test of roles", **acting)

    refused = hold("t-viewer", "hold")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "by t-operator: a test of roles" in hold("t-operator", "hold").stdout
    assert "the hold is lifted" in hold("t-operator", "release-hold").stdout
