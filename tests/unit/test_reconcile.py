"""One pass of the reconciler: every part has its turn, none stops the others, and the heartbeat says what fails."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from evergreen.core.addresses import Addresses
from evergreen.core.errors import EdgeUnavailable
from evergreen.core.heartbeats import SCHEDULER
from evergreen.core.ports import Ledger, RunState
from evergreen.core.reconciling import RECONCILER, STAND_IN, detail_of, persisting, silent, told, troubles_of
from evergreen.core.records import Cause, Heartbeat, PoolChange, PoolEvent, RequestState, RolloutState
from evergreen.fakes.edge_proxy import InMemoryEdge
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.registry import FakeRegistry
from evergreen.fakes.runs import InMemoryRuns
from evergreen.steps import reconcile as module
from evergreen.steps.advance_rollouts import OWN_TURN
from evergreen.steps.reconcile import Outside, Pace, Report, reconcile
from ledgers import passed, prepare
from records import NOW, make_request_args, make_spec

SECOND = timedelta(seconds=1)


class World:
    """A ledger, all that is outside, and a clock that a test turns."""

    def __init__(self) -> None:
        self.ledger: Ledger = in_memory_ledger()
        self.slow: dict[str, timedelta] = {}  # how long a part takes
        self.runs, self.registry, self.pace, self.now = InMemoryRuns(), FakeRegistry(), Pace(), NOW + OWN_TURN
        self.outside = Outside(
            {"m": make_spec()}, self.runs, self.registry, self.open_source, Addresses.under("http://airflow")
        )

    def open_source(self, spec: Any) -> Any:
        raise ConnectionError("the source is away")

    def once(self, after: timedelta = timedelta(0), **changes: Any) -> Report:
        self.now += after
        return reconcile(self.ledger, self.outside, self.pace, lambda: self.now, **changes)

    @property
    def beat(self) -> Heartbeat:
        found = self.ledger.heartbeats.last(RECONCILER)
        assert found
        return found


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def turns(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[datetime]]:
    """When each part had its turn; none does anything but take its time."""
    found: dict[str, list[datetime]] = {}

    def parts(*_: Any) -> dict[str, Any]:
        def part(name: str) -> Any:
            def work(now: datetime) -> list[str]:
                found.setdefault(name, []).append(now)
                world.now += world.slow.get(name, timedelta(0))
                return [f"{name} done"]

            return work

        return {name: part(name) for name in ("requests", "watermarks", "aliases")}

    monkeypatch.setattr(module, "_parts", parts)
    return found


def test_a_request_that_waits_becomes_a_run_and_a_prepared_release_goes_live(world: World) -> None:
    request = world.ledger.requests.open(**make_request_args(cause=Cause.METRIC, run_id=None, source="s"))
    release = prepare(world.ledger, passed(world.ledger, 1, seen=0))
    report = world.once()
    assert world.runs.state("m", request.run_id) is RunState.QUEUED
    assert request.run_id == request.id
    assert world.ledger.releases.get(release.id).state is RolloutState.LIVE
    assert any("started run" in told for told in report.done)


def test_a_second_pass_and_a_second_reconciler_start_nothing_twice(world: World) -> None:
    for number in range(3):
        world.ledger.requests.open(
            **make_request_args(model="m", cause=Cause.METRIC, run_id=None, dedupe_key=f"k{number}")
        )
    other = Pace()
    for _ in range(3):
        world.once()
        reconcile(world.ledger, world.outside, other, lambda: world.now)
    assert list(world.runs.started) == list(dict.fromkeys(world.runs.started))
    assert len(world.ledger.requests.unfinished()) == 3


def test_a_part_that_fails_stops_no_other_and_the_heartbeat_tells_of_it(world: World) -> None:
    release = prepare(world.ledger, passed(world.ledger, 1, seen=0))
    world.runs.away = True
    world.ledger.requests.open(**make_request_args(cause=Cause.METRIC, run_id=None))
    report = world.once()
    assert world.ledger.releases.get(release.id).state is RolloutState.LIVE
    assert "Airflow does not answer" in report.troubles["requests"].error
    assert [one.part for one in troubles_of(world.beat)] == list(report.troubles)
    world.runs.away = False
    assert "requests" not in world.once(SECOND).troubles
    assert "requests" not in [one.part for one in troubles_of(world.beat)]


def test_what_fails_again_and_again_keeps_the_time_of_its_beginning(world: World) -> None:
    world.runs.away = True
    world.ledger.requests.open(**make_request_args(cause=Cause.METRIC, run_id=None))
    world.once()
    assert "requests" not in [one.part for one in persisting(world.beat, world.now)]
    world.once(timedelta(seconds=61))
    [trouble] = [one for one in persisting(world.beat, world.now) if one.part == "requests"]
    assert trouble.since == NOW + OWN_TURN


def test_a_dag_that_starts_nothing_is_told_with_its_model_and_its_request_waits(world: World) -> None:
    world.runs.refusing["m"] = "paused"
    request = world.ledger.requests.open(**make_request_args(cause=Cause.METRIC, run_id=None))
    error = world.once().troubles["requests"].error
    assert "DAG 'm': found paused" in error
    assert world.ledger.requests.get(request.id).state is RequestState.OPEN
    del world.runs.refusing["m"]
    world.once(SECOND)
    assert list(world.runs.started) == [("m", request.run_id)]


def test_each_part_has_its_own_pace(world: World, turns: dict[str, list[datetime]]) -> None:
    for _ in range(61):
        world.once()
        world.now += SECOND
    count = {name: len(times) for name, times in turns.items()}
    assert count == {"requests": 61, "watermarks": 5, "aliases": 3}


def test_a_part_that_took_long_is_left_out_for_longer_but_not_for_ever(
    world: World, turns: dict[str, list[datetime]]
) -> None:
    world.slow["watermarks"] = timedelta(seconds=12)
    for _ in range(120):
        world.once(SECOND)
    first, second, *_ = turns["watermarks"]
    assert timedelta(seconds=72) <= second - first <= timedelta(seconds=75)
    world.slow["aliases"] = timedelta(hours=1)
    world.once(timedelta(minutes=2))
    assert not world.pace.due("aliases", world.now + timedelta(minutes=4))
    assert world.pace.due("aliases", world.now + timedelta(minutes=5))


def test_a_stand_in_does_not_speak_for_the_reconciler(world: World) -> None:
    world.once(name=STAND_IN)
    assert world.ledger.heartbeats.last(RECONCILER) is None
    assert world.ledger.heartbeats.last(STAND_IN) is not None


# ---------------------------------------------------------------- what people are told


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=60), []),
        (timedelta(minutes=5, seconds=30), ["nothing heard from the reconciler for 5 min", "runbook"]),
        (None, ["nothing heard from the reconciler yet"]),
    ],
)
def test_people_are_told_of_a_silence_of_more_than_a_minute(age: timedelta | None, words: list[str]) -> None:
    beat = Heartbeat(RECONCILER, NOW - age, detail_of({})) if age else None
    text = " ".join(told(beat, NOW)).lower()
    assert bool(text) is bool(words)
    assert all(word in text for word in words)


def test_silent_is_later_than_late_and_trouble_is_told_once_it_stays() -> None:
    assert not silent(Heartbeat(RECONCILER, NOW - timedelta(minutes=2), ""), NOW)
    assert silent(Heartbeat(RECONCILER, NOW - timedelta(minutes=2, seconds=1), ""), NOW)
    for seconds, lines in ((59, 0), (60, 1)):
        trouble = module.Trouble("aliases", NOW - seconds * SECOND, "ServiceFailed: MLflow is away")
        beat = Heartbeat(RECONCILER, NOW, detail_of({"aliases": trouble}))
        found = told(beat, NOW)
        assert len(found) == lines
        assert all("aliases fails since" in line and "MLflow is away" in line for line in found)


def test_the_edge_is_tended_where_there_is_one_and_its_silence_stops_nothing_else(world: World) -> None:
    def away() -> dict[str, Any]:
        raise EdgeUnavailable("the edge does not answer")

    world.once()
    assert not [part for part in module._parts(world.ledger, world.outside, world.pace) if part == "edge"]
    edge = InMemoryEdge("serving-blue", "serving-green", ready=lambda colour: colour == "serving-blue")
    world.outside = replace(world.outside, edge=edge)
    world.ledger.pools.record(PoolEvent("default", "serving-blue", PoolChange.DONE, "x", "x", NOW))
    assert "the edge: serving-green was ready, and is maint" in world.once(SECOND).done
    edge.servers = away  # type: ignore[method-assign]
    report = world.once(3 * SECOND)
    assert "does not answer" in report.troubles["edge"].error


def test_the_ledger_knows_when_the_scheduler_was_last_heard_of(world: World) -> None:
    world.once()
    assert world.ledger.heartbeats.last(SCHEDULER) is None
    world.runs.heard_at = NOW
    world.once(timedelta(seconds=15))
    world.runs.away = True
    assert "scheduler" in world.once(timedelta(minutes=1)).troubles
    found = world.ledger.heartbeats.last(SCHEDULER)
    assert found is not None
    assert found.at == NOW  # its own time, not that of the look
