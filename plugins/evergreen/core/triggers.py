"""Whether a trigger request becomes a retrain, and when. Pure: facts in, a decision with a readable reason out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core.records import Cause, RequestState, TriggerRequest
from evergreen.core.requested import (
    JUDGE_AGAIN,
    again,
    cause_told,
    covered_by,
    goes_its_own_way,
    is_recall,
    judged_again,
    may_be_coalesced,
    overridden,
    readable_time,
)
from evergreen.core.run_params import BadRunParameter
from evergreen.core.spec_fields import format_duration

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec

__all__ = ["JUDGE_AGAIN", "again", "cause_told", "covered_by", "judged_again", "overridden", "readable_time"]

ADMIT = "admit"  # the step of a request whose run was started: put off, a request has none
NO_ROWS = "the source holds no rows"
WAITING = "waiting: "  # begins the reason of a request whose run waits for the lease
LEASE_TTL = timedelta(minutes=30)  # renewed by each step from admit to judge
EXPIRES = timedelta(days=7)  # a request that has waited so long for the reconciler is not served any more
PRIORITY = {  # lower numbers first
    Cause.PERSON: 0,
    Cause.API: 0,
    Cause.METRIC: 1,
    Cause.UPSTREAM: 1,
    Cause.NEW_DATA: 2,
    Cause.SCHEDULE: 2,
}
_COVERS_NOTHING = (RequestState.SKIPPED, RequestState.EXPIRED)


@dataclass(frozen=True)
class Go:
    """The request is to be served."""


@dataclass(frozen=True)
class Skip:
    """There is nothing to do, and why."""

    reason: str


@dataclass(frozen=True)
class PutOff:
    """Not now, and why. `until` is none where nobody knows when: a person lifts the hold."""

    reason: str
    until: datetime | None


Decision = Go | Skip | PutOff


@dataclass(frozen=True)
class Facts:
    """What a decision rests on.

    `requests` are the model's newest ones, newest first. `new_rows` counts rows whose label has had time to
    arrive since the last served request; none where nobody counted, which is no reason against it. `held` says who
    holds the model and why, empty where nobody does. `forced`: whoever started the run asked for it whatever else is
    true.
    """

    requests: Sequence[TriggerRequest]
    last_served: TriggerRequest | None
    new_rows: int | None
    now: datetime
    held: str = ""
    forced: bool = False


def needs_rows(request: TriggerRequest, *, forced: bool) -> bool:
    """Whether the number of new rows has a say in it."""
    return request.cause is Cause.NEW_DATA and not forced and not _makes_nothing_new(request)


def decide(spec: ModelSpec, request: TriggerRequest, facts: Facts) -> Decision:
    """Go, or the first reason not to, or not yet. A person ignores hold and cooldown, force also what new data must be.

    What makes no new version, or none that could be released, needs no new data, and no hold or cooldown stops it:
    whoever releases looks at the hold. A recall waits for a hold's end, and for no cooldown: it fits nothing.
    """
    if facts.forced or _makes_nothing_new(request):
        return Go()
    return (
        _coalesced(request, facts.requests)
        or _held(request, facts)
        or _cooling_down(spec, request, facts)
        or _too_few(spec, request, facts)
        or Go()
    )


def priority(cause: Cause) -> int:
    """Lower numbers go first."""
    return PRIORITY[cause]


def in_turn(requests: Iterable[TriggerRequest]) -> list[TriggerRequest]:
    """Who goes first: by priority, then by age."""
    return sorted(requests, key=lambda request: (priority(request.cause), request.requested_at))


def waits_for_lease(request: TriggerRequest) -> bool:
    """Whether its run is at admit and only the lease is missing."""
    return request.state is RequestState.OPEN and request.step == ADMIT and request.reason.startswith(WAITING)


def goes_before(request: TriggerRequest, others: Iterable[TriggerRequest]) -> TriggerRequest | None:
    """The one of a higher priority that waits for the model's lease too, if any does."""
    waiting = [other for other in others if waits_for_lease(other) and other.id != request.id]
    first = next(iter(in_turn(waiting)), None)
    return first if first and priority(first.cause) < priority(request.cause) else None


def takes_along(request: TriggerRequest, other: TriggerRequest) -> bool:
    """Whether `request`, which is served, has what the open `other` asks for.

    That is data up to the same time at least. One that was not looked at yet was asked for before the watermark of
    `request` was read.
    """
    if other.id == request.id or other.state is not RequestState.OPEN or not may_be_coalesced(other):
        return False
    if goes_its_own_way(request) or request.watermark is None:
        return False
    if other.watermark is None:
        return other.requested_at <= request.requested_at
    return other.watermark <= request.watermark


def dedupe_key(cause: Cause, run_id: str, watermark: datetime | None) -> str:
    """What makes two requests of a model the same: for new data its watermark, else the run."""
    if cause is Cause.NEW_DATA and watermark is not None:
        return f"{cause}:{watermark.astimezone(UTC).isoformat()}"
    return f"{cause}:{run_id}"


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


def _makes_nothing_new(request: TriggerRequest) -> bool:
    anew = judged_again(request) or overridden(request)
    return bool(anew or request.detail.get("dry_run"))


def _held(request: TriggerRequest, facts: Facts) -> PutOff | None:
    return PutOff(facts.held, None) if facts.held and request.cause is not Cause.PERSON else None


def _coalesced(request: TriggerRequest, requests: Sequence[TriggerRequest]) -> Skip | None:
    """New data that a request with newer data takes along; of two with the same data the first one stays.

    Two requests must never skip each other: nothing would be trained, and no watcher would ask again. A request
    whose run goes its own way takes no new data along.
    """
    if request.cause is not Cause.NEW_DATA or request.watermark is None:
        return None
    is_older = False
    for other in requests:
        if other.id == request.id:
            is_older = True
        elif other.state not in _COVERS_NOTHING and other.watermark and not goes_its_own_way(other):
            same_and_first = is_older and other.watermark == request.watermark
            if other.watermark > request.watermark or same_and_first:
                return Skip(covered_by(other))
    return None


def _cooling_down(spec: ModelSpec, request: TriggerRequest, facts: Facts) -> PutOff | None:
    last = facts.last_served
    if request.cause is Cause.PERSON or is_recall(request) or last is None or last.closed_at is None:
        return None
    ends = last.closed_at + spec.cooldown
    if facts.now >= ends:
        return None
    reason = f"cooldown: {format_duration(spec.cooldown)} since the last retrain ends at {readable_time(ends)}"
    return PutOff(reason, ends)


def _too_few(spec: ModelSpec, request: TriggerRequest, facts: Facts) -> Skip | None:
    needed = spec.new_data.min_rows if spec.new_data else 1
    if request.cause is not Cause.NEW_DATA or facts.new_rows is None or facts.new_rows >= needed:
        return None
    since = facts.last_served.as_of if facts.last_served else None
    when = f"since {readable_time(since)}" if since else "so far"
    return Skip(f"{facts.new_rows:,} new rows {when}, {needed:,} needed")
