"""A pass of the monitor over models in twins of ledger and store: what it counts, measures, asks for and tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from evergreen.core.monitoring import names
from evergreen.core.monitoring.bins import number_bins
from evergreen.core.monitoring.day import from_bytes, key_of
from evergreen.core.ports import Served
from evergreen.core.reconciling import Trouble
from evergreen.core.records import Cause, NoticeKind, Replica, RequestState
from evergreen.core.watching import MONITOR, failing
from evergreen.faults import AFTER, watched, watched_ledger
from evergreen.steps.monitor import Turns, monitor
from monitored import A_DAY, HOUR, MINUTES, Monitored
from watched import DAY, NOON, put_bundle, reference_of, watched_spec

DRIFT = {"name": "drift.psi.distance", "above": 0.2}
TRIGGERS = [{"metric": {**DRIFT, "for": 2, "cooldown": "1d"}}]


def test_what_came_is_counted_and_periods_are_written() -> None:
    world = Monitored()
    ids = world.usual(200)
    world.truths(dict.fromkeys(sorted(ids)[:50], 1.0), told=NOON + HOUR)
    report = world.once()
    assert (report.models, report.rows, report.labels, report.failures) == (1, 200, 50, {})
    values = world.values()
    assert values[names.VOLUME] == 200
    assert values["drift.psi.distance"] < 0.2
    assert {names.LABELLED, "quality.realised.brier", "missing.max"} <= values.keys()
    point = next(one for one in world.ledger.points.latest("m") if one.name == names.VOLUME)
    day = datetime(2026, 3, 2, tzinfo=UTC)
    assert (point.start, point.end, point.version) == (day, day + A_DAY, 1)
    assert world.once().rows == 0


def test_a_late_label_writes_its_period_again_and_keeps_what_was_written() -> None:
    world = Monitored()
    ids = world.usual(200)
    world.once()
    world.truths(dict.fromkeys(sorted(ids), 1.0), told=NOON + 2 * A_DAY)
    world.once(2 * A_DAY)
    assert world.values()[names.LABELLED] == 1.0
    start = datetime(2026, 3, 2, tzinfo=UTC)
    assert [one.value for one in world.ledger.points.history("m", names.LABELLED, "", start)] == [0.0, 1.0]


def test_an_open_period_is_not_written_in_each_pass_but_when_it_is_over() -> None:
    world = Monitored()
    world.usual()
    world.once()
    world.usual()
    world.turns = Turns()  # in Airflow each pass is a task of its own
    world.once()
    assert world.values()[names.VOLUME] == 100
    world.once(A_DAY)
    assert world.values()[names.VOLUME] == 200
    assert not from_bytes(world.store.get(key_of("m", DAY))).pending


def test_a_rule_on_labels_looks_at_answers_whose_labels_are_due() -> None:
    rules = [{"name": "quality.realised.brier", "above": 0.4}, {"name": names.VOLUME, "above": 250}]
    monitoring = {"every": "5m", "window": "6h", "min_rows": 50, "alerts": rules}
    world = Monitored(monitoring=monitoring, label={"column": "late", "arrives_after": "1d"})
    ids = world.usual(200)
    world.once()
    assert world.ledger.alerts.open_ones() == []
    world.now += timedelta(hours=20)
    world.usual(100)
    world.truths({one: 0.0 if at >= 100 else 1.0 for at, one in enumerate(ids)}, told=world.now)
    assert world.once().labels == 200
    (alert,) = world.ledger.alerts.open_ones()
    assert (alert.metric, alert.rows) == ("quality.realised.brier", 200)
    world.once(timedelta(hours=11))
    assert alert.id in {one.id for one in world.ledger.alerts.open_ones()}, "too old to be judged: nothing changes"


def test_what_comes_late_for_a_day_that_no_rule_looks_at_is_looked_for_once_an_hour() -> None:
    world = Monitored()
    ids = world.usual()
    assert world.once(3 * A_DAY).rows == 100
    world.truths(dict.fromkeys(ids, 1.0), told=world.now)
    get, read = world.store.get, list[str]()
    world.store.get = lambda key: get(read.append(key) or key)  # type: ignore[method-assign, func-returns-value]
    assert world.once().labels == 0
    assert read
    assert key_of("m", DAY) not in read, "nor what was counted of it"
    assert world.once(HOUR).labels == 100


def test_models_have_their_turn_in_time_and_the_longest_waiting_first() -> None:
    world = Monitored()
    world.specs = {name: watched_spec(name=name) for name in ("a", "b")}
    world.specs["b"] = watched_spec(name="b", monitoring={"every": "1m"})
    assert world.once().models == 2
    assert world.once(timedelta(minutes=2)).models == 1
    assert world.once(timedelta(seconds=30)).models == 0
    for _ in range(2):
        world.turns = Turns()
        assert world.once(timedelta(seconds=10)).models == 0, "another process goes on by the heartbeats"
    assert world.once(timedelta(minutes=3)).models == 2


def test_the_heartbeat_says_what_the_last_pass_was_and_one_model_that_fails_does_not_stop_the_others() -> None:
    world = Monitored()
    world.specs = {name: watched_spec(name=name) for name in ("a", "b", "m")}
    parts = world.log.parts

    def broken(model: str, day: Any) -> list[str]:
        if model == "a":
            raise OSError("the disk is gone")
        return parts(model, day)

    world.log.parts = broken  # type: ignore[method-assign]
    world.usual()
    report = world.once()
    assert (report.models, report.rows) == (2, 100)
    since = world.now
    for _ in range(2):
        world.turns = Turns()
        assert world.once(timedelta(minutes=3)).failures.keys() == {"a"}
    beat = world.ledger.heartbeats.last(MONITOR)
    assert beat
    assert beat.at == world.now
    assert '"models": 2' in beat.detail
    assert failing(beat) == [Trouble("a", since, "OSError: the disk is gone")]
    world.log.parts = parts  # type: ignore[method-assign]
    world.once()
    assert failing(world.ledger.heartbeats.last(MONITOR)) == []


def test_a_rule_that_is_broken_opens_an_alert_asks_once_and_tells_people() -> None:
    world = Monitored(triggers=TRIGGERS)
    world.answers([0.5] * 100, distance=1900.0)
    world.once()
    assert world.ledger.alerts.open_ones() == []
    told = world.once().done
    (alert,) = world.ledger.alerts.open_ones()
    (request,) = world.ledger.requests.unfinished("m")
    assert (alert.metric, alert.version, alert.rows, alert.request_id) == (DRIFT["name"], 1, 100, request.id)
    assert request.cause is Cause.METRIC
    assert request.queued
    detail = request.detail
    assert (detail["metric"], detail["threshold"], detail["direction"]) == (DRIFT["name"], 0.2, "above")
    assert (detail["value"], detail["window"], detail["rows"]) == (alert.value, "1d", 100)
    (notice,) = world.ledger.notices.latest(9)
    assert notice.kind is NoticeKind.ALERT
    assert request.id in notice.text
    assert any(request.id in one for one in told)
    for _ in range(3):
        world.once()
    assert len(world.ledger.notices.latest(9)) == len(world.ledger.requests.latest("m", limit=9)) == 1


def test_a_rule_may_ask_for_a_tuning_with_its_retrain() -> None:
    world = Monitored(triggers=[{"metric": {**TRIGGERS[0]["metric"], "tune": True}}])
    world.answers([0.5] * 100, distance=1900.0)
    world.once()
    world.once()
    (request,) = world.ledger.requests.unfinished("m")
    assert request.detail["tune"] is True


def test_an_alert_closes_once_the_version_that_it_asked_for_answers_well() -> None:
    world = Monitored(1, 2, triggers=TRIGGERS)
    world.answers([0.5] * 100, distance=1900.0)
    world.once()
    world.once()
    (request,) = world.ledger.requests.unfinished("m")
    world.ledger.requests.mark(request.id, now=world.now, state=RequestState.SERVED)
    world.champion(2, request.id)
    world.once()
    assert len(world.ledger.alerts.open_ones()) == 1, "no row of the new version yet: not judged"
    world.usual(version=2)
    world.once()
    world.once()
    (closed,) = world.ledger.alerts.history("m")
    assert closed.closed_at == world.now
    assert "with version 2, which it asked for" in closed.closed_why
    kinds = [one.kind for one in world.ledger.notices.latest(9)]
    assert sorted(kinds) == [NoticeKind.ALERT, NoticeKind.ALERT_CLOSED]


def test_a_rule_by_slice_judges_each_of_its_values() -> None:
    rule = {**DRIFT, "slice": "carrier"}
    world = Monitored(monitoring={"slices": ["carrier"], "alerts": [rule]})
    world.usual(carrier="AA")
    world.answers([0.5] * 100, distance=1900.0, carrier="UA")
    world.once()
    assert [one.slice for one in world.ledger.alerts.open_ones()] == ["carrier=UA"]


def test_the_alert_of_a_slice_that_has_no_rows_any_more_closes_once_others_go_on_without_it() -> None:
    rule = {**DRIFT, "slice": "carrier"}
    world = Monitored(monitoring={"slices": ["carrier"], "alerts": [rule]})
    world.answers([0.5] * 100, distance=1900.0, carrier="UA")
    world.once()
    world.once(2 * A_DAY)
    assert len(world.ledger.alerts.open_ones()) == 1, "no answer at all: nothing is known"
    world.usual(carrier="AA")
    world.once()
    (closed,) = world.ledger.alerts.history("m")
    assert closed.closed_why == "too few rows of it come to judge it any more"
    assert closed.closed_value is None
    world.once()
    assert [one.kind for one in world.ledger.notices.latest(9)].count(NoticeKind.ALERT_CLOSED) == 1
    world.answers([0.5] * 100, distance=1900.0, carrier="UA", at=world.now)
    world.once()
    assert len(world.ledger.alerts.open_ones()) == 1, "it came back, as bad"


def test_an_alert_whose_rule_is_gone_closes() -> None:
    world = Monitored(triggers=TRIGGERS)
    world.answers([0.5] * 100, distance=1900.0)
    world.once()
    world.once()
    world.specs = {"m": watched_spec()}
    world.once()
    (closed,) = world.ledger.alerts.history("m")
    assert "no longer in the spec" in closed.closed_why


def test_ages_and_silence_are_judged_without_an_answer() -> None:
    alerts = [{"name": names.CHAMPION_AGE, "above": 48}, {"name": names.DATA_AGE, "above": 24}]
    world = Monitored(monitoring={"alerts": [*alerts, {"name": names.VOLUME, "below": 1}]})
    world.once(watermark=lambda spec: NOON - A_DAY)
    found = {one.metric: one.value for one in world.ledger.alerts.open_ones()}
    assert found == {names.DATA_AGE: pytest.approx(24 + 5 / 60), names.VOLUME: 0.0}
    world.once(3 * A_DAY, watermark=lambda spec: None)
    assert names.CHAMPION_AGE in {one.metric for one in world.ledger.alerts.open_ones()}


def test_a_window_with_no_answers_is_judged_by_nothing_but_its_volume() -> None:
    world = Monitored(monitoring={"alerts": [DRIFT]})
    world.answers([0.5] * 100, distance=1900.0)
    world.once()
    assert len(world.ledger.alerts.open_ones()) == 1
    world.once(2 * A_DAY)
    assert len(world.ledger.alerts.open_ones()) == 1, "nobody knows whether it is over"


def test_answers_from_a_clock_that_is_ahead_count_when_their_time_comes() -> None:
    world = Monitored(monitoring={"alerts": [{"name": names.VOLUME, "below": 150}]})
    world.usual(100)
    world.usual(100, at=NOON + 3 * HOUR)
    world.once()
    assert [one.value for one in world.ledger.alerts.open_ones()] == [100]
    world.once(3 * HOUR)
    assert world.ledger.alerts.open_ones() == []


def test_answers_from_a_clock_that_is_behind_count_in_the_period_of_their_time() -> None:
    world = Monitored()
    world.usual(100)
    world.once()
    world.usual(50, at=NOON - A_DAY)
    assert world.once().rows == 50
    points = [one for one in world.ledger.points.latest("m") if one.name == names.VOLUME]
    assert [(one.start.day, one.value) for one in points] == [(1, 50), (2, 100)]


def test_a_feature_that_was_constant_at_training_has_finite_metrics_whatever_comes() -> None:
    world = Monitored(monitoring={"alerts": [{"name": "out_of_range.distance", "above": 0.4}]})
    constant = number_bins("distance", np.full(2000, 7, np.float32))
    made = reference_of()
    reference = replace(made, features=(constant, made.features[1]))
    world.add_version(world.ledger, 2, put_bundle(world.store, reference, "constant"))
    world.champion(2)
    world.answers([0.5] * 60, distance=7.0, version=2)
    world.once()
    values = world.values()
    assert (values["out_of_range.distance"], values["missing.distance"]) == (0, 0)
    assert values["drift.psi.distance"] < 0.01
    assert world.ledger.alerts.open_ones() == []
    world.answers([0.5] * 60, distance=np.inf, version=2)
    world.turns = Turns()
    world.once()
    assert [one.value for one in world.ledger.alerts.open_ones()] == [0.5]
    world.once(A_DAY)
    assert all(np.isfinite(one.value) for one in world.ledger.points.latest("m"))
    assert world.values()["out_of_range.distance"] == 0.5


def test_labels_that_cannot_be_used_are_told_once_a_day() -> None:
    world = Monitored()
    ids = world.usual(20)
    gone = [one.replace("-7000-", "-7fff-") for one in ids[:3]]
    world.truths({**dict.fromkeys(ids[:4], "x"), **dict.fromkeys(gone, 1.0)})
    assert len(world.once().done) == 1, "unknown ones may still come"
    told = world.once(2 * A_DAY).done
    assert told == []
    world.truths(dict.fromkeys(ids[5:6], 1.0))
    (told,) = world.once(HOUR).done
    assert "3 records of ground truth about 2026-03-02 are of no answer" in told
    texts = sorted(one.text for one in world.ledger.notices.latest(9))
    assert ["4 records" in texts[1], "3 records" in texts[0]] == [True, True]


# ---------------------------------------------------------------- serving's counters


def served(requests: float, failed: float = 0, boot: str = "0@1", version: int = 1, arm: str = "champion") -> Served:
    answered = requests - failed
    return Served(boot, "m", version, arm, requests, failed, (0.0, answered, *[0.0] * 11))


def test_requests_are_counted_from_one_pass_to_the_next_and_through_a_restart() -> None:
    world = Monitored(monitoring={"alerts": [{"name": names.ERROR_RATE, "above": 0.15}]})
    url = "http://one"

    def look(*counted: Served, after: timedelta = MINUTES) -> None:
        world.ledger.replicas.beat(Replica("default", "r", url), world.now + after)
        world.counters.counted[url] = list(counted)
        world.once(after)

    look(served(1000, 500))
    assert world.ledger.alerts.open_ones() == [], "what was before is nobody's"
    look(served(1100, 510))
    assert world.ledger.alerts.open_ones() == []
    look(served(100, 30, boot="0@2"))
    (alert,) = world.ledger.alerts.open_ones()
    assert (alert.value, alert.rows) == (pytest.approx(40 / 200), 200)
    look(served(100, 30, boot="0@2"), served(50, 50, boot="0@2", version=0))
    (alert,) = world.ledger.alerts.open_ones()
    assert alert.worst == pytest.approx(90 / 250), "whose version was never known is the champion's"
    look(served(300, 30, boot="0@2"), after=13 * HOUR)
    world.once()
    vector = [one for one in world.ledger.points.latest("m") if one.name == names.ERROR_RATE]
    assert sorted(one.rows for one in vector) == [200, 250], "the new day goes on from the old one's counters"


def test_a_replica_that_does_not_answer_for_once_is_not_counted_twice() -> None:
    world = Monitored()
    url = "http://one"
    for counted in ([served(10)], [served(20)], None, [served(30)]):
        world.ledger.replicas.beat(Replica("default", "r", url), world.now + MINUTES)
        world.counters.counted = {url: counted} if counted else {}
        world.once()
    world.once(A_DAY)
    (point,) = [one for one in world.ledger.points.latest("m") if one.name == names.ERROR_RATE]
    assert point.rows == 20


# ---------------------------------------------------------------- kills


class Killed(BaseException):
    """As SIGKILL: nothing of the pass goes on, not even its handlers of errors."""


def stories(world: Monitored) -> Iterator[timedelta]:
    """What comes before each pass, and how long after the one before it that is: drift, then labels and a new version.

    Its alert opens and closes, and the period is over.
    """
    ids = world.answers([0.5] * 60, distance=1900.0)
    yield MINUTES
    world.truths(dict.fromkeys(ids[:30], 1.0), told=NOON + HOUR)
    yield MINUTES
    world.truths(dict.fromkeys(ids[20:40], 0.0), told=NOON + 2 * HOUR)
    for request in world.ledger.requests.unfinished("m"):
        world.ledger.requests.mark(request.id, now=world.now, state=RequestState.SERVED)
        world.champion(2, request.id)
    world.usual(version=2)
    yield MINUTES
    yield MINUTES
    yield 2 * A_DAY


def told_of(world: Monitored) -> tuple[Any, ...]:
    """All that lasts, without ids and times."""
    day = from_bytes(world.store.get(key_of("m", DAY)))
    cells = {cell: [round(float(values.sum()), 9), len(indices)] for cell, (indices, values) in day.cells.items()}
    points = [
        (one.name, one.version, one.start, round(one.value, 9), one.rows) for one in world.ledger.points.latest("m")
    ]
    alerts = [
        (one.rule, one.rows, bool(one.request_id), bool(one.closed_at)) for one in world.ledger.alerts.history("m")
    ]
    requests = [(one.cause, one.state) for one in world.ledger.requests.latest("m", limit=99)]
    notices = sorted((one.kind, one.title) for one in world.ledger.notices.latest(99))
    return cells, (day.told, day.matched, day.wrong), points, alerts, requests, notices


WRITES = {"put", "open", "save", "update", "close", "add", "beat"}


def play(kill: int) -> tuple[Monitored, int]:
    """The story, killed right after one write, and the pass made again by a new process; how many writes there were."""
    world, calls = Monitored(1, 2, triggers=TRIGGERS), 0

    def strike(call: str, when: str) -> None:
        nonlocal calls
        if when == AFTER and call.rpartition(".")[2] in WRITES:
            calls += 1
        else:
            return
        if calls == kill:
            raise Killed(call)

    ledger, store = watched_ledger(world.ledger, strike), watched("store", world.store, strike)
    for after in stories(world):
        world.now += after
        try:
            monitor(ledger, world.outside(store=store), world.turns, lambda: world.now)
        except Killed:
            world.turns = Turns()
            world.ledger.heartbeats.beat(MONITOR, "", world.now)  # its turn again, at once
            monitor(world.ledger, world.outside(), world.turns, lambda: world.now)
    return world, calls


def test_a_kill_between_any_two_writes_to_ledger_or_store_changes_nothing_that_lasts() -> None:
    unharmed, calls = play(0)
    expected = told_of(unharmed)
    assert [bool(one.closed_at) for one in unharmed.ledger.alerts.history("m")] == [True]
    assert calls > 15
    for kill in range(1, calls + 1):
        world, _ = play(kill)
        assert told_of(world) == expected, kill
