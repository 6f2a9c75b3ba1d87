"""What every ledger does with what the monitor keeps: values of metrics, the state of rules, alerts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from threading import Barrier

import numpy as np
import pytest

from evergreen.core.ports import Ledger
from evergreen.core.records import Alert, MetricPoint, RuleState, Severity
from ledgers import LATER, Opener
from records import NOW

DAY = timedelta(days=1)
PSI = "drift.psi.max"
POINT = MetricPoint("m", 1, PSI, "", NOW - DAY, NOW, 0.1, 900, NOW, 0.05, 0.2)
STATE = RuleState("m", "psi", breaches=3, alert_id="a-1", changes=(NOW - DAY, NOW), seen_at=NOW)
ALERT = Alert(
    id="a-1",
    model="m",
    rule="psi",
    metric=PSI,
    slice="carrier=UA",
    severity=Severity.CRITICAL,
    version=1,
    value=0.3,
    limit=0.2,
    direction="above",
    window="1d",
    rows=900,
    opened_at=NOW,
    worst=0.3,
)
FINE = replace(STATE, breaches=0, fine=3, alert_id="")


# ---------------------------------------------------------------- points


def test_a_point_is_kept_once(ledger: Ledger) -> None:
    bare = replace(POINT, name="volume.rows", low=None, high=None)
    assert ledger.points.put([POINT, bare]) == 2
    assert ledger.points.put([POINT, bare, replace(POINT, computed_at=LATER)]) == 0
    assert ledger.points.put([]) == 0
    assert ledger.points.latest("m") == [POINT, bare]
    assert ledger.points.history("m", PSI, "", POINT.start) == [POINT]


@pytest.mark.parametrize("change", [{"value": 0.2}, {"rows": 901}, {"low": None}, {"high": 0.3}])
def test_one_that_differs_counts_and_the_older_stays(ledger: Ledger, change: dict[str, float | None]) -> None:
    ledger.points.put([POINT])
    again = replace(POINT, computed_at=LATER, **change)
    assert ledger.points.put([again]) == 1
    assert ledger.points.latest("m") == [again]
    assert ledger.points.history("m", PSI, "", POINT.start) == [POINT, again]
    back = replace(POINT, computed_at=LATER + DAY)
    assert ledger.points.put([back]) == 1
    assert ledger.points.latest("m") == [back]
    assert ledger.points.history("m", PSI, "", POINT.start) == [POINT, again, back]


def test_one_that_was_overtaken_says_nothing_new(ledger: Ledger) -> None:
    newer = replace(POINT, value=0.2, computed_at=LATER)
    ledger.points.put([newer])
    assert ledger.points.put([POINT]) == 0
    assert ledger.points.latest("m") == ledger.points.history("m", PSI, "", POINT.start) == [newer]


def test_of_two_in_one_call_the_second_counts(ledger: Ledger) -> None:
    both = [POINT, replace(POINT, value=0.2)]
    assert ledger.points.put([*both, both[1]]) == 2
    assert ledger.points.latest("m") == both[1:]
    assert ledger.points.history("m", PSI, "", POINT.start) == both


def test_each_version_name_slice_and_period_has_its_own_in_order(ledger: Ledger) -> None:
    others = [
        replace(POINT, version=2),
        replace(POINT, start=NOW, end=NOW + DAY),
        replace(POINT, slice="carrier=UA"),
        replace(POINT, name="Volume"),  # capitals come first, whatever the database thinks
        replace(POINT, name="age.data_hours"),
    ]
    assert ledger.points.put([POINT, *others, replace(POINT, model="n")]) == 7
    version, later, slice, capital, age = others
    assert ledger.points.latest("m") == [capital, age, POINT, later, version, slice]
    assert ledger.points.latest("m", names=[PSI], since=NOW) == [later]
    assert ledger.points.latest("m", names=["Volume", "age.data_hours"]) == [capital, age]
    assert ledger.points.latest("m", names=[]) == ledger.points.latest("o") == []
    assert ledger.points.history("m", PSI, "", POINT.start) == [POINT, version]
    assert ledger.points.history("m", PSI, "carrier=UA", POINT.start) == [slice]


def test_many_models_and_periods_in_one_call(ledger: Ledger) -> None:
    """The same pass again, with one model's label come late for a day of last week."""
    points = [
        replace(POINT, model=f"m{model}", name=f"metric.{name}", start=NOW - DAY * day, end=NOW - DAY * (day - 1))
        for model in range(5)
        for day in ((1, 7) if model == 3 else (1,))
        for name in range(1200)
    ]
    assert ledger.points.put(points) == 7200
    late = [replace(one, value=0.5, computed_at=LATER) if one.end < NOW else one for one in points]
    assert ledger.points.put(late) == 1200
    assert ledger.points.latest("m3", since=NOW - 2 * DAY) == sorted(
        (one for one in points if one.model == "m3" and one.end == NOW), key=lambda one: one.name
    )
    assert {one.value for one in ledger.points.latest("m3") if one.end < NOW} == {0.5}
    assert ledger.points.put(late) == 0


