"""The watcher against a real SQLite source and a real ledger."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evergreen import wiring
from evergreen.core.records import Cause, RequestState
from evergreen.orchestration import watchers
from evergreen.orchestration.watchers import SourceWatcher, pause_after
from records import NOW, make_request_args

ARGUMENTS = {"connection": "warehouse", "table": "rows", "event_time": "at", "key": "id"}


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "warehouse.db"
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    monkeypatch.setenv("EVERGREEN_CONN_WAREHOUSE", f"sqlite:///{file}")
    monkeypatch.setenv("EVERGREEN_WATCH_SECONDS", "0.05")
    monkeypatch.setattr(watchers, "SHARE", 0)  # a first look takes long, and after a long one it pauses long
    return file


def land(file: Path, day: int) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER, at TEXT)")
        connection.execute("INSERT INTO rows VALUES (?, ?)", (day, f"2013-01-{day:02} 00:00:00"))
    connection.close()


def known(day: int, state: RequestState, cause: Cause = Cause.NEW_DATA) -> None:
    requests = wiring.ledger(wiring.Settings.load()).requests
    watermark = datetime(2013, 1, day, tzinfo=UTC)
    request = requests.open(**make_request_args(watermark=watermark, cause=cause))
    requests.mark(request.id, now=NOW, state=state)


async def next_event(events: AsyncIterator[object], seconds: float = 20) -> datetime:
    event = await asyncio.wait_for(anext(events), seconds)
    return datetime.fromisoformat(event.payload["watermark"])  # type: ignore[attr-defined]


async def silent(events: AsyncIterator[object]) -> bool:
    try:
        await next_event(events, 0.4)
    except TimeoutError:
        return True
    return False


def test_each_new_watermark_is_one_event(warehouse: Path) -> None:
    async def story() -> None:
        land(warehouse, 2)
        events = SourceWatcher(**ARGUMENTS).run()
        assert await next_event(events) == datetime(2013, 1, 2, tzinfo=UTC)
        later = asyncio.create_task(next_event(events))
        await asyncio.sleep(0.4)
        assert not later.done(), "sent again"
        land(warehouse, 3)
        assert await later == datetime(2013, 1, 3, tzinfo=UTC)
        await events.aclose()

    asyncio.run(story())


@pytest.mark.parametrize("state", [RequestState.SKIPPED, RequestState.FAILED, RequestState.SERVED])
def test_after_a_restart_the_ledger_says_what_is_known_already(warehouse: Path, state: RequestState) -> None:
    land(warehouse, 2)
    known(2, state)
    assert asyncio.run(silent(SourceWatcher(**ARGUMENTS).run()))
    land(warehouse, 3)
    assert asyncio.run(next_event(SourceWatcher(**ARGUMENTS).run())) == datetime(2013, 1, 3, tzinfo=UTC)


def test_a_run_that_cron_started_does_not_hide_the_data_from_other_models(warehouse: Path) -> None:
    land(warehouse, 2)
    known(2, RequestState.SERVED, Cause.SCHEDULE)
    assert asyncio.run(next_event(SourceWatcher(**ARGUMENTS).run())) == datetime(2013, 1, 2, tzinfo=UTC)


def test_a_source_that_does_not_answer_is_asked_again(warehouse: Path) -> None:
    async def story() -> datetime:
        events = SourceWatcher(**ARGUMENTS).run()
        waiting = asyncio.create_task(next_event(events))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        land(warehouse, 4)
        return await waiting

    assert asyncio.run(story()) == datetime(2013, 1, 4, tzinfo=UTC)


def test_new_files_are_events_too(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_PROJECT", str(warehouse.parent))
    (warehouse.parent / "data").mkdir()

    def land_file(day: int) -> None:
        draft = warehouse.parent / "data" / "draft"
        draft.write_text(f"id,at\n{day},2013-01-{day:02} 00:00:00\n")
        draft.rename(draft.with_name(f"{day}.csv"))

    async def story() -> None:
        events = SourceWatcher(files="data/*.csv", event_time="at", key="id").run()
        waiting = asyncio.create_task(next_event(events))
        await asyncio.sleep(0.3)
        assert not waiting.done(), "there is no file yet"
        land_file(2)
        assert await waiting == datetime(2013, 1, 2, tzinfo=UTC)
        land_file(3)
        assert await next_event(events) == datetime(2013, 1, 3, tzinfo=UTC)
        await events.aclose()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("took", "pause"),
    [(0.01, 1.0), (0.05, 1.0), (0.5, 10.0), (2.0, 40.0), (30.0, 60.0)],
    ids=["at once", "a twentieth of a second", "slow", "slower", "timed out"],
)
def test_a_source_that_answers_slowly_is_asked_less_often(took: float, pause: float) -> None:
    assert pause_after(took) == pause


def test_the_setting_is_the_shortest_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_WATCH_SECONDS", "90")
    assert pause_after(0.01) == pause_after(30.0) == 90.0
