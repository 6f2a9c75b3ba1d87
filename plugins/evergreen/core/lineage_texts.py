"""The sentences of a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from typing import Any

from evergreen.core.approval import AUTO
from evergreen.core.gate_texts import name_of, number
from evergreen.core.records import (
    Approval,
    ApprovalState,
    Candidate,
    GateResult,
    GateState,
    Release,
    ReleaseEvent,
    ReleaseKind,
    RolloutState,
    Snapshot,
    TriggerRequest,
    Verdict,
)
from evergreen.core.triggers import judged_again, overridden, readable_time
from evergreen.core.window_choice import of_candidate, told

EARLIER = "made before Evergreen kept it"
MADE, AGAIN, OVERRIDES, ASKED_AGAIN = "made it", "judged it again", "was to override its gates", "asked about it again"
MADE_WITH = (
    ("spec", "spec_sha256", "spec, sha256"),
    ("code", "code_revision", "code revision"),
    ("folder", "folder_hash", "model folder, sha256"),
    ("image", "image", "image"),
    ("libraries", "lock_hash", "libraries (requirements.txt), sha256"),
)


def training(engine: str, tuned: Mapping[str, Any]) -> str:
    """'trained by engine local; parameters of a tuning: learning_rate 0.05, max_depth 7'."""
    values = ((name, f"{value:.4g}" if isinstance(value, float) else value) for name, value in sorted(tuned.items()))
    found = ", ".join(f"{name} {value}" for name, value in values)
    return f"trained by engine {engine}; parameters of {f'a tuning: {found}' if found else 'the spec'}"


def plain(value: Any) -> Any:
    """As JSON holds it: a time as ISO text, a state as its word."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def release(one: Release) -> str:
    """'release 3f…: version 4, live since 2025-03-01 12:00 UTC, by ada: looks well'."""
    back = "a rollback to " if one.kind is ReleaseKind.ROLLBACK else ""
    states = {
        RolloutState.PREPARED: "prepared",
        RolloutState.SHADOW: "on trial (shadow), prepared",
        RolloutState.CANARY: f"on trial ({one.stage}), prepared",
        RolloutState.BAKE: "on trial (bake), prepared",
        RolloutState.LIVE: "live since",
        RolloutState.REPLACED: "replaced by now, live from",
        RolloutState.ROLLED_BACK: "rolled back, live from",
        RolloutState.ABORTED: "aborted, prepared",
    }
    if one.state is RolloutState.ROLLED_BACK and not one.generation:
        states[one.state] = "rolled back on its trial, prepared"
    when = f"{states[one.state]} {readable_time(one.released_at)}"
    generation = f", generation {one.generation}" if one.generation else ""
    return f"release {one.id}: {back}version {one.version}, {when}{generation}, by {one.released_by}: {one.reason}"


def event(one: ReleaseEvent, of: Release) -> str:
    """'2025-03-01 12:00 UTC rolled back by ada: wrong fares'; without who and why where the release says the same."""
    same = (one.by, one.reason) == (of.released_by, of.reason)
    return f"{readable_time(one.at)} {words(one.state)}{'' if same else _by(one.by, one.reason)}"


def why_nobody_was_asked(one: Release) -> str:
    """Empty where somebody may have been, and the release does not say who."""
    if one.kind is ReleaseKind.ROLLBACK:
        return f"nobody was asked: a rollback is the act of {one.released_by}"
    return f"auto: {one.reason}" if one.released_by == AUTO else ""


def approval(asked: Approval, *, same_verdict: bool) -> str:
    """What was asked, and the answer."""
    told = f"approval {asked.id}: "
    if asked.state is ApprovalState.OPEN:
        told += f"asked at {readable_time(asked.asked_at)}, open until {readable_time(asked.expires_at)}"
    else:
        at = f" at {readable_time(asked.answered_at)}" if asked.answered_at else ""
        told += f"{asked.state}{at}{_by(asked.answered_by or '', asked.reason)}"
    overrides = f"; overrides {asked.overrides}" if asked.overrides else ""
    return f"{told}{overrides}{'' if same_verdict else '; of an earlier verdict than the one below'}"


