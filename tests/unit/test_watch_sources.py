"""The reconciler's part for new data: where Airflow's event is late, the ledger gets the request."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from evergreen.core.errors import EvergreenError, RunEnds
from evergreen.core.records import Cause, RequestState
from evergreen.core.spec import ModelSpec
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.source import FakeSource
from evergreen.steps.admit import admit
from evergreen.steps.watch_sources import GRACE, watch_sources
from records import AS_OF, NOW, WATERMARK, make_request_args, make_spec

HOUR = timedelta(hours=1)
OTHER = {"connection": "warehouse", "table": "others", "event_time": "at", "key": "id"}


def rows(newest: datetime) -> pl.DataFrame:
    return pl.DataFrame(
        {"at": [newest - HOUR * number for number in range(40)]}, schema={"at": pl.Datetime("us", "UTC")}
    )


class World:
    """Two models of one source, and what opens them."""

    def __init__(self, *specs: ModelSpec) -> None:
        self.specs = {spec.name: spec for spec in specs or (make_spec(), make_spec(name="n"))}
        self.ledger = in_memory_ledger()
        self.sources = {spec.source.id: FakeSource(rows(WATERMARK), spec.source) for spec in self.specs.values()}
        self.opened: list[str] = []
        self.seen: dict[str, tuple[datetime, datetime]] = {}

    def open_source(self, spec: ModelSpec) -> FakeSource:
        self.opened.append(spec.source.id)
        return self.sources[spec.source.id]

    def passes(self, at: datetime) -> list[str]:
        return watch_sources(self.ledger, self.specs, self.open_source, now=at, seen=self.seen)

    def keys(self, model: str) -> list[str]:
        return [request.dedupe_key for request in self.ledger.requests.latest(model, limit=9)]

    def admit(self, run_id: str) -> Any:
        source = self.sources[self.specs["m"].source.id]
        return admit(self.specs["m"], self.ledger, source, cause=Cause.NEW_DATA, run_id=run_id, detail={}, now=NOW)


def test_an_event_that_does_not_come_is_made_up_for_after_a_while() -> None:
    world = World()
    assert world.passes(NOW) == world.passes(NOW + GRACE - HOUR / 3600) == []
    told = world.passes(NOW + GRACE)
    assert [line.split(":")[0] for line in told] == ["m", "n"]
    assert "no event came for the data up to 2013-03-01 23:00 UTC" in told[0]
    [request] = world.ledger.requests.latest("m", limit=9)
    assert (request.queued, request.cause, request.source) == (True, Cause.NEW_DATA, world.specs["m"].source.id)
    assert (request.watermark, request.as_of) == (WATERMARK, AS_OF)
    assert world.passes(NOW + 2 * GRACE) == []


def test_a_source_is_asked_once_for_all_its_models() -> None:
    world = World()
    world.passes(NOW)
    assert world.opened == [world.specs["m"].source.id]


def test_time_counts_anew_with_each_new_watermark() -> None:
    world = World()
    world.passes(NOW)
    world.sources[world.specs["m"].source.id].frame = rows(WATERMARK + HOUR)
    assert world.passes(NOW + GRACE) == []
    assert len(world.passes(NOW + 2 * GRACE)) == 2
    assert world.keys("m") == ["new_data:2013-03-02T00:00:00+00:00"]


@pytest.mark.parametrize("state", RequestState)
def test_what_was_asked_for_is_not_asked_for_again_whatever_became_of_it(state: RequestState) -> None:
    world = World()
    request = world.ledger.requests.open(**make_request_args())
    world.ledger.requests.mark(request.id, now=NOW, state=state)
    world.passes(NOW)
    [told] = world.passes(NOW + GRACE)
    assert told.startswith("n: ")
    assert len(world.keys("m")) == 1


def test_only_new_data_of_this_source_counts() -> None:
    world = World(make_spec())
    asked = {"watermark": WATERMARK + HOUR}
    world.ledger.requests.open(**make_request_args(cause=Cause.PERSON, dedupe_key="a person's run", **asked))
    world.ledger.requests.open(**make_request_args(source="warehouse/before/at", dedupe_key="elsewhere", **asked))
    world.passes(NOW)
    assert len(world.passes(NOW + GRACE)) == 1


def test_an_event_that_comes_late_opens_no_second_one() -> None:
    world = World(make_spec())
    world.passes(NOW)
    world.passes(NOW + GRACE)
    [request] = world.ledger.requests.latest("m", limit=9)
    with pytest.raises(RunEnds, match=f"run {request.run_id} is to be started for the data"):
        world.admit("run-1")
    assert world.admit(request.run_id).id == request.id


def test_models_without_the_trigger_and_empty_sources_are_left_alone() -> None:
    world = World(make_spec(triggers=[{"schedule": "0 3 * * *"}]), make_spec(name="n", source=OTHER))
    source = world.sources["warehouse/others/at"]
    source.frame = source.frame.clear()
    for at in (NOW, NOW + GRACE, NOW + 2 * GRACE):
        assert world.passes(at) == []
    assert set(world.opened) == {"warehouse/others/at"}


def test_one_sources_trouble_does_not_stop_the_others() -> None:
    world = World(make_spec(source=OTHER), make_spec(name="n"))
    world.sources["warehouse/others/at"].answers = False
    for at in (NOW, NOW + GRACE):
        with pytest.raises(EvergreenError, match="warehouse/others/at: source 'warehouse': found no answer"):
            world.passes(at)
    assert (len(world.keys("n")), world.keys("m")) == (1, [])
