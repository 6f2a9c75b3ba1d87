"""The edge's doors, set again after it forgot them: what the ledger says, as long as it lets somebody answer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from evergreen.core.ports import Door
from evergreen.core.records import PoolChange, PoolEvent
from evergreen.fakes.edge_proxy import InMemoryEdge
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.steps.tend_edge import tend_edge

BLUE, GREEN = "serving-blue", "serving-green"
READY, DRAIN, MAINT = Door.READY, Door.DRAIN, Door.MAINT


class World:
    def __init__(self, *history: tuple[str, PoolChange], ready: tuple[str, ...] = (BLUE, GREEN)) -> None:
        self.ready, self.ledger = set(ready), in_memory_ledger()
        self.edge = InMemoryEdge(BLUE, GREEN, ready=lambda colour: colour in self.ready)
        for active, change in history:
            self.ledger.pools.record(PoolEvent("default", active, change, "x", "x", datetime.now(UTC)))

    def tend(self) -> list[str]:
        return tend_edge(self.ledger, self.edge)

    @property
    def doors(self) -> tuple[Door, Door]:
        return self.edge.doors[BLUE], self.edge.doors[GREEN]


def test_a_pool_that_was_never_rolled_costs_no_question_to_the_edge() -> None:
    world = World()
    world.edge.servers = None  # type: ignore[method-assign, assignment]
    assert world.tend() == []


@pytest.mark.parametrize("change", [PoolChange.STARTED, PoolChange.DONE, PoolChange.BACK])
def test_the_idle_colour_is_shut_again_after_a_restart_and_then_left_alone(change: PoolChange) -> None:
    world = World((BLUE, PoolChange.DONE), (GREEN, change))
    assert world.tend() == ["the edge: serving-blue was ready, and is maint"]
    assert (world.doors, world.tend()) == ((MAINT, READY), [])
    world.edge.restart()
    world.tend()
    assert world.doors == (MAINT, READY)


def test_a_switch_that_the_ledger_knows_is_made_and_the_rest_is_left_to_the_roll() -> None:
    world = World((BLUE, PoolChange.STARTED), (GREEN, PoolChange.SWITCHED))
    world.edge.set(GREEN, MAINT)
    assert world.tend() == ["the edge: serving-green was maint, and is ready"]
    for door in (READY, DRAIN, MAINT):
        world.edge.set(BLUE, door)
        assert (world.tend(), world.doors) == ([], (door, READY))


def test_while_the_active_colour_does_not_answer_whichever_does_is_let_answer() -> None:
    world = World((BLUE, PoolChange.DONE), ready=(BLUE,))
    world.tend()
    assert world.doors == (READY, MAINT)
    world.ready = {GREEN}  # a person has started it in place of the other
    assert world.tend() == ["the edge: serving-green was maint, and is ready"]
    world.ready = {BLUE, GREEN}
    world.tend()
    assert world.doors == (READY, MAINT)