def test_the_newest_of_many_models_by_version_over_all_rows(ledger: Ledger) -> None:
    later = replace(POINT, start=POINT.start + DAY, end=POINT.end + DAY, value=0.7)
    other, version = replace(POINT, model="a"), replace(POINT, version=POINT.version + 1)
    left_out = [replace(later, slice="carrier=UA"), replace(later, name="volume.rows"), replace(later, model="z")]
    ledger.points.put([POINT, later, other, version, *left_out])
    since = POINT.end - timedelta(seconds=1)
    assert ledger.points.newest({"m", "a", "nobody"}, {PSI, "age.data_hours"}, since) == [other, later, version]
    assert ledger.points.newest(["m", "a"], [PSI], POINT.end) == [later]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_left_out(ledger: Ledger, wrong: float) -> None:
    assert ledger.points.put([replace(POINT, value=wrong), replace(POINT, name="n", low=wrong, high=wrong)]) == 1
    assert ledger.points.latest("m") == [replace(POINT, name="n", low=None, high=None)]


def test_numbers_of_numpy_and_times_of_anywhere_are_kept_as_pythons_in_utc(ledger: Ledger) -> None:
    berlin = timezone(timedelta(hours=1))
    start, end, at = (time.astimezone(berlin) for time in (POINT.start, POINT.end, POINT.computed_at))
    numbers = {"value": np.float64(0.1), "rows": np.int64(900), "low": np.float64(0.05)}
    ledger.points.put([replace(POINT, start=start, end=end, computed_at=at, **numbers)])
    assert ledger.points.put([POINT]) == 0
    [kept] = ledger.points.latest("m", since=(NOW - DAY).astimezone(berlin))
    assert repr(kept) == repr(POINT)
    assert ledger.points.history("m", PSI, "", start) == [POINT]


@pytest.mark.parametrize("time", ["start", "end", "computed_at"])
def test_a_point_of_no_time_zone_is_refused(ledger: Ledger, time: str) -> None:
    with pytest.raises(ValueError, match="a time without a time zone"):
        ledger.points.put([POINT, replace(POINT, name="n", **{time: datetime(2025, 3, 1)})])
    assert ledger.points.latest("m") == []


def test_of_points_put_by_many_at_once_one_counts(opener: Opener) -> None:
    ready = Barrier(8)

    def put(number: int) -> int:
        ledger = opener()
        ready.wait(30)
        return ledger.points.put([replace(POINT, value=number / 10)])

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(put, range(8))) == 8
    history = opener().points.history("m", PSI, "", POINT.start)
    assert sorted(point.value for point in history) == [number / 10 for number in range(8)]
    assert opener().points.latest("m") == history[-1:]


def _three_days(ledger: Ledger) -> list[MetricPoint]:
    """Of three metrics three days, each computed twice; those that count."""
    names = (PSI, "quality.realised.auc", "Quality.x")
    days = [(NOW - DAY * day, NOW - DAY * (day - 1)) for day in (3, 2, 1)]
    first = [replace(POINT, name=name, start=start, end=end) for name in names for start, end in days]
    ledger.points.put(first)
    then = [replace(one, value=0.2, computed_at=LATER) for one in first]
    ledger.points.put([*then, replace(POINT, model="mm", end=NOW - 9 * DAY)])
    return then


