"""Container slots in memory: as much of Docker as its slots show."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from evergreen.core.errors import SlotUnavailable
from evergreen.core.slot_health import SlotFacts


class InMemorySlotContainers:
    """Twin of adapters.container_slots.DockerSlots. `restarted` and `stopped` list what was done."""

    def __init__(self, *facts: SlotFacts) -> None:
        self.restarted: list[str] = []
        self.stopped: list[str] = []
        self._facts = {one.slot: one for one in facts}

    def say(self, facts: SlotFacts) -> None:
        """From now on, Docker says this of the slot."""
        self._facts[facts.slot] = facts

    def look(self, slot: str) -> SlotFacts:
        """What Docker says of it now; state `absent` where there is no such container."""
        return self._facts.get(slot, SlotFacts(slot, "absent", None, None))

    def restart(self, slot: str) -> None:
        """Stop it, if it runs, and start it. Raises SlotUnavailable where there is no such container."""
        facts, now = self._present(slot), datetime.now(UTC)
        finished = now if facts.up else facts.finished_at
        self.restarted.append(slot)
        health = "none" if facts.health == "none" else "starting"
        self.say(SlotFacts(slot, "running", now, finished, health=health, memory_limit_mb=facts.memory_limit_mb))

    def stop(self, slot: str) -> None:
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
