"""Limits and fair order: twenty models of two owners ask at once, on an in-memory ledger and Airflow."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from evergreen.core.catalog import load_catalog
from evergreen.core.errors import RunEnds
from evergreen.core.records import Cause, RequestState, TriggerRequest
from evergreen.core.spec import ModelSpec
from evergreen.core.spec_limits import OWNER, SOURCE, Limit, limits_of
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.runs import InMemoryRuns
from evergreen.fakes.source import FakeSource
from evergreen.steps.admit import admit
from evergreen.steps.places import PLACE_TTL, free_source, take_places
from evergreen.steps.serve_requests import serve_requests
from records import NOW, WATERMARK, make_request_args, make_spec
from spec_project import DEFAULTS, make_project, write_spec

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
MANY, FEW = "many@example.com", "few@example.com"


def models(**limits: int) -> dict[str, ModelSpec]:
    """Eighteen of one owner, two of another."""
    owners = {f"m{at:02}": MANY for at in range(18)} | {f"x{at}": FEW for at in range(2)}
    return {name: make_spec(name=name, owner=owner, limits=limits) for name, owner in owners.items()}


class World:
    """`admit`, and the reconciler's passes; a test ends the runs."""

    def __init__(self, specs: dict[str, ModelSpec]) -> None:
        self.specs, self.ledger, self.runs, self.at = specs, in_memory_ledger(), InMemoryRuns(), NOW
        self.turns: dict[str, datetime] = {}
        times = pl.DataFrame(
            {"at": [WATERMARK - HOUR * n for n in range(100)]}, schema={"at": pl.Datetime("us", "UTC")}
        )
        self.source = FakeSource(times, next(iter(specs.values())).source)

    def queue(self, model: str, cause: Cause = Cause.METRIC) -> TriggerRequest:
        self.at += SECOND
        made = {"dedupe_key": f"k-{self.at}", "now": self.at, "watermark": None, "as_of": None}
        return self.ledger.requests.open(**make_request_args(model=model, run_id=None, cause=cause, **made))

    def passes(self) -> list[str]:
        """A pass; the models whose runs it started, in order."""
        before = len(self.runs.started)
        self.at += SECOND
        serve_requests(self.ledger, self.specs, self.runs, lambda _: self.source, now=self.at, turns=self.turns)
        return [model for model, _ in list(self.runs.started)[before:]]

    def admit(self, model: str, run_id: str = "", cause: Cause = Cause.SCHEDULE, **detail: Any) -> TriggerRequest:
        """What a run does first: the newest that the reconciler has started, unless another is named."""
        run = run_id or [run for name, run in self.runs.started if name == model][-1]
        return admit(self.specs[model], self.ledger, self.source, cause=cause, run_id=run, detail=detail, now=self.at)

    def step(self, model: str, step: str) -> None:
        [request] = self.ledger.requests.unfinished(model)
        self.ledger.requests.mark(request.id, now=self.at, step=step)

    def end(self, model: str) -> None:
        [request] = self.ledger.requests.unfinished(model)
        self.ledger.requests.mark(request.id, now=self.at, state=RequestState.SERVED, step="judge")
        self.ledger.leases.release_all(request.id)


def all_of(world: World) -> list[str]:
    """All twenty ask at once, the owner of many first; the order in which they had their turn."""
    for model in world.specs:
        world.queue(model)
    done: list[str] = []
    while started := world.passes():
        for model in started:
            world.admit(model)
        for model in started:
            world.end(model)
        done += started
    return done


def test_without_limits_all_are_started_at_once_owner_by_owner_in_turn() -> None:
    world = World(models())
    for model in world.specs:
        world.queue(model)
    assert world.passes()[:5] == ["m00", "x0", "m01", "x1", "m02"]


@pytest.mark.parametrize("at_a_time", [1, 2, 3])
def test_with_a_limit_of_the_source_the_two_do_not_wait_for_the_eighteen(at_a_time: int) -> None:
    done = all_of(World(models(source=at_a_time)))
    assert sorted(done) == sorted(models())
    assert {"x0", "x1"} <= set(done[:5])


def test_with_a_limit_of_the_owner_each_has_its_own() -> None:
    world = World(models(owner=2))
    for model in world.specs:
        world.queue(model)
    assert sorted(world.passes()) == ["m00", "m01", "x0", "x1"]
    assert world.passes() == []


def test_what_waits_says_why_and_is_told_once() -> None:
    world = World(models(owner=1))
    first, second = world.queue("m00"), world.queue("m01")
    world.passes()
    waits = world.ledger.requests.get(second.id)
    assert waits.queued
    assert waits.reason == f"its turn comes when there is one run less of owner {MANY} at work (limits.owner: 1)"
    assert world.ledger.requests.get(first.id).step == "admit"


def test_a_person_goes_first_and_then_each_owner_in_turn() -> None:
    world = World(models(source=1))
    for model in ("m00", "m01", "x0"):
        world.queue(model)
    world.queue("m02", Cause.PERSON)
    order: list[str] = []
    while started := world.passes():
        order += started
        world.admit(*started)
        world.end(*started)
    assert order == ["m02", "x0", "m00", "m01"]


