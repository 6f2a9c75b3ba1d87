"""Whether a person decides on a candidate that passed its gates, and what becomes of their answer."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core.holds import held
from evergreen.core.records import Approval, ApprovalState, Candidate, CandidateState, Champion
from evergreen.core.spec_approval import ApprovalMode
from evergreen.core.verdict_json import digest

if TYPE_CHECKING:
    from evergreen.core.records import Hold, Verdict
    from evergreen.core.spec import ModelSpec

AUTO = "auto"  # who released what nobody was asked about


def why_ask(spec: ModelSpec, verdict: Verdict, hold: Hold | None, *, has_champion: bool) -> str:
    """Why a person must decide; empty where nobody needs to be asked.

    A hold, and a champion that could not be compared, ask whatever `approval.mode` is.
    """
    by_mode = _by_mode(spec, verdict, has_champion=has_champion)
    return "; ".join(reason for reason in (must_explain(verdict, hold), by_mode) if reason)


def must_explain(verdict: Verdict, hold: Hold | None) -> str:
    """Why an approval needs a reason in words; empty where it may come without."""
    return "; ".join(reason for reason in (verdict.ask_why, held(hold) if hold else "") if reason)


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
    *, approve: bool, by: str | None, reason: str, explain: str, changed: str, excluded: Collection[str] = ()
) -> Decision:
    """What becomes of an answer. `by` none is the timeout; `explain` says why an approval needs a reason.

    `changed` names what is no longer as it was asked about: then nothing counts. A rejection needs a reason always.
    An answer of somebody `excluded` is void, though Airflow has refused it before. Whatever is void releases nothing
    and blocks nothing.
    """
    reason = " ".join(reason.split())
    if by is None:
        return Decision(ApprovalState.EXPIRED, None, "nobody answered in time")
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
    if candidate.state is not CandidateState.PASSED:
        return f"version {asked.version} is {candidate.state.replace('_', ' ')} by now"
    if champion.generation != asked.generation_seen or candidate.generation_seen != asked.generation_seen:
        return "the champion has changed since the question was put"
    if digest(candidate.verdict) != asked.evidence:
        return "it was judged again since the question was put, and the verdict is another"
    if hold and hold.since > asked.asked_at:
        return f"since the question was put it is {held(hold)}"
    return ""


def outcome(model: str, version: int, decision: Decision) -> str:
    """One sentence for the run, the ledger and the log."""
    said = f"version {version}: "
    again = "Nothing was released and nothing is blocked."
    match decision.state:
        case ApprovalState.APPROVED:
            return f"{said}approved by {decision.by}{f': {decision.why}' if decision.why else ''}"
        case ApprovalState.REJECTED:
            return f"{said}rejected by {decision.by}: {decision.why}"
        case ApprovalState.EXPIRED:
            return (
                f"{said}approval expired, nobody answered in time; the champion stays. "
                f"Clear the task 'approve' of this run, or `evergreen retrain {model}`, to be asked again"
            )
        case _:
            return f"{said}void: {decision.why}. {again} `evergreen retrain {model}` asks again"
