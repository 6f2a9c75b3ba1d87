"""The state of a model in one row: who answers, since when, what came last and why, what it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evergreen.core import refitting
from evergreen.core.holds import held, how_to_lift
from evergreen.core.monitoring.recovery import recoveries
from evergreen.core.recalling import begins, fitted, period_of, why_recalled
from evergreen.core.records import (
    Approval,
    ApprovalState,
    Candidate,
    Cause,
    Hold,
    Lease,
    Release,
    ReleaseKind,
    RequestState,
    TriggerRequest,
)
from evergreen.core.requested import is_retrain
from evergreen.core.trial_status import TrialStatus, trial_of
from evergreen.core.triggers import readable_time
from evergreen.core.window_choice import of_candidate, told

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.spec import ModelSpec

APPROVE, ROLL_OUT = "approve", "roll_out"
LOOK_BACK = 1_000  # the newest requests of a model, among which those are that the same alert asked for


@dataclass(frozen=True)
class Facts:
    """What the ledger knows of a model.

    `released_for` is the request that fitted the champion's version, `recalled` says which one answers again and why,
    if one does, `refit` of which version it is the refit, if it is one. `approval` is the open question of the last
    request, `hold` the model's own, else the fleet's; `trial` what is on trial.
    """

    release: Release | None = None
    released_for: TriggerRequest | None = None
    recalled: str = ""
    last: TriggerRequest | None = None
    last_served: TriggerRequest | None = None
    lease: Lease | None = None
    hold: Hold | None = None
    approval: Approval | None = None
    trial: TrialStatus | None = None
    window: str = ""
    tuning: str = ""
    recovery: str = ""
    refit: str = ""


@dataclass(frozen=True)
class ModelStatus:
    """One row of `evergreen status`.

    `rolled_back`: the champion is champion by a rollback. `data_until` is the newest event time that the run which
    fitted the champion knew of. `recalled` says which earlier version it is, and why, where it was recalled. `hold`
    says who holds the model, why, and how to lift it; `hold_of` is the model's name or, for a hold on all models,
    records.FLEET. `window` says which training window of the champion was chosen among which, where one was; `tuning`
    what the last tuning came to; `recovery` whether the metric came back that asked for the champion, where one did;
    `refit` which version was judged, where that one was fitted again.
    """

    model: str
    version: int | None
    rolled_back: bool
    recalled: str
    released_at: datetime | None
    released_by: str | None
    data_until: datetime | None
    cause: str | None
    requested_at: datetime | None
    run_id: str | None
    state: str | None
    step: str | None
    outcome: str
    waiting_for: str
    hold: str
    hold_of: str | None
    trial: TrialStatus | None = None
    window: str = ""
    tuning: str = ""
    recovery: str = ""
    refit: str = ""

    def as_dict(self, now: datetime) -> dict[str, Any]:
        """For `--json`: times as ISO texts, and the champion's age in seconds."""
        row = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(self).items()}
        age = round((now - self.released_at).total_seconds()) if self.released_at else None
        return {**row, "age_seconds": age, "trial": self.trial.as_dict() if self.trial else None}


def facts_of(model: str, ledger: Ledger, now: datetime, on_trial: Mapping[str, Release] | None = None) -> Facts:
    """Read a model's facts. `on_trial`: the releases on trial of all models, where they were read before."""
    champion = ledger.releases.champion(model)
    release = ledger.releases.get(champion.release_id) if champion.release_id else None
    last = next(iter(ledger.requests.latest(model)), None)
    live = ledger.models.candidate(model, release.version) if release else None
    return Facts(
        release=release,
        released_for=ledger.requests.get(fitted(ledger.models, live).request_id) if live else None,
        recalled=why_recalled(live) if live else "",
        last=last,
        last_served=ledger.requests.last_served(model),
        lease=ledger.leases.get(model),
        hold=ledger.holds.applying(model),
        approval=_open_approval(ledger, last) if last else None,
        trial=trial_of(ledger, model, now, on_trial),
        window=_window(live) if live else "",
        tuning=_tuning(ledger, model),
        recovery=_recovery(ledger, ledger.requests.get(release.request_id), now) if release else "",
        refit=refitting.told(live) if live else "",
    )


def _recovery(ledger: Ledger, request: TriggerRequest, now: datetime) -> str:
    """Whether the metric recovered that asked for the champion; empty where none did."""
    if request.cause is not Cause.METRIC:
        return ""
    found = recoveries(ledger, request.model, ledger.requests.latest(request.model, limit=LOOK_BACK), now)
    return found[request.id].says if request.id in found else ""


def _window(live: Candidate) -> str:
    """How its window was chosen; empty where it was given."""
    choice = of_candidate(live)
    return told(choice) if choice else ""


