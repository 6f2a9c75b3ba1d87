"""The monitor as others know it: by its heartbeat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from evergreen.core.reconciling import Trouble

if TYPE_CHECKING:
    from evergreen.core.records import Heartbeat
    from evergreen.core.spec import ModelSpec

MONITOR = "monitor"  # its heartbeat
LENGTH = 300  # characters of an error
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
