"""What every edge does: HAProxy in a container, and the one in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from evergreen.core.errors import EdgeUnavailable
from evergreen.core.ports import Door, EdgeProxy

BLUE, GREEN = "serving-blue", "serving-green"


@dataclass
class Rig:
    """An edge, what makes a colour's readiness check pass or fail, and what takes the edge down and up again."""

    edge: EdgeProxy
    ready: Callable[[str, bool], None]
    restart: Callable[[], None]

    def comes_to(self, *answering: str) -> None:
        """Wait until callers are sent to these."""
        deadline = time.monotonic() + 15
        while (now := {one.colour for one in self.edge.servers().values() if one.answering}) != set(answering):
            assert time.monotonic() < deadline, f"{now}, not {answering}"
            time.sleep(0.1)


class EdgeContract:
    """Tests of one kind of edge; a subclass has the fixture `rig`, both colours stopped from answering at first."""

    def test_both_are_open_at_first_and_who_is_ready_is_sent_to(self, rig: Rig) -> None:
        assert {name: one.door for name, one in rig.edge.servers().items()} == dict.fromkeys((BLUE, GREEN), Door.READY)
        rig.ready(BLUE, True)
        rig.comes_to(BLUE)
        rig.ready(GREEN, True)
        rig.comes_to(BLUE, GREEN)
        rig.ready(BLUE, False)
        rig.comes_to(GREEN)

    @pytest.mark.parametrize("door", [Door.DRAIN, Door.MAINT])
    def test_a_door_that_is_not_ready_keeps_callers_away_until_it_is(self, rig: Rig, door: Door) -> None:
        for colour in (BLUE, GREEN):
            rig.ready(colour, True)
        rig.comes_to(BLUE, GREEN)
        for _ in range(2):
            rig.edge.set(GREEN, door)
            found = rig.edge.servers()[GREEN]
            assert (found.colour, found.door, found.answering, found.requests) == (GREEN, door, False, 0)
        rig.comes_to(BLUE)
        rig.edge.set(GREEN, Door.READY)
        rig.comes_to(BLUE, GREEN)

    def test_a_door_passes_to_another_and_back(self, rig: Rig) -> None:
        for door in (Door.DRAIN, Door.MAINT, Door.DRAIN, Door.READY, Door.MAINT):
            rig.edge.set(GREEN, door)
            assert rig.edge.servers()[GREEN].door is door

    def test_a_restart_forgets_the_doors(self, rig: Rig) -> None:
        rig.edge.set(BLUE, Door.MAINT)
        rig.edge.set(GREEN, Door.DRAIN)
        rig.restart()
        assert {one.door for one in rig.edge.servers().values()} == {Door.READY}

    def test_a_colour_that_it_has_not_is_refused(self, rig: Rig) -> None:
        with pytest.raises(EdgeUnavailable, match="refuses to set serving-red to maint: No such server"):
            rig.edge.set("serving-red", Door.MAINT)
