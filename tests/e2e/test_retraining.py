"""Runs on a real Airflow, with real MLflow and serving: how they start, what they release, why they end.

One stack for the whole file; the tests tell one story, in order. Four models share one source, and so one watcher:
`toy` releases by itself, `asked` waits for a person, `clock` is started by cron alone, `broken` has a bad spec.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
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
from training_data import AS_OF, SPEC, make_rows

ROOT = Path(__file__).parents[2]
SUITE = {
    "name": "m",
    "expectations": [
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}, "meta": {}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "count", "min_value": 0, "max_value": 9}},
    ],
    "meta": {},
}
NEW_DATA = {"new_data": {"min_rows": 100}}
MODELS: dict[str, dict[str, Any]] = {
    "toy": {"triggers": [NEW_DATA], "approval": {"mode": "auto"}},
    "asked": {"triggers": [NEW_DATA], "approval": {"mode": "manual"}},
    "clock": {"triggers": [{"schedule": "* * * * *"}], "approval": {"mode": "auto"}},
    "broken": {"triggers": [NEW_DATA], "coolddown": "6h"},
}
PATIENCE = 90.0
Found = TypeVar("Found")


@dataclass
class World:
    """The running stack and the ways to look at it."""

    settings: wiring.Settings
    stack: supervisor.Stack
    api: AirflowApi
    ledger: Ledger
    warehouse: Path

    def land(self, rows: pl.DataFrame) -> None:
        """Rows arrive in the source, all at once."""
        kept = rows.select("id", pl.col("at").dt.strftime("%Y-%m-%d %H:%M:%S"), "x", "carrier", "count", "y")
        with closing(sqlite3.connect(self.warehouse, timeout=30)) as connection, connection:
            connection.execute(
                'CREATE TABLE IF NOT EXISTS rows (id TEXT PRIMARY KEY, at TEXT, x REAL, carrier TEXT, "count" INTEGER,'
                " y INTEGER)"
            )
            connection.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?)", kept.fill_nan(None).rows())

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

    def answer(self, model: str) -> dict[str, Any]:
        """What serving answers."""
        record = {"x": 0.5, "carrier": "AA", "count": 3}
        answer = httpx.post(f"{self.stack.serving_url}/models/{model}/predict", json={"records": [record]}, timeout=10)
        body: dict[str, Any] = answer.json()
        return body

    def decide(self, model: str, run_id: str, option: str) -> None:
        """Answer the run's approval, as a person would: not within the second in which it is asked.

        Airflow asks again where the answer is there before its scheduler has heard that the question was put.
        """
        within(PATIENCE, lambda: self.api.tasks(model, run_id)["approve"] == "awaiting_input" or None)
        time.sleep(3)
        self.api.approve(model, run_id, option)

    def answers_with(self, model: str, version: int) -> None:
        """Wait until this version answers."""
        within(20, lambda: self.answer(model).get("version") in (version, str(version)) or None)


def within(seconds: float, look: Callable[[], Found | None]) -> Found:
    """What `look` finds, asked again until then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds:.0f} s")


def make_project(root: Path) -> None:
    """A project of its own: the real dags/ and plugins/, other models."""
    shutil.copytree(ROOT / "dags", root / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "plugins").symlink_to(ROOT / "plugins")
    shutil.copy(ROOT / "requirements.txt", root)
    (root / "expectations").mkdir()
    (root / "expectations" / "m.json").write_text(json.dumps(SUITE))
    for name, changes in MODELS.items():
        (root / "models" / name).mkdir(parents=True)
        (root / "models" / name / "model.yaml").write_text(yaml.safe_dump({**SPEC, "name": name, **changes}))
    (root / "models" / "_defaults.yaml").write_text("{}\n")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("project")
    make_project(root)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("EVERGREEN_", "AIRFLOW"))]:
            patch.delenv(name)
        patch.setenv("EVERGREEN_PROJECT", str(root))
        patch.setenv("EVERGREEN_WATCH_SECONDS", "1")
        settings = wiring.Settings.load()
        stack = supervisor.up(settings)
    try:
        api = wiring.airflow(stack.airflow_url, stack.user, stack.password)
        yield World(settings, stack, api, wiring.ledger(settings), settings.home / "warehouse.db")
    finally:
        supervisor.down(settings)


def test_a_bad_spec_is_an_import_error_and_removes_no_other_dag(world: World) -> None:
    errors = within(PATIENCE, lambda: world.api.import_errors() or None)
    assert [Path(file).name for file in errors] == ["model_spec_errors.py"]
    (text,) = errors.values()
    assert "broken" in text
    assert "coolddown" in text
    assert within(PATIENCE, lambda: [d for d in world.api.dags() if d in MODELS] or None) == ["asked", "clock", "toy"]


