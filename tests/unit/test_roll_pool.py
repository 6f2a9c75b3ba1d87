"""A roll of the pool: what callers see at each of its moments, each failure, and a kill at each call."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bundles import make_bundle, put, release_bundle
from evergreen import faults
from evergreen.core import bundle as bundles
from evergreen.core.errors import EdgeUnavailable, LeaseBusy, RollFailed, SlotUnavailable
from evergreen.core.ports import Answer, Door
from evergreen.core.records import PoolChange, PoolEvent
from evergreen.core.slot_health import SlotFacts
from evergreen.fakes.edge_proxy import InMemoryEdge
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.serving_client import InMemoryServingClient
from evergreen.fakes.slot_containers import InMemorySlotContainers
from evergreen.fakes.store import InMemoryStore
from evergreen.steps.roll_pool import LASTS, Outside, Patience, Rolled, roll_pool
from evergreen.steps.tend_edge import tend_edge
from evergreen.steps.watch_slots import look

BLUE, GREEN, MODEL = "serving-blue", "serving-green", "flight-delay"
BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
MADE, FILES = make_bundle(MODEL, 1)


class Killed(BaseException):
    """As SIGKILL: nothing in the step may catch it."""


class World:
    """Two slots, the edge before them, a ledger with one live release, and a clock that only sleeping turns.

    `wrong` is what keeps a colour from being ready, `answers` its predictions of the golden rows. At every moment it
    is checked that callers have who answers, unless `outage` says that they may not.
    """

    def __init__(self) -> None:
        self.now, self.told = BEGAN, list[str]()
        self.wrong: dict[str, str] = {}
        self.answers: dict[str, Callable[[str, Any], Answer]] = {}
        self.at: dict[float, Callable[[], None]] = {}  # what happens so many seconds after the beginning
        self.outage = False
        self.ledger, self.store = in_memory_ledger(), InMemoryStore()
        put(self.store, MADE, FILES)
        release_bundle(self.ledger, MADE, version=3)
        self.containers = InMemorySlotContainers(
            SlotFacts(BLUE, "running", BEGAN, None, health="healthy", revision="old"),
            SlotFacts(GREEN, "created", None, None, health="healthy", revision="new"),
        )
        self.edge = InMemoryEdge(BLUE, GREEN, ready=lambda colour: not self.not_ready(colour))
        self.network = Network(self)

    def not_ready(self, colour: str) -> str:
        return self.wrong.get(colour, "" if self.up(colour) else "it does not run")

    def up(self, colour: str) -> bool:
        return self.containers.look(colour).up

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        for due in [due for due in self.at if self.now - BEGAN >= timedelta(seconds=due)]:
            self.at.pop(due)()
        tend_edge(self.ledger, self.edge)  # the reconciler is at work all the while
        self.check()

    def check(self) -> None:
        """Callers have who answers rightly: what a roll may never break."""
        if not self.outage:
            answering = [one.colour for one in self.edge.servers().values() if one.answering]
            assert answering, (self.edge.servers(), self.changes)
            assert all(self.network.right(colour) for colour in answering), answering

    @property
    def changes(self) -> list[tuple[str, str]]:
        return [(one.change.value, one.active) for one in self.ledger.pools.history("default")]

    def roll(self, hook: faults.Hook | None = None, act: str = "run-1", since: datetime = BEGAN) -> Rolled:
        def after(call: str, when: str) -> None:
            self.check()
            if hook:
                hook(call, when)

        outside = Outside(
            faults.watched("containers", self.containers, after),
            faults.watched("edge", self.edge, after),
            faults.watched("client", Client(self), after),
            self.store,
            "memory://{}".format,
        )
        patience = Patience(clock=lambda: self.now, sleep=self.sleep)
        return roll_pool(
            faults.watched_ledger(self.ledger, after), outside, by="anna", reason="a new image", act=act, since=since,
            patience=patience, tell=self.told.append,
        )  # fmt: skip

    def ends(self, active: str) -> None:
        """The state in which every roll must end: one colour open and up, the other shut and stopped."""
        idle = GREEN if active == BLUE else BLUE
        assert (self.up(active), self.up(idle)) == (True, False)
        tend_edge(self.ledger, self.edge)
        assert (self.edge.doors[active], self.edge.doors[idle]) == (Door.READY, Door.MAINT)
        lease = self.ledger.leases.get("pool:default")
        assert lease is None or lease.expires_at <= self.now


class Client(InMemoryServingClient):
    """Which also hears why one is not ready."""

    def __init__(self, world: World) -> None:
        super().__init__(world.network)
        self._world = world

    def readiness(self, url: str) -> str:
        return self._world.not_ready(url.removeprefix("memory://"))


class Network(dict):  # type: ignore[type-arg]
    """What answers at a colour's URL, now."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        golden = json.loads(FILES[bundles.GOLDEN])
        self.rows, self.predictions = golden["rows"], golden["predictions"]

    def __contains__(self, url: object) -> bool:
        return not self._world.not_ready(str(url).removeprefix("memory://"))

    def __getitem__(self, url: str) -> Callable[[str, Any], Answer]:
        colour = url.removeprefix("memory://")
        return self._world.answers.get(colour, self.rightly)

    def rightly(self, model: str, rows: Any) -> Answer:
        return Answer(3, [self.predictions[self.rows.index(row)] for row in rows], 1.0)

    def right(self, colour: str) -> bool:
        return colour not in self._world.answers


