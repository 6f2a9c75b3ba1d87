"""The approval of a candidate: Airflow's human-in-the-loop task, asked only where the policy wants a person.

The ledger holds each question and its answer, and decides what an answer comes to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

from evergreen import wiring
from evergreen.core import notices
from evergreen.core.approval import (
    AUTO,
    Decision,
    decide,
    must_explain,
    outcome,
    overridden,
    why_ask,
    why_not_asked,
)
from evergreen.core.errors import EvergreenError, RunEnds
from evergreen.core.records import Approval, ApprovalState, Candidate, CandidateState, RequestState, Verdict
from evergreen.core.refitting import answering
from evergreen.orchestration.asked_before import (
    changed_since,
    early_answer,
    ends_void,
    judged_anew,
    last_question,
    own_question,
    stands,
)
from evergreen.orchestration.asking import approvers, assigned
from evergreen.orchestration.evidence import Asked, body, headline, subject
from evergreen.orchestration.pages import addresses
from evergreen.orchestration.run_notes import tell
from evergreen.orchestration.task_run import TaskRun, run_step
from evergreen.steps.overtaken import supersede

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.core.records import TriggerRequest
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
            return self._ask(run, asked) if asked.why else _let_through(run, candidate)

    def _ask(self, run: TaskRun, asked: Asked) -> Any:
        self.subject, self.body = headline(asked), body(asked)
        self.params = ParamsDict({REASON: _reason_field(asked.explain)})
        self.assigned_users = assigned(asked.approvers)
        answered = early_answer(run, asked.candidate, self.subject, self.body)
        question = run.ledger.approvals.ask(
            asked.candidate,
            request_id=run.handed_on("admit"),
            run_id=run.run_id,
            expires_at=run.now + self._spec.approval.timeout,
            now=run.now,
            overrides=asked.overrides,
        )
        _wait(run, asked)
        if answered is not None:
            self.log.info("Answered already, while this task was ended: the answer counts.")
            return self._answered(run, question, answered)
        for ended in supersede(run.ledger, run.spec.name, run.now):
            self.log.info("%s", outcome(ended))
            if ended.id == question.id:
                return _go_on(run, ended)
        notices.approval_needed(run.ledger, question, addresses().question(run.spec.name, run.run_id), run.now)
        return super().execute(run.context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on with the answer, or with the timeout."""
        run = TaskRun(self._spec, context)
        with run_step(run, STEP):
            return self._answered(run, own_question(run), event)

    def _answered(self, run: TaskRun, question: Approval, event: dict[str, Any]) -> Any:
        supersede(run.ledger, run.spec.name, run.now)  # where nobody has come to it yet: then this answer is the later
        decision = _decide(run, question, event, approve=event.get("chosen_options") == [self.APPROVE])
        kept = run.ledger.approvals.answer(
            question.id, state=decision.state, by=decision.by, reason=decision.why, now=run.now
        )
        return _go_on(run, kept)


def _go_on(run: TaskRun, answered: Approval) -> dict[str, Any]:
    """Hand on an approval; end the run with any other answer. What the ledger kept counts: the first answer."""
    if answered.state is not ApprovalState.APPROVED:
        raise RunEnds(outcome(answered, _again(run, answered)), served=True)
    told = outcome(answered)
    if answered.overrides:
        key, by = f"override:{answered.id}", str(answered.answered_by)
        run.ledger.events.add(run.spec.name, "override", told, by=by, key=key, now=run.now)
    tell(run.context, told)
    return {"version": answered.version, "by": answered.answered_by, "reason": told}


def _again(run: TaskRun, answered: Approval) -> TriggerRequest | None:
    """The request that judges the version again, where the answer is void because something has changed."""
    if answered.state is not ApprovalState.VOID:
        return None
    changed = changed_since(run, _candidate(run), answered)
    return judged_anew(run, answered.version, changed) if changed else None


def _let_through(run: TaskRun, candidate: Candidate) -> dict[str, Any]:
    """Pass without a person: whoever is asked about an older version need not answer any more."""
    supersede(run.ledger, run.spec.name, run.now, let_through=candidate.version)
    why = why_not_asked(run.spec)
    tell(run.context, f"version {candidate.version} passes without a person: {why}")
    return {"version": candidate.version, "by": AUTO, "reason": why}


def _candidate(run: TaskRun) -> Candidate:
    """What train made, or its refit."""
    return answering(run.ledger.models, run.ledger.models.candidate(run.spec.name, run.handed_on("train")))


def _released_by(run: TaskRun, candidate: Candidate) -> dict[str, Any]:
    history = run.ledger.releases.history(run.spec.name)
    release = next(release for release in reversed(history) if release.version == candidate.version)
    return {"version": candidate.version, "by": release.released_by, "reason": release.reason}


def _what_to_ask(run: TaskRun, candidate: Candidate) -> Asked:
    """All that the question is about. Raises RunEnds where the candidate cannot be released any more."""
    champion, hold = run.ledger.releases.champion(run.spec.name), run.ledger.holds.applying(run.spec.name)
    verdict = _verdict(candidate)
    if candidate.state not in (CandidateState.PASSED, CandidateState.TO_OVERRIDE):
        raise ends_void(run, candidate, f"nobody is asked, it is {candidate.state.replace('_', ' ')}")
    if champion.generation != candidate.generation_seen:
        raise ends_void(run, candidate, "nobody is asked, the champion has changed since it was judged")
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
        overrides=overridden(verdict),
        wanted=_wanted(run),
    )


def _wanted(run: TaskRun) -> str:
    """Who asked for an override, and why; empty where nobody did."""
    detail = run.request.detail if run.request else {}
    who = detail.get("requested_by") or detail.get("user") or "somebody"
    return f"{who}: {detail.get('reason') or 'no reason given'}" if detail.get("override") else ""


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
    reason, who = (event.get("params_input") or {}).get(REASON), approvers(run)
    return decide(
        approve=approve,
        by=(event.get("responded_by_user") or {}).get("name"),
        reason=reason if isinstance(reason, str) else "",
        explain=must_explain(_verdict(candidate), hold),
        changed=changed_since(run, candidate, question),
        excluded=who.excluded,
        service=who.service,
    )


def _wait(run: TaskRun, asked: Asked) -> None:
    """Say in the ledger what the run waits for; a request that was rejected and is asked again is claimed again."""
    request = run.request
    if request is not None:
        waiting = f"waiting for approval of version {asked.candidate.version}: {asked.why}"
        run.ledger.requests.mark(request.id, now=run.now, state=RequestState.CLAIMED, step=STEP, reason=waiting)