def test_new_data_starts_every_model_of_the_source_and_the_released_one_answers(world: World) -> None:
    world.land(make_rows())
    request = world.ended("toy", Cause.NEW_DATA, RequestState.SERVED)
    assert request.reason == "released version 1"
    assert request.watermark == AS_OF
    world.answers_with("toy", 1)


def test_an_approval_waits_for_a_person_and_releases(world: World) -> None:
    request = world.ended("asked", Cause.NEW_DATA, RequestState.CLAIMED)
    waiting = "waiting for approval of version 1"
    within(PATIENCE, lambda: world.ledger.requests.get(request.id).reason == waiting or None)
    assert world.ledger.releases.history("asked") == []
    world.decide("asked", request.run_id, "Approve")
    assert world.ended("asked", Cause.NEW_DATA, RequestState.SERVED).reason == "released version 1"
    (release,) = world.ledger.releases.history("asked")
    assert release.released_by == world.stack.user
    world.answers_with("asked", 1)


@pytest.mark.parametrize("first", ["admit", "train", "roll_out"])
def test_finished_tasks_run_again_change_nothing(world: World, first: str) -> None:
    request = world.ended("toy", Cause.NEW_DATA, RequestState.SERVED)
    before = _facts(world, "toy")
    within(PATIENCE, lambda: world.api.run("toy", request.run_id)["state"] == "success" or None)
    world.api.clear("toy", request.run_id, [first])
    assert world.finished("toy", request.run_id)["state"] == "success"
    assert set(world.api.tasks("toy", request.run_id).values()) == {"success"}
    assert _facts(world, "toy") == before
    assert world.ledger.leases.get("toy") is None


def test_the_same_data_is_not_trained_twice_and_the_run_says_so(world: World) -> None:
    run_id = world.api.trigger("toy")
    run = world.finished("toy", run_id)
    request = world.ledger.requests.for_run("toy", run_id)
    assert request is not None
    assert (request.cause, request.state) == (Cause.API, RequestState.SERVED)
    assert "nothing to train" in request.reason
    assert run["state"] == "success"
    assert world.api.tasks("toy", run_id)["roll_out"] == "skipped"
    assert request.reason in world.api.run("toy", run_id)["note"]


def test_too_little_new_data_is_skipped_and_the_reason_is_on_the_run(world: World) -> None:
    world.land(make_rows(10, until=AS_OF + timedelta(hours=10), seed=2).with_columns(id=pl.format("late-{}", "id")))
    request = world.ended("toy", Cause.NEW_DATA, RequestState.SKIPPED)
    assert "10 new rows" in request.reason
    assert "100 needed" in request.reason
    run = world.finished("toy", request.run_id)
    assert run["state"] == "success"
    assert request.reason in run["note"]
    assert world.api.tasks("toy", request.run_id)["admit"] == "skipped"


def test_a_rejected_candidate_is_not_released(world: World) -> None:
    world.ended("asked", Cause.NEW_DATA, RequestState.SKIPPED)
    rows = make_rows(200, until=AS_OF + timedelta(hours=210), seed=3)
    world.land(rows.with_columns(id=pl.format("next-{}", "id")))
    request = world.ended("asked", Cause.NEW_DATA, RequestState.CLAIMED)
    world.decide("asked", request.run_id, "Reject")
    ended = world.ended("asked", Cause.NEW_DATA, RequestState.SERVED, after=1)
    assert ended.reason == f"rejected by {world.stack.user}"
    assert [release.version for release in world.ledger.releases.history("asked")] == [1]
    assert int(world.answer("asked")["version"]) == 1


def test_a_bad_batch_fails_the_run_and_the_champion_goes_on(world: World) -> None:
    world.ended("toy", Cause.NEW_DATA, RequestState.SERVED, after=1)
    rows = make_rows(200, until=AS_OF + timedelta(hours=410), seed=4)
    bad = pl.when(pl.int_range(pl.len()) % 5 == 0).then(99).otherwise("count").alias("count")
    world.land(rows.with_columns(id=pl.format("bad-{}", "id")).with_columns(bad))
    request = world.ended("toy", Cause.NEW_DATA, RequestState.FAILED)
    assert request.step == "validate"
    assert "expect_column_values_to_be_between (count)" in request.reason
    assert world.finished("toy", request.run_id)["state"] == "failed"
    champion = world.ledger.releases.history("toy")[-1].version
    assert int(world.answer("toy")["version"]) == champion
    assert world.ledger.leases.get("toy") is None


def test_cron_starts_its_model(world: World) -> None:
    assert world.ended("clock", Cause.SCHEDULE, RequestState.SERVED).reason.startswith(("released", "nothing"))


def _facts(world: World, model: str) -> tuple[Any, ...]:
    """All that a run again must not change."""
    releases = world.ledger.releases.history(model)
    return (
        releases,
        world.ledger.releases.champion(model),
        [world.ledger.models.candidate(model, release.version) for release in releases],
        world.ledger.requests.latest(model, limit=50),
    )
