"""Whether a person decides on a candidate, and what becomes of their answer.

What overtakes a question before anybody answers it stands in `core.overtaken`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core.gate_texts import name_of, number
from evergreen.core.holds import held
from evergreen.core.records import Approval, ApprovalState, Candidate, CandidateState, Champion, GateState
from evergreen.core.spec_approval import ApprovalMode
from evergreen.core.verdict_json import digest

if TYPE_CHECKING:
    from evergreen.core.records import GateResult, Hold, TriggerRequest, Verdict
    from evergreen.core.spec import ModelSpec

AUTO = "auto"  # who released what nobody was asked about
_DISMISSED = "answered in the ledger"


def why_ask(spec: ModelSpec, verdict: Verdict, hold: Hold | None, *, has_champion: bool) -> str:
    """Why a person must decide; empty where nobody needs to be asked.

    Gates that failed, a hold, and a champion that could not be compared, ask whatever `approval.mode` is.
    """
    by_mode = _by_mode(spec, verdict, has_champion=has_champion)
    return "; ".join(reason for reason in (must_explain(verdict, hold), by_mode) if reason)


def must_explain(verdict: Verdict, hold: Hold | None) -> str:
    """Why an approval needs a reason in words; empty where it may come without."""
    failed = overridden(verdict)
    override = f"it sets aside gates that failed: {failed}" if failed else ""
    return "; ".join(reason for reason in (override, verdict.ask_why, held(hold) if hold else "") if reason)


def overridden(verdict: Verdict) -> str:
    """The gates that an approval would set aside: 'auc ≥ 0.6 (0.55)'; empty where the candidate passed."""
    return ", ".join(f"{name_of(gate)} {gate.limit} ({_missed(gate)})" for gate in verdict.gates if gate.vetoes)


def _missed(gate: GateResult) -> str:
    known = gate.state is GateState.FAILED and gate.candidate is not None
    return number(gate.candidate) if known and gate.candidate is not None else str(gate.state)


def why_not_asked(spec: ModelSpec) -> str:
    """Why a candidate passes without a person, for the log, the run and the release."""
    if spec.approval.mode is ApprovalMode.AUTO:
        return "gates passed, approval.mode is auto"
    limits = ", ".join(f"{metric} {limit:g}" for metric, limit in spec.approval.within.items())
    return f"gates passed, and no metric moved further than approval.within allows ({limits})"


def _by_mode(spec: ModelSpec, verdict: Verdict, *, has_champion: bool) -> str:
    mode = spec.approval.mode
    if mode is ApprovalMode.MANUAL:
        return "approval.mode is manual"
    if mode is ApprovalMode.AUTO:
        return ""
    if not has_champion:
        return "approval.mode is auto_within, and there is no champion yet to compare with"
    return "; ".join(_moved(spec, verdict))


def _moved(spec: ModelSpec, verdict: Verdict) -> Iterator[str]:
    """The metrics of `approval.within` that moved too far, whichever way, or that are not known of both."""
    for metric, limit in spec.approval.within.items():
        candidate, champion = (metrics.get(metric, math.nan) for metrics in (verdict.metrics, verdict.champion_metrics))
        if not (math.isfinite(candidate) and math.isfinite(champion)):
            yield f"{metric} is not known of both, and approval.within asks for it"
        elif abs(candidate - champion) > limit:
            moved = f"{metric} moved from {champion:.4g} to {candidate:.4g}"
            yield f"{moved}, further than approval.within allows ({limit:g})"


# ---------------------------------------------------------------- the answer


@dataclass(frozen=True)
class Decision:
    """What an answer comes to. `why` is the person's reason, or for void and expired what ops read."""

    state: ApprovalState
    by: str | None
    why: str


