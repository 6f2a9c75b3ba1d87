"""What happened to a model: rollouts, approvals, refused candidates, how requests ended and whether they helped, holds,
and what people did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core import refitting
from evergreen.core.gate_texts import NOT_JUDGED
from evergreen.core.monitoring.recovery import recoveries
from evergreen.core.recalling import why_recalled
from evergreen.core.records import (
    FLEET,
    Approval,
    ApprovalState,
    Candidate,
    CandidateState,
    Cause,
    Event,
    HoldEvent,
    Release,
    ReleaseEvent,
    ReleaseKind,
    RequestState,
    RolloutState,
    TriggerRequest,
)
from evergreen.core.triggers import judged_again, readable_time

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger

REFUSED, UNJUDGED, DRY_RUN = "refused", "not judged", "dry run"
ASKED = "approval asked"
RELEASED = "released"
RECALLED, REFITTED = "recalled", "fitted again"
ROLLED_BACK = "rolled back to"
RECOVERED, UNHELPFUL = "recovered", "did not help"
HELD, LIFTED = "held", "hold lifted"
ALL = " (all models)"
_ANSWERS = {
    ApprovalState.APPROVED: "approved",
    ApprovalState.REJECTED: "rejected",
    ApprovalState.EXPIRED: "approval expired",
    ApprovalState.VOID: "answer void",
    ApprovalState.SUPERSEDED: "superseded",
}
_ROLLOUTS = {
    RolloutState.PREPARED: "prepared",
    RolloutState.SHADOW: "on trial: shadow",
    RolloutState.CANARY: "on trial: canary",
    RolloutState.BAKE: "on trial: bake",
    RolloutState.REPLACED: "replaced",
    RolloutState.ROLLED_BACK: "rolled back",
    RolloutState.ABORTED: "aborted",
}
_ENDS = {RequestState.FAILED: "run failed", RequestState.SKIPPED: "skipped", RequestState.EXPIRED: "request expired"}
_NOTHING, _UNRELEASED = "nothing to do", "not released"
_JUDGE = "judge"  # the step at which the request of a refused candidate ends
_DECIDING = ("approve", "roll_out")
NEWEST, EVERY = 1_000, 1_000_000  # how many requests are looked at, the newest ones: for a page, for an export


@dataclass(frozen=True)
class HistoryEntry:
    """One event. `who` is empty after a timeout, `version` none where the event is about none."""

    time: datetime
    what: str
    version: int | None
    who: str
    why: str


def history_of(ledger: Ledger, model: str, requests: int = NEWEST) -> list[HistoryEntry]:
    """The model's history, of its newest requests, with what was done to all models, oldest first."""
    entries = [*_requests(ledger, model, requests)]
    for approval in ledger.approvals.history(model):
        entries.extend(_approval(approval))
    entries.extend(_rollout(event) for event in ledger.releases.events(model) if event.state in _ROLLOUTS)
    entries.extend(_release(release) for release in ledger.releases.history(model))
    for name in (model, FLEET):
        entries.extend(_hold(event) for event in ledger.holds.history(name))
        entries.extend(_event(event) for event in ledger.events.history(name))
    return sorted(entries, key=lambda entry: entry.time)  # of one moment: as listed here


# ---------------------------------------------------------------- requests


def _requests(ledger: Ledger, model: str, limit: int) -> Iterator[HistoryEntry]:
    """How requests ended; refused candidates whose request is not known, from their verdicts."""
    candidates = ledger.models.candidates(model)
    made = {one.request_id: one.version for one in reversed(candidates)}  # of a version and its refit the latter
    requests, told = ledger.requests.latest(model, limit=limit), _told_elsewhere(ledger, model)
    for request in requests:
        version = judged_again(request) or made.get(request.id)
        what = _end(request)
        if what and not (what in (_UNRELEASED, _NOTHING) and (request.id in told or version in told)):
            yield HistoryEntry(request.closed_at or request.requested_at, what, version, _who(request), _why(request))
    at_judge = {one.id for one in requests if one.state is RequestState.SERVED and one.step == _JUDGE}
    for candidate in candidates:
        yield from _made_of_another(candidate)
        if candidate.state is CandidateState.REJECTED and candidate.verdict and candidate.request_id not in at_judge:
            yield HistoryEntry(candidate.created_at, REFUSED, candidate.version, "", candidate.verdict.reason)
    for found in recoveries(ledger, model, requests).values():
        if found.helped is not None and found.at:
            what = RECOVERED if found.helped else UNHELPFUL
            yield HistoryEntry(found.at, what, found.version, Cause.METRIC.value, found.says)


def _made_of_another(candidate: Candidate) -> Iterator[HistoryEntry]:
    for what, why in ((RECALLED, why_recalled(candidate)), (REFITTED, refitting.told(candidate))):
        if why:
            yield HistoryEntry(candidate.created_at, what, candidate.version, "", why)


def _end(request: TriggerRequest) -> str:
    """In a word or two; empty for one that has not ended."""
    if request.state is not RequestState.SERVED:
        return _ENDS.get(request.state, "")
    if request.step != _JUDGE:
        return _UNRELEASED if request.step in _DECIDING else _NOTHING
    return next((what for what in (DRY_RUN, UNJUDGED) if request.reason.startswith(_BEGINS[what])), REFUSED)


_BEGINS = {DRY_RUN: DRY_RUN, UNJUDGED: NOT_JUDGED}  # how the reason of such a request begins


def _told_elsewhere(ledger: Ledger, model: str) -> set[str | int | None]:
    """The requests whose end an answer tells or a release, and the versions that were released."""
    answered = {one.request_id for one in ledger.approvals.history(model) if one.answered_at}
    releases = ledger.releases.history(model)
    return {*answered, *(one.request_id for one in releases), *(one.version for one in releases)}


def _why(request: TriggerRequest) -> str:
    if request.state is RequestState.FAILED and request.step:
        return f"at {request.step}: {request.reason}"
    return request.reason


def _who(request: TriggerRequest) -> str:
    return str(request.detail.get("requested_by") or request.cause)


# ---------------------------------------------------------------- the others


def _approval(asked: Approval) -> Iterator[HistoryEntry]:
    overrides = f"; overrides {asked.overrides}" if asked.overrides else ""
    until = f"until {readable_time(asked.expires_at)}{overrides}"
    yield HistoryEntry(asked.asked_at, ASKED, asked.version, "", until)
    if asked.answered_at:
        what = _ANSWERS[asked.state]
        yield HistoryEntry(asked.answered_at, what, asked.version, asked.answered_by or "", asked.reason)


def _rollout(event: ReleaseEvent) -> HistoryEntry:
    return HistoryEntry(event.at, _ROLLOUTS[event.state], event.version, event.by, event.reason)


def _release(release: Release) -> HistoryEntry:
    what = ROLLED_BACK if release.kind is ReleaseKind.ROLLBACK else RELEASED
    return HistoryEntry(release.released_at, what, release.version, release.released_by, release.reason)


def _hold(event: HoldEvent) -> HistoryEntry:
    what = (HELD if event.held else LIFTED) + (ALL if event.model == FLEET else "")
    return HistoryEntry(event.at, what, None, event.by, event.reason)


def _event(event: Event) -> HistoryEntry:
    what = event.what + (ALL if event.model == FLEET else "")
    return HistoryEntry(event.at, what, None, event.by, event.detail)
