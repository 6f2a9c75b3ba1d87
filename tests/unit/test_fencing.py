"""A holder of the lease that comes back late: another has the model by now, so it writes nothing, and tries again."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evergreen.adapters.ledger import open_ledger
from evergreen.core.errors import LeaseBusy, LeaseLost
from evergreen.core.ports import Ledger
from evergreen.core.records import Candidate, CandidateState, Lease
from evergreen.core.triggers import LEASE_TTL
from evergreen.fakes.source import FakeSource
from evergreen.fakes.validator import FakeValidator
from evergreen.steps.pull import pull
from evergreen.steps.validate import validate
from judging import NOW, World
from training_data import make_rows, make_spec

EXPIRED = NOW + LEASE_TTL
SUITE: dict[str, Any] = {
    "name": "m",
    "expectations": [{"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}}],
}
DEEPER: dict[str, Any] = {"params": {"max_depth": 5}}
Meanwhile = Callable[[], None]


class During:
    """A port; while one of its methods is at work, something else happens."""

    def __init__(self, port: Any, method: str, meanwhile: Meanwhile) -> None:
        self._port, self._method, self._meanwhile = port, method, meanwhile

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name != self._method:
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            result = found(*arguments, **named)
            self._meanwhile()
            return result

        return call


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}"))


def acquire(ledger: Ledger, request: str, now: datetime = NOW) -> Lease:
    return ledger.leases.acquire("m", request, LEASE_TTL, now)


# What holder A does under its lease; `meanwhile` happens while the long part of it is at work.


def pulls(world: World, request: str, lease: Lease, meanwhile: Meanwhile) -> str:
    spec = make_spec()
    source = During(FakeSource(make_rows(900), spec.source), "read", meanwhile)
    return pull(spec, world.ledger, source, world.snapshots, world.store, request_id=request, lease=lease).id


def validates(world: World, request: str, lease: Lease, meanwhile: Meanwhile) -> str:
    return validate(
        make_spec(), world.ledger, world.snapshots, During(FakeValidator(), "validate", meanwhile), world.registry,
        world.store, SUITE, suite_sha256="5" * 64, request_id=request, snapshot_id=world.pulled(make_rows()),
        lease=lease,
    ).suite  # fmt: skip


def trains(world: World, request: str, lease: Lease, meanwhile: Meanwhile) -> Candidate:
    slow = replace(world, trainer=During(world.trainer, "fit", meanwhile))
    return slow.train(request, world.pulled(make_rows()), lease=lease)


def judges(world: World, request: str, lease: Lease, meanwhile: Meanwhile) -> Candidate:
    slow = replace(world, trainer=During(world.trainer, "predict", meanwhile))
    return slow.judge(request, world.train(request, world.pulled(make_rows())).version, lease=lease)


def retrains_and_releases(world: World) -> None:
    """Holder B, once A's lease has run out."""
    request, spec = world.request("b"), make_spec(training=DEEPER)
    lease = acquire(world.ledger, request, EXPIRED)
    candidate = world.train(request, world.pulled(make_rows(500)), spec, lease=lease)
    world.release(world.judge(request, candidate.version, spec, lease=lease))
    world.ledger.leases.release("m", request)


def seen(world: World, request: str) -> dict[str, Any]:
    """All that A could have changed in the ledger, the registry (but for the log of its own run), and of evidence."""
    runs = [run for run in world.registry.runs.values() if run.name != request]
    registry = (world.registry.versions, world.registry.pointers, runs)
    made = world.ledger.models.candidates("m")
    suites = [world.ledger.models.snapshot("m", one.snapshot_id).suite for one in made]
    return deepcopy({"candidates": made, "suites": suites, "registry": registry, "told": len(world.reports)})


