"""A real API server of Airflow with Evergreen's auth manager, on SQLite: users and roles as in the compose shape.

Nothing runs here: a test plays the scheduler where it needs one.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from evergreen import wiring
from evergreen.adapters.airflow_api import AirflowApi
from evergreen.core.approvers import Approvers
from evergreen.orchestration.asking import AUTH_MANAGER, assigned
from serving_process import free_port
from spec_project import make_project

REPO = Path(__file__).parents[1]
ADMIN_PASSWORD, SERVICE_PASSWORD, PASSWORD = "first-Admin-12", "the-platforms-own-1", "a-Persons-12"
USERS = {
    "viewer": ["Viewer"],
    "operator": ["Operator"],
    "approver": ["Approver"],
    "oncall": ["Operator", "Approver"],
    "stranger": ["Public"],
}
SERVE = """
import sys
from airflow.utils.db import upgradedb
upgradedb()
from evergreen.orchestration import roles
assert roles.main() == 0
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
DagBundlesManager().sync_bundles_to_db()
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
sync_bag_to_db(bag, "dags-folder", None)
import uvicorn
from airflow.api_fastapi.app import create_app
uvicorn.run(create_app(), port=int(sys.argv[2]), log_level="warning")
"""


@dataclass(frozen=True)
class FabAirflow:
    """The server, and the project whose DAGs it has: the model `delay`, `rollback`, `hold` and `promote`."""

    url: str
    root: Path
    env: dict[str, str]

    def password(self, user: str) -> str:
        """That of any user here."""
        return {"admin": ADMIN_PASSWORD, "evergreen": SERVICE_PASSWORD}.get(user, PASSWORD)

    def api(self, user: str) -> AirflowApi:
        """Evergreen's own client, signed in as this user."""
        return wiring.airflow(self.url, user, self.password(user))

    @cached_property
    def tokens(self) -> dict[str, str]:
        """Kept between requests: a sign-in takes its time."""
        return {}

    @cached_property
    def http(self) -> httpx.Client:
        """Without cookies of anybody."""
        return httpx.Client(base_url=self.url, timeout=30)

    def ask(self, user: str | None, method: str, path: str, body: Any = None) -> httpx.Response:
        """A request as this user; none: without signing in."""
        headers = {"Authorization": f"Bearer {self._token(user)}"} if user else {}
        answer = self.http.request(method, path, json=body, headers=headers)
        self.http.cookies.clear()
        return answer

    def _token(self, user: str) -> str:
        if user not in self.tokens:
            sent = {"username": user, "password": self.password(user)}
            self.tokens[user] = self.http.post("/auth/token", json=sent).json()["access_token"]
        return self.tokens[user]

    def as_user(self, user: str) -> dict[str, str]:
        """What a person sets to act as themselves."""
        return {
            "EVERGREEN_AIRFLOW_URL": self.url,
            "EVERGREEN_AIRFLOW_USER": user,
            "EVERGREEN_AIRFLOW_PASSWORD": self.password(user),
        }

    def put(self, run_id: str, approvers: Approvers, *, dag: str = "delay") -> None:
        """The run waits for an approval, as the task leaves it."""
        reason = {"reason": {"value": "", "schema": {"type": ["null", "string"]}, "description": None}}
        with closing(sqlite3.connect(Path(self.env["AIRFLOW_HOME"]) / "airflow.db", timeout=30)) as base, base:
            where = "dag_id = ? AND run_id = ? AND task_id = 'approve'"
            [(task,)] = base.execute(f"SELECT id FROM task_instance WHERE {where}", (dag, run_id))
            base.execute("UPDATE task_instance SET state = 'awaiting_input' WHERE id = ?", (task,))
            base.execute(
                "INSERT INTO hitl_detail (ti_id, options, subject, body, defaults, multiple, params, assignees,"
                " created_at, params_input) VALUES (?, ?, 'Release?', '', ?, 0, ?, ?, ?, '{}')",
                (
                    task,
                    json.dumps(["Approve", "Reject"]),
                    json.dumps(["Reject"]),
                    json.dumps(reason),
                    json.dumps(assigned(approvers)),
                    datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
                ),
            )


@contextmanager
def fab_airflow(folder: Path) -> Iterator[FabAirflow]:
    """Start one in this folder; about ten seconds."""
    (folder / "project").mkdir()
    root, port = make_project(folder / "project", "delay"), free_port()
    for name in ("retraining", "forms"):
        shutil.copy(REPO / "dags" / f"{name}.py", root / "dags")
    url = f"http://127.0.0.1:{port}"
    server = FabAirflow(url, root, _environment(folder, root, url))
    line = [sys.executable, "-c", SERVE, str(root / "dags"), str(port)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(line, env=server.env, stdout=log, stderr=log)
    try:
        _wait(server, process, folder / "server.log")
        _people(server)
        yield server
    finally:
        server.http.close()
        process.terminate()
        process.wait(20)


def _environment(folder: Path, root: Path, url: str) -> dict[str, str]:
    ours = {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__AUTH_MANAGER": AUTH_MANAGER,
        "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPO / "plugins"),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": "k" * 40,
        "AIRFLOW__API_AUTH__JWT_SECRET": "j" * 64,
        "AIRFLOW__FAB__CONFIG_FILE": str(REPO / "docker" / "airflow" / "webserver_config.py"),
        "EVERGREEN_PROJECT": str(root),
        "EVERGREEN_HOME": str(folder / "home"),
        "EVERGREEN_AIRFLOW_USER": "evergreen",
        "EVERGREEN_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "EVERGREEN_SERVICE_PASSWORD": SERVICE_PASSWORD,
        "PYTHONWARNINGS": "ignore",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "EVERGREEN"))}
    return {**kept, **ours}


def _wait(server: FabAirflow, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{server.url}/api/v2/version", timeout=5)
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(log.read_text()[-3000:])


def person(name: str, roles: Iterable[str], password: str) -> dict[str, Any]:
    """A user, as FAB's REST API takes one."""
    return {
        "username": name,
        "password": password,
        "first_name": name,
        "last_name": "x",
        "email": f"{name}@localhost",
        "roles": [{"name": role} for role in roles],
    }


def _people(server: FabAirflow) -> None:
    for name, roles in USERS.items():
        made = server.ask("admin", "POST", "/auth/fab/v1/users", person(name, roles, PASSWORD))
        assert made.is_success, made.text