def test_thinning_keeps_what_counts_of_the_metrics_named(ledger: Ledger) -> None:
    then = _three_days(ledger)
    rule = {"keep": ["quality.", PSI], "dry_run": True}
    assert ledger.points.thin("m", NOW - DAY, **rule) == 4  # the third metric's day whole, of two others the first
    assert ledger.points.thin("m", NOW - DAY, **{**rule, "keep": [PSI + "."]}) == 6
    assert len(ledger.points.history("m", PSI, "", NOW - 3 * DAY)) == 2
    assert ledger.points.thin("m", NOW - DAY + timedelta(seconds=1), keep=["quality.", PSI]) == 8
    assert ledger.points.thin("m", NOW - DAY + timedelta(seconds=1), keep=["quality.", PSI]) == 0
    left = [one for one in then if one.name != "Quality.x" or one.end == NOW]
    assert sorted(ledger.points.latest("m"), key=repr) == sorted(left, key=repr)
    assert ledger.points.history("m", PSI, "", NOW - 3 * DAY) == [one for one in then if one.name == PSI][:1]
    assert len(ledger.points.history("m", PSI, "", NOW - DAY)) == 2
    assert len(ledger.points.latest("mm")) == 1


def test_of_the_metrics_named_what_is_older_than_the_longest_goes(ledger: Ledger) -> None:
    then = _three_days(ledger)
    rule = {"keep": [PSI], "longest": NOW - DAY}
    assert ledger.points.thin("m", NOW, **rule, dry_run=True) == ledger.points.thin("m", NOW, **rule) == 11
    left = [one for one in then if one.end == NOW or (one.name == PSI and one.end == NOW - DAY)]
    assert sorted(ledger.points.latest("m"), key=repr) == sorted(left, key=repr)


def test_thinning_without_names_removes_all_that_is_older(ledger: Ledger) -> None:
    _three_days(ledger)
    assert ledger.points.thin("m", NOW, dry_run=True) == ledger.points.thin("m", NOW) == 12
    assert {one.end for one in ledger.points.latest("m")} == {NOW}
    assert ledger.points.put([replace(POINT, start=NOW - 3 * DAY, end=NOW - 2 * DAY)]) == 1


# ---------------------------------------------------------------- states of rules


def test_states_are_kept_by_model_and_rule(ledger: Ledger) -> None:
    others = [RuleState("m", "auc"), RuleState("n", "psi", asked_at=LATER, fine=2)]
    ledger.alerts.save([STATE, *others])
    assert ledger.alerts.states() == {(one.model, one.rule): one for one in [STATE, *others]}
    assert ledger.alerts.states(["n", "o"]) == {("n", "psi"): others[1]}
    assert ledger.alerts.states([]) == {}
    ledger.alerts.save([FINE, replace(others[1], fine=3), replace(others[1], fine=4)])
    ledger.alerts.save([])
    assert ledger.alerts.states(["m"]) == {("m", "psi"): FINE, ("m", "auc"): others[0]}
    assert ledger.alerts.states(["n"])["n", "psi"].fine == 4


def test_times_of_states_come_back_in_utc(ledger: Ledger) -> None:
    berlin = NOW.astimezone(timezone(timedelta(hours=1)))
    ledger.alerts.save([replace(STATE, changes=(berlin,), asked_at=berlin, seen_at=berlin)])
    kept = ledger.alerts.states()["m", "psi"]
    assert repr(kept) == repr(replace(STATE, changes=(NOW,), asked_at=NOW, seen_at=NOW))
    with pytest.raises(ValueError, match="a time without a time zone"):
        ledger.alerts.save([replace(STATE, changes=(datetime(2025, 3, 1),))])


# ---------------------------------------------------------------- alerts


def test_an_alert_is_opened_once_with_its_state(ledger: Ledger) -> None:
    assert ledger.alerts.open_ones() == ledger.alerts.history() == []
    assert ledger.alerts.open(ALERT, STATE) == ALERT
    assert ledger.alerts.states() == {("m", "psi"): STATE}
    assert ledger.alerts.open(ALERT, STATE) == ALERT
    assert ledger.alerts.open(replace(ALERT, id="a-2", value=0.9), replace(STATE, alert_id="a-2", fine=1)) == ALERT
    assert ledger.alerts.open_ones() == ledger.alerts.history() == [ALERT]
    assert ledger.alerts.states() == {("m", "psi"): replace(STATE, fine=1)}