@pytest.mark.parametrize("work", [pulls, validates, trains, judges])
def test_who_comes_back_late_writes_nothing_and_goes_on_after_the_other(world: World, work: Callable[..., Any]) -> None:
    request = world.request("a")
    lease, after_b = acquire(world.ledger, request), {}

    def stall() -> None:
        if not after_b:
            retrains_and_releases(world)
            after_b.update(seen(world, request))

    with pytest.raises(LeaseLost, match="Nothing was written"):
        work(world, request, lease, stall)
    assert seen(world, request) == after_b
    retried = acquire(world.ledger, request, EXPIRED + timedelta(minutes=1))
    assert retried.fence == lease.fence + 2
    assert work(world, request, retried, stall)


def test_while_the_other_is_at_work_the_retry_waits(world: World) -> None:
    request, other = world.request("a"), world.request("b")
    lease = acquire(world.ledger, request)
    with pytest.raises(LeaseLost):
        trains(world, request, lease, lambda: acquire(world.ledger, other, EXPIRED))  # type: ignore[arg-type,return-value]
    with pytest.raises(LeaseBusy, match=other):
        acquire(world.ledger, request, EXPIRED)
    world.ledger.leases.release("m", other)
    assert trains(world, request, acquire(world.ledger, request, EXPIRED), lambda: None).version == 1
    assert world.registry.pointers["m", "challenger"] == 1


def test_a_lease_that_ran_out_and_that_nobody_took_is_as_good_as_before(world: World) -> None:
    request = world.request("a")
    lease = acquire(world.ledger, request)
    world.ledger.leases.acquire("other-model", "b", LEASE_TTL, EXPIRED)
    candidate = trains(world, request, lease, lambda: None)
    assert world.judge(request, candidate.version, lease=lease).state is CandidateState.PASSED


# ---------------------------------------------------------------- at whatever call it stalls


class Overtaken:
    """Passes calls on and names them; before the one that the countdown names, another takes the lease."""

    def __init__(self, name: str, port: Any, track: Track) -> None:
        self._name, self._port, self._track = name, port, track

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            self._track.note(f"{self._name}.{name}")
            return found(*arguments, **named)

        return call


class Track:
    """The calls since another took the lease, the first of them the one that it was taken before."""

    def __init__(self, ledger: Ledger, at: int) -> None:
        self._ledger, self._left = ledger, at
        self.late: list[str] = []

    def note(self, call: str) -> None:
        self._left -= 1
        if self._left == 0:
            acquire(self._ledger, "b", EXPIRED)
        if self._left <= 0:
            self.late.append(call)


# What is not of A's own run in the registry. One of them may have begun, and comes to its end.
TELLS = {"registry.register", "registry.set_alias", "reports.append"}


@pytest.mark.parametrize("step", ["train", "judge"])
def test_at_whatever_call_it_stalls_the_ledger_takes_nothing_from_it(step: str) -> None:
    for at in range(1, 200):
        world = World()
        request, snapshot = world.request("a"), world.pulled(make_rows(300))
        lease = acquire(world.ledger, request)
        version = world.train(request, snapshot, lease=lease).version if step == "judge" else 0
        before = world.ledger.models.candidates("m")
        track = Track(world.ledger, at)
        slow = overtaken(world, track)
        try:
            slow.judge(request, version, lease=lease) if version else slow.train(request, snapshot, lease=lease)
        except LeaseLost:
            assert world.ledger.models.candidates("m") == before, track.late
            assert not TELLS.intersection(track.late[1:]), track.late
        else:
            assert not track.late, "it wrote, though another had the lease"
            assert at > 10
            return
    pytest.fail("never ended")


def overtaken(world: World, track: Track) -> World:
    """The same systems, with calls that are counted."""
    parts = {name: Overtaken(f"ledger.{name}", part, track) for name, part in vars(world.ledger).items()}
    names = ("snapshots", "trainer", "registry", "store", "reports")
    others = {name: Overtaken(name, getattr(world, name), track) for name in names}
    return replace(world, ledger=Ledger(**parts), **others)
