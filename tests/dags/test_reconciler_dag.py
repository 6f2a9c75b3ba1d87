"""The DAG `reconciler` and what works in the triggerer: when a run starts, and what it finds and says."""

from __future__ import annotations

import asyncio
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import AssetOrTimeSchedule
from airflow.task.trigger_rule import TriggerRule
from tests.dags.parse_dags import parse

from evergreen import wiring
from evergreen.core.errors import FoundProblem
from evergreen.core.ports import Ledger
from evergreen.core.reconciling import RECONCILER, STAND_IN, Trouble, detail_of, silent, troubles_of
from evergreen.core.records import FLEET, Cause, NoticeKind
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.registry import FakeRegistry
from evergreen.fakes.runs import InMemoryRuns
from evergreen.orchestration import reconciler
from evergreen.orchestration.passes import Specs
from evergreen.orchestration.reconciler import ReconcilerTrigger, build_reconciler_dag, look_after
from records import make_request_args
from spec_project import make_project, write_spec, write_suite

REPO = Path(__file__).parents[2]


class World:
    """A project with the model `delay`, its ledger, and an Airflow in memory."""

    def __init__(self) -> None:
        self.ledger: Ledger = in_memory_ledger()
        self.runs, self.registry = InMemoryRuns(), FakeRegistry()
        self.ledger_is_away = False

    def open_ledger(self, settings: Any) -> Ledger:
        if self.ledger_is_away:
            raise ConnectionError("the ledger is away")
        return self.ledger

    def beat(self, ago: timedelta = timedelta(0), **troubles: Trouble) -> None:
        self.ledger.heartbeats.beat(RECONCILER, detail_of(troubles), datetime.now(UTC) - ago)

    def ask(self) -> str:
        """The run id of a new request that waits."""
        made = make_request_args(model="delay", cause=Cause.METRIC, run_id=None, now=datetime.now(UTC))
        return self.ledger.requests.open(**made).run_id


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setenv("EVERGREEN_PROJECT", str(make_project(tmp_path)))
    monkeypatch.setattr(wiring, "ledger", made.open_ledger)
    monkeypatch.setattr(wiring, "runs", lambda: made.runs)
    monkeypatch.setattr(wiring, "aliases", lambda settings: made.registry)
    monkeypatch.setattr(wiring, "source", lambda *described: SimpleNamespace(watermark=lambda: None))
    monkeypatch.setattr(reconciler, "GRACE", 0.0)
    monkeypatch.setattr(reconciler, "pause", lambda: 0.01)
    return made


# ---------------------------------------------------------------- the DAG


