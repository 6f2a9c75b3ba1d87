"""Values of users' metrics as callers post them, strict; and what the monitor makes of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from evergreen.core.monitoring.day import from_bytes, key_of
from evergreen.core.records import ANY_VERSION, Cause
from evergreen.serving.log.user_metrics import MOST, read
from evergreen.serving.refusals import RequestRefused
from evergreen.steps import count_metrics
from monitored import A_DAY, HOUR, MINUTES, Monitored
from watched import DAY, NOON

NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)
NAME = "user.revenue_per_call"


def posted(*metrics: Any) -> bytes:
    return json.dumps({"metrics": metrics}).encode()


def refused(*metrics: Any, status: int = 422) -> str:
    with pytest.raises(RequestRefused) as caught:
        read(posted(*metrics), "", NOW)
    assert caught.value.status == status
    return str(caught.value)


def test_values_as_they_are_kept() -> None:
    earlier = {"name": "returned-bags.2", "value": -3, "time": "2026-01-19T12:00:00+01:00"}
    first, second = read(posted({"name": "revenue_per_call", "value": 1.25}, earlier), "team-a", NOW)
    assert (first.name, first.value, first.caller) == (NAME, 1.25, "team-a")
    assert first.at == int(NOW.timestamp() * 1000)
    assert (second.name, second.value) == ("user.returned-bags.2", -3.0)
    assert second.at == int(datetime(2026, 1, 19, 11, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("metric", "named"),
    [
        ({"value": 1}, "metric 0, field 'name': found no such field, or null"),
        ({"name": 7, "value": 1}, "field 'name': found the number 7"),
        ({"name": "a b", "value": 1}, "allowed: 1 to 100 letters, digits"),
        ({"name": "a" * 101, "value": 1}, "field 'name'"),
        ({"name": "user.a", "value": 1}, "Leave 'user.' out"),
        ({"name": "a"}, "field 'value': found no such field, or null"),
        ({"name": "a", "value": True}, "found the boolean True; allowed: a finite number"),
        ({"name": "a", "value": "1"}, "found the string '1'"),
        ({"name": "a", "value": 10**400}, "field 'value'"),
        ({"name": "a", "value": 1, "time": "2026-01-20T12:00:00"}, "Say the time zone"),
        ({"name": "a", "value": 1, "time": "2026-01-20T13:00:01Z"}, "an hour after 2026-01-20T12:00Z, our clock"),
        ({"name": "a", "value": 1, "time": "2025-12-21T11:59:59Z"}, "from 30 days before"),
        (
            {"name": "a", "value": 1, "tiem": 2},
            "field 'tiem': found no such field; allowed: 'name', 'value', 'time'. Did",
        ),
    ],
)
def test_a_wrong_value_is_422_naming_it_and_its_field(metric: dict[str, Any], named: str) -> None:
    assert named in refused(metric)


def test_an_infinite_value_is_refused() -> None:
    with pytest.raises(RequestRefused, match="field 'value'"):
        read(posted({"name": "a", "value": 1.5}).replace(b"1.5", b"1e999"), "", NOW)


def test_none_too_many_and_the_same_twice_are_refused() -> None:
    refused()
    assert f"at most {MOST} a request" in refused(*({"name": "a", "value": 1},) * (MOST + 1), status=413)
    assert "metric 1: found this name and time twice" in refused({"name": "a", "value": 1}, {"name": "a", "value": 2})


# ---------------------------------------------------------------- counted


def test_a_rule_on_a_users_metric_opens_its_alert_and_asks_for_a_retrain() -> None:
    rule = {"name": NAME, "below": 1.0, "for": 2}
    world = Monitored(triggers=[{"metric": rule}])
    world.metrics({NAME: 1.4, "user.other": 9}, at=NOON)
    world.once()
    world.metrics({NAME: 0.4}, at=NOON)
    world.metrics({NAME: 0.6}, at=NOON)
    world.once()
    assert world.ledger.alerts.open_ones() == []
    world.once()
    (alert,) = world.ledger.alerts.open_ones()
    assert (alert.metric, alert.value, alert.rows) == (NAME, pytest.approx(0.8), 3)
    (request,) = world.ledger.requests.unfinished("m")
    assert (request.cause, request.detail["metric"]) == (Cause.METRIC, NAME)
    world.metrics({NAME: 5.0}, at=world.now)
    world.once()
    world.once()
    assert world.ledger.alerts.open_ones() == []


def test_a_metric_is_a_point_of_no_version_and_a_late_value_writes_its_period_again() -> None:
    world = Monitored()
    world.metrics({NAME: 1.0}, at=NOON)
    world.once()
    (point,) = [one for one in world.ledger.points.latest("m") if one.name == NAME]
    start = datetime(2026, 3, 2, tzinfo=UTC)
    assert (point.version, point.slice, point.start, point.value, point.rows) == (ANY_VERSION, "", start, 1.0, 1)
    world.metrics({NAME: 3.0}, at=NOON + HOUR)
    world.once(2 * A_DAY)
    assert [one.value for one in world.ledger.points.history("m", NAME, "", start)] == [1.0, 2.0]


def test_a_window_without_a_value_judges_nothing() -> None:
    world = Monitored(monitoring={"alerts": [{"name": NAME, "above": 1}]})
    world.metrics({NAME: 2.0}, at=NOON)
    world.once()
    world.once(2 * A_DAY)
    assert len(world.ledger.alerts.open_ones()) == 1, "nobody knows whether it is over"


def test_each_part_is_counted_once_also_by_another_process_and_once_for_a_day_that_is_lost() -> None:
    world = Monitored()
    for value in (1.0, 2.0, 6.0):
        world.metrics({NAME: value}, at=NOON)
        world.once()
        world.turns = type(world.turns)()
    day = from_bytes(world.store.get(key_of("m", DAY)))
    assert day.users == {NAME: {int(NOON.timestamp()): [3, 9.0]}}
    world.store.remove(key_of("m", DAY))
    world.turns = type(world.turns)()
    world.once()
    assert from_bytes(world.store.get(key_of("m", DAY))).users == day.users


def test_of_too_many_names_the_last_are_left_out_and_people_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(count_metrics, "NAMES", 2)
    world = Monitored()
    world.metrics({"user.a": 1, "user.b": 1}, at=NOON)
    world.once()
    world.metrics({"user.a": 3, "user.c": 1}, at=NOON)
    (told,) = world.once().done
    assert told.startswith("m: 1 values posted on 2026-03-02 are of further metrics than")
    world.once(MINUTES + timedelta(days=1))
    assert {one.name: one.value for one in world.ledger.points.latest("m")} == {"user.a": 2, "user.b": 1}
