"""An approval task that runs again: the answer that it had, the text that Airflow shows, and what changed meanwhile.

Airflow shows the text that a run asked first, for ever (it clears only the answer). So a task asks again only if that
text is, word for word, what would be asked now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evergreen import wiring
from evergreen.core.approval import told_again, what_changed
from evergreen.core.errors import EvergreenError, RunEnds
from evergreen.core.records import Approval, ApprovalState, Candidate, CandidateState
from evergreen.orchestration.closing import void_open_question
from evergreen.steps.overtaken import judge_anew

if TYPE_CHECKING:
    from evergreen.adapters.airflow_api import Question
    from evergreen.core.records import TriggerRequest
    from evergreen.orchestration.task_run import TaskRun


def stands(run: TaskRun, candidate: Candidate, answered: Approval) -> bool:
    """Whether the answer that this run had decides this try too; else it asks again.

    Airflow runs a task again that was killed, or that was answered before its scheduler had heard of the question.
    """
    if answered.state is ApprovalState.APPROVED:
        return not changed_since(run, candidate, answered)
    declined = answered.state is ApprovalState.REJECTED and candidate.state is CandidateState.DECLINED
    return declined or (answered.state is not ApprovalState.OPEN and run.retried)


def early_answer(run: TaskRun, candidate: Candidate, subject: str, body: str) -> dict[str, Any] | None:
    """An answer that Airflow holds and that no task has taken up; none where the question is still to be put.

    Airflow ends a task that was answered within a second of asking, or killed while it took up the answer, and
    runs it again. Raises RunEnds where Airflow would show another text than that of now.
    """
    newest = last_question(run)
    shown = _shown(run) if newest else None
    if newest is None or shown is None:
        return None
    if (shown.subject, shown.body) != (subject, body):
        changed = "this run has asked before, something has changed since, and Airflow would show the old text"
        raise ends_void(run, candidate, changed)
    taken_up = newest.state is not ApprovalState.OPEN
    if taken_up or shown.responded_at is None or shown.responded_at < newest.asked_at:
        return None
    return shown.as_event()


def ends_void(run: TaskRun, candidate: Candidate, why: str) -> RunEnds:
    """The end of a run whose question cannot be put any more, or not anew: another run judges the version again."""
    void_open_question(run.ledger, run.spec.name, run.run_id, why)
    then = told_again(judged_anew(run, candidate.version, why)) or f"`evergreen retrain {run.spec.name}` asks anew"
    left = "Nothing was released and nothing is blocked."
    return RunEnds(f"version {candidate.version}: {why}. {left} {then}", served=True)


def judged_anew(run: TaskRun, version: int, because: str) -> TriggerRequest | None:
    """The request that judges the version again in place of this run's; none where it has ended meanwhile."""
    about = {"request_id": run.handed_on("admit"), "because": because, "now": run.now}
    return judge_anew(run.ledger, run.spec.name, version, **about)


def _shown(run: TaskRun) -> Question | None:
    """What Airflow shows for this run; none where it shows nothing: the task was killed before it could ask."""
    api = wiring.airflow_api()
    if api is None:
        names = "EVERGREEN_AIRFLOW_URL, _USER and _PASSWORD"
        raise EvergreenError(f"This run has asked before, and Airflow cannot be asked what it shows: set {names}.")
    return api.question(run.spec.name, run.run_id)


def last_question(run: TaskRun) -> Approval | None:
    """What this run asked last, answered or not."""
    history = reversed(run.ledger.approvals.history(run.spec.name))
    return next((asked for asked in history if asked.run_id == run.run_id), None)


def own_question(run: TaskRun) -> Approval:
    """The same, where there must be one. Raises EvergreenError."""
    asked = last_question(run)
    if asked is None:
        raise EvergreenError("The ledger does not know that this run has asked. Clear 'approve', and answer again.")
    return asked


def changed_since(run: TaskRun, candidate: Candidate, asked: Approval) -> str:
    """What differs by now from what was asked about; empty where all is as it was."""
    name = run.spec.name
    return what_changed(asked, candidate, run.ledger.releases.champion(name), run.ledger.holds.applying(name))