def _tuning(ledger: Ledger, model: str) -> str:
    """What the last tuning came to; empty where there was none."""
    last = ledger.tunings.last(model)
    return f"{last.words} ({readable_time(last.at)})" if last else ""


def _open_approval(ledger: Ledger, request: TriggerRequest) -> Approval | None:
    asked = (a for a in reversed(ledger.approvals.history(request.model)) if a.request_id == request.id)
    return next((a for a in asked if a.state is ApprovalState.OPEN), None)


def status_of(spec: ModelSpec, facts: Facts, now: datetime) -> ModelStatus:
    """The row of one model."""
    release, last, hold = facts.release, facts.last, facts.hold
    return ModelStatus(
        model=spec.name,
        version=release.version if release else None,
        rolled_back=release is not None and release.kind is ReleaseKind.ROLLBACK,
        recalled=facts.recalled,
        released_at=release.released_at if release else None,
        released_by=release.released_by if release else None,
        data_until=facts.released_for.as_of if facts.released_for else None,
        cause=last.cause.value if last else None,
        requested_at=last.requested_at if last else None,
        run_id=last.run_id if last else None,
        state=last.state.value if last else None,
        step=(last.step or None) if last else None,
        outcome=outcome(last) if last else "",
        waiting_for=_running(facts, now) or _next_trigger(spec, facts, now),
        hold=f"{held(hold)} (to lift it: {how_to_lift(hold)} --reason …)" if hold else "",
        hold_of=hold.model if hold else None,
        trial=facts.trial,
        window=facts.window,
        tuning=facts.tuning,
        recovery=facts.recovery,
        refit=facts.refit,
    )


def outcome(request: TriggerRequest) -> str:
    """What became of a request, and why."""
    match request.state:
        case RequestState.OPEN:
            return f"put off: {request.reason}" if request.queued and request.reason else "not admitted yet"
        case RequestState.CLAIMED:
            return f"running {request.step}"
        case RequestState.FAILED:
            return f"failed at {request.step}: {request.reason}"
        case RequestState.SKIPPED:
            return f"skipped: {request.reason}"
    return request.reason or "served"


def _running(facts: Facts, now: datetime) -> str:
    """What a request that has not ended waits for; an empty text where none is under way."""
    request, lease, asked = facts.last, facts.lease, facts.approval
    if request is None or request.state not in (RequestState.OPEN, RequestState.CLAIMED):
        return ""
    if request.queued:
        return _put_off(request)
    if request.state is RequestState.OPEN:
        holder = lease.holder if lease and lease.expires_at > now and lease.holder != request.id else None
        return f"the lease, which {holder} holds" if holder else f"run {request.run_id} to start"
    if request.step == APPROVE and asked:
        since, until = readable_time(asked.asked_at), readable_time(asked.expires_at)
        return f"approval of version {asked.version}, since {since}, until {until}"
    if request.step == ROLL_OUT and facts.trial:
        return f"the trial of version {facts.trial.version}: {facts.trial.waits_for}"
    if lease and lease.holder == request.id and lease.expires_at <= now:
        return f"step {request.step}, silent since its lease ended at {readable_time(lease.expires_at)}"
    return f"step {request.step}"


def _put_off(request: TriggerRequest) -> str:
    """'put off until 2025-03-01 18:00 UTC: cooldown …'; one that waits for nothing is about to start."""
    until = f" until {readable_time(request.due_at)}" if request.due_at else ""
    return f"put off{until}: {request.reason}" if request.reason else f"the reconciler to start run {request.run_id}"


def _next_trigger(spec: ModelSpec, facts: Facts, now: datetime) -> str:
    reasons = [f"{spec.new_data.min_rows:,} new rows"] if spec.new_data else []
    if spec.schedule:
        reasons.append(f"the schedule at {readable_time(min(_next(line, now) for line in spec.schedule))}")
    reasons += [f"a release of {name}" for name in spec.upstream]
    reasons += [rule.words for rule in spec.metric]
    if spec.recall:
        due = begins(spec.recall.every, period_of(spec.recall.every, now) + 1)
        reasons.append(f"a recall at {readable_time(due)}")
    if not reasons:
        return f"a person: evergreen retrain {spec.name}"
    last = facts.last_served
    ends = last.closed_at + spec.cooldown if last and last.closed_at and is_retrain(last) else now
    holding = "the hold to be lifted, then " if facts.hold else ""  # until then only a person's run goes on
    cooling = f"cooldown until {readable_time(ends)}, then " if ends > now else ""
    return holding + cooling + " or ".join(reasons)


def _next(line: str, now: datetime) -> datetime:
    from croniter import croniter  # type: ignore[import-untyped]

    time: datetime = croniter(line, now).get_next(datetime)
    return time
