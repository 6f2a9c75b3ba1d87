"""Airflow's REST API, as `make roll` asks it: start a run of a DAG, and follow it."""

from __future__ import annotations

import json
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from evergreen.composed.env_file import Refused

PATIENCE = 120.0  # seconds in which Airflow may not answer while a run is followed
LOOK = 1.0  # seconds between two looks
ENDED = ("success", "failed")
USER, PASSWORD = "EVERGREEN_AIRFLOW_USER", "EVERGREEN_AIRFLOW_PASSWORD"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this host


class Airflow:
    """Signed in as EVERGREEN_AIRFLOW_USER, else as the platform's own account."""

    def __init__(self, url: str, values: Mapping[str, str]) -> None:
        self._url = url
        own = {"username": "evergreen", "password": values["EVERGREEN_SERVICE_PASSWORD"]}
        mine = {"username": os.environ.get(USER, ""), "password": os.environ.get(PASSWORD, "")}
        self._user = mine if mine["username"] else own
        self._token = ""

    def start(self, dag: str, conf: Mapping[str, Any]) -> str:
        """Start a run; its id. Raises Refused where Airflow does not take it."""
        run_id = f"make__{datetime.now(UTC).isoformat()}_{secrets.token_hex(3)}"
        state = self._ask("GET", f"dags/{dag}")
        if state["is_paused"]:
            raise Refused(f"The DAG {dag} is paused: unpause it in Airflow.")
        self._ask("POST", f"dags/{dag}/dagRuns", {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)})
        return run_id

    def follow(self, dag: str, run_id: str, tell: Callable[[str], None]) -> bool:
        """Tell each sentence of the run's note as it comes; whether the run ended well."""
        told, heard = set[str](), time.monotonic()
        while True:
            try:
                run = self._ask("GET", f"dags/{dag}/dagRuns/{quote(run_id, safe='')}")
                heard = time.monotonic()
            except Refused:
                if time.monotonic() - heard > PATIENCE:
                    raise
                run = {"note": "", "state": ""}
            for sentence in reversed((run["note"] or "").split("\n\n")):  # the newest stands first
                if sentence and sentence not in told:
                    told.add(sentence)
                    tell(sentence)
            if run["state"] in ENDED:
                return bool(run["state"] == "success")
            time.sleep(LOOK)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        if not self._token:
            self._token = self._send("POST", "/auth/token", self._user)["access_token"]
        return self._send(method, f"/api/v2/{path}", body)

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)  # noqa: S310 -- our own
        try:
            with _DIRECT.open(request, timeout=30) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except urllib.error.HTTPError as error:
            raise Refused(self._why(method, path, error)) from None
        except (OSError, ValueError) as error:
            raise Refused(f"Airflow at {self._url} does not answer: {error}. See `make status`.") from None

    def _why(self, method: str, path: str, error: urllib.error.HTTPError) -> str:
        if error.code == 404:
            return f"Airflow, {method} {path}: found 404. A new DAG takes some seconds; after an update: `make up`."
        if error.code in (401, 403):
            return (
                f"Airflow: user '{self._user['username']}' may not ({error.code}); allowed: one with the role Operator."
            )
        return f"Airflow, {method} {path}: found {error.code} {error.read().decode(errors='replace')[:300]}"
