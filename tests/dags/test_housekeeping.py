"""The DAG `housekeeping`: Airflow's records through its own command line, and old logs."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evergreen import wiring
from evergreen.core.errors import FoundProblem
from evergreen.core.ports import Ledger
from evergreen.orchestration import housekeeping
from evergreen.orchestration.housekeeping import clean_records, keep_since, with_database
from evergreen.orchestration.old_logs import remove_old
from records import make_candidate, make_snapshot, make_spec
from spec_project import make_project

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a task beside a migrated database of Airflow."""
    home = tmp_path_factory.mktemp("airflow")
    url = f"sqlite:///{home / 'airflow.db'}"
    own = {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    environment = {**os.environ, **own, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    hidden = "airflow-db-not-allowed:///"  # as Airflow sets it in a task
    return {
        **os.environ, **own, "EVERGREEN_AIRFLOW_DB_URL": url,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": hidden, "AIRFLOW__CORE__SQL_ALCHEMY_CONN": hidden,
    }  # fmt: skip


def rows(environment: dict[str, str], table: str, column: str) -> list[str]:
    file = environment["EVERGREEN_AIRFLOW_DB_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(file)) as connection:
        return [row[0] for row in connection.execute(f"SELECT {column} FROM {table} ORDER BY 1")]


def test_old_records_go_and_young_ones_and_triggers_stay(
    airflow: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    file = airflow["EVERGREEN_AIRFLOW_DB_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(file)) as connection, connection:
        for name, age in (("old", 40), ("young", 20)):
            at = (NOW - age * DAY).strftime("%Y-%m-%d %H:%M:%S.%f")
            connection.execute("INSERT INTO log (dttm, event) VALUES (?, ?)", (at, name))
            connection.execute(
                "INSERT INTO trigger (classpath, kwargs, created_date) VALUES (?, ?, ?)", (name, "{}", at)
            )
    with caplog.at_level(logging.INFO):
        clean_records(NOW - 30 * DAY, airflow)
    assert "old" not in rows(airflow, "log", "event")
    assert "young" in rows(airflow, "log", "event")
    assert rows(airflow, "trigger", "classpath") == ["old", "young"]
    assert "db clean" in caplog.text
    tables = rows(airflow, "sqlite_master", "name")
    assert not [name for name in tables if name.startswith("_airflow_deleted")]


def test_a_clean_up_that_fails_fails_the_task(airflow: dict[str, str], tmp_path: Path) -> None:
    nowhere = {**airflow, "EVERGREEN_AIRFLOW_DB_URL": f"sqlite:///{tmp_path / 'none' / 'airflow.db'}"}
    with pytest.raises(subprocess.CalledProcessError):
        clean_records(NOW, nowhere)


def test_the_database_is_given_back_and_nothing_else_of_airflows_insides() -> None:
    inside = {"A": "1", "_AIRFLOW_PROCESS_CONTEXT": "client", "__AIRFLOW_SUPERVISOR_FD": "3"}
    hidden = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "no", "AIRFLOW__CORE__SQL_ALCHEMY_CONN": "no"}
    given = {"EVERGREEN_AIRFLOW_DB_URL": "sqlite:///x"}
    expected = {"A": "1", **given, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:///x"}
    assert with_database({**inside, **hidden, **given}) == expected
    with pytest.raises(FoundProblem, match="EVERGREEN_AIRFLOW_DB_URL"):
        with_database({**inside, **hidden})


def test_a_run_may_wait_for_its_approval_longer_than_records_are_kept() -> None:
    patient = make_spec(approval={"mode": "manual", "timeout": "60d"})
    assert keep_since(30, [], NOW) == keep_since(30, [make_spec()], NOW) == NOW - 30 * DAY
    assert keep_since(30, [make_spec(), patient], NOW) == NOW - 61 * DAY


def aged(path: Path, days: float) -> None:
    at = (NOW - timedelta(days=days)).timestamp()
    os.utime(path, (at, at), follow_symlinks=False)


def test_old_logs_and_old_empty_folders_go(tmp_path: Path) -> None:
    for name, age in (("dag_id=a/run_id=1/1.log", 40), ("dag_id=a/run_id=2/1.log", 1), ("dag_id=b/run_id=1/1.log", 31)):
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.write_text("12345")
        aged(file, age)
    outside = tmp_path.parent / "outside.log"
    outside.write_text("kept")
    aged(outside, 99)
    (tmp_path / "link.log").symlink_to(outside)
    aged(tmp_path / "link.log", 99)
    (tmp_path / "empty").mkdir()
    done = remove_old(tmp_path, before=NOW - 30 * DAY, now=NOW)
    assert (done.files, done.folders) == (3, 0)  # folders that lost a file now are young
    assert outside.exists()
    for folder in [path for path in tmp_path.rglob("*") if path.is_dir()]:
        aged(folder, 2)
    done = remove_old(tmp_path, before=NOW - 30 * DAY, now=NOW)
    assert (done.files, done.folders) == (0, 3)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == ["dag_id=a", "dag_id=a/run_id=2", "dag_id=a/run_id=2/1.log", "dag_id=b"]
    aged(tmp_path / "dag_id=b", 2)
    assert remove_old(tmp_path, before=NOW - 30 * DAY, now=NOW).folders == 1
    assert tmp_path.is_dir()


def test_the_stores_task_goes_by_each_models_own_rule_and_leaves_a_broken_spec_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_project(tmp_path, "short", "broken")
    short = root / "models" / "short" / "model.yaml"
    short.write_text(f"{short.read_text()}\nretention: {{keep: 5d, versions: 1}}\n")
    broken = root / "models" / "broken" / "model.yaml"
    broken.write_text(broken.read_text().replace("task:", "tusk:"))
    monkeypatch.setenv("EVERGREEN_PROJECT", str(root))
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    settings = wiring.Settings.load()
    ledger, store = wiring.ledger(settings), wiring.store(settings)
    for model in ("short", "broken"):
        for version in (1, 2):
            _old_version(ledger, model, version)
            store.put(f"evidence/{model}/{version}/evidence.json", b"{}")
            aged(tmp_path / "home" / "store" / "evidence" / model / str(version) / "evidence.json", 6)
    with caplog.at_level(logging.INFO):
        housekeeping._store()
    left = ["evidence/broken/1/evidence.json", "evidence/broken/2/evidence.json", "evidence/short/2/evidence.json"]
    assert store.keys("") == left
    assert "evidence: 1 files" in caplog.text
    assert "broken left alone (its spec has a problem" in caplog.text


def _old_version(ledger: Ledger, model: str, version: int) -> None:
    ledger.models.add_snapshot(make_snapshot(model))
    ledger.models.add_candidate(make_candidate(model, version, bundle=f"{model}-{version}", created_at=NOW - 50 * DAY))