def test_who_is_at_work_has_had_a_turn() -> None:
    world = World(models())
    world.admit("m00", "cron-1")
    for model in ("m01", "x0"):
        world.queue(model)
    assert world.passes() == ["x0", "m01"]


def test_a_source_is_free_again_once_its_rows_are_read_and_the_owner_after_the_verdict() -> None:
    world = World(models(source=1, owner=2))
    for model in ("m00", "m01", "m02"):
        world.queue(model)
    assert world.passes() == ["m00"]
    request = world.admit("m00")
    assert world.passes() == []
    free_source(world.specs["m00"], world.ledger, request.id)
    world.step("m00", "train")
    assert world.passes() == ["m01"]
    free_source(world.specs["m01"], world.ledger, world.admit("m01").id)
    world.step("m01", "train")
    assert world.passes() == []
    world.step("m00", "approve")  # judged: it only waits now
    assert world.passes() == ["m02"]


# ---------------------------------------------------------------- runs that Airflow starts: cron, new data, a person


def test_runs_that_come_by_themselves_keep_the_limit_and_wait_in_the_ledger() -> None:
    world = World(models(owner=2))
    admitted, waiting = [], []
    for model in ("m00", "m01", "m02", "x0"):
        try:
            admitted.append(world.admit(model, f"cron-{model}").model)
        except RunEnds as end:
            waiting.append((model, end.served, end.reason))
    assert admitted == ["m00", "m01", "x0"]
    assert waiting == [("m02", False, Limit(OWNER, MANY, 2).words)]
    [waits] = world.ledger.requests.unfinished("m02")
    assert waits.queued
    assert world.ledger.leases.get("m02") is None
    world.end("m00")
    assert world.passes() == ["m02"]
    assert world.admit("m02").state is RequestState.CLAIMED


def test_a_run_that_comes_again_keeps_its_place_and_takes_no_second() -> None:
    world = World(models(owner=2))
    for _ in range(3):
        world.admit("m00", "cron-1")
    world.admit("m01", "cron-2")
    with pytest.raises(RunEnds):
        world.admit("m02", "cron-3")


def test_what_a_failed_run_held_is_given_back_with_its_lease() -> None:
    world = World(models(owner=1, source=1))
    request = world.admit("m00", "cron-1")
    world.ledger.leases.release_all(request.id)
    assert world.admit("m01", "cron-2").state is RequestState.CLAIMED


def test_one_full_limit_leaves_no_place_of_the_other_taken() -> None:
    specs = models(source=1) | {"x0": make_spec(name="x0", owner=FEW, limits={"owner": 1, "source": 1})}
    world = World(specs)
    world.admit("m00", "cron-1")
    with pytest.raises(RunEnds, match="pulls from"):
        world.admit("x0", "cron-2")
    assert all(world.ledger.leases.get(place) is None for place in Limit(OWNER, FEW, 1).places)


def test_a_place_of_a_run_that_nobody_ends_is_free_at_last() -> None:
    world = World(models(owner=1))
    world.admit("m00", "cron-1")
    world.at += PLACE_TTL
    assert world.admit("m01", "cron-2").state is RequestState.CLAIMED


def test_what_only_judges_needs_no_place() -> None:
    world = World(models(owner=1, source=1))
    world.admit("m00", "cron-1")
    request = world.queue("m01")
    judges = TriggerRequest(**{**vars(request), "detail": {"judge_again": 3}})
    take_places(world.specs["m01"], world.ledger, judges, world.at)
    assert world.ledger.requests.get(request.id).reason == ""


# ---------------------------------------------------------------- names


def test_limits_that_are_not_set_are_none() -> None:
    assert limits_of(make_spec()) == []
    assert [limit.kind for limit in limits_of(make_spec(limits={"source": 3}))] == [SOURCE]


def test_places_of_owners_with_long_names_fit_the_ledger_and_are_their_own() -> None:
    long = "a" * 400
    names = {place for owner in (f"{long}1", f"{long}2") for place in Limit(OWNER, owner, 100).places}
    assert len(names) == 200
    assert max(map(len, names)) <= 200


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ("limits: {owner: 0}", "limits.owner"),
        ("limits: {source: 101}", "limits.source"),
        ("limits: {owner: '4'}", "limits.owner"),
        ("limits: {pool: 4}", "limits.pool"),
        ("limits: 4", "limits"),
    ],
)
def test_limits_that_are_none_are_refused_by_field_and_line(tmp_path: Path, written: str, field: str) -> None:
    root = make_project(tmp_path)
    write_spec(root, "delay", ("gates:", f"{written}\ngates:"))
    [problem] = load_catalog(root).problems
    assert (problem.file, problem.field) == ("models/delay/model.yaml", field)
    assert problem.line
    assert problem.allowed


def test_a_models_own_limit_replaces_that_of_the_defaults(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    (root / "models" / "_defaults.yaml").write_text(f"{DEFAULTS}limits: {{owner: 4, source: 2}}\n")
    write_spec(root, "delay", ("gates:", "limits: {owner: 1}\ngates:"))
    spec = load_catalog(root).specs["delay"]
    assert [(limit.kind, limit.of, limit.most) for limit in limits_of(spec)] == [
        (OWNER, "ops@example.com", 1), (SOURCE, "warehouse", 2),
    ]  # fmt: skip