def decide(
    *,
    approve: bool,
    by: str | None,
    reason: str,
    explain: str,
    changed: str,
    excluded: Collection[str] = (),
    service: str = "",
) -> Decision:
    """What becomes of an answer. `by` none is the timeout; `explain` says why an approval needs a reason.

    `changed` names what is no longer as it was asked about: then nothing counts. A rejection needs a reason always.
    An answer of somebody `excluded` is void, though Airflow has refused it before, and so is one of `service`, the
    platform's own account, and one that only ends Airflow's wait (`dismissal`). Whatever is void releases nothing and
    blocks nothing.
    """
    reason = " ".join(reason.split())
    if by is None:
        return Decision(ApprovalState.EXPIRED, None, "nobody answered in time")
    if reason.startswith(_DISMISSED) or by.casefold() == service.casefold():
        why = f"answered by {by}, the platform's own account, which decides on nothing"
        return Decision(ApprovalState.VOID, None, why)
    if by.casefold() in {name.casefold() for name in excluded}:
        return Decision(ApprovalState.VOID, by, f"{_said(approve)} by {by}, who started the run (approval.four_eyes)")
    if changed:
        return Decision(ApprovalState.VOID, by, f"{_said(approve)} by {by}, but {changed}")
    if not reason and (explain or not approve):
        needs = f"an approval needs one here ({explain})" if approve else "a rejection needs one"
        return Decision(ApprovalState.VOID, by, f"{_said(approve)} by {by} without a reason, and {needs}")
    return Decision(ApprovalState.APPROVED if approve else ApprovalState.REJECTED, by, reason)


def _said(approve: bool) -> str:
    return "approved" if approve else "rejected"


def what_changed(asked: Approval, candidate: Candidate, champion: Champion, hold: Hold | None) -> str:
    """What differs from what was asked about; empty where all is as it was."""
    if candidate.bundle != asked.bundle:
        return f"version {asked.version} is no longer the bundle that was asked about"
    if candidate.state is not (CandidateState.TO_OVERRIDE if asked.overrides else CandidateState.PASSED):
        return f"version {asked.version} is {candidate.state.replace('_', ' ')} by now"
    if champion.generation != asked.generation_seen or candidate.generation_seen != asked.generation_seen:
        return "the champion has changed since the question was put"
    if digest(candidate.verdict) != asked.evidence:
        return "it was judged again since the question was put, and the verdict is another"
    if hold and hold.since > asked.asked_at:
        return f"since the question was put it is {held(hold)}"
    return ""


def dismissal(answered: Approval) -> str:
    """The reason under which Airflow's question is answered once the ledger has the answer."""
    return f"{_DISMISSED}: {outcome(answered)}"


def outcome(answered: Approval, again: TriggerRequest | None = None) -> str:
    """One sentence for the run, the ledger and the log. `again` judges the version anew, where a request does."""
    said, who = f"version {answered.version}: ", answered.answered_by
    match answered.state:
        case ApprovalState.APPROVED:
            what = f"approved by {who}" + (f", overriding {answered.overrides}" if answered.overrides else "")
            return f"{said}{what}{f': {answered.reason}' if answered.reason else ''}"
        case ApprovalState.REJECTED:
            return f"{said}rejected by {who}: {answered.reason}"
        case ApprovalState.EXPIRED:
            clear = "" if answered.overrides else "Clear the task 'approve' of this run, or "
            return f"{said}approval expired, {answered.reason}; the champion stays. {clear}{_ask_again(answered)}"
        case ApprovalState.SUPERSEDED:
            return f"{said}superseded: {answered.reason}"
        case _:
            left = "Nothing was released and nothing is blocked."
            return f"{said}void: {answered.reason}. {left} {told_again(again) or _ask_again(answered)}"


def told_again(again: TriggerRequest | None) -> str:
    """Which request judges the version anew; empty where none does."""
    return f"Request {again.id} judges it again, against the champion of now" if again else ""


def _ask_again(answered: Approval) -> str:
    """What a person does to be asked again. A version that its gates refused is refused again until then."""
    if answered.overrides:
        return f"`evergreen approve {answered.model} --override --version {answered.version}` asks again"
    return f"`evergreen retrain {answered.model}` asks again"
