"""A monitor that is silent, and data that is stale, are told of once."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from evergreen.core.addresses import Addresses
from evergreen.core.ports import Ledger
from evergreen.core.reconciling import Trouble
from evergreen.core.records import NoticeKind
from evergreen.core.watching import MONITOR, detail_of, first_release, told
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.steps.watch_silence import watch_silence
from ledgers import passed, release
from records import NOW, make_request_args, make_spec

PAGES = Addresses.under("http://airflow")
MINUTE = timedelta(minutes=1)
SPECS = {"m": make_spec(monitoring={"every": "5m", "fresh_within": "36h"})}


@pytest.fixture
def ledger() -> Ledger:
    made = in_memory_ledger()
    release(made, passed(made, 1, seen=0))
    return made


def watch(ledger: Ledger, now: datetime) -> list[str]:
    return watch_silence(ledger, SPECS, PAGES, now=now)


def test_a_monitor_that_is_not_heard_of_is_told_of_once_and_again_after_it_was_back(ledger: Ledger) -> None:
    assert watch(ledger, NOW + 15 * MINUTE) == []
    assert watch(ledger, NOW + 16 * MINUTE) == ["told people: nothing is heard from the monitor"]
    assert watch(ledger, NOW + 60 * MINUTE) == []
    ledger.heartbeats.beat(MONITOR, "", NOW + 70 * MINUTE)
    assert watch(ledger, NOW + 80 * MINUTE) == []
    assert len(watch(ledger, NOW + 90 * MINUTE)) == 1
    notice = ledger.notices.latest(1)[0]
    assert (notice.kind, notice.link) == (NoticeKind.SILENT, PAGES.dag(MONITOR))


def test_before_a_first_release_there_is_nothing_to_watch() -> None:
    assert watch(in_memory_ledger(), NOW + timedelta(days=9)) == []


def test_data_that_is_older_than_allowed_is_told_of_once_until_newer_comes(ledger: Ledger) -> None:
    def data(newest: datetime, key: str) -> None:
        ledger.requests.open(**{**make_request_args(), "model": "m", "watermark": newest, "dedupe_key": key})

    later = NOW + timedelta(days=9)
    ledger.heartbeats.beat(MONITOR, "", later)
    data(later - timedelta(hours=36), "fresh")
    assert watch(ledger, later) == []
    assert watch(ledger, later + MINUTE) == ["told people: the data of m is stale"]
    assert watch(ledger, later + 2 * MINUTE) == []
    assert "older than 36h" in ledger.notices.latest(1)[0].text
    data(later - timedelta(hours=1), "newer")
    assert watch(ledger, later + 3 * MINUTE) == []


def test_status_says_what_is_wrong_with_the_monitor(ledger: Ledger) -> None:
    began = first_release(ledger)
    (line,) = told(SPECS, None, began, NOW + 20 * MINUTE)
    assert line.startswith("Nothing heard from the monitor since 20")
    trouble = {"m": Trouble("m", NOW, "ConnectionError: the store is away")}
    said = detail_of(models=1, rows=0, labels=0, seconds=0.1, failures=trouble, watched={})
    ledger.heartbeats.beat(MONITOR, said, NOW + 2 * MINUTE)
    (line,) = told(SPECS, ledger.heartbeats.last(MONITOR), began, NOW + 2 * MINUTE)
    assert "m fails since" in line
    assert "the store is away" in line
