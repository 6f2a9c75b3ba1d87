"""What every ledger does with what tuning found."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from evergreen.core.errors import LeaseLost
from evergreen.core.ports import Ledger
from evergreen.core.records import TuningResult
from records import NOW

RESULT = TuningResult(
    model="m",
    study="m/1",
    declared="d",
    request_id="r-1",
    params={"max_depth": 4, "subsample": 0.7, "grow_policy": "lossguide"},
    metric="auc",
    tuned=0.71,
    untuned=0.7,
    trials=20,
    at=NOW,
)


def test_a_result_comes_back_whole(ledger: Ledger) -> None:
    ledger.tunings.keep(RESULT)
    assert ledger.tunings.last("m") == ledger.tunings.last("m", "d") == RESULT


def test_nobody_tuned(ledger: Ledger) -> None:
    ledger.tunings.keep(RESULT)
    assert ledger.tunings.last("other") is None
    assert ledger.tunings.last("m", "another") is None


def test_the_newest_one_counts(ledger: Ledger) -> None:
    later = replace(RESULT, study="m/2", declared="e", params={}, at=NOW + timedelta(hours=1))
    ledger.tunings.keep(later)
    ledger.tunings.keep(RESULT)
    assert ledger.tunings.last("m") == later
    assert ledger.tunings.last("m", "d") == RESULT


def test_a_study_that_is_kept_again_takes_the_place_of_what_it_came_to_before(ledger: Ledger) -> None:
    again = replace(RESULT, request_id="r-2", params={}, at=NOW + timedelta(days=9))
    ledger.tunings.keep(RESULT)
    ledger.tunings.keep(again)
    assert ledger.tunings.last("m") == again


def test_who_lost_the_lease_keeps_nothing(ledger: Ledger) -> None:
    held = ledger.leases.acquire("m", "r-1", timedelta(minutes=1), NOW)
    ledger.leases.acquire("m", "r-2", timedelta(minutes=1), NOW + timedelta(minutes=2))
    with pytest.raises(LeaseLost):
        ledger.tunings.keep(RESULT, lease=held)
    assert ledger.tunings.last("m") is None
