"""Container slots in memory: as much of Docker as its slots show."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from evergreen.core.errors import SlotUnavailable
from evergreen.core.ports import GRACE
from evergreen.core.slot_health import SlotFacts


class InMemorySlotContainers:
    """Twin of adapters.container_slots.DockerSlots. `started`, `restarted` and `stopped` list what was done."""

    def __init__(self, *facts: SlotFacts) -> None:
        self.started: list[str] = []
        self.restarted: list[str] = []
        self.stopped: list[str] = []
        self._facts = {one.slot: one for one in facts}

    def say(self, facts: SlotFacts) -> None:
        """From now on, Docker says this of the slot."""
        self._facts[facts.slot] = facts

    def look(self, slot: str) -> SlotFacts:
        """What Docker says of it now; state `absent` where there is no such container."""
        return self._facts.get(slot, SlotFacts(slot, "absent", None, None))

    def start(self, slot: str) -> None:
        """Start it; one that runs stays as it is. Raises SlotUnavailable where there is no such container."""
        facts = self._present(slot)
        if not facts.up:
            self.started.append(slot)
            self._run(facts, facts.finished_at)

    def restart(self, slot: str) -> None:
        """Stop it, if it runs, and start it. Raises SlotUnavailable where there is no such container."""
        facts = self._present(slot)
        self.restarted.append(slot)
        self._run(facts, datetime.now(UTC) if facts.up else facts.finished_at)

    def _run(self, facts: SlotFacts, finished: datetime | None) -> None:
        health = "none" if facts.health == "none" else "starting"
        new = SlotFacts(facts.slot, "running", datetime.now(UTC), finished, health=health)
        self.say(replace(new, memory_limit_mb=facts.memory_limit_mb, revision=facts.revision))

    def stop(self, slot: str, grace: float = GRACE) -> None:
        """Stop it; one that does not run stays as it is. Raises SlotUnavailable where there is no such container."""
        facts = self._present(slot)
        if facts.up:
            self.stopped.append(slot)
            self.say(replace(facts, state="exited", finished_at=datetime.now(UTC), exit_code=0))

    def _present(self, slot: str) -> SlotFacts:
        facts = self.look(slot)
        if facts.state == "absent":
            raise SlotUnavailable(f"{slot}: there is no such container here. `make up` makes it.")
        return facts
