"""What became of a candidate that a run leaves as it is: its state, told as ops read it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from evergreen.core.records import Candidate, CandidateState, ReleaseKind, RolloutState
from evergreen.core.refitting import answering

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Release

_AGAIN = "; a run with `force` has it judged again"


def what_became(ledger: Ledger, candidate: Candidate) -> str:
    """'was released', 'its gates refused (auc 0.5 is below 0.6); …': the end of a sentence about such a candidate."""
    match candidate.state:
        case CandidateState.REJECTED:
            return f"its gates refused ({candidate.verdict.reason if candidate.verdict else '-'}){_AGAIN}"
        case CandidateState.DECLINED:
            return f"{_who_declined(ledger, candidate)}{_AGAIN}"
        case CandidateState.ROLLED_BACK:
            return f"was rolled back{_by_whom(ledger, candidate)}{_AGAIN}"
        case CandidateState.TO_OVERRIDE:
            return "a person is asked about, although its gates refused it"
        case CandidateState.PASSED:
            tried = on_trial(ledger, candidate)
            return f"is on trial ({tried.stage})" if tried else "passed its gates and was not released yet"
        case CandidateState.REFITTED:
            return f"was fitted again as version {answering(ledger.models, candidate).version}"
        case _:
            return "was released"


def on_trial(ledger: Ledger, candidate: Candidate) -> Release | None:
    """Its release, where it is on trial now: nobody judges it anew meanwhile."""
    found = ((one.model, one.version, one) for one in ledger.releases.on_trial())
    return next((r for model, version, r in found if (model, version) == (candidate.model, candidate.version)), None)


def ends_with(candidate: Candidate) -> str:
    """Why a run ends with this verdict; empty where approval comes next."""
    assert candidate.verdict is not None, "judge returns a verdict"
    goes_on = candidate.verdict.passed or candidate.state in (CandidateState.TO_OVERRIDE, CandidateState.RELEASED)
    return "" if goes_on else candidate.verdict.reason


def dry_run_ends(candidate: Candidate) -> str:
    """What a run without the right to promote says at its end, whatever the verdict."""
    assert candidate.verdict is not None, "judge returns a verdict"
    found = "passed" if candidate.verdict.passed else f"would not have passed: {candidate.verdict.reason}"
    return f"dry run: version {candidate.version} {found}; nothing was asked and nothing released"


def _who_declined(ledger: Ledger, candidate: Candidate) -> str:
    answer = ledger.approvals.latest(candidate.model, candidate.version)
    if answer is None or answer.answered_by is None:
        return "a person declined"
    return f"{answer.answered_by} declined ({answer.reason or 'no reason given'})"


def _by_whom(ledger: Ledger, candidate: Candidate) -> str:
    back = [
        after
        for before, after in pairwise(ledger.releases.history(candidate.model))
        if before.version == candidate.version and after.kind is ReleaseKind.ROLLBACK
    ]
    if back:
        return f" by {back[-1].released_by} ({back[-1].reason})"
    events = (e for e in reversed(ledger.releases.events(candidate.model)) if e.version == candidate.version)
    last = next(events, None)
    return f" ({last.reason})" if last and last.state is RolloutState.ROLLED_BACK else ""
