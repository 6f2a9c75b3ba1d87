"""Airflow's REST API, as far as Evergreen asks it: start a run, follow it, answer its approval, read its errors."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx

from evergreen.core.errors import FoundProblem, ServiceFailed

TIMEOUT = 30.0  # seconds
STUMBLES = (1.0, 2.0, 4.0)  # pauses before a run is asked for again, seconds


class AirflowApi:
    """A signed-in client of one Airflow. Raises ServiceFailed when it does not answer, FoundProblem when it refuses."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._user, self._password = user, password
        no_idle_sockets = httpx.Limits(max_keepalive_connections=0)  # so that there is nothing to close
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, limits=no_idle_sockets)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run now; returns its run id. Asked again where Airflow stumbles: the id makes twice once."""
        run_id = f"manual__{datetime.now(UTC).isoformat()}_{secrets.token_hex(3)}"
        path = f"dags/{quote(dag_id)}/dagRuns"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})}
        answer = self._signed_in("POST", path, body)
        for pause in STUMBLES:
            if not answer.is_server_error:
                break
            time.sleep(pause)  # on SQLite, another writer held the lock
            answer = self._signed_in("POST", path, body)
        if answer.status_code == httpx.codes.CONFLICT:  # an earlier try did start it
            return run_id
        return str(_checked("POST", path, answer)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """The run: state, run_type, triggered_by, triggering_user_name, conf, note and times."""
        return self._ask("GET", _run(dag_id, run_id))

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """State by task id."""
        found = self._ask("GET", f"{_run(dag_id, run_id)}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in found}

    def note(self, dag_id: str, run_id: str, text: str) -> None:
        """Write the run's note, which the UI shows beside it."""
        self._ask("PATCH", f"{_run(dag_id, run_id)}?update_mask=note", {"note": text[:1000]})

    def approve(self, dag_id: str, run_id: str, option: str, *, task_id: str = "approve") -> None:
        """Answer a waiting approval with 'Approve' or 'Reject'."""
        address = f"{_run(dag_id, run_id)}/taskInstances/{task_id}/-1/hitlDetails"
        self._ask("PATCH", address, {"chosen_options": [option], "params_input": {}})

    def clear(self, dag_id: str, run_id: str, task_ids: list[str]) -> None:
        """Run tasks of a run again, with all that follow them."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": task_ids,
            "include_downstream": True,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self._ask("POST", f"dags/{quote(dag_id)}/clearTaskInstances", body)

    def dags(self) -> list[str]:
        """The ids of all active DAGs, sorted."""
        return sorted(dag["dag_id"] for dag in self._ask("GET", "dags?limit=1000")["dags"])

    def health(self) -> dict[str, str | None]:
        """Status by component (metadatabase, scheduler, triggerer, dag_processor)."""
        found = self._send("GET", "monitor/health", None).json()
        return {name: (part or {}).get("status") for name, part in found.items()}

    def import_errors(self) -> dict[str, str]:
        """Stack trace by the DAG file that does not load."""
        found = self._ask("GET", "importErrors?limit=1000")["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in found}

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return _checked(method, path, self._signed_in(method, path, body))

    def _signed_in(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        if "Authorization" not in self._http.headers:
            self._sign_in()
        answer = self._send(method, path, body)
        if answer.status_code == httpx.codes.UNAUTHORIZED:  # the token has run out
            self._sign_in()
            answer = self._send(method, path, body)
        return answer

    def _sign_in(self) -> None:
        answer = self._reach("POST", "/auth/token", {"username": self._user, "password": self._password})
        if not answer.is_success:
            raise FoundProblem(
                f"Airflow, sign-in of '{self._user}'",
                found=f"{answer.status_code} {_detail(answer)}",
                allowed="the user and password of the running Airflow",
                do="`evergreen status` shows where Airflow runs and as whom to sign in.",
            )
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        return self._reach(method, f"/api/v2/{path}", body)

    def _reach(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        try:
            return self._http.request(method, path, json=body)
        except httpx.HTTPError as exc:
            raise ServiceFailed(
                f"Airflow at {self._http.base_url} does not answer ({type(exc).__name__}: {exc}). "
                "Is it running? `evergreen up` starts it."
            ) from exc


def _checked(method: str, path: str, answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise FoundProblem(
            f"Airflow, {method} {path}",
            found=f"{answer.status_code} {_detail(answer)}",
            allowed="a success",
            do="See the DAG in the Airflow UI: is it there, without an import error, and not paused?",
        )
    result: dict[str, Any] = answer.json()
    return result


def _run(dag_id: str, run_id: str) -> str:
    return f"dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("detail", answer.text))[:500]
    except ValueError:
        return answer.text[:500]
