"""The approval of a candidate: Airflow's human-in-the-loop task, asked only where the policy wants a person.

The ledger holds each question and its answer, and decides what an answer comes to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

from evergreen import wiring
from evergreen.core.approval import (
    AUTO,
    Decision,
    decide,
    must_explain,
    outcome,
    why_ask,
    why_not_asked,
)
from evergreen.core.errors import EvergreenError, RunEnds
from evergreen.core.records import Approval, ApprovalState, Candidate, CandidateState, RequestState, Verdict
from evergreen.orchestration.asked_before import changed_since, early_answer, last_question, own_question, stands
from evergreen.orchestration.asking import approvers, assigned
from evergreen.orchestration.closing import void_open_question
from evergreen.orchestration.evidence import Asked, body, subject
from evergreen.orchestration.notifiers import notifiers
from evergreen.orchestration.run_notes import tell
from evergreen.orchestration.task_run import TaskRun, run_step

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.core.spec import ModelSpec

STEP = "approve"
REASON = "reason"  # the form's field


class ApproveCandidate(ApprovalOperator):
    """Lets the candidate through, by itself or by a person. Returns {"version", "by", "reason"} for the release.

    A rejection, a timeout and a void answer skip what follows. A version that is released already is not asked about.
    """

    def __init__(self, *, spec: ModelSpec, **kwargs: Any) -> None:
        super().__init__(subject=subject(spec), defaults=self.REJECT, response_timeout=spec.approval.timeout, **kwargs)
        self._spec = spec

    def execute(self, context: Context) -> Any:
        """Pass where nobody needs to be asked; else put the question and wait, without holding a slot."""
        run = TaskRun(self._spec, context)
        with run_step(run, STEP):
            candidate = _candidate(run)
            if candidate.state is CandidateState.RELEASED:
                self.log.info("Version %d is released already; nobody is asked again.", candidate.version)
                return _released_by(run, candidate)
            last = last_question(run)
            if last and stands(run, candidate, last):
                return _go_on(run, last)
            asked = _what_to_ask(run, candidate)
            if not asked.why:
                tell(context, f"version {candidate.version} passes without a person: {why_not_asked(self._spec)}")
                return {"version": candidate.version, "by": AUTO, "reason": why_not_asked(self._spec)}
            return self._ask(run, asked)

    def _ask(self, run: TaskRun, asked: Asked) -> Any:
        self.subject, self.body = subject(self._spec, asked.candidate), body(asked)
        self.params = ParamsDict({REASON: _reason_field(asked.explain)})
        self.assigned_users = assigned(asked.approvers)
        self.notifiers = notifiers()  # type: ignore[assignment]  # anything that can be called with the context
        answered = early_answer(run, asked.candidate, self.subject, self.body)
        question = run.ledger.approvals.ask(
            asked.candidate,
            request_id=run.handed_on("admit"),
            run_id=run.run_id,
            expires_at=run.now + self._spec.approval.timeout,
            now=run.now,
        )
        _wait(run, asked)
        if answered is not None:
            self.log.info("Answered already, while this task was ended: the answer counts.")
            return self._answered(run, question, answered)
        return super().execute(run.context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on with the answer, or with the timeout."""
        run = TaskRun(self._spec, context)
        with run_step(run, STEP):
            return self._answered(run, own_question(run), event)

    def _answered(self, run: TaskRun, question: Approval, event: dict[str, Any]) -> Any:
        decision = _decide(run, question, event, approve=event.get("chosen_options") == [self.APPROVE])
        kept = run.ledger.approvals.answer(
            question.id, state=decision.state, by=decision.by, reason=decision.why, now=run.now
        )
        return _go_on(run, kept)


def _go_on(run: TaskRun, answered: Approval) -> dict[str, Any]:
    """Hand on an approval; end the run with any other answer. What the ledger kept counts: the first answer."""
    told = outcome(answered.model, answered.version, Decision(answered.state, answered.answered_by, answered.reason))
    if answered.state is not ApprovalState.APPROVED:
        raise RunEnds(told, served=True)
    tell(run.context, told)
    return {"version": answered.version, "by": answered.answered_by, "reason": told}


def _candidate(run: TaskRun) -> Candidate:
    return run.ledger.models.candidate(run.spec.name, run.handed_on("train"))


def _released_by(run: TaskRun, candidate: Candidate) -> dict[str, Any]:
    history = run.ledger.releases.history(run.spec.name)
    release = next(release for release in reversed(history) if release.version == candidate.version)
    return {"version": candidate.version, "by": release.released_by, "reason": release.reason}


def _what_to_ask(run: TaskRun, candidate: Candidate) -> Asked:
    """All that the question is about. Raises RunEnds where the candidate cannot be released any more."""
    champion, hold = run.ledger.releases.champion(run.spec.name), run.ledger.holds.applying(run.spec.name)
    verdict = _verdict(candidate)
    if candidate.state is not CandidateState.PASSED or champion.generation != candidate.generation_seen:
        void_open_question(run.ledger, run.spec.name, run.run_id, "the run was cleared, and nobody is asked any more")
        passed = candidate.state is CandidateState.PASSED
        said = "the champion has changed since it was judged" if passed else f"it is {candidate.state}"
        again = f"Nothing was released. `evergreen retrain {run.spec.name}` judges again"
        raise RunEnds(f"version {candidate.version}: nobody is asked, {said}. {again}", served=True)
    return Asked(
        spec=run.spec,
        candidate=candidate,
        verdict=verdict,
        ledger=run.ledger,
        store=wiring.store(run.settings),
        mlflow_url=run.settings.mlflow_pages,
        why=why_ask(run.spec, verdict, hold, has_champion=champion.release_id is not None),
        explain=must_explain(verdict, hold),
        approvers=approvers(run),
    )


def _verdict(candidate: Candidate) -> Verdict:
    if candidate.verdict is None:
        raise EvergreenError(f"Version {candidate.version} has no verdict. Clear the task 'judge', and run again.")
    return candidate.verdict


def _reason_field(explain: str) -> Param:
    """The form's text field; Airflow's page demands it where an approval needs it."""
    if explain:
        needed = f"Needed to approve and to reject: {explain}."
        return Param("", title="Reason", description=needed, type="string", minLength=1)
    return Param("", title="Reason", description="Needed to reject.", type=["null", "string"])


def _decide(run: TaskRun, question: Approval, event: dict[str, Any], *, approve: bool) -> Decision:
    candidate = _candidate(run)
    hold = run.ledger.holds.applying(run.spec.name)
    reason = (event.get("params_input") or {}).get(REASON)
    return decide(
        approve=approve,
        by=(event.get("responded_by_user") or {}).get("name"),
        reason=reason if isinstance(reason, str) else "",
        explain=must_explain(_verdict(candidate), hold),
        changed=changed_since(run, candidate, question),
        excluded=approvers(run).excluded,
    )


def _wait(run: TaskRun, asked: Asked) -> None:
    """Say in the ledger what the run waits for; a request that was rejected and is asked again is claimed again."""
    request = run.request
    if request is not None:
        waiting = f"waiting for approval of version {asked.candidate.version}: {asked.why}"
        run.ledger.requests.mark(request.id, now=run.now, state=RequestState.CLAIMED, step=STEP, reason=waiting)