def test_closed_it_stays_closed_and_another_may_open(ledger: Ledger) -> None:
    ledger.alerts.open(ALERT, STATE)
    closed = ledger.alerts.close("a-1", FINE, why="fine for 3 passes", value=0.1, now=LATER)
    assert closed == replace(ALERT, closed_at=LATER, closed_why="fine for 3 passes", closed_value=0.1)
    assert (ledger.alerts.open_ones(), ledger.alerts.states()) == ([], {("m", "psi"): FINE})
    assert ledger.alerts.close("a-1", FINE, why="again", value=None, now=LATER + DAY) == closed
    assert ledger.alerts.open(ALERT, STATE) == closed
    assert ledger.alerts.states() == {("m", "psi"): replace(STATE, alert_id="")}
    second = ledger.alerts.open(replace(ALERT, id="a-2", opened_at=LATER), replace(STATE, alert_id="a-2"))
    assert ledger.alerts.open(ALERT, STATE) == closed
    assert ledger.alerts.states() == {("m", "psi"): replace(STATE, alert_id="a-2")}
    assert ledger.alerts.open_ones("m") == [second]
    assert ledger.alerts.history("m") == [second, closed]


def test_what_became_of_it_is_told_while_it_is_open(ledger: Ledger) -> None:
    ledger.alerts.open(ALERT, STATE)
    ledger.alerts.update("a-1")
    ledger.alerts.update("a-1", worst=0.4)
    ledger.alerts.update("a-1", request_id="request-1")
    told = replace(ALERT, worst=0.4, request_id="request-1")
    assert ledger.alerts.open_ones() == [told]
    closed = ledger.alerts.close("a-1", FINE, why="fine", value=None, now=LATER)
    ledger.alerts.update("a-1", worst=0.9, request_id="request-2")
    assert ledger.alerts.history() == [closed] == [replace(told, closed_at=LATER, closed_why="fine")]
    assert ledger.alerts.caused("request-2") is None


def test_of_each_retrain_it_is_known_which_alert_asked(ledger: Ledger) -> None:
    ledger.alerts.open(replace(ALERT, request_id="request-1"), STATE)
    ledger.alerts.update("a-1", request_id="request-1")
    ledger.alerts.update("a-1", request_id="request-2")
    newest = replace(ALERT, request_id="request-2")
    assert ledger.alerts.caused("request-1") == ledger.alerts.caused("request-2") == newest
    assert ledger.alerts.caused("") is ledger.alerts.caused("request-3") is None


def test_what_nobody_opened_is_no_alert(ledger: Ledger) -> None:
    with pytest.raises(KeyError, match="no alert a-1"):
        ledger.alerts.update("a-1", worst=0.4)
    with pytest.raises(KeyError, match="no alert a-1"):
        ledger.alerts.close("a-1", FINE, why="fine", value=None, now=LATER)
    assert ledger.alerts.states() == {}


def test_alerts_come_by_model_and_time(ledger: Ledger) -> None:
    first, second, third = (
        ledger.alerts.open(
            replace(ALERT, id=f"{model}-{rule}", model=model, rule=rule, opened_at=NOW + hours * DAY / 24),
            replace(STATE, model=model, rule=rule),
        )
        for model, rule, hours in (("m", "psi", 0), ("n", "psi", 5), ("m", "auc", 5))
    )
    assert ledger.alerts.open_ones() == [first, second, third]
    assert ledger.alerts.history() == [third, second, first]
    assert ledger.alerts.history(limit=1) == [third]
    assert (ledger.alerts.open_ones("m"), ledger.alerts.history("n")) == ([first, third], [second])
    first = ledger.alerts.close(first.id, FINE, why="fine", value=0.1, now=LATER)
    assert ledger.alerts.history("m", since=LATER) == [third]
    assert ledger.alerts.history("m", since=NOW) == [third, first]


def test_of_many_that_open_at_once_one_does(opener: Opener) -> None:
    ready = Barrier(8)

    def open_one(number: int) -> str:
        ledger = opener()
        ready.wait(30)
        id = f"a-{number}"
        return ledger.alerts.open(replace(ALERT, id=id), replace(STATE, alert_id=id)).id

    with ThreadPoolExecutor(8) as pool:
        [id] = set(pool.map(open_one, range(8)))
    ledger = opener()
    assert [one.id for one in ledger.alerts.history()] == [id]
    assert ledger.alerts.states()["m", "psi"].alert_id == id
