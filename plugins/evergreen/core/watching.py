"""The monitor as others know it: by its heartbeat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core import heartbeats
from evergreen.core.reconciling import PERSISTS, Trouble
from evergreen.core.requested import readable_time

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Heartbeat
    from evergreen.core.spec import ModelSpec

MONITOR = heartbeats.MONITOR  # and its DAG
SEE = "see docs/runbook.md, 'The monitor'"
LENGTH = 300  # characters of an error
SILENT = timedelta(minutes=10)  # beyond the time in which it should have been heard of
NEVER = datetime.min.replace(tzinfo=UTC)


def detail_of(
    *,
    models: int,
    rows: int,
    labels: int,
    seconds: float,
    failures: Mapping[str, Trouble],
    watched: Mapping[str, datetime],
) -> str:
    """What its heartbeat says, as JSON: what the last pass counted, failures by model, when each model had its turn."""
    told = {name: {"since": one.since.isoformat(), "error": one.error} for name, one in sorted(failures.items())}
    turns = {name: at.isoformat() for name, at in sorted(watched.items())}
    facts = {"models": models, "rows": rows, "labels": labels, "seconds": round(seconds, 3)}
    return json.dumps({**facts, "failures": told, "watched": turns}, ensure_ascii=False)


def watched_at(beat: Heartbeat | None) -> dict[str, datetime]:
    """When each model had its turn last, as the heartbeat says."""
    found = json.loads(beat.detail or "{}").get("watched", {}) if beat else {}
    return {name: datetime.fromisoformat(at) for name, at in found.items()}


def failing(beat: Heartbeat | None) -> list[Trouble]:
    """The models that could not be watched, since when, and why, as the heartbeat says."""
    found = json.loads(beat.detail or "{}").get("failures", {}) if beat else {}
    return [Trouble(name, datetime.fromisoformat(one["since"]), one["error"]) for name, one in found.items()]


def next_turn(specs: Mapping[str, ModelSpec], beat: Heartbeat | None) -> datetime | None:
    """When the next model is to be watched; long ago for one that never was, none where there is no model."""
    watched = watched_at(beat)
    return min((turn_of(spec, watched.get(name)) for name, spec in specs.items()), default=None)


def turn_of(spec: ModelSpec, watched: datetime | None) -> datetime:
    """When a model's turn is, by when it was last."""
    return watched + spec.monitoring.every if watched else NEVER


def first_release(ledger: Ledger) -> datetime | None:
    """When a first version answered: before that there is nothing to watch."""
    return min((release.released_at for release in ledger.releases.history()), default=None)


def silent_since(
    specs: Mapping[str, ModelSpec], beat: Heartbeat | None, began: datetime | None, now: datetime
) -> datetime | None:
    """Since when nothing is heard from the monitor, if for too long; none where it is, or nothing is to be watched.

    `began`: when a first version answered; before that there is nothing to watch.
    """
    since = beat.at if beat else began
    if since is None or began is None or not specs:
        return None
    shortest = min(spec.monitoring.every for spec in specs.values())
    return since if now - since > shortest + SILENT else None


def told(specs: Mapping[str, ModelSpec], beat: Heartbeat | None, began: datetime | None, now: datetime) -> list[str]:
    """What people should know of it, in sentences; empty where all is well."""
    since = silent_since(specs, beat, began, now)
    if since:
        return [f"Nothing heard from the monitor since {readable_time(since)}: no metric is watched; {SEE}."]
    return [f"The monitor: {one}; {SEE}." for one in failing(beat) if now - one.since >= PERSISTS]
