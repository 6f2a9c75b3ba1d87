"""What every ledger does: the days that were read of a source."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from evergreen.core.errors import LeaseLost
from evergreen.core.ports import Ledger
from evergreen.core.records import PulledDay
from records import NOW

MIDNIGHT = datetime(2013, 1, 1, tzinfo=UTC)
DAY = PulledDay(
    model="m",
    reading="r",
    day=date(2013, 1, 1),
    key="snapshots/m/2013-01-01-ab.parquet",
    rows=90,
    sha256="ab",
    unlabelled=6,
    start=MIDNIGHT,
    end=MIDNIGHT + timedelta(days=1, microseconds=-1),
    watermark=MIDNIGHT + timedelta(days=9, hours=5),
    request_id="request-1",
)


def test_days_come_back_as_they_were_kept_in_order(ledger: Ledger) -> None:
    empty = replace(DAY, day=date(2012, 12, 31), key="", rows=0, sha256="", finished=True)
    ledger.pulled_days.keep([DAY, empty])
    ledger.pulled_days.keep([replace(DAY, reading="a"), replace(DAY, model="other")])
    ledger.pulled_days.keep([])
    assert ledger.pulled_days.of("m", "r") == [empty, DAY]
    assert ledger.pulled_days.of("m") == [replace(DAY, reading="a"), empty, DAY]
    assert ledger.pulled_days.of("none") == []


def test_a_day_that_is_read_again_takes_the_place_of_the_one_before(ledger: Ledger) -> None:
    ledger.pulled_days.keep([DAY])
    again = replace(DAY, key="other", rows=91, unlabelled=5, request_id="request-2", finished=True)
    ledger.pulled_days.keep([again])
    assert ledger.pulled_days.of("m", "r") == [again]


def test_only_what_is_kept_like_this_is_removed(ledger: Ledger) -> None:
    other = replace(DAY, day=date(2013, 1, 2))
    ledger.pulled_days.keep([DAY, other])
    ledger.pulled_days.remove([replace(DAY, key="older"), replace(DAY, request_id="request-0"), other])
    ledger.pulled_days.remove([])
    assert ledger.pulled_days.of("m") == [DAY]


def test_who_has_lost_the_lease_keeps_nothing(ledger: Ledger) -> None:
    lost = ledger.leases.acquire("m", "request-1", timedelta(minutes=1), NOW)
    ledger.pulled_days.keep([DAY], lease=lost)
    ledger.leases.acquire("m", "request-2", timedelta(minutes=1), NOW + timedelta(hours=1))
    with pytest.raises(LeaseLost):
        ledger.pulled_days.keep([replace(DAY, rows=1)], lease=lost)
    assert ledger.pulled_days.of("m") == [DAY]
