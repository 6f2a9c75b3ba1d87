"""The DAG `roll_pool`: where it is there, what its form takes, and what its task does and says."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, ParamValidationError
from tests.dags.parse_dags import parse

from evergreen import wiring
from evergreen.core.errors import EdgeUnavailable, EvergreenError, FoundProblem, RollFailed
from evergreen.core.slot_health import SlotFacts
from evergreen.fakes.edge_proxy import InMemoryEdge
from evergreen.fakes.serving_client import InMemoryServingClient
from evergreen.fakes.slot_containers import InMemorySlotContainers
from evergreen.orchestration import roll_pool
from evergreen.steps.roll_pool import Rolled

REPO = Path(__file__).parents[2]
URL = "tcp://edge-admin:9999"
BLUE, GREEN = "serving-blue", "serving-green"
GOOD = {"pool": "default", "reason": "new libraries", "ready_within": 60}


@pytest.mark.parametrize("url", ["", URL])
def test_the_dag_is_there_in_the_compose_shape_only(tmp_path: Path, url: str) -> None:
    (tmp_path / "dags").mkdir()
    shutil.copy(REPO / "dags" / "upkeep.py", tmp_path / "dags")
    found = parse(tmp_path, tmp_path / "airflow", EVERGREEN_EDGE_URL=url)
    assert (found["errors"], found["heavy"]) == ({}, [])
    if not url:
        assert "roll_pool" not in found["dags"]
        return
    dag = found["dags"]["roll_pool"]
    assert (dag["tasks"], dag["docs"], dag["catchup"]) == (["roll_pool"], [True], False)
    assert "make roll" in dag["doc"]


def test_the_form_wants_a_pool_that_has_slots_and_a_reason() -> None:
    dag = roll_pool.build_roll_dag()
    assert (dag.schedule, dag.max_active_runs) == (None, 1)
    for name, value in GOOD.items():
        assert dag.params.get_param(name).resolve(value) == value
    for name, value in (("pool", "other"), ("reason", ""), ("reason", "no"), ("ready_within", 0)):
        with pytest.raises(ParamValidationError):
            dag.params.get_param(name).resolve(value)


# ---------------------------------------------------------------- the task


@pytest.fixture
def slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InMemorySlotContainers:
    """Blue answers; green answers as soon as it is started."""
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    containers = InMemorySlotContainers(
        SlotFacts(BLUE, "running", datetime.now(UTC), None, revision="old"),
        SlotFacts(GREEN, "created", None, None, revision="new"),
    )
    edge = InMemoryEdge(BLUE, GREEN, ready=lambda colour: containers.look(colour).up)
    network: Any = {f"http://{colour}:8000": None for colour in (BLUE, GREEN)}
    monkeypatch.setattr(wiring, "slot_containers", lambda settings: containers)
    monkeypatch.setattr(wiring, "edge", lambda settings: edge)
    monkeypatch.setattr(wiring, "serving_client", lambda: InMemoryServingClient(network))
    return containers


def context(told: list[str]) -> Any:
    run = SimpleNamespace(run_id="run-1", start_date=datetime.now(UTC) - timedelta(seconds=1), dag_id="roll_pool")
    run.triggering_user_name = "anna"
    return {"dag_run": run, "params": GOOD, "ti": SimpleNamespace(xcom_push=lambda key, value: told.append(value))}


def test_it_rolls_in_the_name_of_whoever_started_it_and_tells_each_step(slots: InMemorySlotContainers) -> None:
    told: list[str] = []
    asked = context(told)
    assert roll_pool.roll(asked) == Rolled(GREEN, BLUE, "new")
    assert [sentence.split(" ")[0] for sentence in told] == [GREEN, GREEN, "callers"]
    history = wiring.ledger(wiring.Settings.load()).pools.history("default")
    assert {(one.by, one.reason) for one in history} == {("anna", "new libraries")}
    assert roll_pool.roll(asked) == Rolled(GREEN, BLUE, "new")  # run again, it does nothing more
    assert len(wiring.ledger(wiring.Settings.load()).pools.history("default")) == 3


@pytest.mark.parametrize(
    ("error", "raised"), [(RollFailed("undone"), AirflowFailException), (EdgeUnavailable("away"), EdgeUnavailable)]
)
def test_what_was_undone_is_not_tried_again_and_what_is_away_is(
    slots: InMemorySlotContainers, monkeypatch: pytest.MonkeyPatch, error: EvergreenError, raised: type[Exception]
) -> None:
    def fails(context: Any) -> Rolled:
        raise error

    told: list[str] = []
    monkeypatch.setattr(roll_pool, "roll", fails)
    monkeypatch.setattr(roll_pool, "get_current_context", lambda: context(told))
    task: Any = roll_pool.build_roll_dag().get_task("roll_pool")
    with pytest.raises(raised, match=str(error)):
        task.python_callable()
    assert told == [str(error)]


def test_without_an_edge_it_says_that_there_is_no_roll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    with pytest.raises(FoundProblem, match="Only the compose shape has a pool to roll"):
        roll_pool.roll(context([]))