def version(one: Candidate) -> str:
    """'version 4 of m: released, made 2025-…, newest row fitted on 2013-…'; how its window was chosen, if it was."""
    made, fitted = readable_time(one.created_at), readable_time(one.data_end)
    choice = of_candidate(one)
    window = f"; {told(choice)}" if choice else ""
    told_of = f"version {one.version} of {one.model}: {words(one.state)}"
    return f"{told_of}; made {made}, newest row fitted on {fitted}{window}"


def verdict(one: Verdict) -> str:
    """'verdict: passed, 3 of 4 gates kept, on 2,000 fresh rows, beside champion version 3: …'."""
    what = "not judged" if not one.judged else "passed" if one.passed else "refused"
    kept = sum(gate.passed for gate in one.gates)
    beside = f", beside champion version {one.champion_version}" if one.champion_version else ""
    person = f"; a person decides, because {one.ask_why}" if one.ask_why else ""
    gates = f", {kept} of {len(one.gates)} gates kept" if one.gates else ""
    return f"verdict: {what}{gates} on {one.rows:,} fresh rows{beside}: {one.reason}{person}"


def gate(one: GateResult) -> str:
    """'✓ auc ≥ 0.6: 0.7, champion 0.69'."""
    sign = {GateState.PASSED: "✓", GateState.FAILED: "✗"}.get(one.state, "–")
    values = [number(one.candidate)] if one.candidate is not None else []
    values += [f"champion {number(one.champion)}"] if one.champion is not None else []
    told = ", ".join([*([] if one.passed else [one.state.value]), *values, *([one.note] if one.note else [])])
    return f"{sign} {name_of(one)} {one.limit}{f': {told}' if told else ''}"


def what_it_did(request: TriggerRequest, of: int) -> str:
    """What a later request did with the version; empty where it was about another."""
    if judged_again(request) == of:
        because = request.detail.get("because")
        return f"{AGAIN} ({because})" if because else AGAIN
    return OVERRIDES if overridden(request) == of else ""


def who(request: TriggerRequest) -> str:
    """The person who asked for the run, as far as anybody said."""
    return str(request.detail.get("requested_by") or request.detail.get("user") or "")


def run(request: TriggerRequest, what: str) -> str:
    """'run manual__…, which made it: served, released version 4'."""
    why = f": {request.reason}" if request.reason else ""
    return f"run {request.run_id}, which {what}; {words(request.state)}{why}"


def asked(request: TriggerRequest) -> str:
    """When, and for which rows."""
    rows = f", for rows up to {readable_time(request.as_of)}" if request.as_of else ""
    return f"asked at {readable_time(request.requested_at)}{rows}"


def snapshot(one: Snapshot) -> str:
    """'snapshot 3f…: 30 rows in 2 parts, 2013-… to 2013-…, 1 without a label left out, 0 set aside'."""
    span = f"{readable_time(one.start)} to {readable_time(one.as_of)}"
    parts = f"{len(one.parts)} {'part' if len(one.parts) == 1 else 'parts'}"
    left = f"{one.unlabelled:,} without a label left out, {one.quarantined:,} set aside (quarantined)"
    return f"snapshot {one.id} (content hash): {one.rows:,} rows in {parts}, {span}, {left}"


def versions_made(versions: Sequence[int]) -> str:
    """Of a snapshot."""
    if not versions:
        return "no version was made from it"
    return f"made from it: version{'' if len(versions) == 1 else 's'} {', '.join(map(str, versions))}"


def words(state: Enum) -> str:
    """'rolled back'."""
    return str(state.value).replace("_", " ")


def _by(name: str, reason: str) -> str:
    return f"{f' by {name}' if name else ''}{f': {reason}' if reason else ''}"
