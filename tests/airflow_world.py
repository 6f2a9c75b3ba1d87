"""A running stack of a small project, shared by the tests of `tests/e2e/`, and the ways to look at it.

The models of one test file are no others': those of retraining read the table `rows`, which the tests let grow; all
others read `steady`, which holds `make_rows()` from the start, and have no trigger but `clock`'s: a test starts their
runs.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import polars as pl
import pytest
import yaml

from evergreen import supervisor, wiring
from evergreen.adapters.airflow_api import AirflowApi
from evergreen.core.ports import Ledger
from evergreen.core.records import Cause, RequestState, TriggerRequest
from training_data import SPEC, make_rows

ROOT = Path(__file__).parents[1]
SUITE = {
    "name": "m",
    "expectations": [
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}, "meta": {}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "count", "min_value": 0, "max_value": 9}},
    ],
    "meta": {},
}
STEADY = {"source": {**SPEC["source"], "table": "steady"}}
SOON = """\
[scheduler]
task_instance_heartbeat_timeout = 15
task_instance_heartbeat_timeout_detection_interval = 5
orphaned_tasks_check_interval = 10
"""  # a task that is lost is noticed at once
PATIENCE = 180.0  # seconds; a run of its own takes 15, six at once on two processors 40
SEEN = 1.0  # seconds
Found = TypeVar("Found")


@dataclass
class World:
    """The running stack. `api` is the user admin, `oncall` the user oncall."""

    settings: wiring.Settings
    stack: supervisor.Stack
    api: AirflowApi
    oncall: AirflowApi
    ledger: Ledger
    warehouse: Path

    def again(self) -> World:
        """The same stack by connections of its own, for another thread."""
        stack = self.stack
        admin = wiring.airflow(stack.airflow_url, stack.user, stack.password)
        oncall = wiring.airflow(stack.airflow_url, stack.oncall, stack.oncall_password)
        return World(self.settings, stack, admin, oncall, wiring.ledger(self.settings), self.warehouse)

    def land(self, rows: pl.DataFrame, table: str = "rows") -> None:
        """Rows arrive in the source, all at once."""
        land(self.warehouse, rows, table)

    def add(self, name: str, **changes: Any) -> None:
        """Declare another model, on the table `steady`, and wait until Airflow has its DAG."""
        self.declare({name: {**STEADY, **changes}})

    def declare(self, models: dict[str, dict[str, Any]]) -> None:
        """Declare these models too, and wait until Airflow has all their DAGs."""
        for name, changes in models.items():
            add_model(self.settings.root, name, changes)
        within(PATIENCE, lambda: models.keys() <= set(self.api.dags()) or None)

    def ended(self, model: str, cause: Cause, state: RequestState, *, after: int = 0) -> TriggerRequest:
        """The model's newest request of this cause, once more than `after` of them have ended as `state`."""

        def look() -> TriggerRequest | None:
            found = [r for r in self.ledger.requests.latest(model, limit=50) if r.cause is cause and r.state is state]
            return found[0] if len(found) > after else None

        return within(PATIENCE, look)

    def finished(self, model: str, run_id: str) -> dict[str, Any]:
        """The run, once Airflow has ended it."""

        def look() -> dict[str, Any] | None:
            run = self.api.run(model, run_id)
            return run if run["state"] in ("success", "failed") else None

        return within(PATIENCE, look)

    def request(self, model: str, run_id: str) -> TriggerRequest:
        """The trigger request of a run that is known to have one."""
        found = self.ledger.requests.for_run(model, run_id)
        assert found is not None
        return found

    def answer(self, model: str) -> dict[str, Any]:
        """What serving answers."""
        record = {"x": 0.5, "carrier": "AA", "count": 3}
        answer = httpx.post(f"{self.stack.serving_url}/models/{model}/predict", json={"records": [record]}, timeout=10)
        body: dict[str, Any] = answer.json()
        return body

    def asked(self, model: str, run_id: str) -> None:
        """Wait until the run's approval waits for a person, and as long as a person needs to see it.

        An answer within the second counts too, but Airflow takes it up only with the task's retry.
        """
        within(PATIENCE, lambda: self.api.tasks(model, run_id)["approve"] == "awaiting_input" or None)
        time.sleep(SEEN)

    def ask_again(self, model: str, run_id: str) -> None:
        """Clear the run's approval, as a person may, and wait until it waits again."""
        self.api.clear(model, run_id, ["approve"])
        self.asked(model, run_id)

    def decide(self, model: str, run_id: str, option: str, reason: str = "") -> None:
        """Answer the run's approval, as the person on call would."""
        self.asked(model, run_id)
        self.oncall.approve(model, run_id, option, reason=reason)

    def answers_with(self, model: str, version: int) -> None:
        """Wait until this version answers."""
        within(60, lambda: self.answer(model).get("version") in (version, str(version)) or None)


@contextmanager
def running(root: Path, models: dict[str, dict[str, Any]], **environment: str) -> Iterator[World]:
    """A project with these models, and its stack, up; its table `steady` is filled.

    What `environment` sets is there for the stack, and not for the tests.
    """
    make_project(root, models)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("EVERGREEN_", "AIRFLOW"))]:
            patch.delenv(name)
        patch.setenv("EVERGREEN_PROJECT", str(root))
        settings = wiring.Settings.load()
        (settings.home / "airflow").mkdir(parents=True)
        (settings.home / "airflow" / "airflow.cfg").write_text(SOON)
        land(settings.home / "warehouse.db", make_rows(), "steady")
        for name, value in environment.items():
            patch.setenv(name, value)
        stack = supervisor.up(settings)
    try:
        yield _world(settings, stack)
    finally:
        supervisor.down(settings)


def _world(settings: wiring.Settings, stack: supervisor.Stack) -> World:
    admin = wiring.airflow(stack.airflow_url, stack.user, stack.password)
    oncall = wiring.airflow(stack.airflow_url, stack.oncall, stack.oncall_password)
    return World(settings, stack, admin, oncall, wiring.ledger(settings), settings.home / "warehouse.db")


def within(seconds: float, look: Callable[[], Found | None]) -> Found:
    """What `look` finds, asked again until then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds:.0f} s")


def land(warehouse: Path, rows: pl.DataFrame, table: str) -> None:
    """Add rows to a table of the warehouse, which is made if there is none."""
    kept = rows.select("id", pl.col("at").dt.strftime("%Y-%m-%d %H:%M:%S"), "x", "carrier", "count", "y")
    with closing(sqlite3.connect(warehouse, timeout=30)) as connection, connection:
        connection.execute(
            f'CREATE TABLE IF NOT EXISTS {table} (id TEXT PRIMARY KEY, at TEXT, x REAL, carrier TEXT, "count" INTEGER,'
            " y INTEGER)"
        )
        connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?)", kept.fill_nan(None).rows())


def add_model(root: Path, name: str, changes: dict[str, Any]) -> None:
    """Write the model's spec."""
    folder = root / "models" / name
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(yaml.safe_dump({**SPEC, "name": name, **changes}))


def make_project(root: Path, models: dict[str, dict[str, Any]]) -> None:
    """A project of its own: the real dags/ and plugins/, other models."""
    shutil.copytree(ROOT / "dags", root / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "plugins").symlink_to(ROOT / "plugins")
    shutil.copy(ROOT / "requirements.txt", root)
    (root / "expectations").mkdir()
    (root / "expectations" / "m.json").write_text(json.dumps(SUITE))
    (root / "models").mkdir()
    (root / "models" / "_defaults.yaml").write_text("{}\n")
    for name, changes in models.items():
        add_model(root, name, changes)
