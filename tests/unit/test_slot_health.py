"""What happened to container slots: what is told, what is done, and what is left alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from evergreen.core.errors import SlotUnavailable
from evergreen.core.records import PoolChange, PoolEvent
from evergreen.core.slot_health import REHEARSAL_LEASE, Act, Finding, SlotFacts, What, told
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.slot_containers import InMemorySlotContainers
from evergreen.steps.watch_slots import look, watch_slots

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BLUE, GREEN, REHEARSAL = "serving-blue", "serving-green", "serving-rehearsal"


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def running(slot: str, **changed: object) -> SlotFacts:
    return replace(SlotFacts(slot, "running", ago(3600), None, health="healthy"), **changed)


def stopped(slot: str, **changed: object) -> SlotFacts:
    return replace(SlotFacts(slot, "exited", ago(7200), ago(3600), exit_code=0), **changed)


class Slots(InMemorySlotContainers):
    """Containers as a test says, blue live and all well unless it says otherwise."""

    def __init__(self) -> None:
        super().__init__(running(BLUE), stopped(GREEN), stopped(REHEARSAL))
        self.ledger, self.told, self.now = in_memory_ledger(), list[Finding](), NOW

    def watch(self) -> list[str]:
        """What is told now."""
        before = len(self.told)
        watch_slots(self, self.ledger, self.told.append, self.now)
        return [str(one) for one in self.told[before:]]


def hung(slot: str, started: datetime) -> SlotFacts:
    return running(slot, started_at=started, health="unhealthy", failing_since=ago(35), health_said="timed out")


def test_where_all_is_well_nothing_is_told() -> None:
    slots = Slots()
    assert slots.watch() == []
    slots.say(stopped(GREEN, exit_code=137))
    slots.say(running(BLUE, health="starting"))
    assert slots.watch() == []
    assert look(slots, slots.ledger, NOW) == []
    assert (slots.restarted, slots.stopped) == ([], [])


def test_a_slot_that_does_not_answer_is_restarted_and_told_once() -> None:
    slots = Slots()
    slots.say(hung(BLUE, ago(3600)))
    assert slots.watch() == ["serving-blue restarted: it did not answer its health check for at least 35 s (timed out)"]
    assert slots.restarted == [BLUE]
    slots.say(running(BLUE, started_at=NOW, health="starting"))
    assert slots.watch() == []
    assert [(one.slot, one.what) for one in slots.ledger.slot_events.latest(9)] == [(BLUE, "restarted")]


@pytest.mark.parametrize(("active", "restarted"), [(BLUE, []), (GREEN, [GREEN]), (None, [GREEN])])
def test_the_colour_that_a_roll_has_started_is_not_restarted_beside_the_active_one(
    active: str | None, restarted: list[str]
) -> None:
    slots = Slots()
    if active:
        slots.ledger.pools.record(PoolEvent("default", active, PoolChange.STARTED, "anna", "why", NOW))
    slots.say(hung(GREEN, ago(3600)))
    assert len(slots.watch()) == len(restarted)
    assert slots.restarted == restarted


def test_the_colour_beside_one_that_was_stopped_is_restarted() -> None:
    """A person has stopped the active one and started the other."""
    slots = Slots()
    slots.ledger.pools.record(PoolEvent("default", BLUE, PoolChange.DONE, "anna", "why", NOW))
    slots.say(stopped(BLUE))
    slots.say(hung(GREEN, ago(3600)))
    slots.watch()
    assert slots.restarted == [GREEN]


def test_a_restart_that_failed_is_made_again_and_told_once() -> None:
    class Refusing(Slots):
        def restart(self, slot: str) -> None:
            self.restarted.append(slot)
            if len(self.restarted) == 1:
                raise SlotUnavailable("docker-slots does not answer")

    slots = Refusing()
    slots.say(hung(BLUE, ago(3600)))
    with pytest.raises(SlotUnavailable):
        slots.watch()
    assert len(slots.told) == 1
    assert slots.watch() == []
    assert slots.restarted == [BLUE, BLUE]


def test_after_three_restarts_in_a_row_it_is_left_alone_for_a_while() -> None:
    slots = Slots()
    for minute in range(5):
        slots.now = NOW + timedelta(minutes=minute)
        slots.say(replace(hung(BLUE, slots.now - timedelta(seconds=40)), failing_since=slots.now))
        slots.watch()
    assert slots.restarted == [BLUE] * 3
    assert [one.what for one in slots.told] == [What.RESTARTED] * 3 + [What.LEFT_ALONE] * 2
    assert "restarted 3 times within 15 minutes" in slots.told[-1].detail
    assert "left alone until 12:15 UTC" in slots.told[-1].detail
    slots.now = NOW + timedelta(minutes=4, seconds=10)
    assert slots.watch() == []  # of the same life, once
    slots.now = NOW + timedelta(minutes=15)
    slots.watch()
    assert slots.restarted == [BLUE] * 4


def test_a_death_is_told_once_whether_it_is_seen_before_or_after_docker_started_it_again() -> None:
    slots = Slots()
    slots.say(running(BLUE, state="restarting", restarts=1, finished_at=ago(2), exit_code=3))
    (text,) = slots.watch()
    assert text.startswith("serving-blue died: it ended with exit code 3. Docker starts it again.")
    slots.say(running(BLUE, restarts=1, finished_at=ago(2), started_at=ago(1)))
    assert slots.watch() == []
    slots.say(running(BLUE, restarts=2, finished_at=ago(0), started_at=NOW))
    (text,) = slots.watch()
    assert text.startswith("serving-blue died: it ended by itself at 12:00:00 UTC. Docker starts it again.")
    assert slots.restarted == []


def test_a_slot_that_keeps_dying_is_told_a_few_times_and_not_for_ever() -> None:
    slots = Slots()
    for number in range(12):
        slots.now = NOW + timedelta(seconds=20 * number)
        slots.say(running(BLUE, state="restarting", restarts=number + 1, finished_at=slots.now, exit_code=1))
        slots.watch()
    assert [one.what for one in slots.told] == [What.DIED] * 3 + [What.KEEPS_DYING]
    assert "docker logs serving-blue" in slots.told[-1].detail


def test_running_out_of_memory_is_named_with_the_limit() -> None:
    slots = Slots()
    out = {"out_of_memory": True, "exit_code": 137, "memory_limit_mb": 536.87}
    slots.say(running(BLUE, state="restarting", restarts=1, finished_at=ago(1), **out))
    slots.say(stopped(REHEARSAL, **out))
    blue, rehearsal = slots.watch()
    assert "ran out of memory, its limit of 537 MB" in blue
    assert "It is not started again." in rehearsal


def test_a_stopped_colour_is_never_touched_and_none_running_is_told() -> None:
    slots = Slots()
    slots.say(stopped(GREEN, health="unhealthy"))
    assert slots.watch() == []
    slots.say(stopped(BLUE, finished_at=ago(5)))
    (text,) = slots.watch()
    assert text.startswith("serving-blue none runs: callers get no answer")
    assert "`make up`" in text
    assert slots.watch() == []
    assert (slots.restarted, slots.stopped) == ([], [])


def test_colours_that_never_ran_are_no_incident() -> None:
    slots = Slots()
    for slot in (BLUE, GREEN, REHEARSAL):
        slots.say(SlotFacts(slot, "created", None, None))
    assert slots.watch() == []


@pytest.mark.parametrize(("lease_ends", "is_stopped"), [(60, False), (-1, True), (None, True)])
def test_a_rehearsal_that_nobody_holds_is_stopped(lease_ends: int | None, is_stopped: bool) -> None:
    slots = Slots()
    slots.say(running(REHEARSAL, started_at=ago(300), health="unhealthy"))
    if lease_ends is not None:
        slots.ledger.leases.acquire(REHEARSAL_LEASE, "holder", timedelta(seconds=300 + lease_ends), ago(300))
    assert len(slots.watch()) == is_stopped
    assert slots.stopped == [REHEARSAL] * is_stopped
    assert slots.restarted == []


def test_a_rehearsal_that_has_just_begun_is_left_alone() -> None:
    slots = Slots()
    slots.say(running(REHEARSAL, started_at=ago(20)))
    assert slots.watch() == []


def test_what_is_to_be_done_is_found_again_until_it_is_done() -> None:
    slots = Slots()
    slots.say(hung(GREEN, ago(3600)))
    slots.watch()
    slots.say(hung(GREEN, ago(3600)))  # the restart did not come through
    (again,) = look(slots, slots.ledger, NOW)
    assert (again.act, again.slot) == (Act.RESTART, GREEN)


def test_events_are_told_to_people_newest_first() -> None:
    slots = Slots()
    slots.ledger.slot_events.add(BLUE, "died", "it ended", "a", ago(7200))
    slots.ledger.slot_events.add(BLUE, "restarted", "silent for 35 s", "b", ago(60))
    slots.ledger.slot_events.add(GREEN, "died", "it ended", "c", NOW)
    assert told(slots.ledger.slot_events.latest(9), since=ago(3600)) == [
        "2026-03-01 12:00 UTC serving-green died: it ended",
        "2026-03-01 11:59 UTC serving-blue restarted: silent for 35 s",
    ]
