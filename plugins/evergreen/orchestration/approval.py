"""The approval of a candidate: Airflow's human-in-the-loop task, with the verdict on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from evergreen.core.records import Candidate, CandidateState, RequestState
from evergreen.orchestration.evidence import body, subject
from evergreen.orchestration.task_run import TaskRun, run_step

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.core.spec import ModelSpec

STEP = "approve"


class ApproveCandidate(ApprovalOperator):
    """Asks a person to let the candidate through. Returns who did; a rejection or a timeout skips what follows.

    Asked only while the request is open: a version that is released already is not asked about again.
    """

    def __init__(self, *, spec: ModelSpec, **kwargs: Any) -> None:
        super().__init__(
            subject=subject(spec),
            defaults=self.REJECT,
            response_timeout=spec.approval.timeout,
            **kwargs,
        )
        self._spec = spec

    def execute(self, context: Context) -> Any:
        """Put the question and wait for the answer, without holding a slot."""
        run = TaskRun(self._spec, context)
        with run_step(run, STEP):
            candidate = _candidate(run)
            if candidate.state is CandidateState.RELEASED:
                self.log.info("Version %d is released already; nobody is asked again.", candidate.version)
                return _released_by(run, candidate)
            self.subject = subject(self._spec, candidate)
            self.body = body(self._spec, candidate, run.ledger, run.settings.mlflow_url)
            _wait(run, candidate.version)
            return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on with the answer, or with the default after the timeout."""
        who = (event.get("responded_by_user") or {}).get("name")
        if event.get("chosen_options") != [self.APPROVE]:  # first, because skipping what follows ends the task here
            ended = f"rejected by {who}" if who else "approval timed out"
            TaskRun(self._spec, context).close(STEP, RequestState.SERVED, ended)
        super().execute_complete(context, event)
        return who


def _candidate(run: TaskRun) -> Candidate:
    return run.ledger.models.candidate(run.spec.name, run.handed_on("train"))


def _released_by(run: TaskRun, candidate: Candidate) -> str:
    history = run.ledger.releases.history(run.spec.name)
    return next(release.released_by for release in reversed(history) if release.version == candidate.version)


def _wait(run: TaskRun, version: int) -> None:
    """Say in the ledger what the run waits for; a request that was rejected and is asked again is claimed again."""
    request = run.request
    if request is not None:
        waiting = f"waiting for approval of version {version}"
        run.ledger.requests.mark(request.id, now=run.now, state=RequestState.CLAIMED, step=STEP, reason=waiting)
