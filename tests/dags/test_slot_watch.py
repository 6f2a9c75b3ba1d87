"""The DAG `platform`: where it is there, when it starts, and what a run of it does and says."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.dags.parse_dags import parse

from evergreen import wiring
from evergreen.core.slot_health import SlotFacts
from evergreen.fakes.slot_containers import InMemorySlotContainers
from evergreen.orchestration import slot_watch
from evergreen.orchestration.slot_watch import SlotsWatcher, build_platform_dag

REPO = Path(__file__).parents[2]
URL = "tcp://docker-slots:2375"


@pytest.mark.parametrize("url", ["", URL])
def test_the_dag_is_there_in_the_compose_shape_only(tmp_path: Path, url: str) -> None:
    (tmp_path / "dags").mkdir()
    shutil.copy(REPO / "dags" / "upkeep.py", tmp_path / "dags")
    found = parse(tmp_path, tmp_path / "airflow", EVERGREEN_SLOTS_URL=url)
    assert found["errors"] == {}
    assert found["heavy"] == []
    if not url:
        assert "platform" not in found["dags"]
        return
    dag = found["dags"]["platform"]
    assert (dag["tasks"], dag["docs"], dag["catchup"]) == (["watch_slots"], [True], False)
    assert "restarted" in dag["doc"]


@pytest.fixture
def slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InMemorySlotContainers:
    """Blue answers, the others are stopped."""
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    now = datetime.now(UTC)
    containers = InMemorySlotContainers(
        SlotFacts("serving-blue", "running", now, None, health="healthy"),
        *(SlotFacts(slot, "created", None, None) for slot in ("serving-green", "serving-rehearsal")),
    )
    monkeypatch.setattr(wiring, "slot_containers", lambda settings: containers)
    monkeypatch.setattr(slot_watch, "PAUSE", 0.02)
    return containers


def hang(slots: InMemorySlotContainers) -> None:
    began = datetime.now(UTC) - timedelta(minutes=5)
    failing = datetime.now(UTC) - timedelta(seconds=30)
    slots.say(SlotFacts("serving-blue", "running", began, None, health="unhealthy", failing_since=failing))


async def event_of(events: AsyncIterator[Any], seconds: float = 3) -> str | None:
    """What the next event says; none if there is none in time."""
    try:
        return str((await asyncio.wait_for(anext(events), seconds)).payload["found"])
    except TimeoutError:
        return None


def test_the_watcher_fires_once_for_what_it_finds_and_again_if_nothing_was_done(
    slots: InMemorySlotContainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        events = SlotsWatcher(URL).run()
        waiting = asyncio.create_task(event_of(events, 30))
        await asyncio.sleep(0.2)
        assert not waiting.done(), "all is well"
        hang(slots)
        assert str(await waiting).startswith("serving-blue restarted:")
        await events.aclose()
        events = SlotsWatcher(URL).run()  # as after a restart of the triggerer
        assert await event_of(events)
        again = asyncio.create_task(event_of(events, 30))
        await asyncio.sleep(0.2)
        assert not again.done(), "sent again at once"
        monkeypatch.setattr(slot_watch, "AGAIN", 0.0)
        assert await again
        await events.aclose()

    asyncio.run(story())
    assert slots.restarted == []


def test_a_docker_slots_that_is_away_is_asked_again(
    slots: InMemorySlotContainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = wiring.slot_containers

    def refuse(settings: wiring.Settings) -> Any:
        raise ConnectionError("nobody there")

    async def story() -> None:
        monkeypatch.setattr(wiring, "slot_containers", refuse)
        hang(slots)
        events = SlotsWatcher(URL).run()
        waiting = asyncio.create_task(event_of(events, 30))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        monkeypatch.setattr(wiring, "slot_containers", away)
        assert await waiting
        await events.aclose()

    asyncio.run(story())


@dataclass
class TaskInstance:
    """As much of Airflow's as a note needs."""

    pushed: dict[str, str] = field(default_factory=dict)

    def xcom_push(self, key: str, value: str) -> None:
        self.pushed[key] = value


def run(monkeypatch: pytest.MonkeyPatch) -> tuple[str, TaskInstance]:
    """What the task returns, and what it told."""
    instance = TaskInstance()
    context = {"ti": instance, "dag_run": SimpleNamespace(dag_id="platform", run_id="one")}
    monkeypatch.setattr(slot_watch, "get_current_context", lambda: context)
    task = build_platform_dag(URL).get_task("watch_slots")
    return task.python_callable(), instance


def test_a_run_restarts_what_hangs_and_tells_it_on_the_run_and_in_a_notice(
    slots: InMemorySlotContainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    hang(slots)
    reason, instance = run(monkeypatch)
    assert reason.startswith("serving-blue restarted: it did not answer its health check for at least 3")
    assert instance.pushed == {"reason": reason}
    assert slots.restarted == ["serving-blue"]
    ledger = wiring.ledger(wiring.Settings.load())
    assert [one.what for one in ledger.slot_events.latest(5)] == ["restarted"]
    assert run(monkeypatch)[0] == slot_watch.NOTHING
    [notice] = ledger.notices.latest(5)
    assert notice.text.startswith(reason)
    assert notice.link == "https://airflow.example.com/dags/platform/runs/one"
