"""Whether a retrain that a metric asked for helped: what its record says, and how a rule backs off where none does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from evergreen.core.history import history_of
from evergreen.core.lineage import Node, of_version
from evergreen.core.monitoring.recovery import recoveries, recovery_of
from evergreen.core.records import Alert, Cause, RequestState, RuleState, Severity, TriggerRequest
from evergreen.core.status import facts_of, status_of
from evergreen.core.watching import MONITOR
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.faults import AFTER, watched_ledger
from evergreen.steps.monitor import Turns, monitor
from ledgers import release
from monitored import A_DAY, HOUR, Monitored
from records import NOW, make_candidate, make_request_args, make_snapshot, make_spec

MINUTE = timedelta(minutes=1)
STILL_BROKEN = "did not help: still broken 2 h after its release, when the next one was asked for"
RULE = {"name": "drift.psi.distance", "above": 0.2, "cooldown": "1h"}
SPEC: dict[str, Any] = {"triggers": [{"metric": RULE}], "monitoring": {"window": "30m"}}


# ---------------------------------------------------------------- a story: three retrains do not help, the fourth does


def story(world: Monitored) -> Iterator[timedelta]:
    """Before each pass: how long after the one before it that is. A retrain that was asked for is there by then."""
    for hours in (0, 1, 1, 1, 1, 1, 1, 1, 1, 1):
        world.now += HOUR * hours
        retrain(world)
        world.answers([0.5] * 60, distance=1900.0, version=live(world), at=world.now)
        yield MINUTE
    retrain(world)
    for _ in range(2):
        world.now += HOUR
        world.usual(60, version=live(world))
        yield MINUTE
    for hours in (1, 1):
        world.now += HOUR * hours
        retrain(world)
        world.answers([0.5] * 60, distance=1900.0, version=live(world), at=world.now)
        yield MINUTE


def live(world: Monitored) -> int:
    champion = world.ledger.releases.champion("m").release_id
    return world.ledger.releases.get(str(champion)).version


def retrain(world: Monitored) -> None:
    """What was asked for is released."""
    for request in world.ledger.requests.unfinished("m"):
        world.ledger.requests.mark(request.id, now=world.now, state=RequestState.SERVED, step="roll_out")
        world.champion(live(world) + 1, request.id)


def play(kill: int = 0) -> tuple[Monitored, int]:
    """The story; killed right after that write, the pass is made again by a new process. How many writes there were."""
    world, calls = Monitored(*range(1, 9), **SPEC), 0

    def strike(call: str, when: str) -> None:
        nonlocal calls
        if when == AFTER and call.rpartition(".")[2] in ("open", "save", "update", "close", "add"):
            calls += 1
            if calls == kill:
                raise Killed

    ledger = watched_ledger(world.ledger, strike)
    for after in story(world):
        world.now += after
        try:
            monitor(ledger, world.outside(), world.turns, lambda: world.now)
        except Killed:
            world.turns = Turns()
            world.ledger.heartbeats.beat(MONITOR, "", world.now)
            monitor(world.ledger, world.outside(), world.turns, lambda: world.now)
    return world, calls


class Killed(BaseException):
    """As SIGKILL."""


def asked_at(world: Monitored) -> list[float]:
    """When it was asked for a retrain, in hours after the first time."""
    times = sorted(one.requested_at for one in world.ledger.requests.latest("m", limit=99))
    return [round((time - times[0]) / HOUR, 1) for time in times]


def backed_off(world: Monitored) -> list[str]:
    notices = reversed(world.ledger.notices.latest(99))
    return [one.text.split(" retrains")[0] for one in notices if "do not mend" in one.title]


def test_retrains_that_do_not_help_come_ever_more_seldom_people_are_told_and_a_recovery_begins_anew() -> None:
    world, _ = play()
    first, second, third, fourth, *anew = asked_at(world)
    assert [round(second - first), round(third - second), round(fourth - third)] == [1, 2, 4]
    assert backed_off(world) == ["The last 2", "The last 3", "The last 4"]
    again, more = anew
    assert round(more - again) == 1, "the alert that came after the recovery does not back off"
    assert [bool(one.closed_at) for one in world.ledger.alerts.history("m")] == [False, True]


def test_a_pass_that_is_killed_anywhere_in_it_asks_and_tells_no_more_and_no_less() -> None:
    unharmed, calls = play()
    assert calls > 20
    for kill in range(1, calls + 1, 3):
        world, _ = play(kill)
        assert (asked_at(world), backed_off(world)) == (asked_at(unharmed), backed_off(unharmed)), kill


def test_the_record_says_whether_it_helped() -> None:
    world, _ = play()
    told = [(one.what, one.version) for one in history_of(world.ledger, "m") if one.who == Cause.METRIC]
    told = [one for one in told if one[0] in ("did not help", "recovered")]
    assert told == [
        ("did not help", 2), ("did not help", 3), ("did not help", 4), ("recovered", 5), ("did not help", 6)
    ]  # fmt: skip
    (recovered,) = [one for one in history_of(world.ledger, "m") if one.what == "recovered"]
    assert recovered.why.startswith("asked for by drift.psi.distance ")
    assert "(above 0.2); recovered to 0" in recovered.why
    assert recovered.why.endswith("2 h after its release")


def test_status_and_trace_of_the_champion_say_it_too() -> None:
    ledger, detail = in_memory_ledger(), {"alert": "a", "value": 0.31, "metric": "drift.psi.max"}
    asked = ledger.requests.open(
        **make_request_args(cause=Cause.METRIC, dedupe_key="metric:k:a:first", detail=detail, run_id=None)
    )
    ledger.alerts.open(alert(request_id=asked.id), RuleState("m", "k"))
    ledger.models.add_snapshot(make_snapshot())
    made = ledger.models.add_candidate(make_candidate(request_id=asked.id))
    release(ledger, made, now=NOW + HOUR)
    told = status_of(make_spec(), facts_of("m", ledger, NOW + 2 * HOUR), NOW + 2 * HOUR).recovery
    assert told.endswith("(above 0.2); not recovered yet: the alert is still open 60 min after its release")
    ledger.alerts.close("a", RuleState("m", "k"), why="it is back", value=0.05, now=NOW + 4 * HOUR)
    told = status_of(make_spec(), facts_of("m", ledger, NOW + A_DAY), NOW + A_DAY).recovery
    assert told == "asked for by drift.psi.max 0.31 (above 0.2); recovered to 0.05, 3 h after its release"
    (node,) = [one for one in nodes(of_version(ledger, "m", 1)) if one.kind == "recovery"]
    assert (node.facts["helped"], node.says) == (True, told)


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for below in node.below:
        yield from nodes(below)


# ---------------------------------------------------------------- each case of its own


def request(**changes: Any) -> TriggerRequest:
    made = TriggerRequest(
        id="r", model="m", source="s", cause=Cause.METRIC, dedupe_key="metric:k:a:first", run_id="r", watermark=None,
        as_of=None, state=RequestState.SERVED, step="roll_out", reason="", requested_at=NOW, closed_at=NOW + HOUR,
        detail={"alert": "a", "value": 0.31, "metric": "drift.psi.max"},
    )  # fmt: skip
    return replace(made, **changes)


def alert(**changes: Any) -> Alert:
    made = Alert(
        id="a", model="m", rule="k", metric="drift.psi.max", slice="", severity=Severity.WARNING, version=1, value=0.31,
        limit=0.2, direction="above", window="1d", rows=900, opened_at=NOW, worst=0.4, request_id="r",
    )  # fmt: skip
    return replace(made, **changes)


def released(after: timedelta = HOUR) -> Any:
    world = Monitored(1, 2)
    world.now = NOW + after
    world.champion(2, "r")
    return world.ledger.releases.history("m")[-1]


@pytest.mark.parametrize(
    ("closed", "again", "live", "now", "helped", "says"),
    [
        (100, None, 60, 500, True, "recovered to 0.05, 40 min after its release"),
        (None, 180, 60, 500, False, STILL_BROKEN),
        (500, 180, 60, 600, False, STILL_BROKEN),
        (None, None, 60, 180, None, "not recovered yet: the alert is still open 2 h after its release"),
        (None, None, 60, 3060, False, "did not help: the alert is still open 2 d after its release"),
        (None, None, None, 30, None, "under way"),
        (50, None, 60, 500, None, "the alert closed before a version of it was released: the metric went back to 0.05 "
         "by itself"),
    ],
)  # fmt: skip
def test_what_became_of_it(
    closed: int | None, again: int | None, live: int | None, now: int, helped: bool | None, says: str
) -> None:
    of = alert(closed_at=closed and NOW + MINUTE * closed, closed_value=0.05 if closed else None)
    asked = request(state=RequestState.CLAIMED) if live is None else request()
    answers = None if live is None else released(MINUTE * live)
    found = recovery_of(asked, of, again and NOW + MINUTE * again, answers, NOW + MINUTE * now)
    assert (found.helped, found.says) == (helped, f"asked for by drift.psi.max 0.31 (above 0.2); {says}")


def test_a_retrain_that_released_nothing_says_why() -> None:
    found = recovery_of(request(reason="its gates refused version 2"), alert(slice="carrier=UA"), None, None, NOW)
    assert found.says == (
        "asked for by drift.psi.max 0.31 where carrier is UA (above 0.2); did not help: no version was released "
        "(its gates refused version 2)"
    )


def test_an_alert_that_closed_with_its_rule_tells_nothing_of_the_retrain() -> None:
    of = alert(closed_at=NOW + A_DAY, closed_why="its rule is no longer in the spec")
    found = recovery_of(request(), of, None, released(), NOW + 2 * A_DAY)
    assert found.helped is None
    assert found.became == "not known to have helped: its rule is no longer in the spec, 23 h after its release"


def test_a_person_asked_for_nothing_of_the_kind() -> None:
    world = Monitored(1)
    world.ledger.models.add_candidate(make_candidate(model="n", version=1))
    assert recoveries(world.ledger, "m", [request(cause=Cause.PERSON)]) == {}