def test_its_file_loads_alone_and_light(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    shutil.copy(REPO / "dags" / "upkeep.py", tmp_path / "dags")
    found = parse(tmp_path, tmp_path / "airflow")
    assert (found["errors"], found["heavy"]) == ({}, [])
    dag = found["dags"]["reconciler"]
    assert (dag["tasks"], dag["docs"], dag["catchup"]) == (["watch", "send_notices"], [True, True], False)
    assert "red" in dag["doc"]


def test_it_starts_by_the_clock_and_by_what_is_to_be_done_and_is_as_red_as_watch() -> None:
    dag = build_reconciler_dag()
    assert isinstance(dag.schedule, AssetOrTimeSchedule)
    assert dag.max_active_runs == 1
    watch, send = dag.get_task("watch"), dag.get_task("send_notices")
    assert send.trigger_rule == TriggerRule.ALL_DONE_SETUP_SUCCESS
    assert (send.is_teardown, send.on_failure_fail_dagrun, watch.is_teardown) == (True, False, False)


# ---------------------------------------------------------------- watch


def look(world: World) -> tuple[str, list[str]]:
    """What the task returns or fails with, and what it says on its run."""
    said: list[str] = []
    try:
        return look_after(world.ledger, said.append), said
    except FoundProblem as error:
        return str(error), said


def test_all_is_well_and_no_pass_is_made(world: World) -> None:
    world.beat()
    world.ask()
    assert look(world) == (reconciler.WELL, [reconciler.WELL])
    assert world.runs.started == {}


@pytest.mark.parametrize("ever", [True, False])
def test_a_silent_reconciler_is_told_loudly_and_a_pass_is_made_in_its_place(world: World, ever: bool) -> None:
    if ever:
        world.beat(ago=timedelta(minutes=7))
    run_id = world.ask()
    told, said = look(world)
    since = "for 7 min" if ever else "yet"
    assert said == [f"nothing heard from the reconciler {since}; a pass was made in its place"]
    assert said[0] in told
    assert list(world.runs.started) == [("delay", run_id)]
    assert silent(world.ledger.heartbeats.last(RECONCILER), datetime.now(UTC))
    assert world.ledger.heartbeats.last(STAND_IN)
    [notice] = world.ledger.notices.unsent(tries=9)
    assert (notice.kind, notice.model) == (NoticeKind.SILENT, FLEET)
    look(world)
    assert len(world.ledger.notices.unsent(tries=9)) == 1


def test_people_hear_of_the_silence_though_the_pass_in_its_place_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unset() -> Any:
        raise FoundProblem("EVERGREEN_AIRFLOW_URL", found="nothing", allowed="a URL", do="Set it.")

    monkeypatch.setattr(wiring, "runs", unset)
    _, said = look(world)
    assert "a pass in its place failed: EVERGREEN_AIRFLOW_URL" in said[0]
    assert len(world.ledger.notices.unsent(tries=9)) == 1


def test_a_reconciler_that_starts_with_everything_else_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.beat(ago=timedelta(hours=8))
    monkeypatch.setattr(reconciler, "GRACE", 30.0)
    monkeypatch.setattr(reconciler.time, "sleep", lambda seconds: world.beat())
    assert look(world) == (reconciler.WELL, [reconciler.WELL])
    assert world.ledger.notices.unsent(tries=9) == []


@pytest.mark.parametrize("seconds", [30, 90])
def test_what_fails_for_long_makes_the_run_red(world: World, seconds: int) -> None:
    since = datetime.now(UTC) - timedelta(seconds=seconds)
    world.beat(aliases=Trouble("aliases", since, "ServiceFailed: MLflow is away"))
    _, said = look(world)
    assert ("aliases fails since" in said[0] and "MLflow is away" in said[0]) is (seconds > 60)


# ---------------------------------------------------------------- in the triggerer


async def next_event(events: Any, seconds: float = 5) -> list[str]:
    return list((await asyncio.wait_for(anext(events), seconds)).payload["to_do"])


async def until(true: Any) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


def test_it_makes_passes_for_ever_and_fires_once_for_what_a_task_is_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_NOTIFIERS", "somebody.tell")

    async def story() -> None:
        events = ReconcilerTrigger().run()
        waiting = asyncio.create_task(next_event(events))
        run_id = world.ask()
        await until(lambda: ("delay", run_id) in world.runs.started)
        assert not waiting.done(), "no task is needed for that"
        world.ledger.notices.add(
            "delay", NoticeKind.REPORTED, key="k", title="odd", text="Odd.", link="", now=datetime.now(UTC)
        )
        assert await waiting == ["to be sent: odd"]
        again = asyncio.create_task(next_event(events))
        before = world.ledger.heartbeats.last(RECONCILER)
        await until(lambda: world.ledger.heartbeats.last(RECONCILER) != before)
        assert not again.done(), "said again"
        [notice] = world.ledger.notices.unsent(tries=9)
        world.ledger.notices.sent(notice.id, datetime.now(UTC))
        world.ledger.notices.add(
            "delay", NoticeKind.REPORTED, key="l", title="odder", text="Odd.", link="", now=datetime.now(UTC)
        )
        assert await again == ["to be sent: odder"]
        await events.aclose()

    asyncio.run(story())


def test_it_survives_a_ledger_that_is_away_and_a_part_that_fails(world: World) -> None:
    async def story() -> None:
        world.ledger_is_away = world.runs.away = True
        run_id = world.ask()
        events = ReconcilerTrigger().run()
        waiting = asyncio.create_task(next_event(events))
        await asyncio.sleep(0.1)
        assert world.ledger.heartbeats.last(RECONCILER) is None
        world.ledger_is_away = False
        await until(lambda: world.ledger.heartbeats.last(RECONCILER))
        assert [one.part for one in troubles_of(world.ledger.heartbeats.last(RECONCILER))] == ["requests", "scheduler"]
        world.runs.away = False
        await until(lambda: ("delay", run_id) in world.runs.started)
        assert not waiting.done()
        waiting.cancel()

    asyncio.run(story())


def test_it_is_made_again_from_what_it_is_stored_as() -> None:
    assert ReconcilerTrigger(**ReconcilerTrigger().serialize()[1]).serialize() == (
        "evergreen.orchestration.reconciler.ReconcilerTrigger",
        {},
    )


# ---------------------------------------------------------------- specs


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


def test_specs_are_read_again_only_when_a_file_has_changed(project: Path) -> None:
    specs = Specs(project)
    first = specs.now()
    assert specs.now() is first
    write_spec(project, "another")
    write_suite(project, "another")
    assert sorted(specs.now()) == ["another", "delay"]
    file = project / "models" / "another" / "model.yaml"
    file.write_text(file.read_text().replace("name:", "nmae:"))
    assert sorted(specs.now()) == ["delay"]
    second = specs.now()
    os.utime(file, ns=(1, 1))
    assert specs.now() is not second
    shutil.rmtree(project / "models" / "another")
    assert sorted(specs.now()) == ["delay"]


def test_a_folder_that_goes_while_it_is_looked_at_is_one_model_less(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_spec(project, "another")
    write_suite(project, "another")
    specs = Specs(project)
    assert sorted(specs.now()) == ["another", "delay"]
    scandir = os.scandir

    def removed_before(path: object) -> object:
        if str(path).endswith("another"):
            shutil.rmtree(path, ignore_errors=True)
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr("os.scandir", removed_before)
    assert sorted(specs.now()) == ["delay"]