@pytest.fixture
def world() -> World:
    return World()


ROLLED = [("started", BLUE), ("switched", GREEN), ("done", GREEN)]
CAME_BACK = [("started", BLUE), ("back", BLUE)]


def test_it_starts_the_other_colour_sends_callers_to_it_and_stops_the_one_before(world: World) -> None:
    assert world.roll() == Rolled(GREEN, BLUE, "new")
    assert world.changes == ROLLED
    assert (world.containers.started, world.containers.stopped, world.containers.restarted) == ([GREEN], [BLUE], [])
    world.ends(GREEN)
    assert world.told == [
        "serving-green is started, from the image of revision new; serving-blue answers",
        "serving-green is ready, and answers the golden rows of all 1 model as at training",
        "callers are sent to serving-green; serving-blue answers what it has",
    ]


def test_the_next_one_goes_the_other_way(world: World) -> None:
    world.roll()
    world.now += timedelta(minutes=1)
    assert world.roll(act="run-2", since=world.now) == Rolled(BLUE, GREEN, "old")
    assert world.changes == [*ROLLED, ("started", GREEN), ("switched", BLUE), ("done", BLUE)]
    world.ends(BLUE)


def test_a_pool_that_serves_nothing_yet_is_rolled(world: World) -> None:
    world.ledger = in_memory_ledger()
    assert world.roll().active == GREEN
    assert "of all 0 models" in world.told[1]


def test_nobody_is_sent_to_the_new_one_before_it_answers_rightly(world: World) -> None:
    world.wrong[GREEN] = "a model is being loaded"
    world.at = {60: lambda: world.wrong.pop(GREEN) and None}
    doors: list[Door] = []
    world.roll(lambda call, when: doors.append(world.edge.doors[GREEN]) if GREEN in world.wrong else None)
    assert doors.count(Door.MAINT) > 100
    assert set(doors[20:]) == {Door.MAINT}
    world.ends(GREEN)


def test_a_release_that_goes_live_meanwhile_is_waited_for(world: World) -> None:
    world.answers[GREEN] = lambda model, rows: replace(world.network.rightly(model, rows), version=2)
    world.at = {3: lambda: world.answers.pop(GREEN) and None}
    world.roll()
    world.ends(GREEN)


# ---------------------------------------------------------------- draining


def test_the_one_before_is_stopped_once_it_has_no_request(world: World) -> None:
    world.edge.requests[BLUE] = 4
    seen: list[tuple[int, bool]] = []
    world.at = {20: lambda: world.edge.requests.update({BLUE: 0})}
    world.roll(lambda *_: seen.append((world.edge.requests[BLUE], world.up(BLUE))))
    assert (4, False) not in seen
    world.ends(GREEN)


