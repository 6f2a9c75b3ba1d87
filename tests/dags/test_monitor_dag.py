"""The DAG `monitor`: when a run starts, what its task tells on the run and to other DAGs, and when it is red."""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset, AssetOrTimeSchedule
from tests.dags.parse_dags import parse

from evergreen import wiring
from evergreen.core.catalog import Catalog
from evergreen.core.errors import FoundProblem
from evergreen.core.watching import MONITOR, detail_of
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.serving_counters import InMemoryServingCounters
from evergreen.orchestration import monitor
from evergreen.orchestration.monitor import ALERTS, MonitorTrigger, build_monitor_dag
from ledgers import passed, release
from spec_project import make_project
from watched import World, watched_spec

REPO = Path(__file__).parents[2]


# ---------------------------------------------------------------- the DAG


def test_its_file_loads_alone_and_light(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    shutil.copy(REPO / "dags" / "upkeep.py", tmp_path / "dags")
    found = parse(tmp_path, tmp_path / "airflow")
    assert (found["errors"], found["heavy"]) == ({}, [])
    dag = found["dags"]["monitor"]
    assert (dag["tasks"], dag["docs"], dag["catchup"]) == (["watch"], [True], False)
    assert "red" in dag["doc"]


def test_it_starts_by_the_clock_and_by_a_models_turn_and_passes_are_one_after_the_other() -> None:
    dag = build_monitor_dag()
    assert isinstance(dag.schedule, AssetOrTimeSchedule)
    assert dag.max_active_runs == 1
    assert dag.get_task("watch").outlets == [ALERTS]


# ---------------------------------------------------------------- the task


class Run:
    """A run of the DAG, over a model whose drift is far beyond its limit."""

    def __init__(self) -> None:
        self.world = World(watched_spec(monitoring={"alerts": [{"name": "drift.psi.distance", "above": 0.2}]}))
        ledger = self.world.ledger
        release(ledger, passed(ledger, 1, seen=0))
        self.notes: list[str] = []
        self.events: list[tuple[Asset, dict[str, Any]]] = []

    def answers(self) -> None:
        self.world.answers([0.5] * 100, at=datetime.now(UTC) - timedelta(minutes=1), step=timedelta(0), distance=1900.0)

    def once(self) -> str:
        add = SimpleNamespace(add=lambda asset, extra: self.events.append((asset, extra)))
        return monitor._watch({"outlet_events": defaultdict(lambda: add)})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    made = Run()
    for name, value in (("ledger", made.world.ledger), ("store", made.world.store), ("logged_parts", made.world.log)):
        monkeypatch.setattr(wiring, name, lambda settings, value=value: value)
    monkeypatch.setattr(wiring, "serving_counters", InMemoryServingCounters)
    monkeypatch.setattr(monitor, "load_catalog", lambda root, kept: Catalog({"m": made.world.spec}, ()))
    monkeypatch.setattr(monitor, "tell", lambda context, note: made.notes.append(note))
    return made


def test_an_alert_is_an_event_and_stands_in_the_note(run: Run) -> None:
    run.answers()
    run.once()
    (note,), ((asset, told),) = run.notes, run.events
    (alert,) = run.world.ledger.alerts.open_ones()
    assert note.startswith("models watched: 1; new answers: 100; new labels: 0. m: alert drift.psi.distance>0.2")
    assert asset == Asset("alerts of m")
    assert (told["alert"], told["state"], told["value"], told["why"]) == (alert.id, "open", alert.value, "")


def test_a_run_whose_turn_nobody_has_says_so_and_tells_no_one(run: Run) -> None:
    run.once()
    assert run.once() == run.notes[-1] == "nothing to do: no model's turn had come"
    assert run.events == []


def test_a_model_that_could_not_be_watched_makes_the_run_red_and_is_named_on_it(run: Run) -> None:
    def gone(model: str, day: Any) -> list[str]:
        raise OSError("the disk is gone")

    run.world.log.parts = gone  # type: ignore[method-assign]
    with pytest.raises(FoundProblem, match="the disk is gone"):
        run.once()
    assert "could not be watched: m fails since" in run.notes[0]
    assert "the disk is gone" in run.notes[0]


# ---------------------------------------------------------------- in the triggerer


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """That of a project with the model `delay`; `away` while it does not answer."""
    made = SimpleNamespace(of=in_memory_ledger(), away=False, looks=0)

    def opened(settings: Any) -> Any:
        made.looks += 1
        if made.away:
            raise ConnectionError("the ledger is away")
        return SimpleNamespace(heartbeats=made)

    def last(name: str) -> Any:
        made.looks += 1
        return made.of.heartbeats.last(name)

    made.last = last
    monkeypatch.setenv("EVERGREEN_PROJECT", str(make_project(tmp_path)))
    monkeypatch.setattr(wiring, "ledger", opened)
    monkeypatch.setattr(monitor, "LOOK", 0.01)
    return made


def heard(ledger: Any, *, ago: timedelta = timedelta(0), watched: timedelta | None = None) -> None:
    now = datetime.now(UTC)
    turns = {"delay": now - watched} if watched is not None else {}
    said = detail_of(models=1, rows=0, labels=0, seconds=0.1, failures={}, watched=turns)
    ledger.of.heartbeats.beat(MONITOR, said, now - ago)


async def looked(ledger: Any, times: int = 3) -> None:
    """Wait until the trigger has looked so often."""
    until = ledger.looks + times
    async with asyncio.timeout(5):
        while ledger.looks < until:
            await asyncio.sleep(0.01)


def test_it_fires_once_for_each_turn_however_long_the_pass_takes(ledger: Any) -> None:
    async def story() -> None:
        events = MonitorTrigger().run()
        await asyncio.wait_for(anext(events), 5)  # the model was never watched
        again = asyncio.create_task(anext(events))  # type: ignore[arg-type]
        await looked(ledger)
        assert not again.done(), "its run has not begun"
        heard(ledger, watched=timedelta(minutes=1))
        await looked(ledger)
        assert not again.done(), "its turn has not come"
        heard(ledger, watched=timedelta(minutes=6))
        await asyncio.wait_for(again, 5)
        await events.aclose()

    asyncio.run(story())


def test_it_asks_for_another_run_where_one_never_began(ledger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        events = MonitorTrigger().run()
        await asyncio.wait_for(anext(events), 5)
        monkeypatch.setattr(monitor, "PATIENCE", timedelta(0))
        await asyncio.wait_for(anext(events), 5)
        await events.aclose()

    asyncio.run(story())


def test_it_survives_a_ledger_that_is_away(ledger: Any) -> None:
    async def story() -> None:
        ledger.away = True
        events = MonitorTrigger().run()
        waiting = asyncio.create_task(anext(events))  # type: ignore[arg-type]
        await looked(ledger)
        assert not waiting.done()
        ledger.away = False
        await asyncio.wait_for(waiting, 5)
        await events.aclose()

    asyncio.run(story())


def test_it_is_made_again_from_what_it_is_stored_as() -> None:
    path, arguments = MonitorTrigger().serialize()
    assert (path, MonitorTrigger(**arguments).serialize()) == (
        "evergreen.orchestration.monitor.MonitorTrigger",
        (path, arguments),
    )
