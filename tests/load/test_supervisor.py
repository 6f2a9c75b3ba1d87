"""The embedded shape, for real: one stack of a small project, up, hurt, and down.

Here because `make test` has no time for it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from evergreen import wiring
from evergreen.adapters.airflow_api import AirflowApi
from evergreen.core.errors import FoundProblem, ServiceFailed
from evergreen.core.records import Cause, RequestState, TriggerRequest
from evergreen.supervisor import Stack, down, running, up
from evergreen.supervisor import stack as stacks
from evergreen.supervisor.components import new_stack
from evergreen.supervisor.health import healthy
from evergreen.supervisor.keeper import delay
from evergreen.supervisor.sessions import members
from spec_project import make_project, write_spec

REPO = Path(__file__).parents[2]
NAMES = ["mlflow", "api-server", "scheduler", "dag-processor", "triggerer", "serving"]
DAGS = ["abort", "delay", "hold", "housekeeping", "monitor", "promote", "reconciler", "rollback"]


def settings_of(home: Path, root: Path) -> wiring.Settings:
    return wiring.Settings(root, home, f"sqlite:///{home / 'ledger.db'}", str(home / "store"), "")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[wiring.Settings]:
    root = make_project(tmp_path_factory.mktemp("project"))
    write_spec(root, "delay", ('  - schedule: "0 3 * * *"\n', ""))  # Airflow starts a missed run at once until 05:24
    shutil.copytree(REPO / "dags", root / "dags", dirs_exist_ok=True)
    (root / "plugins").symlink_to(REPO / "plugins")
    made = settings_of(root / ".evergreen", root)
    yield made
    down(made)


@pytest.fixture(scope="module")
def stack(settings: wiring.Settings) -> Stack:
    land_one_row(settings.home)
    return up(settings)


@pytest.fixture(scope="module")
def api(stack: Stack) -> AirflowApi:
    return AirflowApi(stack.airflow_url, stack.user, stack.password)


def land_one_row(home: Path) -> None:
    home.mkdir()
    connection = sqlite3.connect(home / "warehouse.db")
    connection.execute("CREATE TABLE flights (id INTEGER, at TEXT, late INTEGER, carrier TEXT, hour INTEGER)")
    connection.execute("INSERT INTO flights VALUES (1, '2013-01-01 05:00:00', 0, 'AA', 5)")
    connection.commit()
    connection.close()


def until(true: Callable[[], object], seconds: float) -> float:
    """Seconds until it holds; fails where it does not in time."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "did not happen in time"
        time.sleep(0.1)
    return time.monotonic() - began


def record_of(settings: wiring.Settings) -> stacks.Record:
    record = stacks.read(settings.home)
    assert record is not None
    return record


def ended_request(settings: wiring.Settings, run_id: str) -> TriggerRequest | None:
    request = wiring.ledger(settings).requests.for_run("delay", run_id)
    return request if request and request.closed_at else None


def test_everything_answers_and_up_again_changes_nothing(settings: wiring.Settings, stack: Stack) -> None:
    until(lambda: sorted(healthy(record_of(settings), NAMES)) == sorted(NAMES), 60)
    assert running(settings) == stack == up(settings)


def test_what_it_writes_is_its_owners_only(settings: wiring.Settings, stack: Stack) -> None:
    assert [path for path in files_in(settings.home) if path.name != "warehouse.db" and is_open_to_others(path)] == []
    assert stat.S_IMODE(stacks.path(settings.home).stat().st_mode) == 0o600


def files_in(home: Path) -> Iterator[Path]:
    """And folders; while what runs there makes and removes some."""
    for folder, folders, files in os.walk(home):
        yield from (Path(folder, name) for name in (*folders, *files))


def is_open_to_others(path: Path) -> bool:
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISLNK(found) and bool(stat.S_IMODE(found) & 0o077)


def test_only_loopback_and_only_with_the_password(stack: Stack, api: AirflowApi) -> None:
    until(lambda: api.dags() == DAGS, 60)
    with pytest.raises(FoundProblem, match="sign-in of 'admin'"):
        AirflowApi(stack.airflow_url, stack.user, "guess").dags()
    assert httpx.get(f"{stack.airflow_url}/api/v2/dags", timeout=30).status_code == 401


