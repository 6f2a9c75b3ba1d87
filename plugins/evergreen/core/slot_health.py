"""What happened to the container slots, from what Docker says of them, and what to do about it. Pure.

A worker of serving that dies or hangs is restarted by serving's own supervisor, and a container that ends by itself by
Docker. What is left: a container that runs and does not answer, a rehearsal that nobody ends, and telling people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen.core.records import SlotEvent

COLOURS = ("serving-blue", "serving-green")
REHEARSAL = "serving-rehearsal"
SLOTS = (*COLOURS, REHEARSAL)
REHEARSAL_LEASE = f"slot:{REHEARSAL}"  # its key in the ledger
RESTARTS, WITHIN = 3, timedelta(minutes=15)  # so often a slot is restarted within this time; then it is left alone
LEFT_BEHIND = timedelta(minutes=2)  # a rehearsal that runs for longer without a lease is nobody's
STOPPED_CODES = frozenset({0, 137, 143})  # how a container ends that was stopped: by itself, by SIGKILL, by SIGTERM
REMEMBERED = 200  # events that an assessment looks back on


class What(StrEnum):
    """Kinds of events."""

    DIED = "died"
    KEEPS_DYING = "keeps dying"
    RESTARTED = "restarted"
    LEFT_ALONE = "not restarted"
    STOPPED = "stopped"
    NONE_RUNS = "none runs"


class Act(StrEnum):
    """What is to be done about a finding."""

    NOTHING = "nothing"
    RESTART = "restart"
    STOP = "stop"


@dataclass(frozen=True)
class SlotFacts:
    """What Docker says of a container. `state` is Docker's word (created, running, restarting, exited …), or absent.

    `restarts` counts those that Docker itself made since somebody last started it. `exit_code` and `out_of_memory` are
    of its last end, and known until it runs again. `health` is Docker's word too (none without a health check), with
    the time of the first and the words of the last of the failures that go on. `revision` is that of its image.
    """

    slot: str
    state: str
    started_at: datetime | None
    finished_at: datetime | None
    restarts: int = 0
    exit_code: int = 0
    out_of_memory: bool = False
    health: str = "none"
    failing_since: datetime | None = None
    health_said: str = ""
    memory_limit_mb: float | None = None
    revision: str = ""

    @property
    def up(self) -> bool:
        """Whether it runs, or Docker is about to start it again."""
        return self.state in ("running", "restarting")


@dataclass(frozen=True)
class Finding:
    """Something that happened. The key is the same at each look at it."""

    slot: str
    what: What
    detail: str
    key: str
    act: Act = Act.NOTHING

    def __str__(self) -> str:
        return f"{self.slot} {self.what}: {self.detail}"


def told(events: Collection[SlotEvent], *, since: datetime) -> list[str]:
    """The events since then as lines for people, newest first: '2026-03-01 12:31 UTC serving-blue died: …'."""
    recent = sorted((one for one in events if one.at >= since), key=lambda one: one.at, reverse=True)
    return [f"{one.at:%Y-%m-%d %H:%M} UTC {one.slot} {one.what}: {one.detail}" for one in recent]


def assess(
    slots: Sequence[SlotFacts], events: Collection[SlotEvent], *, rehearsing: bool, now: datetime, active: str = ""
) -> list[Finding]:
    """What is new or to be done. `events` are the newest of the ledger, `rehearsing` whether the lease is held.

    A slot that was stopped is never started, whoever stopped it. While the colour that the ledger calls `active` is up,
    the other one is not restarted: it is for the roll that started it to say what becomes of it.
    """
    known = {(event.slot, event.key) for event in events}
    idle = [facts.slot for facts in slots if facts.slot != active] if active in _up(slots) else []
    found = [finding for facts in slots for finding in _of_one(facts, events, rehearsing, now)]
    found = [one for one in found if not (one.act is Act.RESTART and one.slot in idle)]
    found += _none_runs([facts for facts in slots if facts.slot in COLOURS])
    return [one for one in found if one.act is not Act.NOTHING or (one.slot, one.key) not in known]


def _up(slots: Sequence[SlotFacts]) -> set[str]:
    return {facts.slot for facts in slots if facts.up}


def _of_one(facts: SlotFacts, events: Collection[SlotEvent], rehearsing: bool, now: datetime) -> Iterator[Finding]:
    if facts.restarts or facts.state == "restarting" or _ended_badly(facts):
        yield _died(facts, events, now)
    if facts.slot == REHEARSAL:
        if facts.state == "running" and not rehearsing and now - (facts.started_at or now) > LEFT_BEHIND:
            yield Finding(
                facts.slot,
                What.STOPPED,
                "it was still running, and the rehearsal that had started it is gone",
                f"stopped:{_iso(facts.started_at)}",
                Act.STOP,
            )
    elif facts.state == "running" and facts.health == "unhealthy":
        yield _hangs(facts, events, now)


def _ended_badly(facts: SlotFacts) -> bool:
    return facts.state in ("exited", "dead") and (facts.out_of_memory or facts.exit_code not in STOPPED_CODES)


def _died(facts: SlotFacts, events: Collection[SlotEvent], now: datetime) -> Finding:
    """A death; one event for many of them, where they follow each other closely."""
    key, look = f"died:{_iso(facts.finished_at)}", f"See `docker logs {facts.slot}`."
    others = [one for one in _recent(events, facts.slot, What.DIED, now) if one.key != key]
    if len(others) >= RESTARTS and facts.up:
        quarter = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)
        text = f"Docker has started it {facts.restarts} times again, and it ends each time. {look}"
        return Finding(facts.slot, What.KEEPS_DYING, text, f"keeps dying:{_iso(quarter)}")
    then = "Docker starts it again." if facts.up else "It is not started again."
    return Finding(facts.slot, What.DIED, f"{_how(facts)}. {then} {look}", key)


def _how(facts: SlotFacts) -> str:
    if facts.out_of_memory:
        limit = f" of {facts.memory_limit_mb:,.0f} MB" if facts.memory_limit_mb else ""
        return f"it ran out of memory, its limit{limit} (mem_limit in docker-compose.yml)"
    if facts.state == "running":
        return f"it ended by itself at {facts.finished_at:%H:%M:%S} UTC"
    return f"it ended with exit code {facts.exit_code}"


def _hangs(facts: SlotFacts, events: Collection[SlotEvent], now: datetime) -> Finding:
    last = _recent(events, facts.slot, What.RESTARTED, now)
    seconds = (now - (facts.failing_since or now)).total_seconds()
    said = f" ({facts.health_said})" if facts.health_said else ""
    silent = f"it did not answer its health check for at least {seconds:.0f} s{said}"
    others = [one for one in last if one.key != f"restarted:{_iso(facts.started_at)}"]
    if len(others) < RESTARTS:
        return Finding(facts.slot, What.RESTARTED, silent, f"restarted:{_iso(facts.started_at)}", Act.RESTART)
    until = min(one.at for one in others) + WITHIN
    return Finding(
        facts.slot,
        What.LEFT_ALONE,
        f"{silent}; restarted {len(others)} times within {WITHIN.seconds // 60} minutes, which did not help: left "
        f"alone until {until:%H:%M} UTC. See `docker logs {facts.slot}`; roll back if a version is the cause.",
        f"not restarted:{_iso(facts.started_at)}",
    )


def _none_runs(colours: Sequence[SlotFacts]) -> Iterator[Finding]:
    ended = [facts.finished_at for facts in colours if facts.finished_at]
    if colours and ended and not any(facts.up for facts in colours):
        newest = max(colours, key=lambda facts: _iso(facts.finished_at))
        yield Finding(
            newest.slot,
            What.NONE_RUNS,
            "callers get no answer: both colours are stopped. `make up` starts one.",
            f"none runs:{_iso(newest.finished_at)}",
        )


def _recent(events: Collection[SlotEvent], slot: str, what: What, now: datetime) -> list[SlotEvent]:
    return [one for one in events if one.slot == slot and one.what == what and now - one.at < WITHIN]


def _iso(time: datetime | None) -> str:
    return time.isoformat() if time else ""
