"""Whether a trigger request becomes a retrain. Pure: facts in, a decision with a readable reason out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core.records import Cause, RequestState, TriggerRequest
from evergreen.core.run_params import BadRunParameter
from evergreen.core.spec_fields import format_duration

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec

NO_ROWS = "the source holds no rows"
LEASE_TTL = timedelta(minutes=30)  # renewed by each step from admit to judge


@dataclass(frozen=True)
class Go:
    """The request is to be served."""


@dataclass(frozen=True)
class Skip:
    """There is nothing to do, and why."""

    reason: str


@dataclass(frozen=True)
class Facts:
    """What a decision rests on.

    `requests` are the model's newest ones, newest first. `new_rows` counts rows whose label has had time to
    arrive since the last served request; it is asked of new_data requests only. `held` says who holds the model and
    why, empty where nobody does. `forced`: whoever started the run asked for it whatever else is true.
    """

    requests: Sequence[TriggerRequest]
    last_served: TriggerRequest | None
    new_rows: int | None
    now: datetime
    held: str = ""
    forced: bool = False


def decide(spec: ModelSpec, request: TriggerRequest, facts: Facts) -> Go | Skip:
    """Go, or the first reason not to. A person ignores hold and cooldown, force also what new data must be."""
    if request.watermark is None:
        return Skip(NO_ROWS)
    if facts.forced:
        return Go()
    reason = (
        _held(request, facts)
        or _coalesced(request, facts.requests)
        or _cooling_down(spec, request, facts)
        or _too_few(spec, request, facts)
    )
    return Skip(reason) if reason else Go()


def dedupe_key(cause: Cause, run_id: str, watermark: datetime | None) -> str:
    """What makes two requests of a model the same: for new data its watermark, else the run."""
    if cause is Cause.NEW_DATA and watermark is not None:
        return f"{cause}:{watermark.astimezone(UTC).isoformat()}"
    return f"{cause}:{run_id}"


def covered_by(run_id: str, watermark: datetime | None) -> str:
    """The reason of a request whose data another run has."""
    return f"run {run_id} was started for the data up to {readable_time(watermark)}" if watermark else NO_ROWS


def readable_time(time: datetime) -> str:
    """'2013-03-01 05:00 UTC'."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def end_of_window(watermark: datetime, arrives_after: timedelta, asked: datetime) -> datetime:
    """as_of as it was asked for. Raises BadRunParameter where labels up to then are not complete."""
    newest = watermark - arrives_after
    if asked <= newest:
        return asked
    raise BadRunParameter(
        "run parameter 'window_end'",
        found=readable_time(asked),
        allowed=f"up to {readable_time(newest)}: the newest row is of {readable_time(watermark)}, and labels are "
        f"complete after {format_duration(arrives_after)} (label.arrives_after)",
        do="Choose an earlier end, or leave it out.",
    )


def _held(request: TriggerRequest, facts: Facts) -> str | None:
    return None if request.cause is Cause.PERSON else facts.held


def _coalesced(request: TriggerRequest, requests: Sequence[TriggerRequest]) -> str | None:
    """New data that a request with newer data takes along; of two with the same data the first one stays.

    Two requests must never skip each other: nothing would be trained, and no watcher would ask again. A request
    whose window was made to end earlier takes no new data along.
    """
    if request.cause is not Cause.NEW_DATA or request.watermark is None:
        return None
    is_older = False
    for other in requests:
        if other.id == request.id:
            is_older = True
        elif other.state is not RequestState.SKIPPED and other.watermark and not other.detail.get("window_end"):
            same_and_first = is_older and other.watermark == request.watermark
            if other.watermark > request.watermark or same_and_first:
                return covered_by(other.run_id, other.watermark)
    return None


def _cooling_down(spec: ModelSpec, request: TriggerRequest, facts: Facts) -> str | None:
    last = facts.last_served
    if request.cause is Cause.PERSON or last is None or last.closed_at is None:
        return None
    ends = last.closed_at + spec.cooldown
    if facts.now >= ends:
        return None
    return f"cooldown: {format_duration(spec.cooldown)} since the last retrain ends at {readable_time(ends)}"


def _too_few(spec: ModelSpec, request: TriggerRequest, facts: Facts) -> str | None:
    needed = spec.new_data.min_rows if spec.new_data else 1
    if request.cause is not Cause.NEW_DATA or facts.new_rows is None or facts.new_rows >= needed:
        return None
    since = facts.last_served.as_of if facts.last_served else None
    when = f"since {readable_time(since)}" if since else "so far"
    return f"{facts.new_rows:,} new rows {when}, {needed:,} needed"