def test_one_that_does_not_drain_is_stopped_in_the_end_with_time_to_answer(world: World) -> None:
    world.edge.requests[BLUE] = 4
    graces: list[float] = []
    stop = world.containers.stop
    world.containers.stop = lambda slot, grace=0.0: (graces.append(grace), stop(slot, grace))[1]  # type: ignore[method-assign]
    world.roll()
    assert graces == [20.0]
    assert world.told[-1] == "serving-blue still has 4 requests; it answers them as it stops"
    assert timedelta(seconds=30) < world.now - BEGAN < timedelta(seconds=40)
    world.ends(GREEN)


def test_an_edge_that_restarts_while_it_drains_is_told_again(world: World) -> None:
    world.edge.requests[BLUE] = 4
    world.at = {5: world.edge.restart, 9: lambda: world.edge.requests.update({BLUE: 0})}
    stopped: list[Door] = []
    stop = world.containers.stop
    world.containers.stop = lambda slot, grace=0.0: (stopped.append(world.edge.doors[slot]), stop(slot))[1]  # type: ignore[method-assign]
    world.roll()
    assert stopped == [Door.MAINT]
    world.ends(GREEN)


# ---------------------------------------------------------------- failures


def dies(world: World, **how: Any) -> Callable[[], None]:
    def now() -> None:
        world.containers.say(replace(world.containers.look(GREEN), **how))

    return now


def otherwise(model: str, rows: Any) -> Answer:
    return Answer(3, [0.123 for _ in rows], 1.0)


def test_one_that_never_gets_ready_is_stopped_and_the_active_one_never_touched(world: World) -> None:
    world.wrong[GREEN] = "flight-delay version 3 is refused: model.ubj: found sha256 1234"
    with pytest.raises(
        RollFailed, match=r"not answer rightly within 120 s: .*refused: model\.ubj.*serving-blue answers"
    ):
        world.roll()
    assert world.changes == CAME_BACK
    assert "refused: model.ubj" in world.ledger.pools.history("default")[-1].reason
    assert world.containers.stopped == [GREEN]
    world.ends(BLUE)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"state": "exited", "exit_code": 1}, "ended with exit code 1"),
        ({"state": "restarting", "restarts": 1, "exit_code": 3}, "ended with exit code 3"),
        ({"restarts": 1}, "ended by itself"),  # Docker has started it again, and forgotten its exit code
        ({"state": "restarting", "out_of_memory": True}, "ran out of memory"),
    ],
)
def test_one_that_ends_at_once_is_not_waited_for(world: World, how: dict[str, Any], told: str) -> None:
    world.wrong[GREEN] = "it does not listen"
    world.at = {1: dies(world, **how)}
    with pytest.raises(RollFailed, match=f"serving-green was started and {told}"):
        world.roll()
    assert world.now - BEGAN < timedelta(seconds=3)
    assert world.changes == CAME_BACK
    world.ends(BLUE)


def test_one_that_answers_otherwise_than_in_training_gets_no_caller(world: World) -> None:
    world.answers[GREEN] = otherwise
    with pytest.raises(RollFailed, match=r"flight-delay: golden row 0 answered 0\.123; at training it was"):
        world.roll()
    world.ends(BLUE)


def test_a_bundle_whose_golden_rows_are_not_whole_stops_the_roll_at_once(world: World) -> None:
    world.store.put(bundles.key(MADE, bundles.GOLDEN), b"{}")
    with pytest.raises(RollFailed, match=r"flight-delay version 3: .*golden\.json"):
        world.roll()
    assert world.now == BEGAN
    world.ends(BLUE)


def test_one_that_docker_cannot_start_is_the_images_fault(world: World) -> None:
    def refuses(slot: str) -> None:
        raise SlotUnavailable(f"{slot}: exec: no such file")

    world.containers.start = refuses  # type: ignore[method-assign]
    with pytest.raises(RollFailed, match=r"serving-green does not start: .*no such file"):
        world.roll()
    world.ends(BLUE)