def test_a_run_is_told_who_started_it_and_tells_why_it_ended(
    settings: wiring.Settings, stack: Stack, api: AirflowApi
) -> None:
    """One after another: of two that are open at once, one would take the other along."""
    found: dict[str, TriggerRequest] = {}

    def ended(run_id: str) -> str:
        until(lambda: ended_request(settings, run_id), 120)
        until(lambda: api.run("delay", run_id)["state"] in ("success", "failed"), 120)
        request = ended_request(settings, run_id)
        assert request is not None
        found[run_id] = request
        return run_id

    headers = {"Authorization": f"Bearer {token(stack)}", "Referer": stack.airflow_url}
    with httpx.Client(base_url=stack.airflow_url, headers=headers, timeout=30) as browser:
        runs = "/api/v2/dags/delay/dagRuns"
        until(lambda: browser.get(f"{runs}?run_type=asset_triggered").json()["dag_runs"], 90)
        by_data = ended(browser.get(f"{runs}?run_type=asset_triggered").json()["dag_runs"][0]["dag_run_id"])
        by_api = ended(api.trigger("delay"))
        # Airflow on SQLite answers now and then with 500, and has made no run then.
        answers = (browser.post(runs, json={"logical_date": None, "conf": {}}) for _ in range(4))
        by_ui = ended(next(one for one in answers if one.is_success).json()["dag_run_id"])
    assert [found[run_id].cause for run_id in (by_api, by_ui, by_data)] == [Cause.API, Cause.PERSON, Cause.NEW_DATA]
    assert found[by_data].state is RequestState.SKIPPED
    assert "5,000 needed" in api.run("delay", by_data)["note"]
    assert set(api.tasks("delay", by_data).values()) == {"skipped"}
    assert found[by_api].state is RequestState.FAILED  # one row makes no window
    assert found[by_api].reason[:500] in api.run("delay", by_api)["note"]


def token(stack: Stack) -> str:
    who = {"username": stack.user, "password": stack.password}
    answer = httpx.post(f"{stack.airflow_url}/auth/token", json=who, timeout=30)
    return str(answer.json()["access_token"])


def test_an_edit_of_a_spec_is_seen_within_seconds_and_hides_no_other_dag(
    settings: wiring.Settings, api: AirflowApi
) -> None:
    write_spec(settings.root, "wrong", ("task:", "tsak:"))
    until(lambda: "models/wrong/model.yaml" in str(api.import_errors()), 30)
    assert api.dags() == DAGS
    shutil.rmtree(settings.root / "models" / "wrong")
    until(lambda: not api.import_errors(), 30)


def test_a_killed_scheduler_is_started_again_and_leaves_nothing(settings: wiring.Settings, stack: Stack) -> None:
    before, starts = record_of(settings).sessions["scheduler"], record_of(settings).starts["scheduler"]
    os.kill(before.sid, signal.SIGKILL)
    until(lambda: record_of(settings).starts["scheduler"] == starts + 1, 20)
    assert members([before]) == []
    until(lambda: healthy(record_of(settings), ["scheduler"]), 60)


def test_another_home_gets_other_ports_and_another_password(stack: Stack, tmp_path: Path) -> None:
    other = new_stack(tmp_path)
    mine = {stack.airflow_url, stack.mlflow_url, stack.serving_url}
    assert not mine & {other.airflow_url, other.mlflow_url, other.serving_url}
    assert other.password != stack.password
    assert new_stack(tmp_path).password == other.password


def test_a_component_that_does_not_start_is_named_with_its_log_and_nothing_stays(
    settings: wiring.Settings, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "serving").write_text("a file where serving keeps its folder")
    broken = settings_of(home, settings.root)
    try:
        with pytest.raises(ServiceFailed, match=r"Serving died .* times while starting(.|\n)*serving\.log"):
            up(broken)
        assert running(broken) is None
        assert processes_in(home) == []
    finally:
        down(broken)


def processes_in(home: Path) -> list[str]:
    """Every component works in its home."""
    found = psutil.process_iter(["name", "cwd", "status"])
    return [p.info["name"] for p in found if p.info["cwd"] == str(home) and p.info["status"] != "zombie"]


def test_down_ends_all_even_when_the_keeper_was_killed(settings: wiring.Settings, stack: Stack) -> None:
    os.kill(stack.pid, signal.SIGKILL)
    until(lambda: running(settings) is None, 20)
    record = record_of(settings)
    assert processes_in(settings.home)
    assert len(members(record.sessions.values())) >= len(NAMES)
    assert down(settings) >= len(NAMES)
    assert members(record.sessions.values()) == []
    assert processes_in(settings.home) == []
    assert (down(settings), running(settings)) == (0, None)


def test_what_keeps_dying_is_started_ever_more_rarely() -> None:
    assert [delay(deaths) for deaths in (1, 2, 3, 4, 10)] == [0, 1, 2, 4, 30]
