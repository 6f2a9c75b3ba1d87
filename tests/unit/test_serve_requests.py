"""The reconciler's part for trigger requests, on an in-memory ledger, source and Airflow."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from evergreen.core.errors import EvergreenError, RunEnds
from evergreen.core.ports import Ledger, RunState
from evergreen.core.records import Cause, RequestState, TriggerRequest
from evergreen.core.spec import ModelSpec
from evergreen.core.triggers import EXPIRES, LEASE_TTL
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.runs import InMemoryRuns
from evergreen.fakes.source import FakeSource
from evergreen.steps.admit import admit
from evergreen.steps.serve_requests import ASK_EVERY, ORPHAN_AFTER, SOURCE_RETRY, serve_requests
from records import NOW, WATERMARK, make_request_args, make_spec

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
SPECS = {"m": make_spec(cooldown="6h"), "n": make_spec(name="n")}


class World:
    """A ledger, Airflow and a source that all models share; `at` is the clock."""

    def __init__(self) -> None:
        self.ledger, self.runs, self.at = in_memory_ledger(), InMemoryRuns(), NOW
        times = pl.DataFrame(
            {"at": [WATERMARK - HOUR * n for n in range(100)]}, schema={"at": pl.Datetime("us", "UTC")}
        )
        self.source = FakeSource(times, SPECS["m"].source)
        self.opened = 0
        self.asked: dict[str, datetime] = {}

    def open_source(self, spec: ModelSpec) -> FakeSource:
        self.opened += 1
        return self.source

    def passes(self, after: timedelta = SECOND) -> list[str]:
        """One pass, so much later."""
        self.at += after
        return serve_requests(self.ledger, SPECS, self.runs, self.open_source, now=self.at, asked=self.asked)

    def queue(self, model: str = "m", cause: Cause = Cause.METRIC, **changes: Any) -> TriggerRequest:
        """A request that no run has opened; those without new data have not been looked at."""
        number = len(self.ledger.requests.latest(model, limit=9999))
        unlooked = {} if cause is Cause.NEW_DATA else {"watermark": None, "as_of": None}
        arguments = {"dedupe_key": f"k-{number}", "now": self.at, **unlooked, **changes}
        return self.ledger.requests.open(**make_request_args(model=model, run_id=None, cause=cause, **arguments))

    def request(self, of: TriggerRequest) -> TriggerRequest:
        return self.ledger.requests.get(of.id)

    def admit(self, run_id: str, model: str = "m", cause: Cause = Cause.API) -> TriggerRequest:
        """What a run of Airflow does first."""
        return admit(SPECS[model], self.ledger, self.source, cause=cause, run_id=run_id, detail={}, now=self.at)

    def served(self, model: str = "m") -> TriggerRequest:
        """A retrain that has just ended."""
        made = self.ledger.requests.open(**make_request_args(model=model, run_id="run-0", dedupe_key="served"))
        return self.ledger.requests.mark(made.id, now=self.at, state=RequestState.SERVED)


@pytest.fixture
def world() -> World:
    return World()


# ---------------------------------------------------------------- started


@pytest.mark.parametrize("cause", Cause)
def test_a_request_that_waits_is_started_once(world: World, cause: Cause) -> None:
    waits = world.queue(cause=cause)
    [told] = world.passes()
    assert told.startswith(f"m: started run {waits.id}: ")
    assert list(world.runs.started) == [("m", waits.id)]
    assert not world.request(waits).queued
    assert world.passes() == []
    assert list(world.runs.started.values()) == [{}]


def test_killed_after_the_start_it_is_started_once(world: World) -> None:
    waits = world.queue()
    world.runs.start("m", waits.id, {})
    world.passes()
    assert len(world.runs.started) == 1
    assert not world.request(waits).queued


def test_a_run_that_is_admitted_at_once_keeps_what_it_wrote(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = world.queue()
    start = world.runs.start

    def start_and_claim(model: str, run_id: str, conf: dict[str, Any]) -> None:
        start(model, run_id, conf)
        world.ledger.requests.mark(waits.id, now=NOW, state=RequestState.CLAIMED, step="pull")

    monkeypatch.setattr(world.runs, "start", start_and_claim)
    world.passes()
    assert (world.request(waits).state, world.request(waits).step) == (RequestState.CLAIMED, "pull")


def test_it_is_not_started_before_it_is_due(world: World) -> None:
    waits = world.queue(due_at=NOW + HOUR)
    assert world.passes() == []
    world.passes(HOUR)
    assert ("m", waits.id) in world.runs.started


def test_a_model_without_a_valid_spec_is_left_alone(world: World) -> None:
    waits = world.queue(model="gone", now=NOW - 2 * EXPIRES)
    assert world.passes() == []
    assert world.request(waits) == waits


# ---------------------------------------------------------------- put off, skipped, expired


def test_cooldown_puts_it_off_until_it_ends(world: World) -> None:
    world.served()
    waits = world.queue()
    [told] = world.passes()
    reason = "cooldown: 6h since the last retrain ends at 2025-03-01 18:00 UTC"
    assert told == f"m: put off request {waits.id}: {reason}"
    assert (world.request(waits).reason, world.request(waits).due_at) == (reason, NOW + 6 * HOUR)
    assert world.passes() == []
    world.passes(6 * HOUR)
    assert ("m", waits.id) in world.runs.started


def test_a_hold_puts_it_off_until_a_person_lifts_it(world: World) -> None:
    world.ledger.holds.place("m", by="ada", reason="wrong fares", now=NOW)
    waits, persons = world.queue(), world.queue(cause=Cause.PERSON)
    world.passes()
    assert list(world.runs.started) == [("m", persons.id)]
    world.admit(persons.id)
    assert world.request(waits).state is RequestState.SKIPPED, "the person's run has its data"
    held = world.queue()
    world.passes()
    assert "held since 2025-03-01 12:00 UTC by ada: wrong fares" in world.request(held).reason
    assert world.passes() == []
    world.ledger.holds.lift("m", by="ada", reason="repaired", now=NOW)
    world.passes()
    assert ("m", held.id) in world.runs.started


def test_what_admit_put_off_is_served_by_another_run(world: World) -> None:
    world.served()
    with pytest.raises(RunEnds):
        world.admit("run-1", cause=Cause.SCHEDULE)
    put_off = world.ledger.requests.for_run("m", "run-1")
    assert put_off is not None
    assert world.passes() == []
    world.passes(6 * HOUR)
    assert list(world.runs.started) == [("m", put_off.id)]
    assert world.admit(put_off.id).state is RequestState.CLAIMED


def test_put_off_in_its_own_run_it_is_started_under_another_id(world: World) -> None:
    waits = world.queue()
    world.passes()
    world.ledger.holds.place("m", by="ada", reason="wrong fares", now=NOW)
    with pytest.raises(RunEnds, match="wrong fares"):
        world.admit(waits.id)
    assert world.passes() == []
    world.ledger.holds.lift("m", by="ada", reason="repaired", now=NOW)
    world.passes()
    assert list(world.runs.started) == [("m", waits.id), ("m", f"{waits.id}-2")]
    assert world.admit(f"{waits.id}-2").id == waits.id


def test_new_data_is_counted_before_a_run_is_started_for_it(world: World) -> None:
    world.served()  # the source has nothing newer than this
    waits = world.queue("n", Cause.NEW_DATA)
    few = world.ledger.requests.open(
        **make_request_args(model="n", run_id="run-0", dedupe_key="s", watermark=WATERMARK - HOUR, as_of=waits.as_of)
    )
    world.ledger.requests.mark(few.id, now=NOW, state=RequestState.SERVED)
    [told] = world.passes()
    assert told == f"n: skipped request {waits.id}: 0 new rows since 2013-02-28 23:00 UTC, 5 needed"
    assert (world.request(waits).state, world.runs.started) == (RequestState.SKIPPED, {})


def test_a_source_that_does_not_answer_is_asked_again_later(world: World) -> None:
    waits, other = world.queue(cause=Cause.NEW_DATA), world.queue("n")
    world.source.answers = False
    world.passes()
    assert list(world.runs.started) == [("n", other.id)], "what needs no count goes"
    assert world.request(waits).queued
    assert "its new rows cannot be counted: source 'warehouse'" in world.request(waits).reason
    opened = world.opened
    world.passes()
    assert world.opened == opened
    world.source.answers = True
    world.passes(SOURCE_RETRY)
    assert ("m", waits.id) in world.runs.started


def test_of_new_data_only_the_newest_is_started(world: World) -> None:
    older = world.queue(cause=Cause.NEW_DATA, watermark=WATERMARK - HOUR, as_of=None)
    newer = world.queue(cause=Cause.NEW_DATA)
    world.passes()
    assert list(world.runs.started) == [("m", newer.id)]
    reason = f"run {newer.id} is to be started for the data up to 2013-03-01 23:00 UTC"
    assert world.request(older).reason == reason


def test_what_nobody_could_serve_expires(world: World) -> None:
    world.ledger.holds.place("m", by="ada", reason="wrong fares", now=NOW)
    waits = world.queue()
    world.passes()
    world.passes(EXPIRES - 2 * SECOND)
    assert world.request(waits).queued
    [told] = world.passes(2 * SECOND)
    assert told.startswith(f"m: let request {waits.id} expire: it waited for more than 7d: held since")
    assert (world.request(waits).state, world.request(waits).closed_at) == (RequestState.EXPIRED, world.at)


# ---------------------------------------------------------------- in turn


def test_persons_go_first_and_a_model_has_one_run_that_waits(world: World) -> None:
    scheduled, metric = world.queue(cause=Cause.SCHEDULE, detail={"dry_run": 0}), world.queue()
    person, other = world.queue(cause=Cause.PERSON), world.queue("n", Cause.SCHEDULE)
    world.passes()
    assert set(world.runs.started) == {("m", person.id), ("n", other.id)}
    assert world.request(scheduled).queued
    assert world.request(metric).queued
    another = world.queue(cause=Cause.PERSON)
    assert world.passes() == []
    claimed = world.admit(person.id)
    world.ledger.leases.release("m", claimed.id)
    world.passes()
    assert ("m", another.id) in world.runs.started


def test_a_persons_run_is_started_beside_a_less_urgent_one_that_waits_for_the_lease(world: World) -> None:
    world.queue(cause=Cause.SCHEDULE)
    world.passes()
    person = world.queue(cause=Cause.PERSON)
    world.passes()
    assert ("m", person.id) in world.runs.started


def test_a_thousand_requests_cost_one_read_and_few_for_each_model() -> None:
    world, models = World(), [f"model-{number}" for number in range(50)]
    specs = {name: make_spec(name=name) for name in models}
    for number in range(1000):
        world.queue(models[number % 50])
    calls = Calls(world.ledger.requests)
    counted = Ledger(**{**vars(world.ledger), "requests": calls})
    serve_requests(counted, specs, world.runs, world.open_source, now=NOW)
    assert len(world.runs.started) == 50
    assert calls.of("unfinished") == 1
    assert calls.total <= 1 + 50 * 5
    calls.made.clear()
    assert serve_requests(counted, specs, world.runs, world.open_source, now=NOW) == []
    assert calls.made == ["unfinished"], "all wait for one that is started"


class Calls:
    """Passes everything on, and notes the name."""

    def __init__(self, wrapped: object) -> None:
        self._wrapped = wrapped
        self.made: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        self.made.append(name)
        passed: Callable[..., Any] = getattr(self._wrapped, name)
        return passed

    def of(self, name: str) -> int:
        return self.made.count(name)

    @property
    def total(self) -> int:
        return len(self.made)


# ---------------------------------------------------------------- trouble


def test_one_models_trouble_does_not_stop_the_others(world: World) -> None:
    broken, other = world.queue(), world.queue("n")
    world.runs.refusing["m"] = "an import error"
    with pytest.raises(EvergreenError, match="m: DAG 'm': found an import error"):
        world.passes()
    assert list(world.runs.started) == [("n", other.id)]
    assert world.request(broken).queued
    world.runs.refusing.clear()
    world.passes()
    assert ("m", broken.id) in world.runs.started


def test_while_airflow_is_away_nothing_is_lost(world: World) -> None:
    waits, claimed = world.queue(), world.queue("n")
    world.ledger.requests.mark(claimed.id, now=NOW, state=RequestState.CLAIMED, step="pull")
    world.runs.away = True
    with pytest.raises(EvergreenError, match="Airflow does not answer"):
        world.passes(ORPHAN_AFTER)
    assert world.request(waits).queued
    assert world.request(claimed).state is RequestState.CLAIMED


# ---------------------------------------------------------------- orphans


def claimed(world: World) -> TriggerRequest:
    """A request whose run is at work, and holds the lease."""
    made = world.ledger.requests.open(**make_request_args())
    world.runs.put("m", "run-1", RunState.RUNNING)
    world.ledger.leases.acquire("m", made.id, LEASE_TTL, world.at)
    return world.ledger.requests.mark(made.id, now=world.at, state=RequestState.CLAIMED, step="train")


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (None, "run run-1 is not known to Airflow any more"),
        (RunState.FAILED, "run run-1 has ended in Airflow"),
        (RunState.SUCCESS, "run run-1 has ended in Airflow"),
    ],
)
def test_a_claimed_request_whose_run_is_gone_is_closed(world: World, state: RunState | None, why: str) -> None:
    request = claimed(world)
    world.passes(ORPHAN_AFTER)
    assert world.request(request) == request
    world.runs.put("m", "run-1", state)
    assert world.passes() == [], "Airflow is not asked in each pass"
    [told] = world.passes(ASK_EVERY)
    assert told == f"m: closed request {request.id}: {why} while 'train' was at work"
    assert world.request(request).state is RequestState.FAILED
    assert world.ledger.leases.get("m") is None


def test_a_young_request_is_no_orphan(world: World) -> None:
    request = claimed(world)
    world.runs.put("m", "run-1", None)
    world.passes(ORPHAN_AFTER - 2 * SECOND)
    assert world.request(request) == request


def test_a_request_that_ended_while_airflow_was_asked_stays_as_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = claimed(world)

    def state(model: str, run_id: str) -> RunState:
        world.ledger.requests.mark(request.id, now=NOW, state=RequestState.SERVED, reason="released version 1")
        return RunState.SUCCESS

    monkeypatch.setattr(world.runs, "state", state)
    assert world.passes(ORPHAN_AFTER) == []
    assert world.request(request).reason == "released version 1"


@pytest.mark.parametrize("own", [True, False])
def test_an_open_request_whose_run_is_gone_gets_another_one(world: World, own: bool) -> None:
    if own:
        request = world.queue()
        world.passes()
    else:
        request = world.ledger.requests.open(**make_request_args(cause=Cause.SCHEDULE))
    world.runs.put("m", request.run_id, RunState.FAILED if own else None)
    [told] = world.passes(ORPHAN_AFTER)
    assert told.startswith(f"m: queued request {request.id} again: run {request.run_id}")
    world.passes()
    run_id = f"{request.id}-2" if own else request.id
    assert ("m", run_id) in world.runs.started
    assert world.admit(run_id).id == request.id