def test_one_that_the_edge_does_not_reach_gets_no_caller_for_long(world: World) -> None:
    ready = world.edge._ready
    world.edge._ready = lambda colour: colour != GREEN and ready(colour)
    with pytest.raises(RollFailed, match=r"the edge does not reach it within 30 s.*serving-blue answers again"):
        world.roll()
    assert world.changes == [("started", BLUE), ("switched", GREEN), ("back", BLUE)]
    world.ends(BLUE)


def test_one_that_fails_while_the_other_drains_gives_callers_back(world: World) -> None:
    world.edge.requests[BLUE] = 1
    world.outage = True  # it died: whoever was sent to it saw it, and the edge asked again
    world.at = {10: dies(world, state="exited", exit_code=139)}
    with pytest.raises(RollFailed, match="serving-green stopped answering while serving-blue drained"):
        world.roll()
    assert world.changes[-1] == ("back", BLUE)
    assert world.containers.stopped == []
    world.ends(BLUE)


def test_the_way_back_starts_the_colour_before_if_it_was_stopped_by_then(world: World) -> None:
    """Killed after the stop, and the new colour dies before the roll is run again."""
    with pytest.raises(Killed):
        world.roll(at("containers.stop", faults.AFTER))
    world.outage = True
    dies(world, state="exited", exit_code=1)()
    with pytest.raises(RollFailed, match="the edge does not reach it"):
        world.roll()
    world.ends(BLUE)


def test_the_last_one_that_runs_is_never_stopped(world: World) -> None:
    world.wrong[GREEN] = "refused"
    world.outage = True
    world.at = {2: lambda: world.containers.stop(BLUE)}  # by a person
    with pytest.raises(RollFailed, match="And serving-blue does not answer either: serving-green is left as it is"):
        world.roll()
    assert world.up(GREEN)


# ---------------------------------------------------------------- refused, busy, away


def test_without_a_colour_that_runs_nothing_is_begun(world: World) -> None:
    world.outage = True
    world.containers.stop(BLUE)
    with pytest.raises(RollFailed, match="Both colours are stopped: there is none to roll from"):
        world.roll()
    assert (world.changes, world.containers.started) == ([], [])


def test_without_the_other_container_nothing_is_begun(world: World) -> None:
    world.containers.say(SlotFacts(GREEN, "absent", None, None))
    with pytest.raises(RollFailed, match=r"There is no container serving-green\. `make roll` makes it"):
        world.roll()
    assert world.changes == []


def test_one_roll_at_a_time(world: World) -> None:
    world.ledger.leases.acquire("pool:default", "another", timedelta(minutes=5), BEGAN)
    with pytest.raises(LeaseBusy, match="another"):
        world.roll()
    assert (world.changes, world.containers.started) == ([], [])


def test_what_runs_counts_before_what_the_ledger_says(world: World) -> None:
    """A person has stopped the colour of the last roll, and started the other one."""
    world.ledger.pools.record(PoolEvent("default", GREEN, PoolChange.DONE, "x", "x", BEGAN - timedelta(days=1)))
    assert world.roll().active == GREEN
    assert world.changes[1:] == ROLLED


def test_one_that_a_person_left_running_is_drained_and_begins_anew(world: World) -> None:
    world.containers.start(GREEN)
    world.edge.requests[GREEN] = 1
    world.at = {5: lambda: world.edge.requests.update({GREEN: 0})}
    assert world.roll().active == GREEN
    assert world.containers.stopped == [GREEN, BLUE]
    assert world.now - BEGAN > timedelta(seconds=5)
    world.ends(GREEN)


@pytest.mark.parametrize("error", [EdgeUnavailable("away"), SlotUnavailable("away")])
def test_where_the_edge_or_docker_is_away_the_roll_stands_and_goes_on_when_run_again(
    world: World, error: Exception
) -> None:
    where = "edge.servers" if isinstance(error, EdgeUnavailable) else "containers.look"

    def strike(call: str, when: str) -> None:
        if call == where and when == faults.BEFORE and len(world.told) == 3:
            raise error

    if isinstance(error, SlotUnavailable):

        def strike(call: str, when: str) -> None:
            if call == where and when == faults.BEFORE and len(world.told) == 1:
                raise error

    with pytest.raises(type(error)):
        world.roll(strike)
    world.check()
    assert world.roll() == Rolled(GREEN, BLUE, "new")
    assert world.changes == ROLLED
    world.ends(GREEN)


