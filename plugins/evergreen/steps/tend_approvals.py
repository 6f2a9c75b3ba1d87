"""One pass over the questions that wait for people: what nobody needs to read any more is ended, and people reminded.

The ledger is changed first; then Airflow is told, run by run, until it waits no longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core import notices
from evergreen.core.approval import dismissal, outcome
from evergreen.core.overtaken import stale
from evergreen.core.records import Approval, ApprovalState, RequestState
from evergreen.steps.overtaken import judge_anew, supersede

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Runs
    from evergreen.core.records import TriggerRequest
    from evergreen.core.spec import ModelSpec

STEP = "approve"
LOST = timedelta(minutes=15)  # after its end: Airflow ends a question within seconds, if it knows of it
SETTLED = timedelta(minutes=1)  # a question is put before its request says that it waits
TOLD_FOR, TOLD_EVERY = timedelta(days=1), timedelta(minutes=1)
_UNFINISHED = (RequestState.OPEN, RequestState.CLAIMED)
_ENDED_HERE = (ApprovalState.SUPERSEDED, ApprovalState.VOID, ApprovalState.EXPIRED)


def tend_approvals(
    ledger: Ledger,
    specs: Mapping[str, ModelSpec],
    runs: Runs,
    *,
    now: datetime,
    page: Callable[[str, str], str],
    dismissed: dict[str, datetime] | None = None,
) -> list[str]:
    """What was done, in sentences. `page` says where a run's question is answered, by model and run id.

    `dismissed` is kept by the caller between passes: when Airflow was told last, by approval. Raises ServiceFailed
    where Airflow does not answer: the ledger is in order by then, and the next pass tells again.
    """
    told = []
    for model in dict.fromkeys(asked.model for asked in ledger.approvals.open_ones()):
        told += [f"{model}: {outcome(ended)}" for ended in supersede(ledger, model, now)]
    for asked in ledger.approvals.open_ones():
        ended = _overdue(ledger, asked, now) or _stale(ledger, asked, now) or _without_run(ledger, asked, now)
        told += [f"{asked.model}: {ended}"] if ended else _remind(ledger, specs.get(asked.model), asked, now, page)
    return told + _dismiss(ledger, runs, now, {} if dismissed is None else dismissed)


# ---------------------------------------------------------------- what nobody needs to answer any more


def _overdue(ledger: Ledger, asked: Approval, now: datetime) -> str:
    """A question that ended without Airflow's saying so: it has lost the run."""
    if now < asked.expires_at + LOST:
        return ""
    ended = _end(ledger, asked, ApprovalState.EXPIRED, "nobody answered in time", now)
    request = _request(ledger, asked)
    if ended and request and request.state in _UNFINISHED:
        reason = outcome(ended)
        ledger.requests.mark(request.id, now=now, state=RequestState.SERVED, step=STEP, reason=reason)
    return outcome(ended) if ended else ""


def _stale(ledger: Ledger, asked: Approval, now: datetime) -> str:
    candidate = ledger.models.candidate(asked.model, asked.version)
    changed = stale(asked, candidate, ledger.releases.champion(asked.model))
    ended = _end(ledger, asked, ApprovalState.VOID, changed, now) if changed else None
    if ended is None:
        return ""
    again = judge_anew(ledger, asked.model, asked.version, request_id=asked.request_id, because=changed, now=now)
    return outcome(ended, again)


def _without_run(ledger: Ledger, asked: Approval, now: datetime) -> str:
    request = _request(ledger, asked)
    if request is None or request.state in _UNFINISHED or now < asked.asked_at + SETTLED:
        return ""
    ended = _end(ledger, asked, ApprovalState.VOID, f"its run has ended: {request.reason or request.state}", now)
    return outcome(ended) if ended else ""


def _end(ledger: Ledger, asked: Approval, state: ApprovalState, why: str, now: datetime) -> Approval | None:
    """The question with this end; none where somebody was first."""
    kept = ledger.approvals.answer(asked.id, state=state, by=None, reason=why, now=now)
    return kept if (kept.state, kept.answered_by, kept.reason) == (state, None, why) else None


def _request(ledger: Ledger, asked: Approval) -> TriggerRequest | None:
    try:
        return ledger.requests.get(asked.request_id)
    except KeyError:
        return None


# ---------------------------------------------------------------- people and Airflow


def _remind(
    ledger: Ledger, spec: ModelSpec | None, asked: Approval, now: datetime, page: Callable[[str, str], str]
) -> list[str]:
    """Each notice once for a question: the outbox knows."""
    if spec is None or now >= asked.expires_at:
        return []
    waited, about = now - asked.asked_at, f"{asked.model}: version {asked.version} still waits for approval"
    link, told = page(asked.model, asked.run_id), []
    for after, notice in (
        (spec.approval.remind_after, notices.reminder),
        (spec.approval.escalate_after, notices.escalation),
    ):
        if after and waited >= after and notice(ledger, asked, link, now):
            told.append(f"{about}: {notice.__name__}")
    return told


def _dismiss(ledger: Ledger, runs: Runs, now: datetime, dismissed: dict[str, datetime]) -> list[str]:
    told = []
    for asked in _not_taken_up(ledger, now):
        last = dismissed.get(asked.id)
        if last is None or now >= last + TOLD_EVERY:
            runs.dismiss(asked.model, asked.run_id, dismissal(asked))
            dismissed[asked.id] = now
        told += [] if last else [f"{asked.model}: run {asked.run_id} need not wait for an answer any more"]
    return told


def _not_taken_up(ledger: Ledger, now: datetime) -> Iterator[Approval]:
    """Questions that were ended here, and whose run has not said so yet: it waits, or is about to."""
    for request in ledger.requests.unfinished():
        if request.state is RequestState.CLAIMED and request.step == STEP:
            history = reversed(ledger.approvals.history(request.model))
            last = next((asked for asked in history if asked.request_id == request.id), None)
            if last and last.state in _ENDED_HERE and last.answered_by is None and _recent(last, now):
                yield last


def _recent(answered: Approval, now: datetime) -> bool:
    return answered.answered_at is not None and now - answered.answered_at < TOLD_FOR
