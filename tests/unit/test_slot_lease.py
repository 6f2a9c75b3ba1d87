"""The rehearsal slot's lease: a rehearsal that stood still while another took the slot touches and measures nothing.

The slot is in memory here; in real containers it is in tests/compose.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evergreen.adapters.container_slots import ContainerSlots, Terms
from evergreen.core.errors import SlotUnavailable
from evergreen.core.slot_health import SlotFacts
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.slot_containers import InMemorySlotContainers

SLOT = "serving-rehearsal"
SELDOM = Terms(lasts=3600, waits=0.1, look=0.01)  # nothing is renewed, and so nothing noticed, while a test runs


class Rig:
    """A slot that is ready at once, and what happens while it is waited for."""

    def __init__(self, folder: Path) -> None:
        self.leases = in_memory_ledger().leases
        self.containers = InMemorySlotContainers(SlotFacts(SLOT, "created", None, None))
        self.folder = folder
        self.meanwhile: Callable[[], None] = lambda: None
        self.slots = ContainerSlots(self.containers, self.leases, folder, self._ready, terms=SELDOM)

    def _ready(self, *_: Any, **__: Any) -> str:
        self.meanwhile()
        return "http://slot"

    def another_takes_it(self) -> None:
        """As a process does that waits until the lease has run out."""
        later = datetime.now(UTC) + timedelta(hours=2)
        self.leases.acquire(f"slot:{SLOT}", "another", timedelta(hours=1), later)
        (self.folder / "args").write_text("another's")
        self.containers.restart(SLOT)

    @property
    def others(self) -> tuple[str, list[str], str]:
        """What the other finds of its rehearsal: what it serves, whether it was stopped, its lease."""
        lease = self.leases.get(f"slot:{SLOT}")
        return (self.folder / "args").read_text(), self.containers.stopped, lease.holder if lease else "nobody"


UNTOUCHED = ("another's", [], "another")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_alone_it_is_told_started_stopped_and_given_back(rig: Rig) -> None:
    with rig.slots.start("m", 1, "b"):
        assert (rig.folder / "args").read_text() == "--only=m:1:b\n"
    assert (rig.containers.restarted, rig.containers.stopped) == ([SLOT], [SLOT])
    assert rig.leases.get(f"slot:{SLOT}") is None


def test_what_was_measured_after_another_took_it_does_not_count(rig: Rig) -> None:
    def measure() -> None:
        with rig.slots.start("m", 1, "b"):
            rig.another_takes_it()

    with pytest.raises(SlotUnavailable, match="m version 1: the lease of slot:serving-rehearsal was lost meanwhile"):
        measure()
    assert rig.others == UNTOUCHED


def test_an_error_that_comes_of_the_others_version_is_no_fault_of_this_one(rig: Rig) -> None:
    def fail() -> None:
        rig.another_takes_it()
        raise ZeroDivisionError

    rig.meanwhile = fail
    with pytest.raises(SlotUnavailable), rig.slots.start("m", 1, "b"):
        pytest.fail("it was not ready")
    assert rig.others == UNTOUCHED


def test_who_is_late_before_it_began_neither_tells_nor_starts_anything(rig: Rig) -> None:
    taken = rig.leases.acquire

    def acquire(*asked: Any) -> Any:
        lease = taken(*asked)
        rig.another_takes_it()
        return lease

    rig.leases.acquire, rig.another_takes_it = acquire, once(rig.another_takes_it)  # type: ignore[method-assign]
    with pytest.raises(SlotUnavailable), rig.slots.start("m", 1, "b"):
        pytest.fail("another has it")
    assert rig.others == UNTOUCHED
    assert rig.containers.restarted == [SLOT]  # by the other


def test_a_ledger_that_is_away_takes_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def away(lease: Any) -> None:
        raise ConnectionRefusedError("ledger")

    rig.leases.check = away  # type: ignore[method-assign]
    with rig.slots.start("m", 1, "b"):
        pass
    assert rig.containers.stopped == [SLOT]
    assert "could not be looked at: ledger" in caplog.text


def once(act: Callable[[], None]) -> Callable[[], None]:
    """Only the first call counts: what it does may lead to another."""
    left = [act]

    def first() -> None:
        if left:
            left.pop()()

    return first