# ---------------------------------------------------------------- killed


def at(call: str, when: str, nth: int = 1) -> faults.Hook:
    """Dies at the nth time of this call, and does nothing after that: no clean-up either."""
    seen, dead = 0, False

    def hook(found: str, moment: str) -> None:
        nonlocal seen, dead
        seen += (found, moment) == (call, when)
        dead = dead or seen == nth
        if dead:
            raise Killed

    return hook


ACTS = {"containers.start", "containers.stop", "edge.set", "ledger.pools.record", "ledger.leases.acquire"}


def moments(prepare: Callable[[World], None]) -> Iterator[tuple[str, str, int]]:
    """Before and after each act of a whole roll."""
    calls: list[tuple[str, str]] = []
    world = World()
    prepare(world)
    with suppress(RollFailed):
        world.roll(lambda *found: calls.append(found))
    for number, (call, when) in enumerate(calls):
        if call in ACTS:
            yield call, when, calls[: number + 1].count((call, when))


def well(world: World) -> None:
    """Nothing is wrong."""


def refused(world: World) -> None:
    world.answers[GREEN] = otherwise


def unreached(world: World) -> None:
    ready = world.edge._ready
    world.edge._ready = lambda colour: colour != GREEN and ready(colour)


@pytest.mark.parametrize(("call", "when", "nth"), list(moments(well)))
@pytest.mark.parametrize("again", ["same run", "another run"])
def test_killed_anywhere_it_goes_on_when_run_again(call: str, when: str, nth: int, again: str) -> None:
    world = World()
    with pytest.raises(Killed):
        world.roll(at(call, when, nth))
    world.sleep(1)
    if again == "another run":
        world.sleep(LASTS.total_seconds())  # until then, the killed one has the lease
    ended = world.changes[-1:] == [("done", GREEN)]
    if again == "same run" or not ended:
        since, act = (BEGAN, "run-1") if again == "same run" else (world.now, "run-2")
        assert world.roll(act=act, since=since) == Rolled(GREEN, BLUE, "new")
    assert world.changes == ROLLED
    world.ends(GREEN)


@pytest.mark.parametrize("prepare", [refused, unreached])
@pytest.mark.parametrize("again", ["same run", "another run"])
def test_killed_anywhere_on_the_way_back_it_still_comes_back(prepare: Callable[[World], None], again: str) -> None:
    found = list(moments(prepare))
    assert len(found) >= 14
    for call, when, nth in found:
        world = World()
        prepare(world)
        with pytest.raises(Killed):
            world.roll(at(call, when, nth))
        world.sleep(1 if again == "same run" else LASTS.total_seconds())
        since, act = (BEGAN, "run-1") if again == "same run" else (world.now, "run-2")
        with pytest.raises(RollFailed):
            world.roll(act=act, since=since)
        assert world.changes[-1] == ("back", BLUE)
        assert ("done", GREEN) not in world.changes
        world.ends(BLUE)


def test_a_way_back_that_was_killed_is_not_a_roll_of_the_same_run_again(world: World) -> None:
    refused(world)
    with pytest.raises(Killed):
        world.roll(at("ledger.pools.record", faults.AFTER, 2))
    world.answers.clear()
    with pytest.raises(RollFailed, match=r"golden row 0 answered 0\.123"):
        world.roll()
    assert world.changes == CAME_BACK
    world.ends(BLUE)


# ---------------------------------------------------------------- beside the watcher of slots


def test_the_watcher_of_slots_sees_nothing_in_a_roll(world: World) -> None:
    found: list[str] = []

    def watch(*_: str) -> None:
        found.extend(map(str, look(world.containers, world.ledger, world.now)))

    world.roll(watch)
    assert found == []
