"""The reconciler as others know it: by its heartbeat, which says what fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core import heartbeats
from evergreen.core.triggers import readable_time

if TYPE_CHECKING:
    from evergreen.core.records import Heartbeat

RECONCILER = heartbeats.RECONCILER
STAND_IN = "reconciler's stand-in"  # the heartbeat of a pass by the DAG, while nothing is heard from the reconciler
LATE = timedelta(minutes=1)  # silent for longer, people are told where they look
SILENT = timedelta(minutes=2)  # silent for longer, people are told wherever they are
PERSISTS = timedelta(minutes=1)  # what fails for longer is not about to be over
WELL = "the reconciler is at work, and nothing fails"
SEE = "see docs/runbook.md, 'The reconciler'"


@dataclass(frozen=True)
class Trouble:
    """A part of the reconciler's work that fails, since when, and why."""

    part: str
    since: datetime
    error: str

    def __str__(self) -> str:
        return f"{self.part} fails since {readable_time(self.since)}: {self.error}"


def detail_of(troubles: Mapping[str, Trouble]) -> str:
    """What the heartbeat says, as JSON."""
    return json.dumps({name: {"since": one.since.isoformat(), "error": one.error} for name, one in troubles.items()})


def troubles_of(beat: Heartbeat | None) -> list[Trouble]:
    """What fails, as the heartbeat says."""
    found = json.loads(beat.detail or "{}") if beat else {}
    return [Trouble(name, datetime.fromisoformat(one["since"]), one["error"]) for name, one in found.items()]


def persisting(beat: Heartbeat | None, now: datetime) -> list[Trouble]:
    """What has failed for so long that somebody should look."""
    return [one for one in troubles_of(beat) if now - one.since >= PERSISTS]


def silent(beat: Heartbeat | None, now: datetime) -> bool:
    """Whether it was not heard of for so long that it does not run."""
    return beat is None or now - beat.at > SILENT


def readable_silence(beat: Heartbeat | None, now: datetime) -> str:
    """'nothing heard from the reconciler for 5 min'."""
    since = f"for {(now - beat.at) // timedelta(minutes=1)} min" if beat else "yet"
    return f"nothing heard from the reconciler {since}"


def told(beat: Heartbeat | None, now: datetime) -> list[str]:
    """What people should know of it, in sentences; empty where all is well."""
    if beat is None or now - beat.at > LATE:
        silence = readable_silence(beat, now)
        return [f"{silence.capitalize()}: runs by cron and new data go on, what waits does not; {SEE}."]
    return [f"The reconciler: {one}; {SEE}." for one in persisting(beat, now)]
